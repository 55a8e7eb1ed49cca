"""Labels that files tell: synsets, truth files and the devkits' maps beside them, class maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import fault
from scipy.io import savemat
from timm.data import ImageNetInfo

from neuronpath.data.labels import VALIDATION, digest, read_class_map, read_truth, synsets

SYNSETS = ImageNetInfo("imagenet-1k").label_names()
#: ILSVRC ids in an order of their own, as the devkit's are: id i + 1 is of label ORDER[i].
ORDER = np.random.default_rng(0).permutation(1000).tolist()
IDS = [(37 * i) % 1000 + 1 for i in range(VALIDATION)]
NAMES = [f"ILSVRC2012_val_{i:08d}" for i in range(1, VALIDATION + 1)]


def test_the_synsets_are_timms_in_label_order():
    assert list(synsets()) == SYNSETS
    assert list(synsets().values()) == list(range(1000))


@pytest.fixture
def truth(tmp_path):
    """Write a truth file; its path."""

    def file(lines, name: str = "truth.txt") -> Path:
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / name

    return file


def clsloc(folder: Path, order=ORDER) -> Path:
    lines = [f"{SYNSETS[label]} {i} some_name" for i, label in enumerate(order, 1)]
    (folder / "map_clsloc.txt").write_text("\n".join(lines))
    return folder / "map_clsloc.txt"


def meta(folder: Path, order=ORDER, first=None) -> Path:
    """As the devkit's: 1860 synsets, those beyond 1000 without images. `first`: another id of the first."""
    table = np.empty((1860, 1), [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("children", object)])
    names = [SYNSETS[label] for label in order] + [f"n{i:08d}" for i in range(860)]
    for i, name in enumerate(names):
        table[i, 0] = (np.array([[i + 1]], np.uint16), name, "a, b", np.zeros((1, 3), np.uint16))
    if first is not None:
        table["ILSVRC2012_ID"][0, 0] = first
    savemat(folder / "meta.mat", {"synsets": table}, do_compression=True)
    return folder / "meta.mat"


class TestTruth:
    @pytest.mark.parametrize("maps", [(clsloc,), (meta,), (clsloc, meta)], ids=["text", "matlab", "both"])
    def test_ids_with_the_devkits_map(self, truth, tmp_path, maps):
        for write in maps:
            write(tmp_path)
        assert read_truth(truth(IDS)) == {name: ORDER[i - 1] for name, i in zip(NAMES, IDS, strict=True)}

    def test_synsets_and_kaggles_file_say_the_same(self, truth):
        lines = [SYNSETS[ORDER[i - 1]] for i in IDS]
        expected = {name: ORDER[i - 1] for name, i in zip(NAMES, IDS, strict=True)}
        assert read_truth(truth(lines)) == expected
        boxes = [f"{name},{synset} 1 2 3 4 {synset} 5 6 7 8 " for name, synset in zip(NAMES, lines, strict=True)]
        kaggle = read_truth(truth(["ImageId,PredictionString", *boxes[::-1]]))
        assert kaggle == expected
        assert digest(kaggle) == digest(expected) != digest({**expected, NAMES[0]: 999 - expected[NAMES[0]]})

    def test_ids_alone_are_refused(self, truth):
        file = truth(IDS)
        assert fault(read_truth, file) == (
            f"{file}: its lines are ILSVRC ids, which follow another order than labels; put map_clsloc.txt or meta.mat "
            "of the same devkit beside it, or give Kaggle's LOC_val_solution.csv"
        )

    def test_maps_that_contradict_each_other(self, truth, tmp_path):
        first, second = clsloc(tmp_path, ORDER[::-1]), meta(tmp_path)
        said = "they contradict each other; leave only that of the truth's devkit"
        assert fault(read_truth, truth(IDS)) == f"{first} and {second}: {said}"

    @pytest.mark.parametrize("first", [-np.inf, np.nan, 1.5, 0, 2, "1"])
    def test_an_id_that_is_none(self, truth, tmp_path, first):
        file = meta(tmp_path, first=first)
        assert fault(read_truth, truth(IDS)).startswith(f"{file}: ")

    @pytest.mark.parametrize("write", [clsloc, meta])
    def test_a_map_of_too_few(self, truth, tmp_path, write):
        file = write(tmp_path, ORDER[:-1] if write is clsloc else [*ORDER[:-1], ORDER[0]])
        assert fault(read_truth, truth(IDS)).startswith(f"{file}: not the ids 1 to 1000 of ImageNet-1k's synsets")

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (["n01440764 x"], "line 1: not a synset and an id of its own"),
            (["n01440764 1", "n01443537 1"], "line 2: not a synset and an id of its own"),
            (["dog 1"], "line 1: 'dog' is no synset of ImageNet-1k"),
        ],
    )
    def test_a_broken_map(self, truth, tmp_path, lines, says):
        file = truth(lines, "map_clsloc.txt")
        assert fault(read_truth, truth(IDS)).startswith(f"{file}, {says}")

    def test_a_matlab_file_that_is_another(self, truth, tmp_path):
        savemat(tmp_path / "meta.mat", {"synsets": np.ones(3)})
        said = f"{tmp_path / 'meta.mat'}: not the devkit's list of synsets (no struct array); give its own file"
        assert fault(read_truth, truth(IDS)) == said

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (IDS[:-1], ": 49999 lines that name no images"),
            ([*IDS[:-1], 0], ", line 50000: 0 is no ILSVRC id, which are 1 to 1000"),
            ([1001, *IDS[1:]], ", line 1: 1001 is no ILSVRC id"),
            ([*SYNSETS, "n99999999"], ", line 1001: 'n99999999' is no synset of ImageNet-1k"),
            (
                [*IDS[:2], "n01440764"],
                ", line 3: 'n01440764'; a truth file is Kaggle's LOC_val_solution.csv, or one synset",
            ),
            (["n01440764", 3], ", line 2: '3'; a truth file is"),
            ([*IDS[:2], "-3"], ", line 3: '-3'; a truth file is"),
            (["ILSVRC2012_val_00000001.JPEG 65"], ", line 1: 'ILSVRC2012_val_00000001.JPEG 65'; a truth file is"),
            (["1", "", "2"], ", line 2: ''; a truth file is"),
            ([], ": 0 lines that name no images"),
            (["ImageId,PredictionString", "a,dog 1 2"], ", line 2: 'dog' is no synset"),
            (["ImageId,PredictionString", "a"], ", line 2: not an image and its synset"),
            (["ImageId,PredictionString", "a,"], ", line 2: not an image and its synset"),
            (
                ["ImageId,PredictionString", "a,n01440764", "a,n01443537"],
                ", line 3: 'a' has two labels, 0 and 1; keep one",
            ),
        ],
    )
    def test_what_is_none(self, truth, tmp_path, lines, says):
        clsloc(tmp_path)
        file = truth(lines)
        assert fault(read_truth, file).startswith(f"{file}{says}")

    def test_what_cannot_be_read(self, tmp_path):
        (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
        for file in (tmp_path / "a", tmp_path / "none", tmp_path):
            assert fault(read_truth, file).startswith(f"{file}: cannot be read as text (")


class TestClassMap:
    def write(self, file: Path, content) -> Path:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("map.csv", 'cat,281\n"a, b", 7 \ndog,281\n\n'),
            ("map.txt", '\ufeffcat,281\r\n"a, b",7\r\ndog,281\r\ncat,281'),
            ("map.JSON", {"cat": 281, "a, b": 7, "dog": 281}),
        ],
    )
    def test_folders_and_labels(self, tmp_path, name, content):
        assert read_class_map(self.write(tmp_path / name, content)) == {"cat": 281, "a, b": 7, "dog": 281}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("cat,1\ncat,2", ", line 2: 'cat' has two labels, 1 and 2; keep one"),
            ("folder,label\ncat,1", ", line 1: not FOLDER,LABEL with a whole number from 0 to 999999; mend it"),
            ("cat,-1", ", line 1: not FOLDER,LABEL"),
            ("cat,1000000", ", line 1: not FOLDER,LABEL"),
            ("cat,1,2", ", line 1: not FOLDER,LABEL"),
            ("cat,n01440764", ", line 1: not FOLDER,LABEL"),
            ("cat,1\n\ndog,2", ", line 2: not FOLDER,LABEL"),
            ('"cat,1', ": not CSV ("),
            ("", ": names no class folder"),
        ],
    )
    def test_what_is_no_table(self, tmp_path, content, says):
        file = self.write(tmp_path / "map.csv", content)
        assert fault(read_class_map, file).startswith(f"{file}{says}")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ('{"cat": 1, "cat": 2}', ": 'cat' has two labels, 1 and 2; keep one"),
            ({"cat": "1"}, ": 'cat' has no label, a whole number from 0 to 999999; write {FOLDER: LABEL, …}"),
            ({"cat": True}, ": 'cat' has no label"),
            ({"cat": 10**6}, ": 'cat' has no label"),
            ({"cat": -1}, ": 'cat' has no label"),
            ({"0": ["n01440764", "tench"]}, ": '0' has no label"),
            (["cat"], ": not a JSON object; write {FOLDER: LABEL, …}"),
            ([["cat", 1]], ": not a JSON object"),
            ("{", ": not JSON ("),
            ("[" * 100_000, ": not JSON ("),
            ({}, ": names no class folder"),
        ],
    )
    def test_what_is_no_object(self, tmp_path, content, says):
        file = self.write(tmp_path / "map.json", content)
        assert fault(read_class_map, file).startswith(f"{file}{says}")
