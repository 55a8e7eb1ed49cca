"""Whether a score tells what removal does, and whether a path stays when the image is noisy (docs/method.md §5)."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import in_markdown
from ..records.schema import METHODS
from .metrics import Edited, Estimate, Missing, estimate, image_names
from .results import EDITS, Results, edited_of, scored_of


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of `x` and `y` (…, n) over the last axis, ties by mean rank; 0 for a constant."""
    from scipy.stats import rankdata  # takes half a second, which --help need not wait for

    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.zeros_like(size), where=size > 0)


def validity(scores: Mapping[str, float], edited: Edited) -> Estimate:
    """Spearman's correlation over images between a path's score and what its removal takes, p_original - p_removed.

    `scores` by image; of the images that both have. Missing where there are fewer than three, or one side is constant.
    """
    known = np.array([i for i, image in enumerate(edited.images) if image in scores], int)
    x = np.array([scores[edited.images[i]] for i in known], float)
    y = (edited.before - edited.after)[known]
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        raise Missing
    return estimate(edited.labels[known], lambda i: spearman(x[i], y[i]))


def overlap(paths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean over layers of |P ∩ P'| / |P ∪ P'|, (n,); `paths` and `others` (n, L, K), the units of a layer distinct."""
    shared = (paths[..., :, None] == others[..., None, :]).sum((-1, -2))  # (n, L)
    return (shared / (paths.shape[-1] + others.shape[-1] - shared)).mean(-1)


def stability(paths: Mapping[str, list], noisy: Mapping[str, list], labels: Mapping[str, int]) -> Estimate:
    """Mean over images of the `overlap` between the path of an image and that of the image with noise.

    By image, L lists of K units; of the images that both have. Missing where there are none.
    """
    images = [image for image in paths if image in noisy]
    if not images:
        raise Missing
    found = overlap(np.array([paths[image] for image in images]), np.array([noisy[image] for image in images]))
    order = np.array([labels[image] for image in images])
    return estimate(order, lambda i: found[i].mean(-1))


def validities(results: Results, models: Sequence[str]) -> dict[str, dict[str, Estimate | None]]:
    """By method and model the `validity` of the records' scores and edits, over images whose scored path was edited.

    None where scores or edits are missing, or the edits are of other paths, such as the best K of longer ones.
    """
    methods = results.shown(METHODS, models, edits=True)
    return {method: {model: _validity_of(results, model, method) for model in models} for method in methods}


def _validity_of(results: Results, model: str, method: str) -> Estimate | None:
    try:
        images, _, scores = scored_of(results, model, method)
        scored = _paths(results.records(METHODS[method].job, model), METHODS[method].path)
        edited = _paths(results.records(f"{EDITS}/{method}", model), "path")
        own = {
            image: score
            for image, score in zip(images, scores.tolist(), strict=True)
            if scored[image] == edited.get(image)
        }
        return validity(own, edited_of(results, model, method, "remove"))
    except Missing:
        return None


def _paths(records: Mapping[int, Sequence[dict]], key: str) -> dict[str, object]:
    """By image."""
    values = (record.get(key) for found in records.values() for record in found)
    return dict(zip(image_names(records), values, strict=True))


def markdown(found: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    """`validities` as Markdown, 95 % intervals in brackets; what is missing is shown as missing."""
    models = dict.fromkeys(model for row in found.values() for model in row)
    title = "Spearman of JAS and what removal takes [95 % interval]"
    lines = [f"| {title} | {' | '.join(map(in_markdown, models))} |", "|---" * (1 + len(models)) + "|"]
    for method, row in found.items():
        cells = [f"{one.shown(2)}, n = {one.n}" if one else "missing" for one in row.values()]
        lines.append(f"| {METHODS[method].name} | {' | '.join(cells)} |")
    return "\n".join(lines)
