"""Model shapes under the names of the public checkpoints."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeVar

from ml_collections import ConfigDict, FrozenConfigDict

S = TypeVar("S", bound="Shape")

#: What the FFN's units are after fc1: exact GELU (erf), its tanh approximation, x·σ(1.702·x).
ACTIVATIONS = ("gelu", "gelu-tanh", "quick-gelu")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the search needs to know of any model; it cannot be changed, `with_` makes another."""

    img_size: int  # pixels, squares
    width: int  # D
    depth: int  # L
    mlp_dim: int  # H
    num_classes: int  # C

    def with_(self: S, **changes: Any) -> S:
        return replace(self, **changes)

    def to_dict(self) -> dict[str, int | str]:
        """Without what is as in the plain models, so that records of these stay comparable."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


@dataclass(frozen=True, kw_only=True)
class AdaptedShape(Shape):
    """Of a model of another library (`models.adapted`)."""

    architecture: str  # the class of its module, or the library's name for it
    tokens: int  # T
    neuron_tokens: int  # N
    neuron_token_indices: str  # such as "0,5-8"


@dataclass(frozen=True, kw_only=True)
class Config(Shape):
    """The dimensions of one of our own Vision Transformers."""

    patch_size: int  # pixels, squares
    num_heads: int
    pool: str  # "cls": the head reads the CLS token; "mean": the mean of the patch tokens
    activation: str = "gelu"  # one of ACTIVATIONS
    registers: int = 0  # tokens between CLS and the patches that no head reads
    norm_first: bool = False  # mean head: every patch token is normed, not their mean

    @classmethod
    def of(cls, values: "Config | ConfigDict | FrozenConfigDict | Mapping[str, Any]") -> "Config":
        """From a mapping with these names, such as an `ml_collections.ConfigDict`; others in it are ignored."""
        if isinstance(values, Config):
            return values
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.default is MISSING or f.name in values})

    @property
    def tokens(self) -> int:
        """T: the CLS token, registers and the patches."""
        return 1 + self.registers + self.patches

    @property
    def patches(self) -> int:
        return (self.img_size // self.patch_size) ** 2


_SHAPES = {  # width, depth, heads, mlp_dim: Dosovitskiy et al. 2021, Table 1
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
}
_VIT_SIZES = (("B", 16), ("B", 32), ("L", 16), ("L", 32), ("H", 14))
_MAE_SIZES = (("B", 16), ("L", 16), ("H", 14))
_DIGITS = (96, 12, 4, 384)  # the embedded default's


def _config(shape: tuple[int, int, int, int], patch_size: int, pool: str) -> Config:
    width, depth, num_heads, mlp_dim = shape
    return Config(
        patch_size=patch_size,
        img_size=224,
        width=width,
        depth=depth,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        num_classes=1000,
        pool=pool,
    )


#: Model types by name. The number of classes is the public files'; a checkpoint's own head decides.
CONFIGS: dict[str, Config] = {
    **{f"ViT-{size}_{patch}": _config(_SHAPES[size], patch, "cls") for size, patch in _VIT_SIZES},
    **{f"MAE-{size}_{patch}": _config(_SHAPES[size], patch, "mean") for size, patch in _MAE_SIZES},
    "ViT-digits": _config(_DIGITS, 8, "cls").with_(img_size=32, num_classes=10),
    "MAE-digits": _config(_DIGITS, 8, "mean").with_(img_size=32, num_classes=10),
}

#: The paper's files, by the names under which they are published, and what they hold.
PUBLIC_FILES = {
    "ViT-B_16-224.npz": "ViT-B_16",
    "ViT-B_32.npz": "ViT-B_32",
    "ViT-L_32.npz": "ViT-L_32",
    "mae_finetuned_vit_base.pth": "MAE-B_16",
}

#: Public widths and their heads, for state dicts, whose shapes do not reveal them.
HEADS_BY_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}

#: What begins a model type that names an architecture of timm's.
TIMM = "timm:"

#: Values of --precision.
PRECISIONS = ("fp32", "fp64", "tf32", "bf16")
