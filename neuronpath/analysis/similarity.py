"""Classes by the paths of their images: frequencies and similarity (docs/method.md §6).

The *frequency array* of a class counts each chosen unit per layer over its images, (L, H); with K neurons per layer
all K count. Flattened and sparse they are the rows of a matrix (C, L·H), whose cosines are the similarities. Classes
are rows by ascending label throughout; a class without records is no row.
"""

import json
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import gaussian_kde

from ..files import writing
from .classes import Classes


def frequencies(classes: Classes) -> csr_matrix:
    """(C, L·H) int64, row by row the flattened frequency arrays."""
    units, counts, ends = [], [], [0]
    for paths in classes.paths.values():
        layer = np.arange(paths.shape[1])[:, None]  # (L, 1)
        unit, count = np.unique(layer * classes.num_neurons + paths, return_counts=True)
        units.append(unit)
        counts.append(count)
        ends.append(ends[-1] + len(unit))
    depth = next(iter(classes.paths.values())).shape[1]
    shape = (len(classes.paths), depth * classes.num_neurons)
    return csr_matrix((np.concatenate(counts), np.concatenate(units), ends), shape=shape)


def cosines(counts: csr_matrix) -> np.ndarray:
    """(C, C) float64, symmetric to the last bit, ones on the diagonal. Products are exact: equal pairs tie exactly."""
    products = (counts @ counts.T).toarray()
    squares = products.diagonal().astype(np.float64)
    similarity = products / np.sqrt(np.outer(squares, squares))
    np.fill_diagonal(similarity, 1)
    return similarity


def neighbours(similarity: np.ndarray, labels: list[int], top: int = 50) -> dict[str, dict[str, list]]:
    """Per label its min(`top`, ⌊(C-1)/2⌋) most and least similar others, [label, cosine]; ties by lowest label."""
    count = min(top, (len(labels) - 1) // 2)
    found = {}
    for i, label in enumerate(labels):
        row = similarity[i]
        most, least = ([j for j in np.argsort(x, kind="stable") if j != i][:count] for x in (-row, row))
        pairs = {"most": most, "least": least}
        found[str(label)] = {key: [[labels[j], float(row[j])] for j in chosen] for key, chosen in pairs.items()}
    return found


def modes(paths: np.ndarray, num_neurons: int) -> np.ndarray:
    """Per layer of `paths` (n, L, K) the mode of unit index / H, (L,): arg max on the grid j/H of the Gaussian KDE
    with SciPy's default bandwidth; a layer of one value is that value."""
    grid = np.arange(num_neurons) / num_neurons
    values = np.moveaxis(paths, 1, 0).reshape(paths.shape[1], -1) / num_neurons  # (L, n·K)
    return np.array([x[0] if np.ptp(x) == 0 else grid[gaussian_kde(x)(grid).argmax()] for x in values])


def most_frequent(paths: np.ndarray) -> np.ndarray:
    """Per layer of `paths` (n, L, K) the unit chosen most often, (L,); ties by lowest index."""
    return np.array([np.bincount(units.ravel()).argmax() for units in np.moveaxis(paths, 1, 0)])


def write(directory: Path, labels: list[int], pairs: dict, **matrices: np.ndarray) -> list[Path]:
    """labels.json, pair_sim.json and NAME.npy of each of `matrices`; all of them."""
    written = [directory / "labels.json", directory / "pair_sim.json"]
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for file, value in zip(written, (labels, pairs), strict=True):
            file.write_text(json.dumps(value, allow_nan=False) + "\n")
        for name, matrix in matrices.items():
            written.append(directory / f"{name}.npy")
            np.save(written[-1], matrix)
    return written
