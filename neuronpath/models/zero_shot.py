"""A zero-shot head from a local CLIP or SigLIP folder: what its text tower says of class names in templates."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from . import from_open_clip, from_transformers
from .classifiers import Classifier
from .folders import opened
from .foreign import foreign_code, read_tensors

TEMPLATES = ("a photo of a {}.",)  # CLIP's

#: The seven that CLIP's authors chose for ImageNet (github.com/openai/CLIP, Prompt_Engineering_for_ImageNet.ipynb).
USUAL = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
AT_ONCE = 64  # texts
MOST = 2**20  # bytes of a file of names


def zero_shot(folder: str | Path, names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Classifier:
    """One class per name: text features of all templates, each normalised, averaged and normalised again.

    `templates` have {} in the name's place. UserError for a folder that is no CLIP or SigLIP, and where a name or
    template is missing.
    """
    if not names or not all(name.strip() for name in names):
        raise UserError("--names: a class without a name; give one per line")
    if wrong := [template for template in templates if "{}" not in template]:
        raise UserError(f"--templates: {wrong[0]!r} has no {{}} in the place of the class")
    model, features = _text_tower(Path(folder))
    texts = [template.replace("{}", name) for name in names for template in templates]
    with foreign_code(folder, "its text tower"), torch.no_grad():
        found = torch.cat([features(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)])
        each = F.normalize(found.double(), dim=1).unflatten(0, (len(names), -1))
        weight = F.normalize(each.mean(1), dim=1).float()
        bias = getattr(model, "logit_bias", None)
        bias = torch.zeros(()) if bias is None else bias.detach().float()
        scale = model.logit_scale.detach().double().exp().item()
    return Classifier(weight, bias.reshape(-1)[:1].expand(len(names)).clone(), scale, tuple(names))


def read_names(file: Path) -> list[str]:
    """One per line. UserError for a file that is not there or not text."""
    try:
        if file.stat().st_size > MOST:
            raise ValueError("too large")
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as e:
        raise UserError(f"{file}: no text file of class names; give one with a name per line") from e


def _text_tower(folder: Path) -> tuple[Any, Callable[[list[str]], Tensor]]:
    """The whole model, and texts to features (n, D)."""
    kind, settings, weights, config = opened(folder)
    if kind is from_open_clip:
        model = from_open_clip.open_whole(settings, config, read_tensors(weights))
        return model, partial(from_open_clip.text_features, model)
    if kind is from_transformers:
        model, _ = from_transformers.open_whole(settings, config, read_tensors(weights))
        if hasattr(model, "get_text_features"):
            return model, from_transformers.text_features(folder, model)
    raise UserError(f"{folder}: no text tower in it; give the folder of a CLIP or SigLIP model with both towers")
