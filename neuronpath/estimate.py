"""How long a reproduction will take on this machine: one call of each job is timed, and scaled."""

import time
from collections.abc import Callable

import torch

from .configs import CONFIGS
from .edits import edit, enhance, remove
from .influence import influence_path
from .model import VisionTransformer
from .quadrature import Quadrature
from .search import activation_path, find_path

EDIT_FORWARDS = 3 * 3 + 1 + 2 * 5  # three methods, original, removed and enhanced; five draws of the control
PRUNING_FORWARDS = 0.2 * 3 * 2 * 2  # of the images held out; three methods, two kinds of token, before and after


def seconds_per_image(name: str, device: torch.device, steps: int, images: int = 2) -> dict[str, float]:
    """Of each job, for the model `name` and `steps` nodes; `edit` has all its methods.

    Timed with random weights on `images` random images and one node; cost is proportional to nodes.
    """
    config = CONFIGS[name]
    model = VisionTransformer(config).to(device).eval().requires_grad_(False)
    x = torch.randn(images, 3, config.img_size, config.img_size, device=device)
    labels = torch.zeros(images, dtype=torch.long, device=device)
    one = Quadrature("midpoint", 1)
    path = activation_path(model, x)
    three = (None, remove(model, path), enhance(model, path))
    search = steps * _seconds(lambda: find_path(model, x, labels, one), device) / images
    influence = steps * _seconds(lambda: influence_path(model, x, labels, one), device) / images
    forward = _seconds(lambda: edit(model, x, *three), device) / images / 3
    found = {"joint_attr": search, "influence_pattern": influence, "edit": EDIT_FORWARDS * forward}
    if config.pool == "cls":
        found |= {"top-5 joint_attr": search, "pruning": PRUNING_FORWARDS * forward}
    return found


def _seconds(run: Callable, device: torch.device) -> float:
    """The second of two runs."""
    for _ in range(2):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - started


def duration(seconds: float) -> str:
    """'40 s', '12 min', '5.0 h', '3.1 days'."""
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
