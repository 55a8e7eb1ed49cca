"""What edits do to a model: probability and accuracy deviations with their intervals (docs/method.md §5)."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .proportions import newcombe, sign_flip_p

RESAMPLES = 9999


class Missing(Exception):
    """There is nothing to estimate it from."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; the bounds are None where no class has two images to resample.

    `p`: of accuracies the exact test's p-value of no difference; near 0.05 it and the interval may disagree.
    """

    value: float
    low: float | None
    high: float | None
    n: int  # images that count
    left_out: int = 0  # images that cannot
    p: float | None = None

    def shown(self, digits: int, sign: bool = False) -> str:
        """`value [low, high], p = …`; with more digits where an accuracy's bounds would look alike."""
        if self.p is not None and self.low is not None and self.high is not None and self.low < self.high:
            while round(self.low, digits) == round(self.high, digits):
                digits += 1
        value, *bounds = (round(x, digits) + 0.0 for x in (self.value, self.low or 0, self.high or 0))  # no -0.0
        text = f"{value:{'+' if sign else ''}.{digits}f}"
        if self.low is not None:
            text += f" [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
        if self.p is not None:
            text += f", p = {self.p:.3g}" if self.p > 1e-9 else ", p < 1e-9"
        return text


def estimate(labels: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Estimate:
    """`statistic` of all images, with the percentile bootstrap interval of SciPy, images resampled within each class.

    labels (n,): each image's class. `statistic` maps indices of images (..., n), those of one class side by side, to
    values (...): a resampled image takes all that is known of it along, so that before and after stay paired.
    Missing where there are no images.
    """
    if not len(labels):
        raise Missing
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    alone = np.array([m[0] for m in members if len(m) == 1], int)
    several = [m for m in members if len(m) > 1]

    def of_samples(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        fixed = np.broadcast_to(alone, (*samples[0].shape[:-1], len(alone)))
        return statistic(np.concatenate([*samples, fixed], axis=-1))

    value = float(statistic(np.concatenate([*several, alone])))
    if not several:
        return Estimate(value, None, None, len(labels))
    from scipy.stats import bootstrap  # takes half a second, which --help need not wait for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's, where all resamples agree
        interval = bootstrap(
            several,
            of_samples,
            n_resamples=RESAMPLES,
            batch=max(1, 2**22 // len(labels)),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(labels))


def class_means(values: dict[int, np.ndarray]) -> dict[int, Estimate]:
    """Of each class the mean of its `values` (n,), with the interval that `estimate` would find for it alone.

    Classes of one size are resampled together; those without images are left out.
    """
    from scipy.stats import bootstrap  # takes half a second, which --help need not wait for

    found = {}
    for n in sorted({len(x) for x in values.values()} - {0}):
        of_size = [label for label, x in values.items() if len(x) == n]
        rows = np.array([values[label] for label in of_size], float)  # (classes, n)
        bounds: list[tuple[float | None, float | None]] = [(None, None)] * len(rows)
        if n > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SciPy's, where all resamples agree
                interval = bootstrap(
                    (rows,),
                    lambda x, axis: x.mean(axis),
                    n_resamples=RESAMPLES,
                    batch=max(1, 2**22 // rows.size),
                    axis=-1,
                    method="percentile",
                    rng=np.random.default_rng(0),
                ).confidence_interval
            bounds = [*zip(interval.low.tolist(), interval.high.tolist(), strict=True)]
        for label, value, (low, high) in zip(of_size, rows.mean(-1).tolist(), bounds, strict=True):
            found[label] = Estimate(value, low, high, n)
    return dict(sorted(found.items()))


def mean_of_classes(values: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic "mean over the classes of the mean over a class's images" of `values` (n,)."""
    classes, counts = np.unique(labels, return_counts=True)
    weights = (1 / counts / len(classes))[np.searchsorted(classes, labels)] * values
    return lambda i: weights[i].sum(-1)


@dataclass(frozen=True)
class Edited:
    """What one operation did to n images."""

    images: list[str]
    labels: np.ndarray  # (n,)
    before: np.ndarray  # (n,) probability of the label
    after: np.ndarray  # (n,) where there are several draws: their mean
    right_before: np.ndarray  # (n,) 1 where the predicted class is the label, else 0
    right_after: np.ndarray  # (n,) where there are several draws: the share of them

    @classmethod
    def of(cls, records: dict[int, list[dict]], operation: str) -> "Edited":
        """From the records of edit.py by label. KeyError where they lack `operation`, ValueError for no numbers."""
        rows = [(label, r) for label, found in records.items() for r in found]
        values = [
            (r["original"], r[operation], r["original_label"] == label, _share_right(r, operation, label))
            for label, r in rows
        ]
        columns = np.array(values, float).reshape(-1, 4)
        if not np.isfinite(columns).all():
            raise ValueError("not finite")
        return cls(image_names(records), np.array([label for label, *_ in rows]), *columns.T)

    def usable(self) -> np.ndarray:
        """(n,) whether a ratio of probabilities exists."""
        return self.before > 0

    def probability_deviation(self) -> dict[int, float]:
        """Per class the mean over its images of p_after / p_before; images with p_before = 0 are left out."""
        ratio, labels = self.after[self.usable()] / self.before[self.usable()], self.labels[self.usable()]
        return {int(label): float(ratio[labels == label].mean()) for label in np.unique(labels)}

    def mean_ratio(self) -> Estimate:
        """The mean over classes of the probability deviation; 1 is no change."""
        ok, labels = self.usable(), self.labels[self.usable()]
        found = estimate(labels, mean_of_classes(self.after[ok] / self.before[ok], labels))
        return replace(found, left_out=int((~ok).sum()))

    def ratio_of_means(self) -> Estimate:
        """Mean p_after / mean p_before over the same images: tiny p_before do not dominate it."""
        ok = self.usable()
        after, before = self.after[ok], self.before[ok]
        found = estimate(self.labels[ok], lambda i: after[i].sum(-1) / before[i].sum(-1))
        return replace(found, left_out=int((~ok).sum()))

    def accuracy_deviation(self) -> Estimate:
        """Top-1 accuracy after minus before, in percentage points, over all images. Missing where there are none."""
        return _points(self.right_after, self.right_before)


def _share_right(record: dict, operation: str, label: int) -> float:
    """Of the draws where there are several and `operation` is among what they changed."""
    key = f"{operation}_label"
    draws = [draw for draw in record.get("draws", []) if key in draw] or [record]
    return sum(draw[key] == label for draw in draws) / len(draws)


def image_names(records: Mapping[int, Sequence[dict]]) -> list[str]:
    """Of records by label the images' names; in the authors' they have none: label and place stand for it."""
    return [str(r.get("image", f"{label}/{i}")) for label, found in records.items() for i, r in enumerate(found)]


def difference(one: Edited, other: Edited, what: str) -> Estimate:
    """`what` ("after", say) of `one` minus that of `other`, mean over the images that both have.

    Missing where there are none.
    """
    i, j = in_both(one.images, other.images)
    values = getattr(one, what)[i] - getattr(other, what)[j]
    return estimate(one.labels[i], lambda k: values[k].mean(-1))


def accuracy_difference(one: Edited, other: Edited) -> Estimate:
    """Top-1 accuracy after `one` minus after `other`, in percentage points, over the images that both have.

    Missing where there are none.
    """
    i, j = in_both(one.images, other.images)
    return _points(one.right_after[i], other.right_after[j])


def in_both(images: Sequence[str], others: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where the images that stand in both are, (n,) in `images` and (n,) in `others`, in the order of `images`."""
    place = {image: i for i, image in enumerate(others)}
    pairs = [(i, place[image]) for i, image in enumerate(images) if image in place]
    i, j = np.array(pairs, int).reshape(-1, 2).T
    return i, j


def _points(right: np.ndarray, other: np.ndarray) -> Estimate:
    """The accuracy `right` (n,) minus that of `other` (n,), in percentage points: `newcombe` and `sign_flip_p`."""
    n = len(right)
    if not n:
        raise Missing
    cells = right * other, right * (1 - other), (1 - right) * other, (1 - right) * (1 - other)
    low, high = newcombe(*(float(cell.sum()) for cell in cells))
    p = sign_flip_p(right - other)
    return Estimate(100 * float((right - other).mean()), 100 * low, 100 * high, n, p=p)
