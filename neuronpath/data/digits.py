"""The embedded default: scikit-learn's handwritten digits, with noise, as an image folder."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import MADE, noted, replace_file

HELD_OUT = 5  # every fifth image of a class is held out
NOISE = 0.35  # of full scale: as undecided as ImageNet, where the plain digits are solved
PARTS = ("train", "val")


def write_images(root: Path, noise: float = NOISE) -> str:
    """Write `root`/{train,val}/{0..9}/NNNN.png (8×8 greyscale), NNNN being scikit-learn's index of the image.

    `noise`: σ ≥ 0 in clip(pixel + σ·g, 0, 1), rounded to 8 bits, where the pixel is 0 to 1 and g standard normal, from
    seed 0. `root`/made.json says with which. The folder appears once it is complete. Returns why the images were made
    anew; "" where they were there with that noise, or where there were none. UserError where the folder holds other
    files than these images, which would be lost.
    """
    images = _images(noise)
    digest = hashlib.sha256(b"".join(pixels.tobytes() for pixels in images.values())).hexdigest()
    made = {"noise": noise, "sha256": digest}
    place = root.resolve()
    building, old = (place.with_name(place.name + end) for end in (".partial", ".old"))
    if noted(place / MADE) == made and all((place / part).is_dir() for part in PARTS):
        return ""
    why = _why(place, noise)
    _check_ours(root, {*images, MADE})
    for left in (building, old):
        shutil.rmtree(left, ignore_errors=True)  # of a killed run
    for name, pixels in images.items():
        file = building / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    replace_file(building / MADE, json.dumps(made) + "\n")
    if place.exists():
        place.replace(old)
    building.replace(place)
    shutil.rmtree(old, ignore_errors=True)
    return why


def _images(noise: float) -> dict[str, np.ndarray]:
    """The pixels, (8, 8) uint8, by the names of the files."""
    from sklearn.datasets import load_digits  # here, since it takes most of a second, and --help needs only NOISE

    digits, count, random, images = load_digits(), [0] * 10, np.random.default_rng(0), {}
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "val" if count[label] % HELD_OUT == HELD_OUT - 1 else "train"
        count[label] += 1
        noisy = np.clip(pixels / 16 + random.normal(0, noise, pixels.shape), 0, 1)
        images[f"{part}/{label}/{i:04d}.png"] = np.round(255 * noisy).astype(np.uint8)
    return images


def _why(place: Path, noise: float) -> str:
    """What is wrong with the images that are there; "" where there are none."""
    if not place.exists():
        return ""
    if missing := [part for part in PARTS if not (place / part).is_dir()]:
        return f"{missing[0]}/ is missing"
    return "made with other noise" if noted(place / MADE).get("noise", noise) != noise else "made by an earlier version"


def _check_ours(root: Path, names: set[str]) -> None:
    for file in sorted(root.rglob("*")):
        if file.is_file() and not file.name.startswith(".") and file.relative_to(root).as_posix() not in names:
            raise UserError(f"{file}: none of the digits that are to be made anew; move it out of {root}")
