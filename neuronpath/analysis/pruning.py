"""What pruning does, over K, share of units and depth: a table and arrays (docs/method.md §5)."""

import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..records.args import Args
from ..records.reading import label_files, read_results
from ..records.schema import EDITED
from .metrics import Edited, Estimate, Missing, difference, estimate
from .table import paper_results

NAMES = {**{key: method.name for key, method in EDITED.items()}, "random": "Random units"}


@dataclass(frozen=True, order=True)
class Run:
    """The settings of one pruning run; the name of its folder plays no part."""

    model: str
    tokens: str  # "cls" or "all"
    depth: int  # layers pruned
    topK: int
    proportion: float  # of the other units, zeroed
    method: str


@dataclass(frozen=True)
class Outcome:
    """Over the evaluation images: mean probability of the label and top-1 (percent) before and after."""

    edited: Edited
    prob_before: Estimate
    prob: Estimate
    top1_before: Estimate
    top1: Estimate
    prob_change: Estimate  # after - before, paired


def read_runs(root: Path, prefix: str) -> dict[Run, Outcome]:
    """All pruning runs below `root`, by their settings. UserError where there are none, or two of the same settings."""
    found: dict[Run, Outcome] = {}
    folders: dict[Run, Path] = {}
    made: dict[str, tuple[Path, Args]] = {}
    for file in sorted(root.rglob(f"{prefix}.args.json")):
        args = Args.read(file)
        settings = args.settings
        if settings.get("operation") != "prune" or not label_files(file.parent, prefix):
            continue
        try:
            run = Run(file.parent.name, *(settings[_key(f.name)] for f in fields(Run)[1:]))
            outcome = _outcome(Edited.of(read_results(file.parent, prefix), "prune"))
        except Missing:
            warnings.warn(f"{file.parent}: no record yet; the same command of edit.py goes on", stacklevel=2)
            continue
        except KeyError as e:
            raise UserError(f"{file.parent}: no {e} in its settings or records; were they made by edit.py?") from e
        if run in found:
            raise UserError(f"{folders[run]} and {file.parent}: two runs of the same settings; remove one")
        found[run], folders[run] = outcome, file.parent
        first_file, first = made.setdefault(run.model, (file, args))
        if first is not args and (changed := args.unlike(first)):
            warnings.warn(f"{file}: not made as {first_file} was ({changed}), but in one table with it", stacklevel=2)
    if not found:
        raise UserError(f"{root}: no records of edit.py --edit_operation prune below it; run that first")
    return dict(sorted(found.items()))


def _key(name: str) -> str:
    return {"tokens": "prune_tokens", "depth": "depth_prune", "proportion": "mask_proportion"}.get(name, name)


def _outcome(edited: Edited) -> Outcome:
    def mean(values: np.ndarray) -> Estimate:
        return estimate(edited.labels, lambda i: values[i].mean(-1))

    return Outcome(
        edited,
        mean(edited.before),
        mean(edited.after),
        mean(100 * edited.right_before),
        mean(100 * edited.right_after),
        mean(edited.after - edited.before),
    )


def markdown(runs: dict[Run, Outcome]) -> str:
    """A row per run, 95 % intervals in brackets."""
    lines = [
        "| model | tokens | layers | K | zeroed | retained by | mean p of the label, before | after | after - before "
        "| top-1 before | after | n |",
        "|---" * 12 + "|",
    ]
    for run, o in runs.items():
        lines.append(
            f"| {run.model} | {run.tokens} | {run.depth} | {run.topK} | {100 * run.proportion:g} % "
            f"| {NAMES[run.method]} | {o.prob_before.value:.4f} | {o.prob.shown(4)} | {o.prob_change.shown(4, True)} "
            f"| {o.top1_before.value:.2f} % | {o.top1.shown(2)} % | {o.prob.n} |"
        )
    lines += ["", *_paired(runs)]
    paper = paper_results()["pruning_mean_true_class_probability"]
    for model in dict.fromkeys(run.model for run in runs):
        printed = {key: row[model] for key, row in paper.items() if isinstance(row, dict) and model in row}
        if printed:
            shown = ", ".join(f"{key} {value} %" for key, value in printed.items())
            lines.append(f"\nThe paper's mean probabilities for {model}: {shown}.")
    return "\n".join(lines)


def _paired(runs: dict[Run, Outcome]) -> list[str]:
    """Rows of the neuron path's mean probability minus that of every other method, on the same images."""
    others = [method for method in EDITED if method != "ja" and any(run.method == method for run in runs)]
    lines = [
        "| Neuron Path's mean p of the label minus that of | tokens | layers | K | zeroed "
        f"| {' | '.join(NAMES[method] for method in others)} |",
        "|---" * (5 + len(others)) + "|",
    ]
    for run, path in runs.items():
        if run.method == "ja":
            found = [runs.get(replace(run, method=method)) for method in others]
            cells = [_minus(path, o) if o else "missing" for o in found]
            setting = f"{run.model} | {run.tokens} | {run.depth} | {run.topK} | {100 * run.proportion:g} %"
            lines.append(f"| {setting} | {' | '.join(cells)} |")
    return lines if others and len(lines) > 2 else []


def _minus(path: Outcome, other: Outcome) -> str:
    try:
        return difference(path.edited, other.edited, "after").shown(4, True)
    except Missing:
        return "no common image"


def arrays(runs: dict[Run, Outcome]) -> dict[str, np.ndarray]:
    """One entry per run: its settings, `n`, and of every outcome the value with its `_low` and `_high` (NaN: none)."""
    columns = {f.name: np.array([getattr(run, f.name) for run in runs]) for f in fields(Run)}
    columns["n"] = np.array([o.prob.n for o in runs.values()])
    for f in fields(Outcome)[1:]:
        estimates = [getattr(o, f.name) for o in runs.values()]
        columns[f.name] = np.array([e.value for e in estimates])
        for bound in ("low", "high"):
            columns[f"{f.name}_{bound}"] = np.array([getattr(e, bound) for e in estimates], float)
    return columns
