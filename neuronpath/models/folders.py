"""A local folder with a model of another library, read offline: the live model, its preprocessing, its class names.

config.json with "architecture"   timm          model.safetensors, preprocessing in "pretrained_cfg"
config.json with "architectures"  transformers  model.safetensors, preprocessing in preprocessor_config.json
open_clip_config.json             OpenCLIP      open_clip_model.safetensors, preprocessing in "preprocess_cfg"
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from . import from_open_clip, from_timm, from_transformers
from .adapted import AdaptedModel, adapt, logits_of, noise
from .classifiers import Classified, Classifier
from .foreign import Foreign, foreign_code, read_json, read_tensors

FILES = ("config.json", "model.safetensors")
OPEN_CLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors")


def files(folder: Path) -> tuple[Path, Path]:
    """Those that decide what a folder computes: settings and weights."""
    first = FILES if (folder / FILES[0]).is_file() or not (folder / OPEN_CLIP_FILES[0]).is_file() else OPEN_CLIP_FILES
    settings, weights = first
    if first is OPEN_CLIP_FILES and not (folder / weights).is_file():
        weights = FILES[1]
    return folder / settings, folder / weights


def opened(folder: Path) -> tuple[ModuleType, Path, Path, dict[str, Any]]:
    """The module here that reads a folder, its settings and weights, and what its settings say."""
    settings, weights = files(folder)
    config = read_json(settings)
    for kind in (from_timm, from_transformers, from_open_clip):
        if kind.is_folder(config):
            return kind, settings, weights, config
    raise UserError(f"{settings}: neither timm's, with an architecture, nor transformers', with architectures")


def load_folder(folder: Path, img_size: int | None = None, classifier: Classifier | None = None) -> AdaptedModel:
    """The model of a folder. UserError for one that lacks a file, is broken, or of a kind that cannot be cut."""
    kind, settings, weights, config = opened(folder)
    return adapted(folder, kind.open_folder(settings, config, read_tensors(weights), img_size), classifier)


def load_file(
    model_type: str,
    file: Path,
    tensors: dict[str, Tensor],
    img_size: int | None = None,
    classifier: Classifier | None = None,
) -> AdaptedModel:
    """The architecture that a `model_type` timm:NAME names, with the arrays of a file."""
    return adapted(file, from_timm.open_file(model_type, file, tensors, img_size), classifier)


def adapted(where: Path, foreign: Foreign, classifier: Classifier | None) -> AdaptedModel:
    """Cut at its neurons, with what is known of it."""
    module, names = foreign.module, foreign.names
    if classifier:
        with foreign_code(where, foreign.architecture), torch.no_grad():
            size = logits_of(module.eval()(noise(2, foreign.img_size, seed=0))).shape[1]
        if size != (wanted := classifier.weight.shape[1]):
            raise UserError(
                f"{where}: the --classifier takes {wanted} features, but {foreign.architecture} gives {size}"
            )
        module, names = Classified(module, classifier.head()), classifier.names
    elif not foreign.classifier:
        advice = "give --classifier; scripts/zero_shot.py writes one for CLIP and SigLIP"
        raise UserError(f"{where}: {foreign.architecture} ends in features, without a classifier; {advice}")
    try:
        model = adapt(module, img_size=foreign.img_size)
    except UserError as e:
        raise UserError(f"{where}: {e}") from e
    model.config = model.config.with_(architecture=foreign.architecture)
    model.native, model.class_names = foreign.native, names
    return model
