"""scripts/study_shrink.py from checkpoints and images to numbers, tables and pictures."""

import hashlib
import json
import shutil

import pytest
import torch
from foreign import timm_folder
from helpers import COUNTS, contents, random_model, run_file, tiny_config
from PIL import Image

import neuronpath
from neuronpath import analysis, figures, load_images, studies
from neuronpath.analysis import metrics
from neuronpath.data.images import open_dataset
from neuronpath.models.checkpoint import save

SCRIPT = "scripts/study_shrink.py"
NAMES = ("path_1", "taylor", "taylor_all", "random")


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "tiny.npz"
    save(random_model(tiny_config(depth=2, mlp_dim=24), scale=0.5), file)
    return file


@pytest.fixture
def training(image_folder, tmp_path):
    """Others of the same classes: those of `image_folder`, upside down."""
    root = tmp_path / "training"
    for file in image_folder.rglob("*.png"):
        own = root / file.parent.name / f"t{file.name}"
        own.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(own)
    return root


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 99)


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures take longest."""
    monkeypatch.setattr(figures, "save", lambda *_: [])


@pytest.fixture
def study(weights, image_folder, training, tmp_path):
    """The script; the result, and `found`, its JSON."""

    def start(*words, files=(weights,), held_out=image_folder, names=NAMES, shares=(0.5, 0.25)):
        given = ("--dataset", "imagefolder", "--dataset_path", held_out, "--num_workers", 0)
        given += ("--kept", tmp_path / "kept", "--output", tmp_path / "new/study", "--importances", *names)
        given += ("--training_path", training, "--shares", *shares)
        result = run_file(SCRIPT, *given, *(("--pretrain_weight", *files) if files else ()), *words)
        start.found = json.loads(start.file.read_text()) if start.file.exists() else None
        return result

    start.file = tmp_path / "new/study.json"
    return start


def images(folder, model) -> "studies.Images":
    x, y = load_images(folder, model)
    names = [item.image for item in open_dataset("imagefolder", folder, 4).items]
    return studies.Images(x, y, names, (0.229, 0.224, 0.225))


def test_from_a_checkpoint_to_pictures(study, weights, training, image_folder, tmp_path):
    result = study().expect()
    assert not result.warnings
    (group,) = study.found["models"].values()
    assert [*study.found["models"]] == ["tiny"]
    assert (group["training"], group["images"]) == (sum(COUNTS), sum(COUNTS))
    assert study.found["time"] == {}
    assert analysis.shrink_tables(study.found) in result.stdout
    for ending in (".png", ".pdf"):
        picture = study.file.with_suffix(ending)
        assert f"picture     {picture}" in result.stdout
        assert picture.stat().st_size > 5000

    model = neuronpath.load(weights)
    ranked = studies.rank_units("x", model, images(training, model), NAMES, tmp_path / "x")
    held_out = images(image_folder, model)
    measured = studies.measure_smaller(model, held_out, ranked, (0.5, 0.25))
    expected = analysis.of_smaller_models(held_out.y.numpy(), (0.5, 0.25), measured)
    assert group["kept"] == json.loads(json.dumps(expected))
    assert group["held"] == ranked.held
    assert group["flops"] == studies.flops_of_smaller(model, held_out.x[:1], (0.5, 0.25))


@pytest.mark.usefixtures("unpainted")
def test_held_out_images_choose_nothing(study, image_folder, training, monkeypatch, tmp_path):
    """Whatever is held out, the same units stay: what chooses is given training images alone."""
    kept, seen = [], []
    rank = studies.shrinking.rank_units

    def watched(name, model, of, *more, **named):
        seen.append((of.names, [*torch.bincount(of.y, minlength=4).tolist()]))
        kept.append(rank(name, model, of, *more, **named))
        return kept[-1]

    monkeypatch.setattr(studies, "rank_units", watched)
    study().expect()
    few = tmp_path / "few"
    for label in range(4):
        (few / f"class{label}").mkdir(parents=True)
        shutil.copy(image_folder / "class3/02.png", few / f"class{label}/other.png")
    Image.new("RGB", (5, 5), "red").save(few / "class2/other.png")
    study(held_out=few).expect()
    names = sorted(file.relative_to(training).as_posix() for file in training.rglob("*.png"))
    assert seen == [(names, [*COUNTS])] * 2
    first, second = kept
    for name in NAMES:
        assert all(torch.equal(a, b) for a, b in zip(first.units[name], second.units[name], strict=True))
    assert torch.equal(first.means, second.means)
    assert study.found["models"]["tiny"]["images"] == 4


@pytest.mark.usefixtures("unpainted")
def test_options_count_for_what_they_say(study):
    words = ("--training_per_class", 2, "--images_per_class", 1, "--labels", "0,3")
    study(*words, names=("taylor",)).expect()
    group = study.found["models"]["tiny"]
    assert (group["training"], group["images"]) == (4, 2)


@pytest.mark.usefixtures("unpainted")
def test_paths_are_kept_unless_said_otherwise_and_are_of_the_model_that_the_options_make(study, weights, tmp_path):
    few = {"names": ("path_1",), "shares": (0.5,)}
    study(**few).expect()
    before, (file,) = study.file.read_bytes(), (tmp_path / "kept").iterdir()
    time = file.stat().st_mtime_ns
    study.file.unlink()
    study(**few).expect()
    assert (study.file.read_bytes(), file.stat().st_mtime_ns) == (before, time)
    study("--overwrite", **few).expect()
    assert study.file.read_bytes() == before
    assert file.stat().st_mtime_ns > time
    study("--activation", "quick-gelu", **few).expect()
    assert len(contents(tmp_path / "kept")) == 2
    save(random_model(tiny_config(depth=2, mlp_dim=24), seed=5), weights)
    study(**few).expect()
    assert len(contents(tmp_path / "kept")) == 3, "of other weights of the same name"


@pytest.mark.usefixtures("unpainted")
def test_a_model_that_stands_in_the_file_is_measured_again_only_where_something_differs(study, weights, monkeypatch):
    few = {"names": ("taylor",), "shares": (0.5,)}
    study(**few).expect()
    whole, measured, measure = study.file.read_bytes(), [], studies.shrinking.measure_smaller

    def watched(*given):
        measured.append(given)
        return measure(*given)

    monkeypatch.setattr(studies, "measure_smaller", watched)
    study(**few).expect()
    assert (len(measured), study.file.read_bytes()) == (0, whole)
    others = (
        (("--overwrite",), {}),
        (("--seed", 43), {}),
        (("--precision", "fp64"), {}),
        (("--training_per_class", 1), {}),
        (("--images_per_class", 1), {}),
        ((), {"shares": (0.25,)}),
        ((), {"names": ("magnitude",)}),
    )
    for count, (words, changed) in enumerate(others, 1):
        study.file.write_bytes(whole)
        study(*words, **{**few, **changed}).expect()
        assert len(measured) == count, (words, changed)
    study.file.write_bytes(whole)
    save(random_model(tiny_config(depth=2, mlp_dim=24), seed=5), weights)
    study(**few).expect()
    assert len(measured) == len(others) + 1
    entry = study.found["models"]["tiny"]["identity"]
    assert entry["checkpoint_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.usefixtures("unpainted")
def test_what_is_measured_is_kept_when_the_next_model_fails(study, weights, tmp_path):
    assert "no such checkpoint file" in study(names=("taylor",), files=(weights, tmp_path / "none.npz")).fault
    assert [*study.found["models"]] == ["tiny"]


@pytest.mark.usefixtures("unpainted")
def test_a_truth_file_is_of_the_held_out_images_alone(study, tmp_path):
    save(random_model(tiny_config(num_classes=1000)), tmp_path / "thousand.npz")
    flat, classes = tmp_path / "flat", tmp_path / "classes/n01440764"
    flat.mkdir()
    classes.mkdir(parents=True)
    Image.new("RGB", (9, 9), "red").save(flat / "a.png")
    Image.new("RGB", (9, 9), "blue").save(classes / "b.png")
    (tmp_path / "truth.csv").write_text("ImageId,PredictionString\na,n01440764 1 2 3 4\n")
    words = ("--dataset", "imagenet1k", "--truth", tmp_path / "truth.csv", "--training_path", classes.parent)
    study(*words, names=("taylor",), files=(tmp_path / "thousand.npz",), held_out=flat).expect()
    assert study.found["models"]["thousand"]["training"] == 1


@pytest.mark.usefixtures("unpainted")
def test_models_and_times_of_earlier_runs_stay(study, tmp_path, monkeypatch):
    study(names=("taylor", "random")).expect()
    before = study.found["models"]["tiny"]
    ratio = {"median": 0.5, "low": 0.5, "high": 0.5}
    entry = {"flops": 1.0, "weights": 1, "seconds": 1.0, "cpu": 1.0, "ratio": ratio, "cpu_ratio": ratio}
    asked = []

    def times(config, shares, *more):
        asked.append((config.width, config.patch_size, shares, *map(str, more)))
        return {"images": 4, "rounds": 3, "device": "cpu", "shares": {"1": entry, "0.5": entry}}

    monkeypatch.setattr(studies, "times_of_smaller", times)
    result = study("--time_rounds", 3, files=(), shares=(1, 0.5)).expect()
    assert asked == [(768, 32, [0.5], "4", "3", "cpu")]
    assert study.found["models"] == {"tiny": before}
    assert "ViT-B_32 sizes" in result.stdout
    timm_folder(tmp_path / "timm.x", num_classes=4, config={"img_size": 8, **SIZES})
    result = study(names=("taylor",), files=(tmp_path / "timm.x",)).expect()
    assert [*study.found["models"]] == ["tiny", "timm.x"]
    assert study.found["time"]["model"] == "ViT-B_32"
    assert "### timm.x: 11 held-out images, 11 to choose by" in result.stdout


SIZES = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 0.75, "num_classes": 4}


class TestMistakes:
    def test_the_same_images(self, study, training):
        assert "these are the held-out images" in study(held_out=training).fault

    def test_an_image_of_both_sets(self, study, training, image_folder, tmp_path):
        shutil.copy(image_folder / "class3/02.png", training / "class1/other.png")
        assert study().fault.endswith(f"{training}: 1 images are also among those to measure on; give others")
        assert not (tmp_path / "kept").exists(), "nothing is chosen"
        assert not study.file.exists()

    def test_two_checkpoints_of_one_name(self, study, weights, tmp_path):
        said = study(files=(weights, tmp_path / "elsewhere/tiny.npz")).fault
        assert "--pretrain_weight: two are called tiny" in said

    def test_nothing_to_do(self, study):
        assert (
            study(files=()).fault == "study_shrink.py: nothing to do: give --pretrain_weight, or --time_rounds, or both"
        )

    def test_no_training_images(self, weights, image_folder):
        given = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--pretrain_weight", weights)
        assert "--training_path: give the images to choose by" in run_file(SCRIPT, *given).fault

    def test_images_without_labels(self, study, image_folder):
        words = ("--dataset", "images", "--images", image_folder / "class0/00.png")
        assert "give images with labels" in study(*words).fault

    def test_several_processes(self, study):
        assert "one process" in study("--shard", "0/2").fault

    def test_another_file_in_its_place(self, study):
        study.file.parent.mkdir()
        study.file.write_text("7")
        assert (
            "not of study_shrink.py"
            in run_file(SCRIPT, "--time_rounds", 1, "--output", study.file.with_suffix("")).fault
        )
