"""What top-1 accuracy a model should about reach, and the warning where it is far from it."""

import math

from ..models.configs import CONFIGS

FEW = 10  # fewer images tell nothing of the accuracy

# Published top-1, rounded down: Dosovitskiy et al. 2021, Table 5 (at 384 pixels; 224 cost some points), the MAE
# repository (fine-tuned), scripts/train_digits.py.
TOP1 = {
    **{f"ViT-{size}": 0.8 for size in ("B_16", "B_32", "L_16", "L_32", "H_14")},
    **{"MAE-B_16": 0.83, "MAE-L_16": 0.85, "MAE-H_14": 0.86},
    **{"ViT-digits": 0.83, "MAE-digits": 0.79},
}


def expected_top1(model_type: str, num_classes: int) -> float:
    """What a model should about reach: published for known names; for others halfway from chance to 1."""
    if model_type in TOP1 and CONFIGS[model_type].num_classes == num_classes:
        return TOP1[model_type]
    return (1 + 1 / num_classes) / 2


def low_accuracy(correct: int, images: int, expected: float, chance: float = 0.0) -> str:
    """The warning where top-1 is not even a tenth of the way from `chance` to `expected`, or "".

    Fewer images than FEW tell nothing: "".
    """
    if images < FEW or correct / images >= chance + (expected - chance) / 10:
        return ""
    guessing = chance + 2 * math.sqrt(chance * (1 - chance) / images)
    verdict = "no better than guessing" if correct / images <= guessing else "far too low"
    return (
        f"top-1 is {100 * correct / images:.1f} % of {images} images, {verdict}: it should be {100 * expected:.0f} % "
        "or so; are these the weights of this data set, its folders in the order of the labels, --preprocess right?"
    )
