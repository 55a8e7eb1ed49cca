"""The two public layouts of ViT weights: Flax arrays (`.npz`) and PyTorch state dicts (`.pth`, `.safetensors`).

A layout says under which names and in which shapes a model's parameters stand in a file, as views of the model's
own memory: one table for both directions, since loading copies into the views and saving copies out of them.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from .vit import VisionTransformer


@dataclass(frozen=True)
class Layout:
    """`places`: which axis of which array tells a dimension, as (name, ndim, axis); the first that is there counts."""

    title: str
    positions: str
    block: str  # a regular expression for what precedes a block's parameters
    views: Callable[[VisionTransformer], dict[str, Tensor]]
    places: dict[str, list[tuple[str, int, int]]]

    def dimension(self, name: str, tensors: dict[str, Tensor]) -> int:
        """A dimension as the file has it, or 1: where nothing tells, all arrays that have it are missing."""
        for place, ndim, axis in self.places.get(name, ()):
            if place in tensors and tensors[place].ndim == ndim:
                return max(1, tensors[place].shape[axis])
        return 1

    def dimensions(self, tensors: dict[str, Tensor], prefix: int = 1) -> dict[str, int]:
        """All that the arrays tell: width, depth, mlp_dim, num_classes, patch_size, img_size; Flax also num_heads.

        `prefix` positions come before the grid's.
        """
        found = {name: self.dimension(name, tensors) for name in self.places if name != "positions"}
        found["depth"] = max(1, len({m[0] for name in tensors if (m := re.match(self.block, name))}))
        found["img_size"] = found["patch_size"] * max(
            1, math.isqrt(max(0, self.dimension("positions", tensors) - prefix))
        )
        return found


def flax_views(model: VisionTransformer) -> dict[str, Tensor]:
    """Every parameter of a CLS-head model under its Flax name and in its Flax shape."""
    D, heads = model.config.width, model.config.num_heads
    convolution = model.patch_embed.proj
    assert convolution.bias is not None
    views: dict[str, Tensor] = {
        "cls": model.cls_token,
        "embedding/kernel": convolution.weight.permute(2, 3, 1, 0),  # OIHW to HWIO
        "embedding/bias": convolution.bias,
        FLAX_POSITIONS: model.pos_embed,
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


def resize_positions(positions: np.ndarray, side: int, prefix: int = 1) -> np.ndarray:
    """A position embedding (1, prefix + old², D) for a grid of `side` × `side` patches.

    As the public ViT code does it: `scipy.ndimage.zoom` of order 1 on the grid, the positions before it kept.
    """
    old = math.isqrt(positions.shape[1] - prefix)
    if old == side:
        return positions
    grid = positions[0, prefix:].reshape(old, old, -1)
    grid = scipy.ndimage.zoom(grid, (side / old, side / old, 1), order=1)
    return np.concatenate((positions[:, :prefix], grid.reshape(1, side * side, -1)), axis=1)


def fault(name: str, tensor: Tensor, view: Tensor, layout: Layout, prefix: int = 1) -> str:
    """What is wrong with an array that is to fill `view`, or ""; `prefix` positions come before the grid's."""
    shape = tuple(view.shape)
    if name == layout.positions:  # the grid may be of another size, but it must be a square
        patches = tensor.shape[1] - prefix if tensor.ndim == 3 else 0
        shape = (1, prefix + max(1, math.isqrt(max(0, patches))) ** 2, shape[2])
    if tuple(tensor.shape) != shape:
        return f"{name} is {tuple(tensor.shape)}, not {shape}"
    return "" if torch.isfinite(tensor).all() else f"{name} holds values that are not finite"


FLAX_POSITIONS = "Transformer/posembed_input/pos_embedding"
_FIRST = "Transformer/encoderblock_0"
_QUERY, _FC1 = f"{_FIRST}/MultiHeadDotProductAttention_1/query", f"{_FIRST}/MlpBlock_3/Dense_0"

FLAX = Layout(
    title="ViT in the Flax layout",
    positions=FLAX_POSITIONS,
    block=r"Transformer/encoderblock_\d+/",
    views=flax_views,
    places={
        "width": [("cls", 3, 2), ("embedding/bias", 1, 0)],
        "patch_size": [("embedding/kernel", 4, 0)],
        "num_heads": [(f"{_QUERY}/kernel", 3, 1), (f"{_QUERY}/bias", 2, 0)],
        "mlp_dim": [(f"{_FC1}/kernel", 2, 1), (f"{_FC1}/bias", 1, 0)],
        "num_classes": [("head/kernel", 2, 1), ("head/bias", 1, 0)],
        "positions": [(FLAX_POSITIONS, 3, 1)],
    },
)

STATE_DICT = Layout(
    title="ViT state dict with timm's names",
    positions="pos_embed",
    block=r"blocks\.\d+\.",
    views=lambda model: dict(model.named_parameters()),
    places={
        "width": [("cls_token", 3, 2), ("patch_embed.proj.bias", 1, 0)],
        "patch_size": [("patch_embed.proj.weight", 4, 2)],
        "mlp_dim": [("blocks.0.mlp.fc1.weight", 2, 0), ("blocks.0.mlp.fc1.bias", 1, 0)],
        "num_classes": [("head.weight", 2, 0), ("head.bias", 1, 0)],
        "positions": [("pos_embed", 3, 1)],
    },
)
