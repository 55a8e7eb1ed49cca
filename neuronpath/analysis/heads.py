"""What paths of heads, of neurons and of both are worth: scores, and what removal takes (docs/heads.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from ..records.schema import ABLATIONS, CONTROLS, EDITED, METHODS
from .metrics import Edited, Estimate, Missing, difference, estimate
from .results import Results
from .table import drop, score

PATHS = tuple(key for key, method in METHODS.items() if method.drop)
PAIRS = (
    *(("heads", "neurons"), ("mixed", "neurons"), ("mixed", "heads")),
    *((path, control) for control, path in CONTROLS.items() if path in PATHS),
)


def tables(root: Path, prefix: str) -> str:
    """Markdown of the records of `scripts/heads.sh` below `root`. UserError where there are none."""
    results = Results(root, prefix)
    models = results.models()
    scores = [
        (name, METHODS[method].name, [_cell(4, of, results, model, method) for model in models])
        for name, of in (("Joint Attribution Score", score), ("F(1) - F(0), clamped", drop))
        for method in PATHS
    ]
    losses, differences = [], []
    for ablation, words in ABLATIONS.items():
        for method in EDITED:
            cells = [
                _cell(digits, of, results, model, ablation, method)
                for model in models
                for digits, of in ((4, _lost), (2, _points))
            ]
            losses.append((words, EDITED[method].name, cells))
        for one, other in PAIRS:
            cells = [_cell(4, _difference, results, model, ablation, one, other) for model in models]
            differences.append((words, f"{EDITED[one].name} minus {EDITED[other].name}", cells))
    what = [f"{model}, {words}" for model in models for words in ("p lost", "top-1, points")]
    return "\n\n".join(
        [
            _table(["", "", *models], scores),
            _table(["removed units set to", "", *what], losses),
            _table(["removed units set to", "p lost", *models], differences),
        ]
    )


def _removed(results: Results, model: str, ablation: str, method: str) -> Edited:
    job = f"edit/{ablation}/{method}"
    records = results.records(job, model)
    try:
        return Edited.of(records, "remove")
    except (KeyError, TypeError, ValueError) as e:
        fault = f"records without numbers of removal ({one_line(e)})"
        raise UserError(f"{results.root / job / model}: {fault}; were they made by scripts/heads.sh?") from e


def _lost(*which: Any) -> Estimate:
    """The mean probability of the label before minus after."""
    edited = _removed(*which)
    values = edited.before - edited.after
    return estimate(edited.labels, lambda i: values[i].mean(-1))


def _points(*which: Any) -> Estimate:
    return _removed(*which).accuracy_deviation()


def _difference(results: Results, model: str, ablation: str, one: str, other: str) -> Estimate:
    """What the `one` loses more, which is what the `other` keeps more."""
    first, second = (_removed(results, model, ablation, method) for method in (one, other))
    return difference(second, first, "after")


def _cell(digits: int, of: Callable[..., Estimate], *which: Any) -> str:
    try:
        return of(*which).shown(digits, of is not score and of is not drop)
    except Missing:
        return ""


def _table(columns: list[str], rows: list[tuple[str, str, list[str]]]) -> str:
    """Rows without any value are left out."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {first} | {second} | {' | '.join(cells)} |" for first, second, cells in rows if any(cells)]
    return "\n".join(lines)
