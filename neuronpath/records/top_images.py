"""`top_images.npz`: of every unit the images of highest activation, its mean, and how often it is above 0.

`Gathered` is what it is made of, image by image, or of several processes' parts. It does not grow with the images, but
for a class index and a mark of each, and nothing in it depends on their order: the top ones are sorted by value, then
by the image's place in the data set; counts are integers; a sum is kept exactly, as a few float64 that add up to it
(Shewchuk 1997), and rounded once, at the end. For ViT-L, 24 × 4096 units, the file has about 11 MB, and 15 where the
head reads several tokens; so has each process's part.
"""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, one_line
from ..files import replace_file

TOP = 9  # images per unit

Shape = tuple[int, int]  # (L, H)

BROKEN = (  # what numpy answers a damaged file with
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class TopImages:
    """What the file says of the run's n images; -1 and NaN where there are fewer than TOP."""

    image: np.ndarray  # (L, H, TOP) int32, index into `images`, highest activation first
    value: np.ndarray  # (L, H, TOP) float32, that activation, of N > 1 tokens the highest
    token: np.ndarray | None  # (L, H, TOP) int32, the neuron token that has it; None for N = 1
    mean: np.ndarray  # (L, H) float64, over images, of the mean over neuron tokens
    share: np.ndarray  # (L, H) float64, of images whose mean over neuron tokens is above 0
    images: list[str]  # the run's, in the data set's order
    labels: np.ndarray  # (n,) int32
    pred: np.ndarray  # (n,) int32, the predicted class; -1: could not be read, and counts nowhere

    @property
    def count(self) -> int:
        """Images that were read."""
        return int((self.pred >= 0).sum())


class Gathered:
    """What is known of some of the n images of a run; `shape` is (L, H), `several` whether N > 1."""

    def __init__(self, n: int, shape: Shape, several: bool):
        self.pred: np.ndarray = np.full(n, -1, np.int32)  # of the images that are in
        self.skipped = np.zeros(n, bool)  # images that could not be read
        self.value = np.full((*shape, TOP), -np.inf, np.float32)
        self.image = np.full((*shape, TOP), -1, np.int32)
        self.token = np.full((*shape, TOP), -1, np.int32) if several else None
        self.sum: list[np.ndarray] = [np.zeros(shape)]  # float64, exact together
        self.above = np.zeros(shape, np.int64)

    @property
    def seen(self) -> np.ndarray:
        """Which images are in, (n,) bool."""
        return self.pred >= 0

    def add(self, place: int, pred: int, value: np.ndarray, mean: np.ndarray, token: np.ndarray | None = None) -> None:
        """One image more, the `place`-th of the run: highest and mean activation of each unit, (L, H), all finite."""
        value = value.astype(np.float32)
        last, holder = self.value[..., -1], self.image[..., -1]
        at = ((value > last) | ((value == last) & (place < holder))).nonzero()
        new = [value[at][:, None], np.full((len(at[0]), 1), place, np.int32)]
        if token is not None:
            new.append(token[at][:, None].astype(np.int32))
        old = [array[at] for array in self._tops()]
        for array, best in zip(self._tops(), _best(old, new), strict=True):
            array[at] = best
        self._grow(mean.astype(np.float64))
        self.above += mean > 0
        self.pred[place] = pred

    def merge(self, other: "Gathered") -> None:
        """Take in what another has of other images. ValueError where both have one image."""
        if (self.seen & other.seen).any():
            raise ValueError(f"image {(self.seen & other.seen).argmax()} is counted twice")
        for array, best in zip(self._tops(), _best(self._tops(), other._tops()), strict=True):
            array[:] = best
        for part in other.sum:
            self._grow(part)
        self.above += other.above
        self.pred = np.maximum(self.pred, other.pred)

    def exact(self) -> np.ndarray:
        """The sums, (k, L, H): the first is the sum rounded, the next what is left of it, rounded, until nothing is."""
        rows = np.stack(self.sum, -1).reshape(-1, len(self.sum)).tolist()
        found: list[np.ndarray] = []
        while True:
            rounded = [math.fsum(row) for row in rows]
            if found and not any(rounded):
                return np.stack(found)
            found.append(np.array(rounded).reshape(self.above.shape))
            for row, x in zip(rows, rounded, strict=True):
                row.append(-x)

    def _tops(self) -> list[np.ndarray]:
        return [self.value, self.image, *([] if self.token is None else [self.token])]

    def _grow(self, x: np.ndarray) -> None:
        """Add `x` (L, H) to the sums without an error: what one number cannot hold goes on to the next."""
        for i, part in enumerate(self.sum):
            total = part + x
            rounded = total - part
            x = (part - (total - rounded)) + (x - rounded)
            self.sum[i] = total
        if x.any():
            self.sum.append(x)


def _best(old: list[np.ndarray], new: list[np.ndarray]) -> list[np.ndarray]:
    """Of values, images and the rest, (…, TOP) and (…, any), the TOP of highest value; ties to the earlier image."""
    both = [np.concatenate(pair, -1) for pair in zip(old, new, strict=True)]
    order = np.lexsort((both[1], -both[0]), axis=-1)[..., :TOP]
    return [np.take_along_axis(array, order, -1) for array in both]


def write_part(file: Path, gathered: Gathered, made_of: str) -> None:
    """A process's part of a run, as a whole or not at all; `made_of`: the run's settings as text."""
    tops = dict(zip(("value", "image", "token"), gathered._tops(), strict=False))
    more = {"sum": np.stack(gathered.sum), "above": gathered.above, "skipped": gathered.skipped}
    _write(file, {**tops, **more, "pred": gathered.pred, "made_of": np.array(made_of)})


def write_top_images(file: Path, gathered: Gathered, images: list[str], labels: list[int], made_of: str) -> None:
    """The file itself, as a whole or not at all. The same images give the same bytes, in whatever order they came."""
    sums, count = gathered.exact(), int(gathered.seen.sum())
    tops = {"image": gathered.image, "value": np.where(gathered.image < 0, np.float32(np.nan), gathered.value)}
    if gathered.token is not None:
        tops["token"] = gathered.token
    _write(
        file,
        {
            **tops,
            "mean": sums[0] / count,
            "share": gathered.above / count,
            "images": np.array(images),
            "labels": np.array(labels, np.int32),
            "pred": gathered.pred,
            "count": np.array(count),
            "sum": sums,
            "above": gathered.above,
            "made_of": np.array(made_of),
        },
    )


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    replace_file(file, content.getvalue())


def read_gathered(file: Path, made_of: str, n: int, shape: Shape, several: bool) -> Gathered | None:
    """What a part or the file itself holds; None where it is not there, or made of other settings.

    UserError where it is none of ours.
    """
    found = Gathered(n, shape, several)
    arrays = read_arrays(file)
    if arrays is None or str(arrays.get("made_of")) != made_of:
        return None
    for name in ("value", "image", "above", "pred", *(["token"] if several else [])):
        like = getattr(found, name)
        check_array(file, arrays, name, like.dtype, like.shape)
        setattr(found, name, arrays[name])
    check_array(file, arrays, "sum", np.dtype(float), (None, *shape))
    found.sum = list(arrays["sum"]) or found.sum
    if "skipped" in arrays:
        check_array(file, arrays, "skipped", np.dtype(bool), (n,))
        found.skipped = arrays["skipped"]
    found.value[found.image < 0] = -np.inf
    return found


def read_top_images(file: str | Path) -> TopImages:
    """UserError where it is not there or none of ours."""
    file = Path(file)
    arrays = read_arrays(file)
    if arrays is None:
        raise UserError(f"{file}: no such file; make it with scripts/top_images.py")
    check_array(file, arrays, "image", np.dtype(np.int32), (None, None, TOP))
    check_array(file, arrays, "labels", np.dtype(np.int32), (None,))
    shape, n = arrays["image"].shape, arrays["labels"].shape
    check_array(file, arrays, "value", np.dtype(np.float32), shape)
    for name in ("mean", "share"):
        check_array(file, arrays, name, np.dtype(float), shape[:2])
    check_array(file, arrays, "pred", np.dtype(np.int32), n)
    check_array(file, arrays, "images", None, n)
    if "token" in arrays:
        check_array(file, arrays, "token", np.dtype(np.int32), shape)
    if arrays["images"].dtype.kind != "U" or not (arrays["image"] >= -1).all() or (arrays["image"] >= n[0]).any():
        raise UserError(f"{file}: its images are not as in a file of top images; remove it")
    numbers = arrays["mean"], arrays["share"], arrays["value"][arrays["image"] >= 0]
    if not all(np.isfinite(found).all() for found in numbers):
        raise UserError(f"{file}: it holds numbers that are not finite; remove it")
    kept = {name: arrays[name] for name in ("image", "value", "mean", "share", "labels", "pred")}
    return TopImages(token=arrays.get("token"), images=arrays["images"].tolist(), **kept)


def read_arrays(file: Path) -> dict[str, np.ndarray] | None:
    """Its arrays, None where it is not there. UserError where it is no `.npz`."""
    try:
        with np.load(file, allow_pickle=False) as found:
            return dict(found)
    except FileNotFoundError:
        return None
    except BROKEN as e:
        raise UserError(f"{file}: not a file of top images ({one_line(e)}); remove it") from e


def check_array(file: Path, arrays: dict[str, Any], name: str, dtype: np.dtype | None, shape: tuple) -> None:
    """UserError where an array is missing or another; None in `shape` stands for any size."""
    array = arrays.get(name, np.array(None))
    fits = dtype in (None, array.dtype) and len(array.shape) == len(shape)
    if not fits or any(a not in (None, b) for a, b in zip(shape, array.shape, strict=True)):
        raise UserError(f"{file}: its {name} is not as in a file of top images; remove it")
