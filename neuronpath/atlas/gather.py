"""The records of one model, class by class, in the shape that the page shows.

One class is in memory at a time; what remains of it are arrays: paths, scores and near-ties.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.results import EDITS, Results
from ..errors import UserError
from ..records.args import Args
from ..records.reading import join, label_files, read_label
from ..records.schema import (
    EDITED,
    KEYS,
    METHODS,
    MOST_UNITS,
    NEAR_TIES,
    OPERATIONS,
    RETAIN,
    Method,
)
from .datafiles import readable, shown as number, small

PREDICTED = ("pred", "prob")
SHOWN = [key for key, method in METHODS.items() if method.units == "neurons"]  # paths of heads have no pages
JOBS = list(
    dict.fromkeys(
        [METHODS[key].job for key in SHOWN]
        + [f"{EDITS}/{key}" for key, method in EDITED.items() if method.units == "neurons"]
    )
)
MAKERS = {  # of the paper's methods
    "ja": "path/joint_attr.py or joint_attr_mae.py makes them, and activation paths",
    "influence_pattern": "path/influence_pattern.py or influence_pattern_mae.py makes them",
}
CHANGED = (*OPERATIONS, RETAIN)  # what edits record


@dataclass(frozen=True)
class Sizes:
    """What values are checked against; of records that do not tell, only what no model exceeds."""

    depth: int
    mlp_dim: int
    num_classes: int


@dataclass
class Found:
    """What one method found for the images of each class, by ascending label."""

    paths: dict[int, np.ndarray] = field(default_factory=dict)  # (n, L, K)
    scores: dict[int, np.ndarray] = field(default_factory=dict)  # (n,)
    near: dict[int, np.ndarray] = field(default_factory=dict)  # (n,) whether a near-tie; where margins are recorded


class Gathered:
    """All of one model's records below `results`; `classes` reads them."""

    def __init__(self, results: Results, model: str):
        self.results, self.name = results, model
        self.args = {job: args for job, args in results.args(model).items() if job in JOBS}
        first = next(iter(self.args.values()), Args("", {}))
        self.settings = first.settings
        self.jobs = {job: label_files(results.root / job / model, results.prefix) for job in JOBS}
        self.jobs = {job: files for job, files in self.jobs.items() if files}
        self.methods = [key for key in SHOWN if METHODS[key].job in self.jobs]
        self.edited = [key for key in EDITED if f"{EDITS}/{key}" in self.jobs]
        self.near_below = NEAR_TIES.get(str(self.settings.get("precision")), NEAR_TIES["fp32"])
        self.found = {key: Found() for key in self.methods}
        self.images: dict[int, list[str]] = {}
        self.predicted: set[int] = set()
        self._label: dict[str, int] = {}  # of every image
        self._counts: dict[int, int] = {}  # by label, of records without names
        self.sizes = self._sizes()

    @property
    def labels(self) -> list[int]:
        """Classes with records, ascending."""
        return sorted({label for files in self.jobs.values() for label in files})

    @property
    def mlp_dim(self) -> int:
        """H; of records that do not tell, 1 + the largest index read so far."""
        known = self.settings.get("model_mlp_dim")
        largest = (int(p.max()) for found in self.found.values() for p in found.paths.values())
        return known if isinstance(known, int) else 1 + max(largest, default=0)

    def classes(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(label, what the page of the class needs) of all classes that have images."""
        for label in self.labels:
            if shard := self._class(label):
                yield label, shard

    def missing(self) -> list[str]:
        """What the page could show and has no records of, with what makes them."""
        lacking = [
            f"{METHODS[key].noun}s: no records in {METHODS[key].job}/{self.name} ({script})"
            for key, script in MAKERS.items()
            if key not in self.methods
        ]
        if not self.edited:
            lacking.append(
                f"edits: no records in {EDITS}/<method>/{self.name} (path/manipulation/ViT/edit.py makes them)"
            )
        return lacking

    def _class(self, label: int) -> dict[str, Any] | None:
        records = {job: self._read(job, files[label], label) for job, files in self.jobs.items() if label in files}
        images = [*dict.fromkeys(name for found in records.values() for name in found)]
        if not images:
            return None
        if twice := [name for name in images if self._label.setdefault(name, label) != label]:
            fault = f"{twice[0]} has records under labels {self._label[twice[0]]} and {label}"
            raise UserError(f"{self.results.root}: {fault}; remove one of them")
        self.images[label] = images
        shown: dict[str, Any] = {"label": label, "images": [readable(name) for name in images]}
        for key in PREDICTED:
            told = [next((f[name][key] for f in records.values() if key in f.get(name, {})), None) for name in images]
            shown[key] = told if key == "pred" else [*map(number, told)]
        shown["methods"] = {
            key: self._method(key, [records[METHODS[key].job].get(name) for name in images], label)
            for key in self.methods
            if records.get(METHODS[key].job)
        }
        shown["edits"] = {
            key: _edit([records[f"{EDITS}/{key}"].get(name) for name in images])
            for key in self.edited
            if records.get(f"{EDITS}/{key}")
        }
        labels = [shown["pred"], *(of[key] for of in shown["edits"].values() for key in of if key.endswith("_label"))]
        self.predicted |= {found for several in labels for found in several if found is not None}
        return shown

    def _read(self, job: str, file: Path, label: int) -> dict[str, dict]:
        """One label file's records by image, each value checked."""
        records = read_label(file)
        found = join(records, [f"{label}/{i}" for i in range(len(records))], str(file))
        if records and "image" not in records[0] and self._counts.setdefault(label, len(records)) != len(records):
            fault = "its records name no images and cannot be joined by position to those of other jobs, which are more"
            raise UserError(f"{file}: {fault} or fewer; give records of the same images")
        for name, record in found.items():
            for key, value in record.items():
                if key in KEYS and not KEYS[key].kind.holds(value, self.sizes):
                    raise UserError(
                        f"{file}: {name}: {key} is not {KEYS[key].kind.of(self.sizes)}; mend or remove the line"
                    )
        return found

    def _method(self, key: str, records: list[dict | None], label: int) -> dict[str, list]:
        """Per image path, score, and activations and margins where they are recorded; None for one without a record."""
        method, found = METHODS[key], self.found[key]
        there = [record for record in records if record is not None]
        self._need(there, method, label)
        shown = {"path": [record and record[method.path] for record in records]}
        shown["score"] = [record and number(record[method.score]) for record in records]
        if all(f"{method.path}_act" in record for record in there):
            shown["act"] = [record and _rounded(record[f"{method.path}_act"]) for record in records]
        # joint_attr's margins are of its search, not of the activation path beside it
        if key != "base" and all("margin" in record for record in there):
            shown["margin"] = [record and [*map(small, record["margin"])] for record in records]
            smallest = np.array([min(map(abs, record["margin"])) for record in there])
            found.near[label] = smallest < self.near_below
        try:
            found.paths[label] = np.array([record[method.path] for record in there], np.int32)
        except ValueError as e:
            fault = f"paths of label {label} with several numbers of units per layer"
            raise UserError(f"{self._folder(method)}: {fault}; keep one K per folder") from e
        if {paths.shape[1:] for paths in found.paths.values()} != {found.paths[label].shape[1:]}:
            fault = f"paths of label {label} with another number of units per layer than those before"
            raise UserError(f"{self._folder(method)}: {fault}; keep one K per folder")
        found.scores[label] = np.array([record[method.score] for record in there], float)
        return shown

    def _need(self, records: list[dict], method: Method, label: int) -> None:
        for key in (method.path, method.score):
            if any(key not in record for record in records):
                raise UserError(
                    f"{self._folder(method)}: records of label {label} without {key}; were they made by path/*.py?"
                )

    def _folder(self, method: Method) -> Path:
        return self.results.root / method.job / self.name

    def _sizes(self) -> Sizes:
        """From the settings; the number of layers else from the first record that has a path."""
        names = ("model_depth", "model_mlp_dim", "model_num_classes")
        depth, size, classes = (v if type(v := self.settings.get(n)) is int and v > 0 else 0 for n in names)
        for job, files in self.jobs.items():
            keys = [m.path for m in METHODS.values() if m.job == job] or ["path"]  # of edits
            for file in files.values() if not depth else ():
                depth = depth or next(
                    (len(r[k]) for r in read_label(file) for k in keys if isinstance(r.get(k), list)), 0
                )
        return Sizes(depth, min(size or MOST_UNITS, MOST_UNITS), classes or MOST_UNITS)


def _rounded(layers: list[list[float]]) -> list[list[float]]:
    return [[round(x, 4) for x in layer] for layer in layers]


def _edit(records: list[dict | None]) -> dict[str, list]:
    """Per image probability and predicted class, unedited and after each operation that was run."""
    there = [record for record in records if record is not None]
    kept = [key for key in ("original", *CHANGED) if all(key in record for record in there)]
    values = {key: [r and number(r[key]) for r in records] for key in kept}
    return values | {f"{key}_label": [r and r.get(f"{key}_label") for r in records] for key in kept}
