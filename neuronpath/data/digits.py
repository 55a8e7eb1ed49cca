"""The embedded default: scikit-learn's handwritten digits as an image folder."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HELD_OUT = 5  # every fifth image of a class is held out


def write_images(root: Path) -> None:
    """Write `root`/{train,val}/{0..9}/NNNN.png (8×8 greyscale), NNNN being scikit-learn's index of the image.

    Nothing is written where both folders are there. A folder appears once it is complete.
    """
    if all((root / part).is_dir() for part in ("train", "val")):
        return
    digits, count = load_digits(), [0] * 10
    building = root.with_name(root.name + ".partial")
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "val" if count[label] % HELD_OUT == HELD_OUT - 1 else "train"
        count[label] += 1
        folder = building / part / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8)).save(folder / f"{i:04d}.png")
    root.mkdir(exist_ok=True)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            (building / part).replace(root / part)
    shutil.rmtree(building)
