"""Model shapes as `ml_collections` ConfigDicts, under the names of the public checkpoints.

Keys: `patch_size` and `img_size` in pixels (squares), `width` D, `depth` L, `num_heads`, `mlp_dim` H,
`num_classes` C, `pool` ("cls": the head reads the CLS token; "mean": the mean of the patch tokens).
"""

from ml_collections import ConfigDict

_SHAPES = {  # width, depth, heads, mlp_dim: Dosovitskiy et al. 2021, Table 1
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
}
_VIT_SIZES = (("B", 16), ("B", 32), ("L", 16), ("L", 32), ("H", 14))
_MAE_SIZES = (("B", 16), ("L", 16), ("H", 14))
_DIGITS = (96, 12, 4, 384)  # the embedded default's


def _config(shape: tuple, patch_size: int, img_size: int, num_classes: int, pool: str) -> ConfigDict:
    width, depth, num_heads, mlp_dim = shape
    return ConfigDict(
        {
            "patch_size": patch_size,
            "img_size": img_size,
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "num_classes": num_classes,
            "pool": pool,
        }
    )


#: Model types by name. The number of classes is the public files'; a checkpoint's own head decides.
CONFIGS = {
    **{f"ViT-{size}_{patch}": _config(_SHAPES[size], patch, 224, 1000, "cls") for size, patch in _VIT_SIZES},
    **{f"MAE-{size}_{patch}": _config(_SHAPES[size], patch, 224, 1000, "mean") for size, patch in _MAE_SIZES},
    "ViT-digits": _config(_DIGITS, patch_size=8, img_size=32, num_classes=10, pool="cls"),
    "MAE-digits": _config(_DIGITS, patch_size=8, img_size=32, num_classes=10, pool="mean"),
}

#: Public widths and their heads, for state dicts, whose shapes do not reveal them.
HEADS_BY_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
