"""Time and memory of a reproduction."""

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath.attribution.quadrature import Quadrature
from neuronpath.runs import estimate


def test_seconds_are_scaled_to_nodes_and_images(monkeypatch):
    calls = []
    monkeypatch.setattr(estimate, "seconds", lambda run, device: calls.append(run()) or 6.0)
    model = random_model(tiny_config())
    found = estimate.seconds_per_image(model, 20, 3, Quadrature("left", 4), 5)
    assert [len(calls[i].path) for i in range(2)] == [3, 3]
    assert found["joint_attr"] == found["influence_pattern"] == found["top-5 joint_attr"] == 20 / 4 * 6 / 3
    assert found["edit"] == pytest.approx(estimate.EDIT_FORWARDS * 6 / 3 / 3)
    assert estimate.seconds_per_image(random_model(tiny_config("mean")), 20).keys() == {
        "joint_attr",
        "influence_pattern",
        "edit",
    }


def test_memory_of_this_process():
    cpu = torch.device("cpu")
    assert 2**26 < estimate.peak_memory(cpu) < estimate.machine_memory(cpu)
