"""What happens to the pixels of an image before a model sees them, as a value that records and resuming can compare."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import UserError

Triple = tuple[float, float, float]

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

#: Pillow's filters by Pillow's numbers; torchvision and timm call them so, too.
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")

ROUNDINGS = ("half-even", "down")
MOST = 2**14  # pixels of a side

#: What the command line can say of native preprocessing.
PARTS = ("mean", "std", "crop_pct", "interpolation")


@dataclass(frozen=True)
class Preprocessing:
    """The image resized, cropped about its centre, and (pixel - mean) / std of [0, 1].

    `size`: pixels of the short side, or (height, width); None: as it is. `crop`: side of the square; None: none.
    `rounding`: where a margin of the crop is odd, "half-even" as torchvision's or "down" as `transformers`'.
    """

    size: int | tuple[int, int] | None
    crop: int | None
    mean: Triple
    std: Triple
    interpolation: str  # one of FILTERS
    rounding: str = "half-even"  # one of ROUNDINGS

    @classmethod
    def cropped(cls, img_size: int, crop_pct: float, mean: Triple, std: Triple, interpolation: str) -> "Preprocessing":
        """The short side to ⌊S / crop_pct⌋, then the square of S = `img_size` about the centre."""
        return cls(math.floor(img_size / crop_pct), img_size, mean, std, interpolation)

    @property
    def img_size(self) -> int | None:
        """Side of the square that comes out, None where that depends on the image."""
        if self.crop or not isinstance(self.size, tuple):
            return self.crop
        return self.size[0] if self.size[0] == self.size[1] else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def paper(img_size: int, half: bool) -> Preprocessing:
    """Squashed to the square; `half`: mean and standard deviation 0.5 instead of ImageNet's."""
    return Preprocessing((img_size, img_size), None, *(HALF if half else IMAGENET), "bilinear")


def google(img_size: int) -> Preprocessing:
    """Of Google's ViTs, run at `img_size` pixels: from 384 on they take the whole short side."""
    return Preprocessing.cropped(img_size, 1.0 if img_size >= 384 else 0.9, *HALF, "bicubic")


def mae(img_size: int) -> Preprocessing:
    """Of fine-tuned MAE."""
    return Preprocessing.cropped(img_size, 224 / 256, *IMAGENET, "bicubic")


def digits(img_size: int) -> Preprocessing:
    """Of the embedded default."""
    return Preprocessing.cropped(img_size, 1.0, *IMAGENET, "bilinear")


def settled(known: Preprocessing | None, given: Mapping[str, Any], img_size: int) -> Preprocessing:
    """`known` with those of `PARTS` that are `given` (not None). UserError where neither tells a part."""
    parts = {name: value for name in PARTS if (value := given.get(name)) is not None}
    parts |= {name: tuple(parts[name]) for name in ("mean", "std") if name in parts}
    if known is None:
        if missing := [name for name in PARTS if name not in parts]:
            raise UserError(
                "--preprocess native: nothing tells how the images were prepared that this model was trained on; give "
                f"{', '.join('--' + name for name in missing)}, or a --model_type, or use --preprocess paper"
            )
        return Preprocessing.cropped(img_size, **parts)
    if share := parts.pop("crop_pct", None):
        known = replace(known, size=math.floor(img_size / share), crop=img_size)
    return replace(known, **parts)


def recorded(settings: Mapping[str, Any]) -> Preprocessing | None:
    """What the settings of records say of native preprocessing, None where nothing; UserError for what cannot be."""
    said = {f.name: settings[key] for f in fields(Preprocessing) if (key := f"preprocess_{f.name}") in settings}
    if len(said) < len(fields(Preprocessing)):
        return None
    if wrong := [name for name, value in said.items() if not _SOUND[name](value)]:
        raise UserError(f"--preprocess native: preprocess_{wrong[0]} of the records cannot be {said[wrong[0]]!r}")
    parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    return Preprocessing(**parts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_size(value: object) -> bool:
    return (
        value is None or _is_side(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_side, value)))
    )


_SOUND: dict[str, Callable[[Any], bool]] = {
    "size": _is_size,
    "crop": lambda value: value is None or _is_side(value),
    "mean": _is_triple,
    "std": lambda value: _is_triple(value) and min(value) > 0,
    "interpolation": lambda value: value in FILTERS,
    "rounding": lambda value: value in ROUNDINGS,
}
