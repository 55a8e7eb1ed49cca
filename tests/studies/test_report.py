"""The whole study of searches and its report."""

import itertools
import json

import numpy as np
import torch
from helpers import random_model, tiny_config
from PIL import Image

from neuronpath.figures.common import save as save_figure
from neuronpath.figures.searches import plot_study
from neuronpath.models.checkpoint import save
from neuronpath.studies import report as search_report


def test_the_whole_study_and_its_report(tmp_path):
    """On one random image per class and part, in the place of the digits."""
    save(random_model(tiny_config(depth=3)).float(), tmp_path / "tiny.npz")
    rng = np.random.default_rng(0)
    for part, label in itertools.product(("train", "val"), range(4)):
        (tmp_path / part / str(label)).mkdir(parents=True)
        image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        image.save(tmp_path / part / str(label) / "0.png")
    sizes = {"per_class": 1, "train_per_class": 1, "kept": tmp_path / "kept", "device": torch.device("cpu")}
    found = {"tiny": search_report.run(tmp_path / "tiny.npz", tmp_path, **sizes)}
    again = json.loads(json.dumps(found, allow_nan=False))
    text = search_report.markdown(again)
    assert "| exhaustive | 100.0 %" in text
    assert "| gauss-legendre | 8 |" in text
    assert all(file.stat().st_size > 1000 for file in save_figure(plot_study(again), tmp_path / "study"))
    rules = again["tiny"]["quadrature"]["rules"]
    assert rules["gauss-legendre"]["16"] >= rules["left"]["8"] >= 0
    passes = {name: cost["block_passes"] for name, cost in again["tiny"]["costs"].items()}
    assert passes["shortlist, Gauss-Radau 2"] < passes["exhaustive, Gauss-Radau 2"]


def test_kappa_is_calibrated_on_training_images(tmp_path, image_folder, checkpoint, monkeypatch):
    for part in ("train", "val"):
        (tmp_path / part).symlink_to(image_folder)
    monkeypatch.setattr(search_report.study, "every_score", lambda model, images, labels, file: file.stem)
    monkeypatch.setattr(search_report.study, "calibration", lambda scores: scores)
    monkeypatch.setattr(search_report.study, "quadratures", lambda *arguments, **options: {})
    sizes = {"per_class": 2, "train_per_class": 1, "kept": tmp_path, "device": torch.device("cpu")}
    found = search_report.run(checkpoint, tmp_path, **sizes, parts=["training"])["training"]
    assert found["shortlist"].endswith("-train-1")
    assert found["shortlist_images"] == 4
