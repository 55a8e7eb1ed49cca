"""Records and settings changed by hand, through the real commands: refused with file and line, and nothing moved."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Command, contents, read_lines, record_lines

from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import JointAttribution

UNITS, LAYERS = 28, 6


@pytest.fixture
def command(checkpoint, image_folder, tmp_path) -> Command:
    """The search command, or the edit command where asked for; one image at a time."""
    return Command(checkpoint, image_folder, tmp_path / "out", steps=2, more=("--batch_size", 1))


def changed(line: int, **values) -> Callable[[list[dict]], list]:
    """Other values in one record; a value may be a function of the old one."""

    def change(found: list[dict]) -> list:
        record = found[line - 1]
        new = {key: value(record[key]) if callable(value) else value for key, value in values.items()}
        return [*found[: line - 1], {**record, **new}, *found[line:]]

    return change


def instead(line: int, *others: str) -> Callable[[list[dict]], list]:
    """Text in place of one line."""
    return lambda found: [*found[: line - 1], *others, *found[line:]]


# What is done to a file of five records: the line that is to be named, the words that are to be in the message, and
# the change; PATH stands for the key of a path.
PATH = "PATH"


EDITED: dict[str, tuple[int, str, Callable[[list[dict]], list]]] = {
    "broken": (3, "not a record", lambda r: [*r[:2], json.dumps(r[2])[:40], *r[3:]]),
    "empty line": (2, "not a record", lambda r: [r[0], "", *r[1:]]),
    "two in a line": (2, "not a record", lambda r: [r[0], json.dumps(r[1]) + json.dumps(r[2]), *r[3:]]),
    "NaN": (2, "not a record", changed(2, extra=float("nan"))),
    "a number": (3, "record", instead(3, "3")),
    "a text": (3, "record", instead(3, '"class3/02.png"')),
    "null": (1, "record", instead(1, "null")),
    "neuron H": (2, PATH, changed(2, PATH=lambda p: [*p[:-1], [UNITS]])),
    "neuron -1": (4, PATH, changed(4, PATH=lambda p: [[-1], *p[1:]])),
    "neuron far away": (5, PATH, changed(5, PATH=lambda p: [[10**30], *p[1:]])),
    "a layer too few": (1, PATH, changed(1, PATH=lambda p: p[1:])),
    "a layer too many": (3, PATH, changed(3, PATH=lambda p: [*p, [0]])),
    "an empty layer": (3, PATH, changed(3, PATH=lambda p: [[], *p[1:]])),
    "a neuron twice": (2, PATH, changed(2, PATH=lambda p: [[3, 3], *p[1:]])),
    "a broken number": (2, PATH, changed(2, PATH=lambda p: [[1.5], *p[1:]])),
    "a text for a neuron": (2, PATH, changed(2, PATH=lambda p: [["1"], *p[1:]])),
    "true for a neuron": (2, PATH, changed(2, PATH=lambda p: [[True], *p[1:]])),
    "lists in lists": (2, PATH, changed(2, PATH=lambda p: [[[1]], *p[1:]])),
    "a flat path": (2, PATH, changed(2, PATH=lambda p: [unit for (unit,) in p])),
    "no path": (5, PATH, changed(5, PATH=None)),
    "image twice": (4, "a second record of class3/01.png", lambda r: [*r[:3], r[1], r[4]]),
    "image twice, at the end": (6, "a second record of class3/00.png", lambda r: [*r, r[0]]),
    "unknown image": (3, "class3/77.png", changed(3, image="class3/77.png")),
    "image of another class": (3, "class2/00.png", changed(3, image="class2/00.png")),
    "no image": (3, "image", lambda r: [*r[:2], {k: v for k, v in r[2].items() if k != "image"}, *r[3:]]),
    "image null": (3, "image", changed(3, image=None)),
    "image a list": (3, "image", changed(3, image=["class3/02.png"])),
    "wrong label": (4, "label is not 3", changed(4, label=2)),
    "label null": (4, "label is not 3", changed(4, label=None)),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stored")


class TestEditedRecords:
    """Records changed by hand are refused with file and line, and nothing on the disk changes."""

    FILE = "imgnet_all-3.rlt.jsonl"

    @pytest.fixture
    def ja(self, stored, command, tmp_path) -> Path:
        """A copy of the search's records of the labels 2 and 3."""
        if not (stored / "ja").exists():
            command("--labels", "2-3", out=stored / "ja")
        return Path(shutil.copytree(stored / "ja", tmp_path / "ja"))

    @pytest.fixture
    def edited(self, stored, command, ja) -> Command:
        """A copy of the edit's records of label 3 is in its `out`."""
        if not (stored / "edit").exists():
            command("--ja_path", ja, "--labels", 3, kind=Edit, out=stored / "edit")
        shutil.copytree(stored / "edit", command.out)
        return command

    def edit(self, out: Path, key: str, case: str) -> tuple[str, str]:
        """Change the file; what the message begins with after the command's name, and the words in it."""
        line, words, change = EDITED[case]
        found = read_lines(out / self.FILE)
        assert len(found) == 5
        named = [{PATH if k == key else k: v for k, v in record.items()} for record in found]
        texts = [
            x if isinstance(x, str) else json.dumps({key if k == PATH else k: v for k, v in x.items()})
            for x in change(named)
        ]
        (out / self.FILE).write_text("".join(text + "\n" for text in texts))
        return f"{out / self.FILE}, line {line}: ", key if words == PATH else words

    @staticmethod
    def says(message: str, place: str, words: str) -> bool:
        return place in message and words.replace("label is not 3", "label is ") in message

    @pytest.mark.parametrize("case", EDITED)
    def test_resuming_the_search(self, command, ja, case):
        place, words = self.edit(ja, "ja", case)
        before = contents(ja)
        for more in (("--labels", 3), ("--on_bad_image", "skip")):
            message = command(*more, out=ja, code=2)
            assert self.says(message, place, words), message
            assert contents(ja) == before

    def test_resuming_the_search_once_mended(self, command, ja):
        good = (ja / self.FILE).read_bytes()
        place, _ = self.edit(ja, "ja", "broken")
        assert place in command("--labels", "1-3", out=ja, code=2)
        (ja / self.FILE).write_bytes(good)
        assert "1 new, 7 from earlier" in command("--labels", "1-3", out=ja)
        assert (ja / self.FILE).read_bytes() == good

    @pytest.mark.parametrize("case", EDITED)
    def test_resuming_the_edit(self, edited, ja, case):
        place, words = self.edit(edited.out, "path", case)
        before = contents(edited.out)
        message = edited("--ja_path", ja, "--labels", 3, kind=Edit, code=2)
        assert self.says(message, place, words), message
        assert contents(edited.out) == before

    @pytest.mark.parametrize("case", EDITED)
    def test_paths_for_the_edit(self, command, ja, case):
        place, words = self.edit(ja, "ja", case)
        before = contents(ja)
        for more in (("--labels", 3, "--images_per_class", 1), ("--on_bad_image", "skip")):
            message = command("--ja_path", ja, *more, kind=Edit, code=2)
            assert self.says(message, place, words), message
            assert not command.out.exists()
            assert contents(ja) == before

    def test_paths_of_other_labels_and_once_mended(self, command, ja):
        good = (ja / self.FILE).read_bytes()
        place, _ = self.edit(ja, "ja", "image twice")
        command("--ja_path", ja, "--labels", 2, kind=Edit)
        assert place in command("--ja_path", ja, "--labels", "2-3", kind=Edit, code=2)
        (ja / self.FILE).write_bytes(good)
        assert "5 new, 2 from earlier" in command("--ja_path", ja, "--labels", "2-3", kind=Edit)

    @pytest.mark.parametrize(
        ("key", "value"), [("remove", None), ("enhance", 10**400), ("remove_label", 4), ("pred", -1), ("prob", "0.5")]
    )
    def test_other_values_of_the_edit(self, edited, ja, key, value):
        file = edited.out / self.FILE
        found = read_lines(file)
        file.write_text("".join(json.dumps(r) + "\n" for r in changed(2, **{key: value})(found)))
        before = contents(edited.out)
        message = edited("--ja_path", ja, "--labels", 3, kind=Edit, code=2)
        assert f"{file}, line 2: {key}" in message
        assert contents(edited.out) == before

    def test_an_older_machines_line_ends(self, command, ja):
        """A line that ends in CR alone, in the middle, is no torn line: what follows it stays."""
        first, *rest = (ja / self.FILE).read_bytes().splitlines()
        (ja / self.FILE).write_bytes(first + b"\r" + b"".join(line + b"\n" for line in rest))
        before = contents(ja)
        assert "0 new, 5 from earlier" in command("--labels", 3, out=ja)
        assert contents(ja) == before

    @pytest.mark.parametrize("kind", [JointAttribution, Edit])
    def test_a_folder_in_place_of_the_file(self, command, ja, kind):
        file = ja / "imgnet_all-1.rlt.jsonl"
        file.mkdir()
        more = ("--ja_path", ja) if kind is Edit else ()
        message = command("--labels", 1, *more, kind=kind, out=command.out if kind is Edit else ja, code=2)
        assert f"{file}: cannot be read" in message

    def test_the_authors_files_still_count(self, edited, ja, tmp_path):
        """Without images, in lists; but not of another class."""
        file, expected = ja / self.FILE, record_lines(edited.out)
        found = read_lines(file)
        released = [{"label": [3], "ja": [[unit for (unit,) in record["ja"]]]} for record in found]
        more = ("--ja_path", ja, "--labels", 3)
        for i, text in enumerate((json.dumps(released), "\n".join(map(json.dumps, released)))):
            file.write_text(text + "\n")
            edited(*more, kind=Edit, out=tmp_path / str(i))
            assert record_lines(tmp_path / str(i)) == expected
        released[1]["label"] = [[2]]
        file.write_text("\n".join(map(json.dumps, released)) + "\n")
        message = edited(*more, kind=Edit, out=tmp_path / "other", code=2)
        assert f"{file}, line 2: class3/01.png: its label is not 3" in message


class TestLongPaths:
    """Names beyond the 255 bytes that a disk takes."""

    @pytest.mark.parametrize(
        "option",
        [
            "--output_prefix",
            *("--output_dir", "--dataset_path", "--pretrain_weight"),
        ],
    )
    def test_they_are_named(self, command, option):
        message = command(option, "x" * 300 + ".npz", code=2)
        assert "xxxxxxxxx" in message
        assert "too long" in message
        assert not list(command.out.glob("*"))
