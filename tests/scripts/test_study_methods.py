"""scripts/study_methods.py from checkpoints and images to numbers, tables and pictures."""

import json
import math
import shutil

import pytest
from foreign import timm_folder
from helpers import COUNTS, contents, random_model, run_file, tiny_config

import neuronpath
from neuronpath import analysis, load_images, studies
from neuronpath.models.checkpoint import save, sha256

SCRIPT = "scripts/study_methods.py"


@pytest.fixture
def weights(tmp_path):
    """Checkpoints of two trainings of one model."""
    files = [tmp_path / f"seed{seed}/tiny.npz" for seed in range(2)]
    for seed, file in enumerate(files):
        save(random_model(tiny_config(depth=2, mlp_dim=24), seed, scale=0.5), file)
    return files


@pytest.fixture
def study(weights, image_folder, tmp_path):
    """The script on the image folder; the result, and `found`, its JSON."""

    def start(*words, files=weights, dataset="imagefolder", output=tmp_path / "new/study"):
        given = ("--dataset", dataset, "--dataset_path", image_folder, "--num_workers", 0, "--noisy_images", 4)
        kept = ("--kept", tmp_path / "kept", "--output", output)
        result = run_file(SCRIPT, *given, *kept, "--pretrain_weight", *files, *words)
        start.found = json.loads(start.file.read_text()) if start.file.exists() else None
        return result

    start.file = (tmp_path / "new/study").with_suffix(".json")
    return start


def without_seconds(found: dict) -> dict:
    return {key: value for key, value in found.items() if not key.endswith("seconds")}


def test_two_trainings_from_checkpoints_to_pictures(study, weights, image_folder, tmp_path):
    result = study("--methods", "random", "base", "beam_16").expect()
    assert not result.warnings
    (group,) = study.found.values()
    assert [*study.found] == ["tiny"]
    assert group["images"] == sum(COUNTS)
    assert [*group["trainings"]] == [sha256(file)[:16] for file in weights]
    first, second = group["trainings"].values()
    assert [*first] == ["layer", "beam_16", "base", "random"], "layer is always there, and all are in the study's order"
    assert [*second] == ["layer", "base", "random"], "a beam of 16 takes long"
    assert group["over"] == json.loads(json.dumps(analysis.over_trainings([first, second])))
    assert group["over"]["base"]["jas"]["of"] == 2
    assert analysis.method_tables(study.found) in result.stdout
    assert "### tiny: 2 trainings, 11 images each" in result.stdout
    for ending in (".png", ".pdf"):
        picture = study.file.with_suffix(ending)
        assert f"picture     {picture}" in result.stdout
        assert picture.stat().st_size > 5000

    model = neuronpath.load(weights[1])
    x, y = load_images(image_folder, model)
    names = [f"class{label}/{i:02d}.png" for label, count in enumerate(COUNTS) for i in range(count)]
    images = studies.Images(x, y, names, (0.229, 0.224, 0.225))
    expected = studies.compare_methods(
        "x", studies.Subject(model, images), ["layer", "base", "random"], tmp_path / "x", 4
    )
    for method, values in analysis.of_training(y.numpy(), expected).items():
        assert without_seconds(second[method]) == without_seconds(json.loads(json.dumps(values))), method


def test_what_is_kept_makes_the_same_files_again(study, tmp_path):
    words = ("--methods", "base", "uniform")
    first = study(*words).expect()
    json_file, kept = study.file.read_bytes(), contents(tmp_path / "kept")
    assert len(kept) == 6
    study.file.unlink()
    again = study(*words).expect()
    assert study.file.read_bytes() == json_file
    assert contents(tmp_path / "kept") == kept
    assert again.stdout == first.stdout
    assert study(*words).expect().stdout == first.stdout
    assert study.file.read_bytes() == json_file


@pytest.mark.parametrize("words", [("--precision", "fp64"), ("--activation", "quick-gelu")])
def test_what_is_kept_is_of_the_model_that_the_options_make(study, weights, tmp_path, words):
    """Their weights and their images are the same."""
    study("--methods", "base", files=weights[:1]).expect()
    plain = study.found["tiny"]["trainings"].popitem()[1]["layer"]["jas"]["value"]
    study("--methods", "base", *words, files=weights[:1]).expect()
    assert study.found["tiny"]["trainings"].popitem()[1]["layer"]["jas"]["value"] != plain
    assert len(contents(tmp_path / "kept")) == 4
    study("--methods", "base", files=weights[:1]).expect()
    assert study.found["tiny"]["trainings"].popitem()[1]["layer"]["jas"]["value"] == plain


def test_a_dot_in_the_output_begins_no_ending(study, weights, tmp_path):
    study("--methods", "base", files=weights[:1], output=tmp_path / "v1.2").expect()
    assert {file.name for file in tmp_path.glob("v1*")} == {"v1.2.json", "v1.2.png", "v1.2.pdf"}


def test_the_methods_that_take_long_are_told(study):
    for words, second in ((("--only_first", "base"), ["layer", "ablation"]), (("--only_first",), None)):
        study("--methods", "base", "ablation", *words).expect()
        first, other = study.found["tiny"]["trainings"].values()
        assert [*first] == ["layer", "ablation", "base"]
        assert [*other] == (second or [*first])


def test_models_of_earlier_runs_stay(study, weights, tmp_path):
    study("--methods", "base", files=weights[:1]).expect()
    before = study.found["tiny"]
    other = tmp_path / "other.pth"
    save(random_model(tiny_config("mean", depth=2, mlp_dim=24)), other)
    result = study("--methods", "base", files=[other]).expect()
    assert [*study.found] == ["tiny", "other"]
    assert study.found["tiny"] == before
    assert "### tiny: 1 training, 11 images each" in result.stdout
    assert "### other: 1 training, 11 images each" in result.stdout


def test_a_folder_of_another_library(study, image_folder, tmp_path):
    """Its block passes are not known."""
    timm_folder(tmp_path / "timm")
    shutil.rmtree(image_folder / "class3")
    study("--methods", "base", "random", files=[tmp_path / "timm"]).expect()
    (group,) = study.found.values()
    assert [*group["trainings"]] == [sha256(tmp_path / "timm")[:16]]
    assert group["over"]["random"]["block_passes"] is None
    assert math.isfinite(group["over"]["random"]["jas"]["mean"])


def test_unreadable_images(study, image_folder):
    bad = image_folder / "class0/01.png"
    bad.write_bytes(b"no image")
    assert f"{bad}: cannot be read (" in study("--methods", "base").fault
    assert study.found is None
    study("--methods", "base", "--on_bad_image", "skip").expect()
    assert study.found["tiny"]["images"] == sum(COUNTS) - 1


class TestRefused:
    def test_the_same_weights_twice(self, study, weights, tmp_path):
        copy = tmp_path / "copy/tiny.npz"
        copy.parent.mkdir()
        shutil.copy(weights[0], copy)
        message = study("--methods", "base", files=[weights[0], copy]).fault
        assert message == f"study_methods.py: {copy}: these weights are given twice; leave one of the files out"
        assert study.found is None

    def test_images_without_labels(self, study, image_folder):
        message = study("--images", image_folder / "class0/00.png", dataset="images").fault
        assert message.startswith("study_methods.py: --dataset images: ")
        assert message.endswith("give images with labels")

    def test_images_of_one_class(self, study):
        message = study("--labels", 2, "--methods", "base").fault
        assert message == (
            "study_methods.py: all images are of class 2, but other classes take part; give more --labels"
        )

    @pytest.mark.parametrize("option", ["--methods", "--only_first"])
    def test_a_method_that_is_none(self, study, option):
        assert "'ja'" in study(option, "ja").fault

    def test_the_first_method_is_of_every_training(self, study):
        assert "'layer'" in study("--only_first", "layer").fault

    def test_weights_that_are_not_there(self, study, tmp_path):
        assert str(tmp_path / "none.npz") in study(files=[tmp_path / "none.npz"]).fault
