"""Classes by the paths of their images: frequencies, similarity, and whether similar classes are confused.

The *frequency array* of a class counts each chosen unit per layer over its images, (L, H); with K neurons per layer
all K count. Flattened and sparse they are the rows of a matrix (C, L·H), whose cosines are the similarities
(docs/method.md §6). Classes are rows by ascending label throughout; a class without records is no row.
"""

import json
import warnings
from argparse import Namespace
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.stats import gaussian_kde, rankdata
from tqdm import tqdm

from ..data.images import ImageSet, Item, batches, open_dataset, preprocessing
from ..errors import UserError, printable, writing
from ..models.checkpoint import load, sha256
from ..models.vit import VisionTransformer
from ..records.methods import METHODS
from ..records.reading import join, label_files, read_label

MOST_UNITS = 2**20  # per layer: what is beyond is no index of a unit but a broken record


@dataclass(frozen=True)
class Classes:
    """The paths that one method found for the images of each class with records, by ascending label."""

    paths: dict[int, np.ndarray]  # (n, L, K) unit indices
    images: dict[int, list[str | None]]  # n identities; None where the record names none
    num_neurons: int  # H
    method: str  # a key of METHODS
    names: dict[int, str] = field(default_factory=dict)

    @property
    def labels(self) -> list[int]:
        return list(self.paths)

    def title(self, label: int) -> str:
        name = self.names.get(label, str(label))
        return f"class {label}" if name == str(label) else f"{label} {printable(name)}"


def read_classes(
    directory: Path,
    prefix: str,
    method: str,
    num_neurons: int | None = None,
    labels: Collection[int] | None = None,
) -> Classes:
    """The records of `labels`, all where None; classes without any are left out, and may be all.

    `num_neurons` H: where None, 1 + the largest index read. UserError where the folder has no records at all, or one
    is broken, doubled, of another depth or K than the rest, or beyond H.
    """
    files = label_files(directory, prefix)
    if not files:
        raise UserError(f"{directory}: no records named {prefix}-<label>.rlt.jsonl there; check --results and prefix")
    paths, images, shape = {}, {}, None
    wanted = {label: file for label, file in files.items() if labels is None or label in labels}
    for label, file in tqdm(wanted.items(), desc="records", unit="class", disable=None, leave=False):
        records = read_label(file)
        found = [_checked_path(record, method, file) for record in records]
        named = [record.get("image") for record in records]
        shapes = {(len(path), len(path[0])) for path in found} | ({shape} if shape else set())
        if len(shapes) > 1:
            raise UserError(f"{file}: paths of {len(shapes)} shapes (layers, neurons per layer): {sorted(shapes)}")
        if found:
            (shape,) = shapes
            paths[label], images[label] = np.array(found), named
    largest = max((int(p.max()) for p in paths.values()), default=0)
    if num_neurons is not None and largest >= num_neurons:
        raise UserError(f"{directory}: unit {largest} in its paths, but a layer has {num_neurons}; check --mlp_dim")
    return Classes(paths, images, num_neurons or largest + 1, method)


def _checked_path(record: dict, method: str, file: Path) -> list[list[int]]:
    """L lists of K unit indices."""
    key = METHODS[method].path
    path = record.get(key)
    layers = path if isinstance(path, list) and path else [None]
    if not all(isinstance(layer, list) and layer and len(layer) == len(layers[0]) for layer in layers) or any(
        type(unit) is not int or not 0 <= unit < MOST_UNITS for layer in layers for unit in layer
    ):
        raise UserError(
            f"{file}: a record without {key}, lists of as many unit indices for every layer; "
            f"--method {method} takes the records of {METHODS[method].job}"
        )
    return path


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


def soft_confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, C): mean probability of class b over the images of class a, averaged with that of a over b.

    `probabilities` (n, all classes) of the images with `labels` (n,); the rows are the labels that occur, ascending.
    """
    classes = np.unique(labels)
    means = np.stack([probabilities[labels == a].mean(0, dtype=np.float64)[classes] for a in classes])
    return (means + means.T) / 2


def mantel(x: np.ndarray, y: np.ndarray, permutations: int = 9999, seed: int = 42) -> tuple[float, float]:
    """Spearman's correlation of the upper triangles of `x` and `y`, symmetric (C, C), and its p-value.

    Mantel's test, one-sided: (1 + permutations of the classes of `x` that correlate at least as much) / (1 + all).
    UserError under three classes or where one of them has but one value: there is nothing to correlate.
    """
    upper = np.triu_indices(len(x), 1)
    if any(len(upper[0]) < 2 or np.ptp(m[upper]) == 0 for m in (x, y)):
        raise UserError(f"{len(x)} classes whose pairs do not differ: no rank correlation; give records of more")
    (first, second), squares = (rankdata(m[upper]) for m in (x, y)), []
    for ranks in (first, second):
        ranks -= ranks.mean()
        ranks /= np.linalg.norm(ranks)
        square = np.zeros(x.shape)
        square[upper] = ranks
        squares.append(square + square.T)
    observed, generator, as_much = float(first @ second), np.random.default_rng(seed), 0
    for _ in tqdm(range(permutations), desc="permutations", disable=None, leave=False):
        order = generator.permutation(len(x))
        correlation = np.vdot(squares[0][order][:, order], squares[1]) / 2
        as_much += bool(correlation >= observed - 1e-12)  # the same pairs in another order of summation are as much
    return observed, (1 + as_much) / (1 + permutations)


def recorded_items(classes: Classes, source: ImageSet) -> list[Item]:
    """The items of `source` that have a record, class by class. UserError for a record without an item."""
    known: dict[int, dict[str, Item]] = {label: {} for label in classes.labels}
    for item in source.items:
        known.get(item.label, {})[item.image] = item
    items = []
    for label, named in classes.images.items():
        records = [{} if image is None else {"image": image} for image in named]
        images = join(records, list(known[label]), f"label {label}")
        if unknown := [image for image in images if image not in known[label]]:
            raise UserError(
                f"{source.root}: {unknown[0]} of the records of label {label} is not in that class; "
                f"give the --dataset_path of the records"
            )
        items += [known[label][image] for image in images]
    return items


@torch.inference_mode()
def probabilities(
    model: VisionTransformer, source: ImageSet, items: list[Item], transform: Callable, batch_size: int = 10
) -> np.ndarray:
    """(n, C) float32 of `items`, by one forward each. UserError for an image that cannot be read."""
    device, rows = next(model.parameters()).device, []
    with tqdm(total=len(items), unit="img", desc="forward", dynamic_ncols=True) as bar:
        for batch in batches(source, items, transform, batch_size, num_workers=2):
            for item, reason in batch.bad:
                raise UserError(f"{source.root / item.image}: cannot be read ({reason}); replace it or its record")
            rows.append(model(batch.images.to(device)).softmax(-1).cpu().numpy())
            bar.update(len(batch.items))
    return np.concatenate(rows)


def check_confusion(options: Namespace, classes: Classes, settings: dict) -> tuple[np.ndarray, int]:
    """The soft confusion of the recorded images under the weights that `options` name, and how many images that are.

    What was not typed of preprocessing and image size is as in the records' `settings`; other weights are a warning.
    """
    file, recorded = options.pretrain_weight, settings.get("checkpoint_sha256")
    size = settings.get("model_img_size")
    size = options.img_size or (size if type(size) is int and size > 0 else None)
    model = load(file, options.model_type, size, options.num_heads, device=options.device)
    if recorded is not None and recorded != sha256(file):
        warnings.warn(f"{file}: not the weights whose paths are in the records", stacklevel=2)
    source = open_dataset(options.dataset, options.dataset_path, model.config.num_classes)
    items = recorded_items(classes, source)
    preprocess = options.preprocess or ("native" if settings.get("preprocess") == "native" else "paper")
    transform = preprocessing(preprocess, model.config, options.dataset)
    found = probabilities(model, source, items, transform, options.batch_size)
    if not np.isfinite(found).all():
        raise UserError(f"{file}: probabilities that are not finite; are these the weights of the records?")
    return soft_confusion(found, np.array([item.label for item in items])), len(items)


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
