"""The job of top images, and its interruption."""

from pathlib import Path

import pytest
import torch
from helpers import KINDS, Command, random_model, tiny_config

from neuronpath.models.checkpoint import save
from neuronpath.runs.top_images import TopImages
from neuronpath.runs.top_plan import TopPlan


class Top(Command):
    """The job of top images, for either kind of head."""

    kind = TopImages

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.pool = None


@pytest.fixture
def top(checkpoint, image_folder, tmp_path) -> Command:
    """The job, on a model whose head reads one token."""
    return Top(checkpoint, image_folder, tmp_path / "out")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    root, found = tmp_path_factory.mktemp("kinds"), {}
    for kind in KINDS:
        found[kind] = root / (kind + (".npz" if kind == "cls" else ".pth"))
        save(random_model(tiny_config(kind), dtype=torch.float32), found[kind])
    return found


@pytest.fixture(params=KINDS)
def either(request, checkpoints, image_folder, tmp_path) -> Command:
    """The job, on each kind of model."""
    return Top(checkpoints[request.param], image_folder, tmp_path / "out")


@pytest.fixture
def stops(monkeypatch):
    """Interrupt the n-th batch from now on; 0: none."""

    def at(n: int) -> None:
        left = [n]

        def records(plan, *given):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            return compute(plan, *given)

        monkeypatch.setattr(TopPlan, "records", records)

    compute = TopPlan.records
    return at
