"""Classes by their records: what is filled in, what is left out, and what is said of it."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from helpers import NO_SOURCES, fault

from neuronpath.analysis.classes import Classes, open_classes, read_classes, resolve
from neuronpath.files import ROOT

PATH = [[1], [4], [2]]


def write(folder: Path, *labels: int, path=PATH, key: str = "ja", prefix: str = "p", **args) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label in labels:
        lines = [json.dumps({"image": f"{label}/{i}", key: path}) + "\n" for i in range(2)]
        (folder / f"{prefix}-{label}.rlt.jsonl").write_text("".join(lines))
    if args:
        (folder / f"{prefix}.args.json").write_text(json.dumps({"job": "joint_attr", "versions": {}} | args))
    return folder


def data_set(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "0.png").touch()
    return root


def options(results: Path, **changes) -> Namespace:
    given = {"results": results, "input_prefix": "p", "dataset": None, "dataset_path": None, "method": "ja"}
    return Namespace(**{**given, **NO_SOURCES, "mlp_dim": None, **changes})


class TestRead:
    def test_labels_chosen_or_all_in_ascending_order_and_h_by_the_largest_index(self, tmp_path):
        write(tmp_path, 10, 2, 7)
        (tmp_path / "p-3.rlt.jsonl").write_text("")
        found = read_classes(tmp_path, "p", "ja")
        assert (found.labels, found.num_neurons, found.method) == ([2, 7, 10], 5, "ja")
        assert found.images[7] == ["7/0", "7/1"]
        assert found.paths[7].tolist() == [PATH, PATH]
        assert read_classes(tmp_path, "p", "ja", 9, [7, 99]).labels == [7]
        assert read_classes(tmp_path, "p", "ja", 5).num_neurons == 5
        assert read_classes(tmp_path, "p", "ja", labels=[]).labels == []

    def test_each_method_reads_its_own_key(self, tmp_path):
        for key in ("ja", "base", "path"):
            write(tmp_path / key, 0, key=key)
        for method, key in (("ja", "ja"), ("base", "base"), ("influence_pattern", "path")):
            assert read_classes(tmp_path / key, "p", method).method == method
        assert fault(read_classes, tmp_path / "path", "p", "base") == (
            f"{tmp_path}/path/p-0.rlt.jsonl: a record without base, lists of as many unit indices for every layer; "
            "--method base takes the records of ja"
        )

    def test_what_does_not_fit_is_named(self, tmp_path):
        none = f"{tmp_path}: no records named p-<label>.rlt.jsonl there; check --results and prefix"
        assert fault(read_classes, tmp_path, "p", "ja") == none
        write(tmp_path, 0)
        beyond = f"{tmp_path}: unit 4 in its paths, but a layer has 4; check --mlp_dim"
        assert fault(read_classes, tmp_path, "p", "ja", 4) == beyond
        write(tmp_path, 1, path=[[1, 2], [3, 4], [5, 6]])
        shapes = "paths of 2 shapes (layers, neurons per layer): [(3, 1), (3, 2)]"
        assert fault(read_classes, tmp_path, "p", "ja") == f"{tmp_path}/p-1.rlt.jsonl: {shapes}"

    @pytest.mark.parametrize(
        ("unit", "good"), [(0, True), (2**20 - 1, True), (2**20, False), (-1, False), (1.0, False)]
    )
    def test_units_are_whole_numbers_that_a_layer_can_have(self, tmp_path, unit, good):
        write(tmp_path, 0, path=[[unit]])
        if good:
            assert read_classes(tmp_path, "p", "ja").num_neurons == unit + 1
        else:
            assert "a record without ja" in fault(read_classes, tmp_path, "p", "ja")


@pytest.mark.parametrize(
    ("names", "title"), [({}, "class 3"), ({3: "3"}, "class 3"), ({3: "cat"}, "3 cat"), ({3: "a\nb"}, "3 a\\nb")]
)
def test_a_title_is_label_and_name_where_there_is_one(names, title):
    assert Classes({}, {}, 1, "ja", names).title(3) == title


class TestResolve:
    def test_the_data_set_is_the_records_and_its_path_theirs_below_the_root(self, tmp_path):
        settings = {"dataset": "digits", "model_mlp_dim": 9}
        write(tmp_path, settings=settings, options={"dataset_path": str(ROOT / "tests")})
        o = options(tmp_path)
        assert resolve(o) == settings
        assert (o.dataset, o.dataset_path, o.path_typed) == ("digits", ROOT / "tests", False)

    @pytest.mark.parametrize("recorded", [None, "/etc", 3])
    def test_a_path_elsewhere_is_not_followed(self, tmp_path, recorded):
        args = {"settings": {"dataset": "digits", "model_mlp_dim": 9}, "options": {"dataset_path": recorded}}
        write(tmp_path, **args)
        o = options(tmp_path)
        resolve(o)
        assert o.dataset_path == ROOT / "dataset/digits/val"

    def test_another_data_set_than_the_records_has_its_own_default_path(self, tmp_path):
        args = {"settings": {"dataset": "digits", "model_mlp_dim": 9}, "options": {"dataset_path": str(ROOT / "tests")}}
        write(tmp_path, **args)
        for dataset, path in (("cifar10", ROOT / "dataset/cifar"), ("digits", ROOT / "tests")):
            o = options(tmp_path, dataset=dataset)
            resolve(o)
            assert (o.dataset, o.dataset_path) == (dataset, path)

    def test_what_is_typed_is_taken(self, tmp_path):
        write(tmp_path, settings={"dataset": "digits", "model_mlp_dim": 9})
        o = options(tmp_path, dataset="imagefolder", dataset_path=tmp_path)
        resolve(o)
        assert (o.dataset, o.dataset_path, o.path_typed) == ("imagefolder", tmp_path, True)

    def test_without_settings_the_data_set_is_imagenet(self, tmp_path):
        o = options(tmp_path)
        assert resolve(o) == {}
        assert (o.dataset, o.dataset_path) == ("imagenet1k", ROOT / "dataset/imagenet2012/val")

    @pytest.mark.parametrize(
        ("size", "good"), [(1, True), (2**20, True), (2**20 + 1, False), (0, False), (True, False), ("9", False)]
    )
    def test_the_size_of_a_layer_is_checked(self, tmp_path, size, good):
        write(tmp_path, settings={"model_mlp_dim": size})
        words = "model_mlp_dim is not the number of units of a layer; were these made by path/*?"
        if good:
            assert resolve(options(tmp_path))["model_mlp_dim"] == size
        else:
            assert fault(resolve, options(tmp_path)) == f"{tmp_path}/p.args.json: {words}"

    def test_what_is_not_there_or_unknown_is_named(self, tmp_path):
        none = f"{tmp_path}/none: no such folder; give the folder of the records with --results"
        assert fault(resolve, options(tmp_path / "none")) == none
        write(tmp_path, settings={"model_mlp_dim": 9, "dataset": "mnist"})
        words = "its dataset is none of imagenet1k, imagefolder, digits, cifar10, cifar100, images; mend it"
        assert fault(resolve, options(tmp_path)) == f"{tmp_path}/p.args.json: {words}"


class TestOpen:
    @pytest.fixture
    def there(self, tmp_path) -> Namespace:
        """Records of classes 0 and 2 of three."""
        root = data_set(tmp_path / "data", "ant", "bee", "cat")
        o = options(write(tmp_path / "ja", 0, 2), dataset="imagefolder", dataset_path=root)
        return Namespace(**vars(o), path_typed=True, class_names=[])

    def test_names_come_with_the_classes_and_those_without_records_are_warned_of(self, there):
        with pytest.warns(UserWarning, match="left out") as warned:
            found = open_classes(there, {})
        assert str(warned[0].message) == f"{there.results}: left out, without records: 1 (bee)"
        assert (found.labels, found.names) == ([0, 2], {0: "ant", 1: "bee", 2: "cat"})

    @pytest.mark.parametrize(("wanted", "labels"), [([2], [2]), (["cat", 0], [0, 2]), (["ant"], [0])])
    def test_labels_and_names_may_be_asked_for(self, there, recwarn, wanted, labels):
        assert open_classes(there, {}, wanted).labels == labels
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("typed", "recorded", "size"), [(None, None, 5), (None, 9, 9), (7, 9, 7)], ids=["largest", "records", "typed"]
    )
    def test_the_size_of_a_layer_is_typed_or_the_records_or_the_largest_index(self, there, typed, recorded, size):
        there.mlp_dim = typed
        assert open_classes(there, {"model_mlp_dim": recorded}, [0]).num_neurons == size

    def test_too_few_and_none_say_what_there_is(self, there):
        assert fault(open_classes, there, {}, [0], least=2) == (
            f"{there.results}: records of 1 class only; this takes 2 or more"
        )
        assert fault(open_classes, there, {}, [1]) == (
            f"{there.results}: no records of classes 1 (bee); choose among 0 (ant), 2 (cat)"
        )
        (there.dataset_path / "cat/0.png").unlink()
        (there.dataset_path / "cat").rmdir()
        assert fault(open_classes, there, {}) == (
            f"{there.results}: label 2, but imagefolder at {there.dataset_path} has 2 classes; "
            "check --dataset and --dataset_path"
        )

    @pytest.mark.parametrize(
        ("typed", "wanted", "refused"),
        [(True, None, True), (False, ["ant"], True), (False, [0], False), (False, None, False)],
    )
    def test_without_the_data_set_labels_do_unless_it_or_a_name_was_typed(self, there, recwarn, typed, wanted, refused):
        there.dataset_path, there.path_typed = there.dataset_path / "none", typed
        if refused:
            assert "none" in fault(open_classes, there, {}, wanted)
            return
        found = open_classes(there, {}, wanted)
        assert found.names == {}
        assert found.labels == ([0] if wanted else [0, 2])
        (warned,) = recwarn
        assert str(warned.message).endswith("; labels stand for the names")


def test_arrays_of_paths_are_n_by_layers_by_k(tmp_path):
    write(tmp_path, 0, path=[[1, 2], [3, 4], [5, 6]])
    found = read_classes(tmp_path, "p", "ja").paths[0]
    assert isinstance(found, np.ndarray)
    assert found.shape == (2, 3, 2)


def test_names_that_came_with_the_weights_stand_before_the_data_sets(tmp_path):
    for bad, names in ((None, []), (["x", "y"], ["x", "y"])):
        write(tmp_path, settings={"dataset": "digits", "model_mlp_dim": 9}, class_names=bad)
        o = options(tmp_path)
        resolve(o)
        assert o.class_names == names
