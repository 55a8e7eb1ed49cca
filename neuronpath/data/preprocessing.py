"""What happens to an image before a model sees it."""

from typing import Protocol

from torchvision import transforms
from torchvision.transforms import InterpolationMode

from .images import CIFAR

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation
HALF = ((0.5,) * 3, (0.5,) * 3)


class Shape(Protocol):
    """What preprocessing asks of a model's config."""

    @property
    def img_size(self) -> int: ...
    @property
    def pool(self) -> str: ...


def preprocessing(kind: str, config: Shape, dataset: str = "imagenet1k") -> transforms.Compose:
    """Pillow image of `dataset` (one of DATASETS) to normalised (3, S, S), S = `config.img_size`.

    "paper": squashed to S×S, bilinear, ImageNet mean and standard deviation; for CIFAR 0.5, as the released scripts
    have it. "native": what the public weights were trained for; Google's ViTs the short side to ⌊S/0.9⌋ (to S from
    384 pixels on), bicubic, centre crop, mean and standard deviation 0.5; fine-tuned MAE the short side to
    256/224·S, centre crop, ImageNet's.
    """
    S = config.img_size
    if kind == "paper":
        steps = [transforms.Resize((S, S), InterpolationMode.BILINEAR)]
    elif config.pool == "cls":
        steps = [transforms.Resize(S if S >= 384 else S * 10 // 9, InterpolationMode.BICUBIC)]
    else:
        steps = [transforms.Resize(S * 256 // 224, InterpolationMode.BICUBIC)]
    half = paper_half(dataset) if kind == "paper" else config.pool == "cls"
    normalise = transforms.Normalize(*(HALF if half else IMAGENET))
    return transforms.Compose([*steps, transforms.CenterCrop(S), transforms.ToTensor(), normalise])


def paper_half(dataset: str) -> bool:
    """Whether "paper" preprocessing takes mean and standard deviation 0.5 instead of ImageNet's."""
    return dataset in CIFAR
