"""Whether a model confuses the classes whose paths are alike (docs/method.md §6)."""

import warnings
from argparse import Namespace
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from tqdm import tqdm

from ..cli.options import told, typed_native
from ..data.images import ImageSet
from ..data.loading import Transform, batches
from ..data.preprocessing import preprocessing
from ..errors import UserError
from ..files import Item
from ..models.checkpoint import load, sha256
from ..models.configs import ACTIVATIONS
from ..models.devices import device
from ..models.staged import StagedModel
from ..pixels import recorded as recorded_native, settled
from ..records.reading import join
from .classes import Classes, open_recorded


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
    model: StagedModel, source: ImageSet, items: list[Item], transform: Transform, batch_size: int = 10
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

    What was not typed of preprocessing and image size is as in the records' `settings`, and with the same weights what
    the file does not tell of the model, too; other weights are a warning.
    """
    file = options.pretrain_weight
    same = _same_weights(options, settings)
    size = settings.get("model_img_size")
    size = options.img_size or (size if type(size) is int and size > 0 else None)
    where = device("cpu" if options.no_cuda else options.device)
    model = load(file, options.model_type, img_size=size, device=where, **_told(options, settings if same else {}))
    if same is False:
        warnings.warn(f"{file}: not the weights whose paths are in the records", stacklevel=2)
    source = open_recorded(options, classes, model.config.num_classes)
    items = recorded_items(classes, source)
    preprocess = options.preprocess or ("native" if settings.get("preprocess") == "native" else "paper")
    if preprocess == "native":
        of_records = (
            recorded_native(settings) if settings.get("preprocess") == "native" and not options.img_size else None
        )
        model.native = settled(of_records or model.native, typed_native(options), model.config.img_size)
    transform = preprocessing(preprocess, model.config, options.dataset, model.native)
    found = probabilities(model, source, items, transform, options.batch_size)
    if not np.isfinite(found).all():
        raise UserError(f"{file}: probabilities that are not finite; are these the weights of the records?")
    return soft_confusion(found, np.array([item.label for item in items])), len(items)


def _same_weights(options: Namespace, settings: dict) -> bool | None:
    """Whether the records are of these weights and this classifier; None where they do not say."""
    recorded = [settings.get(name) for name in ("checkpoint_sha256", "classifier_sha256")]
    if recorded[0] is None:
        return None
    try:
        return recorded == [file and sha256(file) for file in (options.pretrain_weight, options.classifier)]
    except OSError:
        return False  # loading says what is missing


def _told(options: Namespace, settings: dict) -> dict[str, Any]:
    """What was typed of the model, else what the records of the same file say of it."""
    heads, activation = settings.get("model_num_heads"), settings.get("model_activation")
    recorded = {
        "num_heads": heads if type(heads) is int and heads > 0 else None,
        "pool": "mean" if settings.get("model_norm_first") is True else None,
        "activation": activation if activation in ACTIVATIONS else None,
    }
    return {name: recorded.get(name) if value is None else value for name, value in told(options).items()}
