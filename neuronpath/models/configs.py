"""Model shapes under the names of the public checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict


@dataclass(frozen=True)
class Config:
    """The dimensions of a Vision Transformer; it cannot be changed, `with_` makes another."""

    patch_size: int  # pixels, squares
    img_size: int  # pixels, squares
    width: int  # D
    depth: int  # L
    num_heads: int
    mlp_dim: int  # H
    num_classes: int  # C
    pool: str  # "cls": the head reads the CLS token; "mean": the mean of the patch tokens

    @classmethod
    def of(cls, values: "Config | ConfigDict | FrozenConfigDict | Mapping[str, Any]") -> "Config":
        """From a mapping with these names, such as an `ml_collections.ConfigDict`; others in it are ignored."""
        return values if isinstance(values, Config) else cls(**{f.name: values[f.name] for f in fields(cls)})

    def with_(self, **changes: Any) -> "Config":
        return replace(self, **changes)

    def to_dict(self) -> dict[str, int | str]:
        return asdict(self)

    @property
    def tokens(self) -> int:
        """T: the CLS token and the patches."""
        return 1 + (self.img_size // self.patch_size) ** 2


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
    return Config(patch_size, 224, width, depth, num_heads, mlp_dim, 1000, pool)


#: Model types by name. The number of classes is the public files'; a checkpoint's own head decides.
CONFIGS: dict[str, Config] = {
    **{f"ViT-{size}_{patch}": _config(_SHAPES[size], patch, "cls") for size, patch in _VIT_SIZES},
    **{f"MAE-{size}_{patch}": _config(_SHAPES[size], patch, "mean") for size, patch in _MAE_SIZES},
    "ViT-digits": _config(_DIGITS, 8, "cls").with_(img_size=32, num_classes=10),
    "MAE-digits": _config(_DIGITS, 8, "mean").with_(img_size=32, num_classes=10),
}

#: Public widths and their heads, for state dicts, whose shapes do not reveal them.
HEADS_BY_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}

#: Values of --precision.
PRECISIONS = ("fp32", "fp64", "tf32", "bf16")
