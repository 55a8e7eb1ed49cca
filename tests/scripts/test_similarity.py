"""The scripts of experiments/similarity."""

import json
import re

import numpy as np
import pytest
from helpers import ROOT, run_file
from made import classes_of, random_paths, write_classes
from PIL import Image

from neuronpath.analysis.similarity import cosines, frequencies

SCRIPTS = ("pair-sim", "paper-plot", "freq-figure-all", "name2img")


class TestScripts:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_help_says_every_option(self, script, similar):
        text = similar(script, "--help").expect().stdout
        own = {
            "pair-sim": "--top --pretrain_weight --model_type --img_size --num_heads --classifier "
            "--preprocess --batch_size --device",
            "paper-plot": "--classes",
            "freq-figure-all": "",
            "name2img": "--names --classes --count",
        }
        shared = "--results --method --input_prefix --output_dir --dataset --dataset_path --mlp_dim"
        for option in f"{shared} {own[script]}".split():
            assert re.search(rf"\n  (-h, )?{option} [A-Z{{]", text), option

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_from_the_root_and_from_its_folder(self, script, class_records, image_folder, tmp_path):
        (class_records / "imgnet_all-1.rlt.jsonl").write_text("")
        own = {"paper-plot": ("--classes", 0, 1, 3), "name2img": ("--classes", 0, 1, 3)}.get(script, ())
        written = []
        for i, cwd in enumerate((ROOT, ROOT / "experiments/similarity")):
            options = ("--results", class_records, "--dataset_path", image_folder, "--output_dir", tmp_path / f"{i}")
            result = run_file(f"experiments/similarity/{script}.py", *options, *own, cwd=cwd).expect()
            assert "left out, without records: 1 (class1)" in result.stderr
            written.append(sorted(p.relative_to(tmp_path / f"{i}") for p in (tmp_path / f"{i}").rglob("*")))
        assert written[0] == written[1] != []

    def test_pair_sim_writes_the_matrix_its_labels_and_the_neighbours(self, tmp_path, image_folder, similar):
        paths = {label: random_paths(4, seed=label) for label in (0, 2, 3)}
        results = write_classes(tmp_path / "r", paths)
        similar("pair-sim", "--results", results, "--dataset_path", image_folder, "--top", 1).expect()
        out = tmp_path / "out"
        similarity = np.load(out / "similarity.npy")
        np.testing.assert_array_equal(similarity, cosines(frequencies(classes_of(*paths.values()))))
        assert json.loads((out / "labels.json").read_text()) == [0, 2, 3]
        pairs = json.loads((out / "pair_sim.json").read_text())
        assert list(pairs) == ["0", "2", "3"]
        best = max((1, 2), key=lambda j: (similarity[0, j], -j))
        assert pairs["0"]["most"] == [[[0, 2, 3][best], similarity[0, best]]]
        assert not (out / "confusion.npy").exists()
        assert (out / "similarity.png").stat().st_size > 1000 < (out / "similarity.pdf").stat().st_size

    def test_every_method_reads_its_own_paths(self, tmp_path, image_folder, similar):
        paths = {label: random_paths(4, seed=label) for label in range(4)}
        for method, key in (("base", "base"), ("influence_pattern", "path")):
            results = write_classes(tmp_path / method, paths, key=key)
            options = ("--results", results, "--dataset_path", image_folder, "--method", method)
            similar("pair-sim", *options).expect()
            assert "without ja" in similar("pair-sim", *options[:4]).fault

    def test_paper_plot_names_the_classes_there_are(self, tmp_path, image_folder, similar):
        results = write_classes(tmp_path / "r", {1: random_paths(2), 3: random_paths(2)})
        message = similar("paper-plot", "--results", results, "--dataset_path", image_folder).fault
        assert re.search(r"no records of classes 146, 178, 232, 248; .* 1 \(class1\), 3 \(class3\)", message)
        assert not (tmp_path / "out").exists()

    def test_name2img_copies_the_chosen_images(self, class_records, image_folder, tmp_path, similar):
        options = ("--results", class_records, "--dataset_path", image_folder, "--count", 2)
        result = similar("name2img", *options, "--names", "class3", "class1").expect()
        assert result.stdout.count("images  ") == 2
        copies = sorted(p for p in (tmp_path / "out").rglob("*.png"))
        assert [p.relative_to(tmp_path / "out").as_posix() for p in copies] == [
            "1_class1/00.png",
            "3_class3/00.png",
            "3_class3/01.png",
        ]
        assert copies[1].read_bytes() == (image_folder / "class3/00.png").read_bytes()

    def test_name2img_of_hostile_class_folders(self, tmp_path, similar):
        names = [" ..x", "..犬 dog", "$HOME;rm -rf", "-rf"]
        for name in names:
            (tmp_path / "data" / name).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / "data" / name / "a b;.png")
        results = write_classes(tmp_path / "r", dict.fromkeys(range(4), random_paths(1)))
        options = ("--results", results, "--dataset_path", tmp_path / "data")
        for chosen in (("--classes", 0, 1, 2, 3), (f"--names={names[3]}",), ("--names", *names[:3])):
            similar("name2img", *options, *chosen).expect()
        found = [p.relative_to(tmp_path / "out").as_posix() for p in sorted((tmp_path / "out").rglob("*.png"))]
        assert found == ["0_x/a_b_.png", "1_HOME_rm_-rf/a_b_.png", "2_-rf/a_b_.png", "3_犬_dog/a_b_.png"]

    def test_name2img_of_an_unknown_name_says_the_closest(self, class_records, image_folder, tmp_path, similar):
        options = ("--results", class_records, "--dataset_path", image_folder)
        assert "'Class2'; the closest are 'class2'" in similar("name2img", *options, "--names", "Class2").fault
        assert "'../x'" in similar("name2img", *options, "--names", "../x").fault
        assert (
            "'Border collie'"
            in similar("name2img", *options, "--dataset", "imagenet1k", "--names", "border coly").fault
        )
        assert not (tmp_path / "out").exists()
        inside = similar("name2img", *options, "--classes", 1, "--output_dir", image_folder / "new").fault
        assert "within the data set" in inside

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--results", "none"), "no such folder"),
            (("--input_prefix", "other"), "no records named other-"),
            (("--input_prefix", "../x"), "plain file name"),
            (("--method", "ig"), "invalid choice"),
            (("--mlp_dim", 3), "a layer has 3"),
            (("--dataset_path", "none"), "give --dataset_path"),
            (("--res", "x"), "unrecognized arguments"),
            (("--output_dir", __file__), "cannot be written"),
            (("--top", 0), "whole number from 1"),
            (("--pretrain_weight", "none.npz"), "none.npz"),
        ],
    )
    def test_every_mistake_is_one_line(self, options, said, class_records, image_folder, similar, tmp_path):
        message = similar("pair-sim", "--results", class_records, "--dataset_path", image_folder, *options).fault
        assert said in message, message
        assert not (tmp_path / "out").exists()

    def test_too_few_classes_are_one_line(self, tmp_path, image_folder, similar):
        results = write_classes(tmp_path / "r", {2: random_paths(3)})
        options = ("--results", results, "--dataset_path", image_folder)
        assert "records of 1 class only" in similar("pair-sim", *options).fault
        (results / "imgnet_all-2.rlt.jsonl").write_text("")
        for script in ("pair-sim", "freq-figure-all"):
            assert "no records of classes 0 (class0), 1 (class1)" in similar(script, *options).fault
        write_classes(results, {4: random_paths(3)})
        assert "label 4, but imagefolder at" in similar("freq-figure-all", *options).fault
        assert not (tmp_path / "out").exists()

    def test_hostile_settings_are_refused_or_not_followed(self, class_records, image_folder, similar):
        file = class_records / "imgnet_all.args.json"
        good = json.loads(file.read_text())
        for key, value in (("model_mlp_dim", "8"), ("model_mlp_dim", 10**12), ("dataset", "../x"), ("dataset", [1])):
            file.write_text(json.dumps({**good, "settings": {**good["settings"], key: value}}))
            assert str(file) in similar("pair-sim", "--results", class_records, "--dataset_path", image_folder).fault
        file.write_text(json.dumps({**good, "options": {"dataset_path": str(image_folder)}}))  # not below the root
        assert "imagenet2012/val: no " in similar("name2img", "--results", class_records, "--names", "class1").fault

    def test_without_the_data_set_labels_stand_for_names(self, class_records, similar):
        result = similar("pair-sim", "--results", class_records).expect()
        assert "labels stand for the names" in "".join(result.warnings)
