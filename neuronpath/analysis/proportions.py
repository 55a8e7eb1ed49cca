"""Two proportions of the same images: an exact test of their difference, and an interval for it (docs/method.md §5)."""

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np

Z = NormalDist().inv_cdf(0.975)


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p-value of the exact paired test that `differences` (n,) are as often of one sign as of the other.

    The probability that their sum is at least as far from 0, were each difference's sign tossed: of -1, 0 and 1, the
    changes of a right or wrong class, this is McNemar's exact test, the binomial of the pairs that differ. Means over
    draws are multiples of one over their number, whose sums are counted exactly, too. 1 where nothing differs.
    """
    sizes, counts = np.unique(np.abs(_whole(differences)), return_counts=True)
    observed, law = abs(int(_whole(differences).sum())), np.ones(1)  # of the sums -reach..reach
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if size:
            law = _tossed(law, size, count)
    sums = np.arange(len(law)) - len(law) // 2
    return float(min(1.0, law[abs(sums) >= observed].sum()))


def _whole(differences: np.ndarray) -> np.ndarray:
    """Multiples of the largest number of which all are multiples, (n,)."""
    values, places = np.unique(differences, return_inverse=True)
    fractions = [Fraction(value).limit_denominator(1000) for value in values.tolist()]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    return np.array([int(fraction * scale) for fraction in fractions], int)[places]


def _tossed(law: np.ndarray, size: int, count: int) -> np.ndarray:
    """The distribution `law` of a sum with `count` terms of ±`size` added."""
    from scipy.signal import convolve  # takes half a second, which --help need not wait for
    from scipy.stats import binom

    terms = np.zeros(2 * size * count + 1)
    terms[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
    return np.maximum(convolve(law, terms), 0)  # of long ones by Fourier transforms, which leave ±1e-17


def newcombe(both: float, first: float, second: float, neither: float) -> tuple[float, float]:
    """95 % interval for p1 - p2 from n pairs: `both` succeed, the `first` or the `second` alone, or `neither`.

    Newcombe's method 10 (Statistics in Medicine 17, 1998, 2635-2650): Wilson's intervals of p1 and p2, squared and
    added with the correlation of the two, that with a continuity correction. Never of width 0. Counts may be parts:
    of an image with several draws each counts its share, as if it had one, so that the interval is rather too wide.
    """
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = _wilson(p1, n), _wilson(p2, n)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    covariance = both * neither - first * second
    corrected = max(covariance - n / 2, 0) if covariance > 0 else covariance
    phi = corrected / math.sqrt(product) if product > 0 else 0.0
    below = _added(p1 - l1, u2 - p2, phi)
    above = _added(u1 - p1, p2 - l2, phi)
    return p1 - p2 - below, p1 - p2 + above


def _wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion."""
    centre, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)


def _added(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))
