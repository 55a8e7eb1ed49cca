"""The types of options: a valid value, or refused."""

import argparse
import contextlib
import math

import pytest
from damage import FEW_AND_MANY, holds
from hypothesis import strategies as st

from neuronpath.cli import parsing

TEXT = (
    st.text(max_size=20)
    | st.text("0123456789+-., \n_e", max_size=9)
    | st.text(st.characters(categories=("Nd", "Nl", "No", "Zs", "Pd")), max_size=4)
    | st.builds(
        lambda before, n, after: before + "9" * n + after,
        st.sampled_from(["", "-", "0-"]),
        st.sampled_from([18, 5000]),
        st.sampled_from(["", "-", ",1"]),
    )
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["label", "pred", "..", ".", "/", "a/b", "nan", "inf", "1e999", "0x10", "\0", "\ud800"])
)


PARSERS = {
    "whole": (parsing.whole(1, 2**31 - 1), lambda v: type(v) is int and 1 <= v < 2**31),
    "whole from 0": (parsing.whole(0, 9), lambda v: type(v) is int and 0 <= v <= 9),
    "labels": (parsing.labels, lambda v: v and v == sorted(set(v)) and all(type(i) is int and i >= 0 for i in v)),
    "target": (parsing.target, lambda v: v in ("label", "pred") or (type(v) is int and v >= 0)),
    "factor": (parsing.factor, lambda v: type(v) is float and abs(v) < float("inf")),
    "positive": (parsing.positive, lambda v: type(v) is float and 0 < v < math.inf),
    "proportion": (parsing.proportion, lambda v: type(v) is float and 0 <= v <= 1),
    "file name": (parsing.file_name, lambda v: v and "/" not in v),
}


class TestOptions:
    @FEW_AND_MANY
    @pytest.mark.parametrize(
        "name",
        [
            *("whole", "whole from 0", "labels", "target"),
            "factor",
            "positive",
            "proportion",
            "file name",
        ],
    )
    def test_a_valid_value_or_refused(self, many, name):
        parse, valid = PARSERS[name]

        def check(text: str) -> None:
            with contextlib.suppress(argparse.ArgumentTypeError):
                assert valid(parse(text))

        holds(check, 300, many, TEXT)

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("whole", " 7 ", 7),
            ("whole", "+7", 7),
            ("whole", "2147483647", 2**31 - 1),
            ("labels", "3, 1-2,3", [1, 2, 3]),
            ("target", "12", 12),
            ("factor", "-1.5e2", -150.0),
            ("proportion", "1", 1.0),
            ("file name", "a b.c", "a b.c"),
        ],
    )
    def test_good_values(self, name, text, value):
        assert PARSERS[name][0](text) == value
