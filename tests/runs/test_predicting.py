"""Images alone, which have no labels, from the search to edits: the predicted class stands for the label."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    EditCommand,
    assert_same_search,
    random_model,
    read_lines,
    record_lines,
    records,
    run_file,
    settings,
    tiny_config,
)
from PIL import Image

from neuronpath.data.loading import load_images
from neuronpath.models.checkpoint import load, save
from neuronpath.runs.extraction import InfluencePattern, JointAttribution, TopKAttribution
from neuronpath.runs.pruning import TopKEdit

SCALES = {"cls": 0.25, "mean": 0.35}  # of random weights under which the predictions differ
NAMES = [f"{i}.png" for i in range(6)]


class Alone(EditCommand):
    """The commands on images alone; `named` are those that --images names."""

    named = NAMES

    def words(self, *more, **changes) -> list[str]:
        files = [str(self.images / name) for name in self.named]
        return super().words(*more, "--dataset", "images", "--images", *files, **changes)


@pytest.fixture(params=["cls", "mean"])
def alone(request, tmp_path) -> Alone:
    folder, rng = tmp_path / "pictures", np.random.default_rng(3)
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / name)
    file = tmp_path / {"cls": "m.npz", "mean": "m.pth"}[request.param]
    save(random_model(tiny_config(request.param, mlp_dim=90), 4, SCALES[request.param], dtype=torch.float32), file)
    found = Alone(file, folder, tmp_path)
    found.pool = request.param
    return found


@pytest.fixture
def predictions(alone) -> dict[str, int]:
    """By name, from the model itself; more than one class, and one of several images."""
    model = load(alone.checkpoint)
    images, _ = load_images([alone.images / name for name in NAMES], model)
    found = dict(zip(NAMES, model(images).argmax(-1).tolist(), strict=True))
    assert 1 < len({*found.values()}) < len(NAMES)
    return found


def test_records_have_the_predicted_class_as_label(alone, predictions):
    said = alone(kind=JointAttribution, out=alone.ja)
    assert "labels      none: the predicted class stands for the label" in said
    found = records(alone.ja)
    assert {name: (r["label"], r["pred"]) for name, r in found.items()} == {n: (p, p) for n, p in predictions.items()}
    assert (settings(alone.ja)["dataset"], settings(alone.ja)["target"]) == ("images", "pred")
    options = json.loads((alone.ja / "imgnet_all.args.json").read_text())["options"]
    assert options["images"] == [str(alone.images / name) for name in NAMES]


def test_the_same_as_in_class_folders(alone, predictions, tmp_path):
    alone(kind=JointAttribution, out=alone.ja)
    for name, label in predictions.items():
        file = tmp_path / f"folders/{label}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((alone.images / name).read_bytes())
    for label in range(4):
        (tmp_path / f"folders/{label}").mkdir(exist_ok=True)
    plain = EditCommand(alone.checkpoint, tmp_path / "folders", tmp_path / "plain")
    plain.pool = alone.pool
    plain.search()
    expected = {name.partition("/")[2]: record for name, record in records(plain.ja).items()}
    assert_same_search(records(alone.ja), expected)


def test_edits_and_influence_patterns(alone, predictions):
    alone(kind=JointAttribution, out=alone.ja)
    alone(kind=InfluencePattern, out=alone.influence)
    for method in ("ja", "influence_pattern"):
        alone("--method", method, out=alone.out / method)
        assert alone.result.warnings == []
        found = records(alone.out / method)
        assert {name: record["label"] for name, record in found.items()} == predictions
        assert all(0 < r["original"] <= 1 and r["original_label"] == r["label"] for r in found.values())


def test_other_lists_go_into_the_same_folder(alone, predictions):
    alone(kind=JointAttribution, out=alone.ja)
    whole = record_lines(alone.ja)
    for names in (NAMES[:2], NAMES[3:4], NAMES[2:], NAMES[::-1]):
        alone.named = names
        said = alone(kind=JointAttribution, out=alone.out)
    assert "0 new" in said
    assert_same_search(dict(sorted(records(alone.out).items())), {n: json.loads(whole[n]) for n in sorted(whole)})
    alone.named = NAMES[1:2]
    alone(out=alone.out / "edits")
    assert list(records(alone.out / "edits")) == NAMES[1:2]
    assert "also there" in alone(kind=JointAttribution, out=alone.out)


def test_an_unreadable_image(alone):
    (alone.images / "2.png").write_bytes(b"")
    assert f"{alone.images}/2.png: cannot be read (" in alone.refused(kind=JointAttribution)
    for _ in range(2):
        alone("--on_bad_image", "skip", kind=JointAttribution, out=alone.ja, code=3)
        (entry,) = read_lines(alone.ja / "imgnet_all.skipped.jsonl")
        assert (entry["image"], entry["label"]) == ("2.png", -1)
    assert sorted(records(alone.ja)) == [name for name in NAMES if name != "2.png"]
    alone.named = ["2.png"]
    said = alone("--on_bad_image", "skip", kind=JointAttribution, out=alone.ja, code=2)
    assert "--images: none of the 1 can be read; check the files" in said


@pytest.mark.parametrize("target", ["label", "2"])
def test_another_target_is_refused(alone, target):
    said = alone.refused("--target", target, kind=JointAttribution)
    assert f"--target {target}: the images of --dataset images have no label, so that their target is pred" in said


def test_pred_may_be_said(alone):
    alone("--target", "pred", kind=JointAttribution, out=alone.ja)
    assert "0 new" in alone(kind=JointAttribution, out=alone.ja)


def test_the_class_is_that_of_the_images_as_the_search_sees_them(alone):
    own = ("--mean", "2,2,2", "--std", "0.1,0.1,0.1", "--crop_pct", 0.5, "--interpolation", "nearest")
    alone("--preprocess", "native", *own, kind=JointAttribution, out=alone.ja)
    assert all(record["label"] == record["pred"] for record in records(alone.ja).values())


def test_the_check_needs_no_labels(alone):
    words = [word for word in alone.words(out=alone.out) if not word.startswith(("--ja_path", "--influence"))]
    words = [word for word in words if word not in (str(alone.ja), str(alone.influence))]
    found = run_file("scripts/check.py", *words, "--ig_total_step", 2).expect().stdout
    assert "6 images" in found
    assert "top-1" not in found


@pytest.mark.parametrize("alone", ["mean"], indirect=True)
def test_pictures_and_similarity(alone, tmp_path):
    alone(kind=JointAttribution, out=alone.ja)
    files = [alone.images / name for name in NAMES]
    given = ("--results", alone.ja, "--dataset_path", alone.images)
    drawn = run_file("scripts/plot_paths.py", *given, "--images", *files, "--output", tmp_path / "p").expect()
    assert Path(drawn.stdout.split()[1]).is_file()
    words = (*given, "--output_dir", tmp_path / "similar")
    run_file("experiments/similarity/pair-sim.py", *words).expect()
    more = ("--pretrain_weight", alone.checkpoint, "--images", *files)
    weighed = run_file("experiments/similarity/pair-sim.py", *words, *more).expect()
    assert "n = 6 recorded images" in weighed.stdout
    label = next(iter(records(alone.ja).values()))["label"]
    copied = run_file("experiments/similarity/name2img.py", *words, "--classes", label, "--images", *files).expect()
    assert f"{label}_{label}" in copied.stdout


@pytest.mark.parametrize("alone", ["cls"], indirect=True)
def test_top_k_paths_and_pruning_by_predicted_class(alone, predictions):
    alone("--topK", 3, kind=TopKAttribution, out=alone.ja)
    assert {len(layer) for record in records(alone.ja).values() for layer in record["ja"]} == {3}
    alone("--topK", 2, "--select_fraction", 0.5, kind=TopKEdit)
    assert all(record["label"] == predictions[name] for name, record in records(alone.out).items())
