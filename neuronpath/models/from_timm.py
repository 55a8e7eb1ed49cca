"""Models of timm: a local folder as `timm.models.push_to_hf_hub` lays it out, or an architecture and a weights file."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import pixels
from ..errors import UserError
from ..pixels import Preprocessing
from .configs import TIMM
from .foreign import Foreign, check_depth, fill, foreign_code, library, positive, triple

#: What of `pretrained_cfg` makes a model; the rest is about where it is from, and how images are prepared.
MAKES = ("num_classes", "input_size", "fixed_input_size", "global_pool")

#: Parameters of `create_model` and of its builder that would load files or make something else than the model.
REFUSED = (
    r"pretrained.*|checkpoint_path|cache_dir|scriptable|exportable|no_jit|model_name|device|dtype|feature.*|out_indices"
)


def is_folder(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("architecture"), str)


def open_folder(file: Path, config: dict[str, Any], tensors: dict[str, Tensor], img_size: int | None) -> Foreign:
    """`config`: of the folder's config.json, `file`. UserError for what is not a model of timm's."""
    cfg, args = config.get("pretrained_cfg", config), config.get("model_args") or {}
    if not isinstance(cfg, dict) or not isinstance(args, dict):
        raise UserError(f"{file}: its pretrained_cfg and model_args are not objects of settings")
    cfg = {
        **cfg,
        **{name: config[name] for name in ("num_classes", "label_names", "label_descriptions") if name in config},
    }
    if refused := [name for name in args if re.fullmatch(REFUSED, name)]:
        raise UserError(f"{file}: model_args has {refused[0]}, which is no part of an architecture; remove it")
    check_depth(file, args, tensors)
    with foreign_code(file, "timm"):
        name, size = _known(file, config["architecture"]), _size(cfg, args)
        module = _module(file, name, {key: cfg[key] for key in MAKES if key in cfg}, args, tensors)
    classes = getattr(module, "num_classes", 0)
    native = preprocessing(file, cfg, img_size or size)
    return Foreign(module, f"timm {name}", img_size or size, classes > 0, native, _names(cfg, classes))


def open_file(model_type: str, file: Path, tensors: dict[str, Tensor], img_size: int | None) -> Foreign:
    """The architecture of a `model_type` timm:NAME, with as many classes as the head of the weights has, maybe none."""
    library("timm", f"--model_type {model_type}")
    from timm.models import get_pretrained_cfg

    with foreign_code(f"--model_type {model_type}", "timm"):
        name = _known(f"--model_type {model_type}", model_type.removeprefix(TIMM))
        found = get_pretrained_cfg(name)
        cfg = found.to_dict() if found else {}
        heads = cfg.get("classifier") or "head"
        head = f"{heads if isinstance(heads, str) else heads[0]}.weight"
        classes = len(tensors[head]) if head in tensors and tensors[head].ndim else 0
        makes = {**{key: cfg[key] for key in MAKES if key in cfg}, "num_classes": classes}
        module = _module(file, name, makes, {}, tensors)
    size = img_size or _size(cfg, {})
    return Foreign(module, f"timm {name}", size, classes > 0, preprocessing(file, cfg, size))


def _known(where: str | Path, name: str) -> str:
    """An architecture's name, of timm's own list: no path, and nothing from a hub."""
    timm = library("timm", where)
    if not re.fullmatch(r"[\w.-]{1,100}", name) or not timm.is_model(name.partition(".")[0]):
        raise UserError(f"{where}: {name!r} is no architecture of timm {timm.__version__}; check its name")
    return name


def _module(
    where: Path, name: str, cfg: dict[str, Any], args: dict[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    import timm

    architecture = name.partition(".")[0]
    named = {**cfg, "architecture": architecture}

    def make() -> nn.Module:
        return timm.create_model(architecture, pretrained=False, pretrained_cfg=dict(named), **args)

    return fill(where, make, tensors)


def _size(cfg: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """Side of the input. ValueError where it is no square of colours."""
    size = args.get("img_size") or (cfg.get("input_size") or (3, 224, 224))[-2:]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError(f"images of {height} × {width} pixels, not squares")
    return positive(height)


def preprocessing(where: str | Path, cfg: Mapping[str, Any], img_size: int) -> Preprocessing | None:
    """As `timm.data.create_transform` prepares images of `img_size` for evaluation; None where that is not built here.

    None for crop_mode "border" and an interpolation drawn at random. UserError for values that are none.
    """
    with foreign_code(where, "timm"):
        share, mode = float(cfg.get("crop_pct") or 0.875), cfg.get("crop_mode") or "center"
        filter = cfg.get("interpolation") or "bicubic"
        mean, std = (
            triple(cfg.get(name), default) for name, default in zip(("mean", "std"), pixels.IMAGENET, strict=True)
        )
        if not 0.01 < share <= 10 or min(std) <= 0:
            raise ValueError(f"crop_pct {share}, std {std}")
    if mode not in ("center", "squash") or filter not in pixels.FILTERS:
        return None
    side = math.floor(img_size / share)
    return Preprocessing(side if mode == "center" else (side, side), img_size, mean, std, filter)


def _names(cfg: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """By label; () where not every class has one. Where the names are only keys, the first words of what they say."""
    names, said = cfg.get("label_names"), cfg.get("label_descriptions")
    if isinstance(names, dict):
        names = [names.get(str(i)) for i in range(len(names))]
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(name, str) for name in names):
        return ()
    said = said if isinstance(said, dict) else {}
    return tuple(text if isinstance(text := said.get(name), str) else name for name in names)
