"""How often a shortlist's rule errs: what the study counts, against the searches themselves."""

import pytest
import torch

from neuronpath import Shortlist, find_path
from neuronpath.models.checkpoint import load
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import VisionTransformer
from neuronpath.studies import shortlists as study
from neuronpath.studies.searches import TWO

SMALL = {"width": 12, "depth": 3, "num_heads": 2, "mlp_dim": 20}


@pytest.fixture
def small(monkeypatch):
    """Digits models of a few neurons, that are not trained."""
    monkeypatch.setattr(study, "CONFIGS", {name: CONFIGS[name].with_(**SMALL) for name in study.ENDINGS})
    monkeypatch.setattr(study, "RANDOM", SMALL)
    asked = []

    def train(config, images, labels, epochs, seed):
        asked.append((len(images), epochs, seed))
        return study.random_model(config, 0.3, torch.Generator().manual_seed(seed))

    monkeypatch.setattr(study, "train", train)
    return asked


def test_all_settings_and_what_is_kept(small, tmp_path):
    found = study.shortlist_errors(tmp_path, 2, 1)
    assert list(found) == [
        f"{name}, {setting}"
        for name in ("ViT-digits", "MAE-digits")
        for setting in (
            "trained on digits with noise 0.35",
            "random weights, scale 0.4",
            "random weights, scale 0.8",
        )
    ]
    assert small == [(1442, 12, seed) for _ in study.ENDINGS for seed in range(2)]
    for r in found.values():
        assert (r["models"], r["images"], r["layers"]) == (2, 20, 60)
        assert len(r["default"]) == 2
        (default,) = [row for row in r["shortlist"] if (row["first"], row["kappa"]) == (4, 2)]
        assert sum(r["default"]) / 2 == pytest.approx(default["agree"])
    assert study.shortlist_errors(tmp_path, 2, 1) == found
    assert len(small) == 4, "models are kept"


def test_random_models_are_of_their_scale_and_their_own_seed():
    both = list(study.random("MAE-digits", 0.4, 2, 3))
    for seed, (name, model, images, labels) in enumerate(both):
        assert name == f"MAE-digits-random-0.4-{seed}"
        assert model.config.pool == "mean"
        assert images.shape == (30, 3, 32, 32)
        assert labels.tolist() == [label for label in range(10) for _ in range(3)]
        weights = model.blocks[3].mlp.fc1.weight
        assert weights.std().item() == pytest.approx(0.4, rel=0.05)
        norm = torch.cat([block.norm2.weight for block in model.blocks])
        assert norm.mean().item() == pytest.approx(1, abs=0.15)
        assert norm.std().item() == pytest.approx(0.4, rel=0.2)
    assert not torch.equal(both[0][2], both[1][2])


def test_misses_of_the_rule_are_told_from_those_of_the_nodes(tmp_path):
    """On models hostile to it: the searches, run from the prefix that all candidates choose."""
    generator = torch.Generator().manual_seed(0)
    config = CONFIGS["ViT-digits"].with_(width=24, num_heads=4, mlp_dim=96, depth=6)
    model = study.random_model(config, 0.8, generator)
    images, labels = torch.randn(6, 3, 32, 32, generator=generator), torch.arange(6)
    scores = study.every_score(model, images, labels, tmp_path / "scores.npy")
    first = scores[:, :, :1]  # the layer without a prefix
    exact = find_path(model, images, labels, TWO, search="exhaustive").path[:, 0]
    missed = []
    for row in study.calibration(first):
        found = find_path(model, images, labels, TWO, search=Shortlist(96, row["kappa"], row["first"]))
        missed.append(int((found.path[:, 0] != exact).sum()))
        assert (row["missed"], row["missed_by"] > 0) == (missed[-1], missed[-1] > 0)
        assert found.search_scored[:, 0].double().mean().item() == pytest.approx(row["mean_scored"])
    assert max(missed) > min(missed), "otherwise this test shows nothing"
    assert study.per_layer(first)["exact"]["agree"] < 1, "nor that the nodes err, too"


def test_tables():
    rows = [
        {"first": 2, "kappa": 1, "agree": 1, "mean_scored": 2.25, "missed": 0, "missed_by": 0.0},
        {"first": 2, "kappa": 2, "agree": 1, "mean_scored": 3.0, "missed": 3, "missed_by": 0.1234},
    ]
    found = {"a": {"models": 5, "images": 7, "layers": 84, "exact": {"agree": 0.999}, "shortlist": rows}}
    assert study.shortlist_tables(found) == (
        "**a**: 5 models, 7 images, 84 layers; two nodes and all candidates choose as eight nodes do in 99.9 %\n\n"
        "| first | κ = 1 | κ = 2 |\n|---|---|---|\n"
        "| 2 | 0 missed; 2.2 scored | 3 missed, by 0.12 at most; 3.0 scored |\n"
    )


def test_a_trained_model_is_read_from_its_public_layout(small, tmp_path):
    (name, model, images, labels), *_ = study.trained(tmp_path, "MAE-digits", 1, 1)
    again = load(tmp_path / "MAE-digits-0.pth")
    assert name.startswith("MAE-digits-0-")
    assert torch.equal(again.blocks[0].mlp.fc1.weight, model.blocks[0].mlp.fc1.weight)
    assert (len(images), labels.tolist()) == (10, list(range(10)))
    assert isinstance(again, VisionTransformer)
