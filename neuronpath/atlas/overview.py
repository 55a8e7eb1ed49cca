"""What the page of a model shows, and every other page of it needs: classes, methods, scores, what was run."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..analysis.metrics import Estimate, Missing, class_means, estimate
from ..analysis.results import Results, control_words, matches_of
from ..analysis.table import MEASURES
from ..errors import UserError, printable
from ..records.args import Args, describe_rule
from ..records.schema import EDITED, METHODS, OPERATIONS, PATHS, RETAIN, Operation
from .datafiles import readable, shown
from .gather import Found, Gathered

MOST_USED = 5  # units of a layer that the page of the model names
SHOWN = tuple(  # measures of the table
    f"{operation.noun.lower()}_{what}"
    for what in ("accuracy_deviation", "probability_deviation_ratio_of_means")
    for operation in OPERATIONS.values()
)
LEFT_OUT = {*PATHS, "ja_act", "base_act", "margin"}  # what no number of the table needs
OPERATION_NOUNS = {**OPERATIONS, RETAIN: Operation("Retaining alone", "", 1.0)}


def overview(gathered: Gathered, names: list[str], more: Iterable[int] = ()) -> dict[str, Any]:
    """After all classes have been read; `names`: of classes by label, as many as are known.

    `more`: labels without records that pages name.
    """
    named = {i: _clean(name) for i, name in enumerate(names)}
    labels, methods = sorted(gathered.images), gathered.methods
    scores = {key: class_means(gathered.found[key].scores) for key in methods}
    first = next((key for key in ("ja", *methods) if key in methods and gathered.found[key].near), None)
    near = {label: float(x.mean()) for label, x in gathered.found[first].near.items()} if first else {}
    classes = [  # as lists, since there may be a thousand
        [
            label,
            named.get(label) or str(label),
            len(gathered.images[label]),
            near.get(label),
            [_three(found[label]) if label in found else None for found in scores.values()],
            *_counts(gathered, label),
        ]
        for label in labels
    ]
    count = sum(map(len, gathered.images.values()))
    words = f"{gathered.sizes.depth} layers of {gathered.mlp_dim} units; {len(labels)} classes, {count} images"
    return {
        "name": readable(gathered.name),
        "words": words,
        "depth": gathered.sizes.depth,
        "H": gathered.mlp_dim,
        "methods": [_method(key) for key in methods],
        "edits": [{"key": key, "name": EDITED[key].name} for key in gathered.edited],
        "operations": [{"key": key, "noun": operation.noun.lower()} for key, operation in OPERATION_NOUNS.items()],
        "classes": classes,
        "otherNames": {
            label: named[label] for label in sorted((gathered.predicted | {*more}) - {*labels}) if label in named
        },
        "means": {key: _mean(gathered.found[key]) for key in methods},
        "near": _near(gathered) if first else None,
        "layers": _most_used(gathered),
        "jobs": _jobs(gathered),
        "facts": _facts(gathered),
        **_table(gathered),
    }


def _counts(gathered: Gathered, label: int) -> list[list[int]]:
    """[how many of the class's images each method has], where it is not all; else []."""
    counts = [len(found.paths.get(label, ())) for found in gathered.found.values()]
    return [counts] if {*counts} != {len(gathered.images[label])} else []


def _three(found: Estimate) -> list:
    return [shown(found.value), shown(found.low), shown(found.high)]


def _method(key: str) -> dict[str, str]:
    method = METHODS[key]
    return {"key": key, "name": method.name, "noun": method.noun, "colour": method.colour}


def _mean(found: Found) -> list:
    """Mean JAS of all images, its interval, and n."""
    labels = np.repeat([*found.scores], [len(x) for x in found.scores.values()])
    values = np.concatenate([*found.scores.values(), np.zeros(0)])
    try:
        return [*_three(estimate(labels, lambda i: values[i].mean(-1))), len(values)]
    except Missing:
        return [None, None, None, 0]


def _near(gathered: Gathered) -> dict[str, Any]:
    """Below which margin an image is a near-tie, and by method the share of those."""
    flags = {key: [*found.near.values()] for key, found in gathered.found.items() if found.near}
    share = {key: float(np.concatenate(several).mean()) for key, several in flags.items()}
    return {"below": gathered.near_below, "share": share}


def _most_used(gathered: Gathered) -> list[list[tuple[int, int]]]:
    """Per layer the units that most images' paths use, with how many; of the neuron paths, or the first method."""
    found = gathered.found.get("ja") or next(iter(gathered.found.values()), Found())
    if not found.paths:
        return []
    paths = np.concatenate([*found.paths.values()])  # (n, L, K)
    layers = []
    for units in np.moveaxis(paths, 1, 0):
        counts = np.bincount(units.ravel())
        layers.append([(int(i), int(counts[i])) for i in (-counts).argsort(kind="stable")[:MOST_USED] if counts[i]])
    return layers


def _jobs(gathered: Gathered) -> list[dict[str, Any]]:
    """Of each job what its records were made with, in words."""
    return [{"name": job, "settings": dict(_told(args))} for job, args in gathered.args.items()]


def _told(args: Args) -> Iterator[tuple[str, str]]:
    if "quadrature" in args.settings:
        yield "rule", describe_rule(args.settings).removeprefix("quadrature ")
    for key in ("search", "topK", "target", "precision", "method", "ablation"):
        if key in args.settings:
            yield key, _clean(args.settings[key])
    for name, version in args.versions.items():
        if version:
            yield name, _clean(version)


def _facts(gathered: Gathered) -> list[tuple[str, str]]:
    """Names and values of model, data and preprocessing, as the first job's settings say."""
    return [(key.removeprefix("model_"), _clean(value)) for key, value in gathered.settings.items() if _of_model(key)]


def _clean(value: object) -> str:
    return readable(printable(str(value)))


def _of_model(key: str) -> bool:
    return key.startswith(("model_", "preprocess", "checkpoint", "classifier")) or key == "dataset"


def _reduced(record: dict) -> dict:
    kept = {key: value for key, value in record.items() if key not in LEFT_OUT}
    if "draws" in kept:
        kept["draws"] = [{key: value for key, value in draw.items() if key != "path"} for draw in kept["draws"]]
    return kept


def _table(gathered: Gathered) -> dict[str, Any]:
    """What edits by each method did, in words, as `analysis.table` has it; nothing where there are none."""
    model, results = gathered.name, Results(gathered.results.root, gathered.results.prefix, _reduced)
    rows, faults = [], list[str]()
    for key in SHOWN:
        measure, lines = MEASURES[key], list[dict[str, str]]()
        for method in gathered.edited:
            try:
                text = measure.of(results, model, method).shown(measure.digits, measure.signed)
                lines.append({"method": EDITED[method].name, "text": text})
            except Missing:
                continue
            except UserError as e:  # records of the authors lack some keys
                faults.append(f"{measure.name}: {e}")
        if lines:
            rows.append({"name": measure.name, "rows": lines})
    notes = [f"{job} was made otherwise than the first records: {text}" for job, text in results.mixed(model).items()]
    control = control_words(matches_of(results, [model])) if rows else ""
    faults = [_clean(text) for text in (*notes, *faults)]
    return {"table": rows, "notes": [*faults, *([_clean(control)] if control else [])], "faults": faults}
