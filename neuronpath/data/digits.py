"""The embedded default: scikit-learn's handwritten digits as an image folder."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HELD_OUT = 5  # every fifth image of a class is held out


def write_images(root: Path, noise: float = 0.0) -> None:
    """Write `root`/{train,val}/{0..9}/NNNN.png (8×8 greyscale), NNNN being scikit-learn's index of the image.

    `noise`: standard deviation of Gaussian noise, in units of full scale, always the same.
    Nothing is written where both folders are there. A folder appears once it is complete.
    """
    if all((root / part).is_dir() for part in ("train", "val")):
        return
    digits, count, random = load_digits(), [0] * 10, np.random.default_rng(0)
    building = root.with_name(root.name + ".partial")
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "val" if count[label] % HELD_OUT == HELD_OUT - 1 else "train"
        count[label] += 1
        folder = building / part / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        noisy = np.clip(pixels / 16 + random.normal(0, noise, pixels.shape), 0, 1)
        Image.fromarray(np.round(255 * noisy).astype(np.uint8)).save(folder / f"{i:04d}.png")
    root.mkdir(exist_ok=True)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            (building / part).replace(root / part)
    shutil.rmtree(building)
