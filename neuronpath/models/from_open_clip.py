"""Models of OpenCLIP: a local folder with open_clip_config.json and open_clip_model.safetensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..pixels import FILTERS, Preprocessing
from .foreign import Foreign, check_depth, fill, foreign_code, library, positive, triple

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # mean and standard deviation

#: What of `model_cfg` is a parameter of the model; towers of other libraries, which could be downloaded, are refused.
MODEL = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias")
ELSEWHERE = r"hf_.*|timm_.*|.*pretrained.*"


def is_folder(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("model_cfg"), dict)


def open_folder(file: Path, config: dict[str, Any], tensors: dict[str, Tensor], img_size: int | None) -> Foreign:
    """The image tower. `config`: of open_clip_config.json, `file`."""
    whole = open_whole(file, config, tensors)
    with foreign_code(file, "open_clip"):
        size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
        size = img_size or positive(size if isinstance(size, int) else size[0])
        native = preprocessing(config.get("preprocess_cfg") or {}, size)
    return Foreign(whole.visual, "open_clip VisionTransformer", size, classifier=False, native=native)


def open_whole(file: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The model with both towers."""
    open_clip = library("open_clip", file.parent)
    cfg = config["model_cfg"]
    towers = [cfg.get("vision_cfg"), cfg.get("text_cfg")]
    if not all(isinstance(tower, dict) for tower in towers):
        raise UserError(f"{file}: its vision_cfg and text_cfg are not objects of settings")
    if refused := [key for tower in towers for key in tower if re.fullmatch(ELSEWHERE, key)]:
        raise UserError(f"{file}: {refused[0]}, a tower of another library; give the folder of that library")
    check_depth(file, cfg, tensors)
    kind = open_clip.CustomTextCLIP if cfg.get("custom_text") else open_clip.CLIP

    def make() -> nn.Module:
        return kind(**{name: cfg[name] for name in MODEL if name in cfg})

    with foreign_code(file, "open_clip"):
        return fill(file, make, tensors).eval()


def preprocessing(cfg: Mapping[str, Any], img_size: int) -> Preprocessing | None:
    """As `open_clip.image_transform` prepares images for evaluation; None where that is not built here.

    ValueError for values that are none.
    """
    mode, filter = cfg.get("resize_mode") or "shortest", cfg.get("interpolation") or "bicubic"
    mean, std = (triple(cfg.get(name), default) for name, default in zip(("mean", "std"), OPENAI, strict=True))
    if min(std) <= 0:
        raise ValueError(f"std {std}")
    if mode not in ("shortest", "squash") or filter not in FILTERS:
        return None
    return Preprocessing(img_size if mode == "shortest" else (img_size, img_size), img_size, mean, std, filter)


@torch.no_grad()
def text_features(model: Any, texts: list[str]) -> Tensor:
    """(n, D), as the text tower gives them."""
    import open_clip

    return model.encode_text(open_clip.SimpleTokenizer(context_length=model.context_length)(texts))
