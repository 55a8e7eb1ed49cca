"""Classes by their paths, as they are read from records."""

import json
from argparse import Namespace

import pytest
from helpers import NO_SOURCES, ROOT
from made import random_paths, write_classes

from neuronpath.analysis.classes import read_classes, resolve
from neuronpath.analysis.similarity import frequencies
from neuronpath.errors import UserError
from neuronpath.files import default_dataset_path
from neuronpath.records.args import args_file

H, L = 28, 6


class TestReading:
    def test_top_k_records_and_one_class_of_one_image(self, tmp_path):
        paths = {0: random_paths(4, 3), 7: random_paths(1, 3)}
        found = read_classes(write_classes(tmp_path, paths), "imgnet_all", "ja", H)
        assert found.labels == [0, 7]
        assert all((found.paths[label] == paths[label]).all() for label in paths)
        assert frequencies(found).sum(1).tolist() == [[4 * L * 3], [L * 3]]

    def test_released_layout_without_args_or_images(self, tmp_path):
        lines = [[{"ja": [list(range(6))], "base": [[3] * 6]}], {"ja": [[9, 1, 2, 3, 4, 5]], "base": [[[4] * 6]]}]
        (tmp_path / "imgnet_all-5.rlt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / "imgnet_all-6.rlt.jsonl").write_text("")
        found = read_classes(tmp_path, "imgnet_all", "ja")
        assert found.paths[5].tolist() == [[[i] for i in range(6)], [[i] for i in (9, 1, 2, 3, 4, 5)]]
        assert (found.labels, found.images, found.num_neurons) == ([5], {5: [None, None]}, 10)

    @pytest.mark.parametrize(
        ("paths", "said"),
        [
            ([[[1]] * 6, [[1]] * 5], "paths of 2 shapes"),
            ([[[1]] * 5 + [[1, 2]]], "without ja"),
            ([[[1]] * 5 + [[]]], "without ja"),
            ([[[1]] * 5 + [[-1]]], "without ja"),
            ([[[1]] * 5 + [[True]]], "without ja"),
            ([[[1]] * 5 + [[10**30]]], "without ja"),
            ([[]], "without ja"),
            ([[[1]] * 5 + [[H]]], "unit 28 in its paths"),
        ],
    )
    def test_broken_paths_are_one_line(self, paths, said, tmp_path):
        lines = [json.dumps({"image": str(i), "ja": path}) + "\n" for i, path in enumerate(paths)]
        (tmp_path / "imgnet_all-0.rlt.jsonl").write_text("".join(lines))
        with pytest.raises(UserError, match=said):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_an_image_without_a_textual_name_is_one_line(self, tmp_path):
        write_classes(tmp_path, {0: random_paths(1)}, images={0: [["a.png"]]})
        with pytest.raises(UserError, match="no text"):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_two_records_of_one_image_are_refused(self, tmp_path):
        write_classes(tmp_path, {0: random_paths(2)}, images={0: ["a.png", "a.png"]})
        with pytest.raises(UserError, match="line 2: a second record of a"):
            read_classes(tmp_path, "imgnet_all", "ja", H)

    def test_another_methods_records_say_which_to_give(self, class_records):
        with pytest.raises(UserError, match="takes the records of influence_pattern"):
            read_classes(class_records, "imgnet_all", "influence_pattern", H)


@pytest.mark.parametrize(
    ("recorded", "followed"),
    [
        ("tests", True),
        *((path, False) for path in ("/etc", "..", "../..", "tests/../..", ".", "tests/none", "\0", "a" * 5000)),
        *((path, False) for path in (3, None, ["tests"])),
    ],
    ids=lambda value: str(value)[:20].replace("\0", "null"),
)
def test_a_recorded_path_is_followed_below_the_root_only(recorded, followed, class_records):
    args = args_file(class_records, "imgnet_all")
    args.write_text(json.dumps({**json.loads(args.read_text()), "options": {"dataset_path": recorded}}))
    options = Namespace(results=class_records, input_prefix="imgnet_all", dataset=None, dataset_path=None, **NO_SOURCES)
    resolve(options)
    assert not options.path_typed
    assert options.dataset_path == (ROOT / recorded if followed else default_dataset_path("imagefolder"))
