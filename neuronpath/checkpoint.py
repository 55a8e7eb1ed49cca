"""Checkpoints: untrusted files in, a frozen model out, or one error that says everything that is wrong.

`.npz` in the Flax layout of the public ViTs (Dosovitskiy et al. 2021): strict, never random weights. Nothing in a
file is executed: arrays are read with `allow_pickle=False`.
"""

import hashlib
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from ml_collections import ConfigDict
from torch import Tensor

from .configs import CONFIGS
from .errors import UserError, one_line
from .model import VisionTransformer

POSITIONS = "Transformer/posembed_input/pos_embedding"


def load(
    checkpoint: str | Path,
    model_type: str = "auto",
    img_size: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VisionTransformer:
    """The model that a checkpoint holds, in evaluation mode, its parameters frozen.

    `model_type`: a name of `neuronpath.configs.CONFIGS`, which the file must then match, or "auto": every
    dimension is read from the arrays. `img_size` in pixels: 224 for a named model and the file's own for "auto"
    where not given; another size than the file's resizes the position grid. The number of classes is the head's.
    Raises UserError with one line naming the file and all that is missing, left over or of the wrong shape.
    """
    path = Path(checkpoint)
    arrays = read_npz(path)
    model = _matching_model(path, arrays, model_type, img_size).to_empty(device="cpu")
    for name, view in flax_views(model).items():
        array = arrays[name]
        if name == POSITIONS:
            array = resize_positions(array, model.config.img_size // model.config.patch_size)
        view.detach().copy_(torch.from_numpy(array))
    return model.requires_grad_(False).eval().to(device, dtype)


def save(model: VisionTransformer, checkpoint: str | Path) -> None:
    """Write a CLS-head model as `.npz` in the public Flax layout, float32."""
    arrays = {name: view.detach().float().cpu().numpy() for name, view in flax_views(model).items()}
    Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
    np.savez(checkpoint, **arrays)


def sha256(checkpoint: str | Path) -> str:
    digest = hashlib.sha256()
    with Path(checkpoint).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`; UserError for anything that is not a sound file of plain numbers."""
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file; give --pretrain_weight the path of an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} does not match")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        MemoryError,
    ) as e:
        raise UserError(f"{path}: not a sound .npz checkpoint ({one_line(e)}); download or copy it again") from e
    wrong = [name for name, a in arrays.items() if not isinstance(a, np.ndarray) or a.dtype.kind != "f"]
    if wrong:
        raise UserError(f"{path}: not floating-point arrays: {', '.join(wrong[:10])}; is this a ViT checkpoint?")
    return arrays


def flax_views(model: VisionTransformer) -> dict[str, Tensor]:
    """Every parameter under its Flax name and in its Flax shape, as a view of the model's own memory.

    One table for both directions: loading copies into the views, saving copies out of them.
    """
    c = model.config
    D, heads = c.width, c.num_heads
    views = {
        "cls": model.cls_token,
        "embedding/kernel": model.patch_embed.proj.weight.permute(2, 3, 1, 0),  # OIHW to HWIO
        "embedding/bias": model.patch_embed.proj.bias,
        POSITIONS: model.pos_embed,
        "Transformer/encoder_norm/scale": model.norm.weight,
        "Transformer/encoder_norm/bias": model.norm.bias,
        "head/kernel": model.head.weight.T,
        "head/bias": model.head.bias,
    }
    for i, block in enumerate(model.blocks):
        name = f"Transformer/encoderblock_{i}"
        for norm, module in (("LayerNorm_0", block.norm1), ("LayerNorm_2", block.norm2)):
            views[f"{name}/{norm}/scale"] = module.weight
            views[f"{name}/{norm}/bias"] = module.bias
        attention = f"{name}/MultiHeadDotProductAttention_1"
        weight = block.attn.qkv.weight.view(3, heads, D // heads, D)
        bias = block.attn.qkv.bias.view(3, heads, D // heads)
        for j, part in enumerate(("query", "key", "value")):
            views[f"{attention}/{part}/kernel"] = weight[j].permute(2, 0, 1)  # (D, heads, D/heads)
            views[f"{attention}/{part}/bias"] = bias[j]
        views[f"{attention}/out/kernel"] = block.attn.proj.weight.view(D, heads, D // heads).permute(1, 2, 0)
        views[f"{attention}/out/bias"] = block.attn.proj.bias
        for j, fc in enumerate((block.mlp.fc1, block.mlp.fc2)):
            views[f"{name}/MlpBlock_3/Dense_{j}/kernel"] = fc.weight.T  # (in, out)
            views[f"{name}/MlpBlock_3/Dense_{j}/bias"] = fc.bias
    return views


def resize_positions(positions: np.ndarray, side: int) -> np.ndarray:
    """A position embedding (1, 1 + old², D) for a grid of `side` × `side` patches.

    As the public ViT code does it: `scipy.ndimage.zoom` of order 1 on the grid, the CLS position kept.
    """
    old = math.isqrt(positions.shape[1] - 1)
    if old == side:
        return positions
    grid = positions[0, 1:].reshape(old, old, -1)
    grid = scipy.ndimage.zoom(grid, (side / old, side / old, 1), order=1)
    return np.concatenate((positions[:, :1], grid.reshape(1, side * side, -1)), axis=1)


def _matching_model(path: Path, arrays: dict, model_type: str, img_size: int | None) -> VisionTransformer:
    """A model, without memory yet, that the arrays fill exactly; otherwise one UserError with all that differs."""
    config = _config(arrays, model_type, img_size)
    if config.img_size % config.patch_size:
        raise UserError(
            f"{path}: an image size of {config.img_size} is no multiple of the patch size {config.patch_size}; "
            f"change --img_size"
        )
    with torch.device("meta"):
        model = VisionTransformer(config)
    views = flax_views(model)
    faults = {
        "missing": [name for name in views if name not in arrays],
        "left over": [name for name in arrays if name not in views],
        "wrong": [fault for name in views if name in arrays for fault in _fault(name, arrays, views)],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in faults.items() if names)
        hint = "" if model_type == "auto" else f" (does --model_type {model_type} name the model of this file?)"
        raise UserError(f"{path}: not a ViT in the Flax layout: {listed}{hint}")
    return model


def _config(arrays: dict, model_type: str, img_size: int | None) -> ConfigDict:
    """The named model's dimensions, with the head's classes; or under "auto" those that the arrays have."""
    if model_type != "auto" and model_type not in CONFIGS:
        raise UserError(f"--model_type {model_type} is unknown; choose from auto, {', '.join(CONFIGS)}")
    config = ConfigDict(CONFIGS["ViT-digits" if model_type == "auto" else model_type])
    config.num_classes = _dimension(arrays, ("head/kernel", 2, 1), ("head/bias", 1, 0))
    if model_type == "auto":
        config.update(_dimensions(arrays))
    config.img_size = img_size or config.img_size
    return config


def _dimensions(arrays: dict) -> dict[str, int]:
    block = "Transformer/encoderblock_0"
    query, fc1 = f"{block}/MultiHeadDotProductAttention_1/query", f"{block}/MlpBlock_3/Dense_0"
    width = _dimension(arrays, ("cls", 3, 2), ("embedding/bias", 1, 0))
    patch_size = _dimension(arrays, ("embedding/kernel", 4, 0))
    num_heads = _dimension(arrays, (f"{query}/kernel", 3, 1), (f"{query}/bias", 2, 0))
    return {
        "width": width,
        "depth": len({m[0] for name in arrays if (m := re.match(r"Transformer/encoderblock_\d+", name))}),
        "num_heads": 1 if width % num_heads else num_heads,
        "mlp_dim": _dimension(arrays, (f"{fc1}/kernel", 2, 1), (f"{fc1}/bias", 1, 0)),
        "patch_size": patch_size,
        "img_size": patch_size * max(1, math.isqrt(_dimension(arrays, (POSITIONS, 3, 1)) - 1)),
    }


def _dimension(arrays: dict, *places: tuple[str, int, int]) -> int:
    """The length of axis `axis` of the first array that is there with `ndim` axes, or 1: (name, ndim, axis).

    Where no array tells, all that have this dimension are missing, and 1 is as good a shape for them as another.
    """
    for name, ndim, axis in places:
        if name in arrays and arrays[name].ndim == ndim:
            return max(1, arrays[name].shape[axis])
    return 1


def _fault(name: str, arrays: dict, views: dict) -> list[str]:
    """What is wrong with one array that is there: nothing, or one line."""
    array, shape = arrays[name], tuple(views[name].shape)
    if name == POSITIONS:  # the grid may be of another size, but it must be a square beside the CLS position
        grid = array.shape[1] - 1 if array.ndim == 3 else 0
        shape = (1, 1 + max(1, math.isqrt(max(0, grid))) ** 2, shape[2])
    if array.shape != shape:
        return [f"{name} is {array.shape}, not {shape}"]
    return [] if np.isfinite(array).all() else [f"{name} holds values that are not finite"]


def _some(names: list[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
