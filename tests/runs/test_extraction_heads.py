"""The job of paths of heads: records, resuming, several processes, both kinds of heads, and edits of its paths."""

import json

import pytest
import torch
from helpers import (
    IMAGES,
    LABELS,
    Command,
    assert_same_edits,
    change_line,
    contents,
    random_model,
    record_lines,
    records,
    settings,
    tiny_config,
)

from neuronpath import Quadrature, edit, enhance, find_head_path, mean_activations, remove
from neuronpath.models.checkpoint import save
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import HeadAttribution
from neuronpath.runs.pruning import TopKEdit

UNITS = {"heads": "head", "both": "both", "neurons": "neuron"}


@pytest.fixture
def heads(checkpoint, image_folder, tmp_path) -> Command:
    found = Command(checkpoint, image_folder, tmp_path / "out", steps=2, more=("--precision", "fp64"))
    found.kind = HeadAttribution
    found.more += ("--quadrature", "gauss-legendre")
    return found


@pytest.mark.parametrize("units", UNITS)
def test_records_are_what_the_library_finds(heads, units):
    more = ("--search", "layer") if units != "heads" else ()
    summary = heads("--units", units, "--topK", 2, *more)
    model, images = heads.loaded()
    found = records(heads.out)
    assert list(found) == IMAGES
    named = {"units": units, "search": "layer"}
    for image, x in images.items():
        record = found[image]
        expected = find_head_path(
            model, x[None], torch.tensor([LABELS[image]]), Quadrature("gauss-legendre", 2), 2, **named
        )
        assert record["unit"] == UNITS[units]
        for key, name in (("ja", ""), ("base", "base_"), ("gate", "gradient_")):
            assert record[key] == getattr(expected, f"{name}path")[0].tolist()
            assert record[f"{key}_score"] == pytest.approx(getattr(expected, f"{name}score").item(), rel=1e-9)
            assert record[f"{key}_drop"] == pytest.approx(getattr(expected, f"{name}drop").item(), rel=1e-8)
        torch.testing.assert_close(torch.tensor(record["ja_act"]).double(), expected.activation[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(torch.tensor(record["margin"]).double(), expected.margin[0], rtol=1e-5, atol=1e-7)
    made = settings(heads.out)
    assert (made["units"], made["topK"], made.get("search")) == (units, 2, "layer" if more else None)
    assert made["units_per_layer"] == (5 if units == "heads" else 28)
    mean = sum(record["ja_drop"] for record in found.values()) / len(found)
    assert "F(1) - F(0) " in summary
    assert f" {mean:.4f}" in summary


def test_a_run_resumes_and_processes_share_it(heads, tmp_path):
    heads.more += ("--batch_size", 1)  # in which images are side by side tells in the last bits
    heads(out=tmp_path / "whole")
    heads("--labels", "0,2")
    before = contents(heads.out)
    for share in ("0/2", "1/2"):
        heads("--shard", share)
    assert record_lines(heads.out) == record_lines(tmp_path / "whole")
    assert all(contents(heads.out)[name] == content for name, content in before.items() if name.endswith(".jsonl"))
    assert "units heads \u2192 both" in heads("--units", "both", code=2)
    change_line(heads.out / "imgnet_all-3.rlt.jsonl", 0, ja=[[7]] * 6)
    assert "ja is not 6 lists of distinct units, each 0 to 4" in heads(code=2)


def test_what_is_refused(heads):
    assert "--topK 6: a layer of this model has 5 heads" in heads.refused("--topK", 6)
    assert "--search: heads are all scored, each alone" in heads.refused("--search", "layer")
    assert "invalid choice: 'tokens'" in heads.refused("--units", "tokens")


@pytest.fixture(params=["cls", "mean"])
def edits(request, image_folder, tmp_path) -> Command:
    file = tmp_path / {"cls": "few.npz", "mean": "few.pth"}[request.param]
    save(random_model(tiny_config(request.param, depth=2), dtype=torch.float32), file)
    found = Command(file, image_folder, tmp_path / "edited", steps=None, more=("--precision", "fp64"))
    found.kind, found.pool = Edit, request.param
    return found


def search(edits: Command, tmp_path, units: str):
    out = tmp_path / f"{units}-paths-of"
    more = ("--search", "layer") if units != "heads" else ()
    edits("--units", units, "--ig_total_step", 2, "--topK", 2, *more, kind=HeadAttribution, out=out)
    return out


@pytest.mark.parametrize(("units", "method"), [("heads", "heads"), ("both", "mixed")])
def test_edits_are_those_of_the_library(edits, tmp_path, units, method):
    paths = search(edits, tmp_path, units)
    found = {}
    for ablation in ("zero", "mean"):
        edits("--method", method, "--heads_path", paths, "--ablation", ablation, out=tmp_path / ablation)
        found[ablation] = records(tmp_path / ablation)
    model, images = edits.loaded()
    means = mean_activations(model, torch.stack([*images.values()]), units=units)
    for image, x in images.items():
        path = records(paths)[image]["ja"]
        for ablation, record in ((name, by_image[image]) for name, by_image in found.items()):
            assert record["path"] == path
            own, at = torch.tensor([path]), None if ablation == "zero" else means
            changes = remove(model, own, at, units), enhance(model, own, units)
            removed, doubled = (x.softmax(-1)[0, LABELS[image]].item() for x in edit(model, x[None], *changes))
            assert record["remove"] == pytest.approx(removed, rel=1e-6)
            assert record["enhance"] == pytest.approx(doubled, rel=1e-6)
            assert ("retain" in record) == (ablation == "mean")


def test_the_control_and_other_images(edits, tmp_path):
    paths = search(edits, tmp_path, "both")
    for batch in (2, 5):
        more = ("--ablation", "resample", "--batch_size", batch)
        edits("--method", "mixed_random", "--heads_path", paths, *more, out=tmp_path / f"batch{batch}")
    found = records(tmp_path / "batch2")
    assert_same_edits(found, records(tmp_path / "batch5"))
    for record in found.values():
        assert len(record["draws"]) == 5
        for draw in record["draws"]:
            for drawn, own in zip(draw["path"], record["path"], strict=True):
                assert not {*drawn} & {*own}
        assert record["remove"] == pytest.approx(sum(draw["remove"] for draw in record["draws"]) / 5)


def test_records_of_other_units_are_refused(edits, tmp_path):
    paths = search(edits, tmp_path, "heads")
    message = edits("--method", "mixed", "--heads_path", paths, code=2)
    assert "its unit is not both; give the records of heads/both for this model" in message
    file = next(paths.glob("*.args.json"))
    assert json.loads(file.read_text())["job"].startswith("joint_attr_heads")


def test_pruning_is_not_by_paths_of_heads(edits):
    message = edits("--method", "heads", kind=TopKEdit, code=2)
    assert "--method heads: pruning is by paths of neurons of the other scripts" in message


def test_the_best_heads_only(edits, tmp_path):
    paths = search(edits, tmp_path, "heads")
    edits("--method", "heads", "--heads_path", paths, "--topK", 1)
    for image, record in records(edits.out).items():
        assert record["path"] == [layer[:1] for layer in records(paths)[image]["ja"]]
