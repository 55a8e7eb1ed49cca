"""A classifier in a file, for a model that ends in an embedding or in features.

A zero-shot head has a `scale`: logits = scale · normalised embedding · normalised weightᵀ + bias. A linear probe has
none: logits = features · weightᵀ + bias. The files are untrusted: arrays and text alone are read.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError, one_line
from ..files import replace_file
from .reading import listed

KEYS = ("weight", "bias", "scale", "names")


@dataclass(frozen=True)
class Classifier:
    """`weight` (C, D), `bias` (C,), zeros where the file has none; `scale`: None for a linear probe."""

    weight: Tensor
    bias: Tensor
    scale: float | None = None
    names: tuple[str, ...] = ()

    def head(self) -> nn.Module:
        """From features (B, D) to logits (B, C)."""
        if self.scale is not None:
            return CosineHead(self)
        head = nn.Linear(self.weight.shape[1], len(self.weight))
        head.load_state_dict({"weight": self.weight, "bias": self.bias})
        return head


class CosineHead(nn.Module):
    """The zero-shot head; its weight has length 1 in every row."""

    weight: Tensor
    bias: Tensor

    def __init__(self, classifier: Classifier):
        super().__init__()
        assert classifier.scale is not None
        self.scale = classifier.scale
        self.register_buffer("weight", F.normalize(classifier.weight.double(), dim=1).float())
        self.register_buffer("bias", classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(x, dim=-1), self.weight) + self.bias


class Classified(nn.Module):
    """A module that gives features, (B, D), with a head behind it."""

    def __init__(self, features: nn.Module, head: nn.Module):
        super().__init__()
        self.features, self.head = features, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def read_classifier(file: str | Path) -> Classifier:
    """UserError for a file that is not there, broken, or whose arrays do not fit each other."""
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give --classifier one that scripts/zero_shot.py or you have written")
    try:
        if path.suffix == ".npz":
            return _checked(_read_npz(path))
        if path.suffix in (".pth", ".pt"):
            return _checked(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as e:  # zip, NumPy and PyTorch raise whatever a broken file leads them to
        advice = "it holds weight (C, D) and, if any, bias (C,), scale and names"
        raise UserError(f"{path}: not a sound classifier ({one_line(e, 120)}); {advice}") from e
    raise UserError(f"{path}: unknown kind of classifier; it must end in .npz, .pth or .pt")


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
    arrays = {name: np.lib.format.read_array(content, allow_pickle=False) for name, content in members.items()}
    return {
        name: array.tolist() if name == "names" else torch.from_numpy(np.array(array, np.float32, ndmin=array.ndim))
        for name, array in arrays.items()
    }


def _checked(content: object) -> Classifier:
    """ValueError where something is missing, left over or of the wrong shape."""
    if not isinstance(content, Mapping) or not isinstance(content.get("weight"), Tensor):
        raise ValueError("it has no weight")
    if strange := [str(name) for name in content if name not in KEYS]:
        raise ValueError(f"left over: {listed(strange, 6, 400)}")
    weight = content["weight"].detach().float()
    if weight.ndim != 2 or not weight.numel():
        raise ValueError(f"weight is {tuple(weight.shape)}, not (classes, features)")
    bias = torch.as_tensor(content.get("bias", torch.zeros(len(weight)))).detach().float()
    if bias.shape != (len(weight),):
        raise ValueError(f"bias is {tuple(bias.shape)}, not ({len(weight)},)")
    scale = content.get("scale")
    scale = None if scale is None else float(torch.as_tensor(scale).float())
    if not (weight.isfinite().all() and bias.isfinite().all() and (scale is None or 0 < scale < math.inf)):
        raise ValueError("values that are not finite, or a scale that is not above 0")
    names = [str(name) for name in content.get("names", ())]
    if len(names) not in (0, len(weight)):
        raise ValueError(f"{len(names)} names for {len(weight)} classes")
    return Classifier(weight, bias, scale, tuple(names))


def write_classifier(classifier: Classifier, file: Path) -> None:
    """As `.npz`, whole or not at all."""
    arrays: dict[str, Any] = {"weight": classifier.weight.numpy(), "bias": classifier.bias.numpy()}
    if classifier.scale is not None:
        arrays["scale"] = np.float32(classifier.scale)
    if classifier.names:
        arrays["names"] = np.array(classifier.names)
    content = io.BytesIO()
    np.savez(content, **arrays)
    replace_file(file, content.getvalue())


def with_probe(where: Path, tensors: dict[str, Tensor], classifier: Classifier) -> dict[str, Tensor]:
    """A state dict with timm's names and a linear probe for its head. UserError where it has one, or that is none."""
    if classifier.scale is not None:
        raise UserError(
            f"{where}: --classifier is a zero-shot head, for the folder of a model that ends in an embedding"
        )
    if "head.weight" in tensors:
        raise UserError(f"{where}: it has a classifier of its own; leave --classifier out")
    return {**tensors, "head.weight": classifier.weight, "head.bias": classifier.bias}
