"""How long a reproduction will take on this machine, and how much memory: one call of each job is timed, and scaled."""

import os
import resource
import sys
from collections.abc import Callable

import torch

from ..attribution.edits import edit, enhance, remove
from ..attribution.influence import influence_path
from ..attribution.quadrature import Quadrature
from ..attribution.search import activation_path, find_path
from ..models.devices import seconds
from ..models.staged import StagedModel

EDIT_FORWARDS = 3 * 3 + 1 + 2 * 5  # three methods, original, removed and enhanced; five draws of the control
# Of the images held out: three methods, at the CLS or all tokens, four shares, before and after.
PRUNING_FORWARDS = 0.2 * 3 * 2 * 4 * 2

ONE_NODE = Quadrature("midpoint", 1)
LONG = 5  # seconds
GIB = 2**30


def seconds_per_image(
    model: StagedModel,
    steps: int,
    images: int = 2,
    quadrature: Quadrature = ONE_NODE,
    internal_batch_size: int | None = None,
) -> dict[str, float]:
    """Of each job, for `steps` nodes; `edit` has all its methods.

    Timed on `images` random images with `quadrature` and scaled to `steps`: cost is proportional to nodes, but for
    mean-pooled models whose rows of one image exceed `internal_batch_size`, which recompute (`engine.ReverseRamp`).
    """
    config, rows = model.config, internal_batch_size
    x = torch.randn(images, 3, config.img_size, config.img_size).to(model.device, model.dtype)
    labels = torch.zeros(images, dtype=torch.long, device=model.device)
    path = activation_path(model, x)
    three = (None, remove(model, path), enhance(model, path))
    nodes = steps / quadrature.steps / images
    search = nodes * _seconds(lambda: find_path(model, x, labels, quadrature, internal_batch_size=rows), model.device)
    influence = nodes * _seconds(
        lambda: influence_path(model, x, labels, quadrature, internal_batch_size=rows), model.device
    )
    forward = _seconds(lambda: edit(model, x, *three, internal_batch_size=rows), model.device) / images / 3
    found = {"joint_attr": search, "influence_pattern": influence, "edit": EDIT_FORWARDS * forward}
    if model.num_neuron_tokens == 1:
        found |= {"top-5 joint_attr": search, "pruning": PRUNING_FORWARDS * forward}
    return found


def _seconds(run: Callable, device: torch.device) -> float:
    """The second of two runs; the first where it takes long, as little of that goes into starting."""
    for _ in range(2):
        found = seconds(run, device)
        if found > LONG:
            break
    return found


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU by PyTorch, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine_memory(device: torch.device) -> int:
    """Bytes that the GPU has, or this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def duration(seconds: float) -> str:
    """'40 s', '12 min', '5.0 h', '3.1 days'."""
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
