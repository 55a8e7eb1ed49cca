"""The parser and the types of its options: word by word what they take, and what they say of the rest."""

import argparse
from pathlib import Path

import pytest

from neuronpath.cli import parsing
from neuronpath.cli.parsing import Parser
from neuronpath.errors import UserError
from neuronpath.files import ROOT

WHOLE = "must be a whole number from 3 to 12, not {!r}"
DEVICE = "must be auto, cpu, cuda, cuda:N or mps, not {!r}"
FILE = "must be a plain file name, not {!r}"
LABELS = "must be labels such as 0,5,10-20, not {!r}"
TARGET = "must be label, pred or a class index, not {!r}"
FINITE = "must be a finite number, not {!r}"
SHARE = "must be from 0 to 1, not {!r}"
SHARD = "must be I/N, from 0/N to N-1/N, not {!r}"
#: The type, words with their values, what is said of others, and these.
TYPES = [
    (parsing.whole(3, 12), {"3": 3, "12": 12, " +7\t": 7, "007": 7}, WHOLE,
     ["2", "13", "-3", "1e1", "3.0", "٠x", "0x5", "3_0", ""]),
    (parsing.whole(-1), {"-1": -1, str(2**31 - 1): 2**31 - 1}, "must be a whole number from -1 to 2147483647, not {!r}",
     ["-2", str(2**31), "9" * 19, "9" * 5000]),
    (parsing.whole(0, 10**19), {"9" * 19: 10**19 - 1}, "must be a whole number from 0 to 1" + "0" * 19 + ", not {!r}",
     ["1" + "0" * 19]),
    (parsing.device_name, {x: x for x in ("auto", "cpu", "cuda", "cuda:0", "cuda:999", "mps")}, DEVICE,
     ["", "CPU", "cuda:", "cuda:1000", "cuda:x", "cpu:0", "mps:0", "auto ", "cuda1", "xcuda", "cuda:-1"]),
    (parsing.file_name, {x: x for x in ("a", "a b.c", ".hidden", "é", "..")}, FILE,
     ["", "a/b", "/a", "a/", ".", "./a"]),
    (parsing.labels, {"0": [0], "5,0,5": [0, 5], " 3 , 1-2": [1, 2, 3], "7-7": [7], "9-11,10": [9, 10, 11]}, LABELS,
     ["", ",", "1,", "2-1", "-1", "1-", "1-2-3", "a", "1.0", "0-1000000", "9" * 20, "1 -x"]),
    (parsing.target, {"label": "label", "pred": "pred", "0": 0, "999": 999, "9" * 19: 10**19 - 1}, TARGET,
     ["", "Label", "-1", "1.0", "9" * 20, " 1"]),
    (parsing.factor, {"0": 0.0, "-2.5": -2.5, "1e3": 1000.0, " 1 ": 1.0}, FINITE,
     ["", "x", "nan", "inf", "-inf", "1e999"]),
    (parsing.positive, {"1e-9": 1e-9, "3": 3.0}, "must be above 0, not {!r}", ["0", "-1"]),
    (parsing.positive, {}, FINITE, ["nan", "inf", "x"]),
    (parsing.proportion, {"0": 0.0, "1": 1.0, "0.25": 0.25, "-0": 0.0}, SHARE, ["-0.001", "1.001", "2", "-1"]),
    (parsing.proportion, {}, FINITE, ["nan", "inf", "x"]),
    (parsing.shard, {"0/1": (0, 1), "7/8": (7, 8)}, SHARD,
     ["", "8/8", "1", "1/", "/1", "-1/2", "0/0", "a/b", "1/2/3", "9/8"]),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "good", "says", "bad"), TYPES)
def test_words_and_their_values(parse, good, says, bad):
    assert {word: parse(word) for word in good} == good
    for word in bad:
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            parse(word)
        assert str(caught.value) == says.format(word)


def test_a_million_labels_at_a_time():
    assert parsing.labels("1-1000000") == list(range(1, 1_000_001))


@pytest.mark.parametrize(
    ("text", "index"), [("0", True), ("9" * 19, True), ("9" * 20, False), ("", False), ("-1", False), ("1.0", False)]
)
def test_indices(text, index):
    assert parsing.is_index(text) is index


@pytest.fixture
def parser() -> Parser:
    found = Parser("What it does.\n\n    an example   as it is typed")
    found.add_argument(
        "--size", type=parsing.whole(1), default=3, metavar="N", help="a|b of <it> (default: %(default)s)"
    )
    found.add_argument("--kind", choices=("x", "y"), default="x", help="which")
    found.add_argument("--named", choices=("x", "y"), metavar="NAME")
    found.add_argument("--folder", type=Path, default=ROOT / "results", help="(default: %(default)s)")
    found.add_argument("--yes", "-y", action="store_true", help="100 %% sure")
    return found


class TestParser:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--size", "0"], "argument --size: must be a whole number from 1 to 2147483647, not '0'"),
            (["--siz", "1"], "unrecognized arguments: --siz 1"),
            (["--kind"], "argument --kind: expected one argument"),
        ],
    )
    def test_mistakes_are_one_line_that_says_where_help_is(self, parser, words, said):
        with pytest.raises(UserError) as caught:
            parser.parse_args(words)
        assert str(caught.value) == f"{said} (--help lists the options)"

    def test_the_description_is_shown_as_it_is(self, parser):
        assert "What it does.\n\n    an example   as it is typed\n" in parser.format_help()

    def test_the_table(self, parser):
        assert parser.markdown().splitlines() == [
            "| option | meaning |",
            "|---|---|",
            "| `--size N` | a\\|b of &lt;it> (default: 3) |",
            "| `--kind x\\|y` | which |",
            "| `--named NAME` |  |",
            "| `--folder` | (default: results) |",
            "| `--yes -y` | 100 % sure |",
        ]

    def test_the_table_but_for_what_another_has(self, parser):
        other = Parser("")
        other.add_argument("--kind")
        other.add_argument("-y")
        assert parser.markdown(other).splitlines()[2:] == [
            line for line in parser.markdown().splitlines()[2:] if "--kind" not in line and "--yes" not in line
        ]
