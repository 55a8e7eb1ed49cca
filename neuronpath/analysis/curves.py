"""What is left of a model over K, the units per layer that are removed or retained: curves and their areas.

Several runs of edit.py with --topK make a curve (docs/method.md §5); their settings tell which, not their folders.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError, in_markdown, one_line
from ..records.args import Args
from ..records.reading import label_files, read_results
from ..records.schema import ABLATIONS, EDITED, RETAIN
from .metrics import Edited, Estimate, Missing, estimate

OPERATIONS = ("remove", RETAIN)
MEASURES = {"prob": "mean p of the label", "top1": "top-1 accuracy, %"}
AREA = "under the mean over the images, over ln K by trapezoids, divided by its width: a mean over ln K"


@dataclass(frozen=True)
class Which:
    """What a curve is of. `ablation`: what units are set to, the removed ones or all but the retained ones."""

    model: str
    operation: str
    ablation: str
    method: str


@dataclass(frozen=True)
class Curve:
    """What one operation did to n images at each of the numbers of units `ks`, ascending."""

    ks: tuple[int, ...]
    images: list[str]
    labels: np.ndarray  # (n,)
    before: dict[str, np.ndarray]  # by measure (n,): probability of the label; 100 where it is predicted, else 0
    after: dict[str, np.ndarray]  # by measure (n, number of ks)

    @classmethod
    def of(cls, edited: dict[int, Edited]) -> "Curve":
        """By K what was done, of the images that all have. Missing where they share none."""
        ks = tuple(sorted(edited))
        places = {k: {image: i for i, image in enumerate(edited[k].images)} for k in ks}
        first = edited[ks[0]]
        images = [image for image in first.images if all(image in places[k] for k in ks)]
        if not images:
            raise Missing
        rows = {k: np.array([places[k][image] for image in images]) for k in ks}
        own = rows[ks[0]]
        after = {
            "prob": np.stack([edited[k].after[rows[k]] for k in ks], 1),
            "top1": np.stack([100 * edited[k].right_after[rows[k]] for k in ks], 1),
        }
        return cls(
            ks, images, first.labels[own], {"prob": first.before[own], "top1": 100 * first.right_before[own]}, after
        )

    def unedited(self, measure: str) -> float:
        return float(self.before[measure].mean())

    def at(self, measure: str) -> list[Estimate]:
        """The mean over the images at every K."""
        return [self._mean(values) for values in self.after[measure].T]

    def area(self, measure: str) -> Estimate:
        """The mean over the images of the area under each one's curve. Missing for a single K."""
        return self._mean(log_area(self.ks, self.after[measure]))

    def cut(self, ks: Sequence[int], images: Sequence[str]) -> "Curve":
        """Of these numbers of units and these images, in this order, which it must have."""
        columns = [self.ks.index(k) for k in ks]
        place = {image: i for i, image in enumerate(self.images)}
        rows = np.array([place[image] for image in images], int)
        after = {measure: values[rows][:, columns] for measure, values in self.after.items()}
        before = {measure: values[rows] for measure, values in self.before.items()}
        return Curve(tuple(ks), list(images), self.labels[rows], before, after)

    def _mean(self, values: np.ndarray) -> Estimate:
        return estimate(self.labels, lambda i: values[i].mean(-1))


def log_area(ks: Sequence[int], values: np.ndarray) -> np.ndarray:
    """The area under `values` (…, number of ks) over ln K by trapezoids, divided by its width: a mean of values, (…).

    Missing for a single K, over which there is no area.
    """
    if len(ks) < 2:
        raise Missing
    x = np.log(np.array(ks, float))
    return ((values[..., 1:] + values[..., :-1]) / 2 * np.diff(x)).sum(-1) / (x[-1] - x[0])


def area_difference(one: Curve, other: Curve, measure: str) -> Estimate:
    """The area under `one` minus that under `other`, paired: over the images and the numbers of units that both have.

    Missing where they share no image, or fewer than two numbers of units.
    """
    ks = [k for k in one.ks if k in other.ks]
    known = {*other.images}
    images = [image for image in one.images if image in known]
    if not images:
        raise Missing
    a, b = (log_area(ks, curve.cut(ks, images).after[measure]) for curve in (one, other))
    difference = a - b
    return estimate(one.cut(ks, images).labels, lambda i: difference[i].mean(-1))


def read_curves(root: Path, prefix: str) -> dict[Which, Curve]:
    """All curves of the edit runs below `root`. UserError where there are none, or two runs of the same settings."""
    runs: dict[Which, dict[int, Edited]] = {}
    folders: dict[tuple[Which, int], Path] = {}
    made: dict[str, tuple[Path, Args]] = {}
    for file in sorted(root.rglob(f"{prefix}.args.json")):
        args, folder = Args.read(file), file.parent
        if args.settings.get("operation") not in ("remove", "remove_enhance") or not label_files(folder, prefix):
            continue
        ablation, method = args.settings.get("ablation", "zero"), args.settings.get("method")
        records = {label: found for label, found in read_results(folder, prefix).items() if found}
        if not records:
            warnings.warn(f"{folder}: no record yet; the same command of edit.py goes on", stacklevel=2)
            continue
        if method not in EDITED or ablation not in ABLATIONS:
            raise UserError(f"{file}: method {method}, ablation {ablation}: not of edit.py; give its records")
        k = _k(records, folder)
        for operation in OPERATIONS if ablation == "mean" else OPERATIONS[:1]:
            which = Which(folder.name, operation, ablation, method)
            if (which, k) in folders:
                where = f"{folders[which, k]} and {folder}"
                raise UserError(f"{where}: two runs of {method}, K = {k}, {ablation}; remove one")
            folders[which, k] = folder
            try:
                runs.setdefault(which, {})[k] = Edited.of(records, operation)
            except (KeyError, TypeError, ValueError) as e:
                fault = f"records without numbers for {operation} ({one_line(e)})"
                raise UserError(f"{folder}: {fault}; were they made by edit.py?") from e
        first_file, first = made.setdefault(folder.name, (file, args))
        if first is not args and (changed := _unlike(first, args)):
            warnings.warn(f"{file}: not made as {first_file} was ({changed}), but in one table with it", stacklevel=2)
    if not runs:
        raise UserError(f"{root}: no records of edit.py below it; run that first, with several --topK")
    curves = {}
    for which, edited in runs.items():
        try:
            curves[which] = Curve.of(edited)
        except Missing:
            raise UserError(f"{root}: the runs of {which.method} share no image; edit the same images") from None
    return dict(sorted(curves.items(), key=lambda pair: _order(pair[0])))


def _k(records: dict[int, list[dict]], folder: Path) -> int:
    """Units per layer: as many as the records' paths have."""
    try:
        sizes = {len(layer) for found in records.values() for record in found for layer in record["path"]}
        (k,) = sizes
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder}: records without paths of one length; were they made by edit.py?") from None
    return k


def _unlike(first: Args, other: Args) -> str:
    """But for what curves differ in: whose paths, and what they are set to."""

    def rest(args: Args) -> Args:
        kept = ("method", "ablation")
        own = {key: value for key, value in args.settings.items() if key not in kept}
        return Args(args.job, own, paths=args.paths)

    return rest(other).unlike(rest(first))


def _order(which: Which) -> tuple:
    places = [*OPERATIONS].index(which.operation), [*ABLATIONS].index(which.ablation), [*EDITED].index(which.method)
    return which.model, *places


def table(curves: dict[Which, Curve]) -> list[dict]:
    """JSON values: per curve what it is of, `ks`, `n`, and by measure what follows.

    `unedited`, the values `at` every K, the `area`, and `ja_minus`: the area of Neuron Path's curve minus this one's,
    on the same images; None where there is none. Values with 95 % intervals.
    """
    rows = []
    for which, curve in curves.items():
        row = {**asdict(which), "ks": list(curve.ks), "n": len(curve.images)}
        path = None if which.method == "ja" else curves.get(replace(which, method="ja"))
        for measure in MEASURES:
            minus = _or_none(area_difference, path, curve, measure) if path else None
            row[measure] = {
                "unedited": curve.unedited(measure),
                "at": [asdict(found) for found in curve.at(measure)],
                "area": _or_none(curve.area, measure),
                "ja_minus": minus,
            }
        rows.append(row)
    return rows


def over_k(root: Path, prefix: str, models: Sequence[str]) -> list[dict]:
    """The rows of `table` below `root` of these models that have several K. UserError where there are none."""
    rows = [row for row in table(read_curves(root, prefix)) if row["model"] in models and len(row["ks"]) > 1]
    if not rows:
        raise UserError(f"{root}: no runs of several K; run edit.py --ablation mean --topK K with several K")
    return rows


def _or_none(compute: Callable[..., Estimate], *given: object) -> dict | None:
    try:
        return asdict(compute(*given))
    except Missing:
        return None


def markdown(rows: list[dict]) -> str:
    """`table` as Markdown, a row per curve; 95 % intervals in brackets."""
    lines = [
        "| model | operation | units set to | method | K | area, p of the label | Neuron Path's minus it "
        "| area, top-1 in % | Neuron Path's minus it | n |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        cells = [in_markdown(row["model"]), row["operation"], row["ablation"], EDITED[row["method"]].name]
        cells.append(", ".join(map(str, row["ks"])))
        for measure, digits in (("prob", 4), ("top1", 2)):
            area, minus = row[measure]["area"], row[measure]["ja_minus"]
            cells.append(Estimate(**area).shown(digits) if area else "–")
            cells.append(Estimate(**minus).shown(digits, True) if minus else "–")
        lines.append(f"| {' | '.join(cells)} | {row['n']} |")
    return "\n".join([*lines, "", f"Area: {AREA}; of one K there is none."])
