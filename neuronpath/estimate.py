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


def seconds_per_image(name: str, device: torch.device, steps: int, images: int = 2) -> dict[str, float]:
    """Of `joint_attr`, `influence_pattern` and `edit` (all methods), for the model `name` and `steps` nodes.

    Timed with random weights on `images` random images and one node; cost is proportional to nodes.
    """
    config = CONFIGS[name]
    model = VisionTransformer(config).to(device).eval().requires_grad_(False)
    x = torch.randn(images, 3, config.img_size, config.img_size, device=device)
    labels = torch.zeros(images, dtype=torch.long, device=device)
    one = Quadrature("midpoint", 1)
    path = activation_path(model, x)
    three = (None, remove(model, path), enhance(model, path))
    return {
        "joint_attr": steps * _seconds(lambda: find_path(model, x, labels, one), device) / images,
        "influence_pattern": steps * _seconds(lambda: influence_path(model, x, labels, one), device) / images,
        "edit": EDIT_FORWARDS / 3 * _seconds(lambda: edit(model, x, *three), device) / images,
    }


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
