"""Classifiers in files, for models that end in an embedding or in features."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign import clip_folder, timm_folder
from helpers import Payload, fault, random_model, tiny_config

import neuronpath
from neuronpath.models.checkpoint import save
from neuronpath.models.classifiers import Classifier, read_classifier, write_classifier

WEIGHT = torch.randn(4, 12, generator=torch.Generator().manual_seed(3))


def test_what_is_written_is_read(tmp_path):
    made = Classifier(WEIGHT, torch.arange(4.0), 20.0, ("a", "b", "c d", "é"))
    write_classifier(made, tmp_path / "c.npz")
    found = read_classifier(tmp_path / "c.npz")
    assert torch.equal(found.weight, WEIGHT)
    assert torch.equal(found.bias, made.bias)
    assert (found.scale, found.names) == (20.0, made.names)
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


def test_a_zero_shot_head_is_the_cosine():
    x, bias = torch.randn(3, 12), torch.arange(4.0)
    expected = 20 * F.cosine_similarity(x[:, None].double(), WEIGHT[None].double(), dim=-1) + bias
    torch.testing.assert_close(Classifier(WEIGHT, bias, 20.0).head()(x).double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("ending", ["npz", "pth"])
def test_a_linear_probe_on_a_backbone_of_timm(tmp_path, ending):
    live = timm_folder(tmp_path / "model", num_classes=0)
    bias = torch.arange(4.0)
    if ending == "npz":
        np.savez(tmp_path / "c.npz", weight=WEIGHT.numpy(), bias=bias.numpy(), names=np.array(list("abcd")))
    else:
        torch.save({"weight": WEIGHT, "bias": bias, "names": list("abcd")}, tmp_path / "c.pth")
    model, x = neuronpath.load(tmp_path / "model", classifier=tmp_path / f"c.{ending}"), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), F.linear(live(x), WEIGHT, bias), rtol=1e-4, atol=1e-4)
    assert model.class_names == ("a", "b", "c", "d")
    assert "ends in features, without a classifier; give --classifier; " in fault(neuronpath.load, tmp_path / "model")


def test_a_linear_probe_on_a_file_without_a_head(tmp_path):
    whole = random_model(tiny_config(), dtype=torch.float32)
    save(whole, tmp_path / "whole.pth")
    content = torch.load(tmp_path / "whole.pth")
    probe = {name: content["model"].pop(f"head.{name}") for name in ("weight", "bias")}
    torch.save(content, tmp_path / "backbone.pth")
    torch.save(probe, tmp_path / "probe.pth")
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(neuronpath.load(tmp_path / "backbone.pth", classifier=tmp_path / "probe.pth")(x), whole(x))
    found = fault(neuronpath.load, tmp_path / "whole.pth", classifier=tmp_path / "probe.pth")
    assert found.endswith("it has a classifier of its own; leave --classifier out")
    torch.save({**probe, "scale": 2.0}, tmp_path / "cosine.pth")
    found = fault(neuronpath.load, tmp_path / "backbone.pth", classifier=tmp_path / "cosine.pth")
    assert "--classifier is a zero-shot head, for the folder of a model that ends in an embedding" in found


def test_another_number_of_features(tmp_path):
    clip_folder(tmp_path / "clip")
    write_classifier(Classifier(WEIGHT, torch.zeros(4), 1.0), tmp_path / "c.npz")
    found = fault(neuronpath.load, tmp_path / "clip", classifier=tmp_path / "c.npz")
    assert found.endswith("the --classifier takes 12 features, but transformers CLIPModel gives 10")


BROKEN = {
    "no weight": ({"bias": [1.0]}, "it has no weight"),
    "a vector": ({"weight": [1.0, 2.0]}, "weight is (2,), not (classes, features)"),
    "bias": ({"weight": WEIGHT, "bias": [1.0]}, "bias is (1,), not (4,)"),
    "scale": ({"weight": WEIGHT, "scale": -1.0}, "a scale that is not above 0"),
    "nan": ({"weight": WEIGHT * float("nan")}, "values that are not finite"),
    "names": ({"weight": WEIGHT, "names": ["a"]}, "1 names for 4 classes"),
    "more": ({"weight": WEIGHT, "head.weight": WEIGHT}, "left over: head.weight"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_ones_say_why(tmp_path, kind):
    content, why = BROKEN[kind]
    np.savez(tmp_path / "c.npz", **content)
    assert why in fault(read_classifier, tmp_path / "c.npz")


def test_no_code_of_a_classifier_runs(tmp_path):
    canary = tmp_path / "canary"
    torch.save({"weight": Payload(canary)}, tmp_path / "c.pth")
    np.savez(tmp_path / "c.npz", weight=np.array([Payload(canary)], object))
    for name in ("c.pth", "c.npz"):
        assert "not a sound classifier (" in fault(read_classifier, tmp_path / name)
    assert not canary.exists()
    assert "no such file" in fault(read_classifier, tmp_path / "none.npz")
    (tmp_path / "c.txt").touch()
    assert "unknown kind of classifier" in fault(read_classifier, tmp_path / "c.txt")
