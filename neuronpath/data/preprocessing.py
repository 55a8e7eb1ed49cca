"""What happens to an image before a model sees it."""

from typing import Protocol

from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional as tvf

from ..errors import UserError
from ..pixels import Preprocessing, paper, settled
from .images import CIFAR


class Shape(Protocol):
    """What preprocessing asks of a model's config."""

    @property
    def img_size(self) -> int: ...


def preprocessing(
    kind: str, config: Shape, dataset: str = "imagenet1k", native: Preprocessing | None = None
) -> transforms.Compose:
    """Pillow image of `dataset` (one of DATASETS) to normalised (3, S, S), S = `config.img_size`; see `chosen`."""
    return transform(chosen(kind, config, dataset, native))


def chosen(kind: str, config: Shape, dataset: str = "imagenet1k", native: Preprocessing | None = None) -> Preprocessing:
    """What `--preprocess` names.

    "paper": squashed to S×S, bilinear, ImageNet mean and standard deviation; for CIFAR 0.5, as the released scripts
    have it. "native": `native`, the model's own. UserError where that is None, since it is never guessed, and where it
    gives images of another size than S.
    """
    S = config.img_size
    if kind == "paper":
        return paper(S, paper_half(dataset))
    native = settled(native, {}, S)
    if native.img_size != S:
        given = f"{native.img_size} pixels" if native.img_size else "other sizes"
        raise UserError(f"--preprocess native: it gives images of {given}, the model takes {S}; use paper")
    return native


def transform(p: Preprocessing) -> transforms.Compose:
    """Pillow image to normalised (3, S, S)."""
    steps: list = [transforms.Resize(p.size, InterpolationMode(p.interpolation))] if p.size else []
    if p.crop:
        steps.append(transforms.CenterCrop(p.crop) if p.rounding == "half-even" else CropDown(p.crop))
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(p.mean, p.std)])


class CropDown:
    """A square about the centre, black where the image ends; an odd margin has its larger half right and below."""

    def __init__(self, side: int):
        self.side = side

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (int((length - self.side) / 2) for length in image.size)
        return tvf.crop(image, top, left, self.side, self.side)


def paper_half(dataset: str) -> bool:
    """Whether "paper" preprocessing takes mean and standard deviation 0.5 instead of ImageNet's."""
    return dataset in CIFAR
