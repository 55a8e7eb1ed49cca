"""The paper's table from result folders: scores and deviations of all methods and models, ours beside the paper's."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..attribution.quadrature import describe
from ..errors import UserError, one_line
from ..records.args import Args, args_file
from ..records.methods import EDITED, METHODS
from ..records.reading import label_files, read_results
from .metrics import Edited, Estimate, Missing, difference, estimate

EDITS = "edit/remove_enhance"


@dataclass(frozen=True)
class Measure:
    """One block of rows: `of(results, model, method)` computes an entry; `paper`: its key among the paper's figures."""

    name: str
    group: str
    digits: int
    methods: Sequence[str]
    of: Callable[["Results", str, str], Estimate]
    signed: bool = False
    paper: str = ""

    def jobs(self, method: str) -> list[str]:
        """Whose records an entry is of: folders below the results' root."""
        if self.group == "score":
            return [METHODS[method].job]
        return [f"{EDITS}/{name}" for name in dict.fromkeys((*(["ja"] if self.group == "paired" else []), method))]


class Results:
    """The records below `root`, <job>/<model>/`prefix`-<label>.rlt.jsonl, read once each."""

    def __init__(self, root: Path, prefix: str):
        self.root, self.prefix = root, prefix
        self._read: dict[str, dict[int, list[dict]]] = {}

    @property
    def jobs(self) -> list[str]:
        return [*dict.fromkeys(method.job for method in METHODS.values()), *(f"{EDITS}/{name}" for name in EDITED)]

    def models(self) -> list[str]:
        """Those with records, by name. UserError where there are none."""
        found = {d.name for job in self.jobs for d in (self.root / job).glob("*") if label_files(d, self.prefix)}
        if not found:
            raise UserError(
                f"{self.root}: no {self.prefix} records in <job>/<model>, <job> being {', '.join(self.jobs)}"
            )
        return sorted(found)

    def records(self, job: str, model: str) -> dict[int, list[dict]]:
        """By label. Missing where there are none."""
        name = f"{job}/{model}"
        if name not in self._read:
            if not label_files(self.root / name, self.prefix):
                raise Missing
            self._read[name] = {
                label: found for label, found in read_results(self.root / name, self.prefix).items() if found
            }
        return self._read[name]

    def args(self, model: str) -> dict[str, Args]:
        """By job that has records of the model; of those that say with what they were made."""
        files = {job: args_file(self.root / job / model, self.prefix) for job in self.jobs}
        return {job: Args.read(file) for job, file in files.items() if file.exists()}

    def settings(self, model: str) -> dict:
        """Those of the model's scores, or of its edits; {} where neither tells."""
        return next((args.settings for args in self.args(model).values()), {})

    def mixed(self, model: str) -> dict[str, str]:
        """By job in what its records were made otherwise than the first job's; nothing where all are alike."""
        found = self.args(model)
        unlike = {job: args.unlike(next(iter(found.values()))) for job, args in found.items()}
        return {job: text for job, text in unlike.items() if text}


def scores_of(results: Results, model: str, method: str) -> dict[int, np.ndarray]:
    """By label the Joint Attribution Scores of its images. Missing where there are none."""
    job, key = METHODS[method].job, METHODS[method].score
    records = results.records(job, model)
    try:
        scores = {label: np.array([record[key] for record in found], float) for label, found in records.items()}
    except (KeyError, TypeError, ValueError):
        scores = {0: np.array([np.nan])}
    if not all(np.isfinite(values).all() for values in scores.values()):
        folder = results.root / job / model
        raise UserError(f"{folder}: records without a number {key}; were they made by path/*.py?")
    return scores


def _score(results: Results, model: str, method: str) -> Estimate:
    scores = scores_of(results, model, method)
    if not scores:
        raise Missing
    labels, values = np.repeat([*scores], [*map(len, scores.values())]), np.concatenate([*scores.values()])
    return estimate(labels, lambda i: values[i].mean(-1))


def edited_of(results: Results, model: str, method: str, operation: str) -> Edited:
    """What `operation` did to the images of an edit run. Missing where there are no records."""
    job = f"{EDITS}/{method}"
    records = results.records(job, model)
    try:
        return Edited.of(records, operation)
    except (KeyError, TypeError, ValueError) as e:
        fault = f"records without numbers for {operation} ({one_line(e)})"
        raise UserError(f"{results.root / job / model}: {fault}; were they made by edit.py?") from e


def _deviation(results: Results, model: str, method: str, operation: str, what: str) -> Estimate:
    return getattr(edited_of(results, model, method, operation), what)()


def _paired(results: Results, model: str, method: str, operation: str, what: str) -> Estimate:
    path, other = (edited_of(results, model, name, operation) for name in ("ja", method))
    return difference(path, other, what)


def _measures() -> dict[str, Measure]:
    measures = {
        "joint_attribution_score": Measure(
            "Joint Attribution Score", "score", 4, [*METHODS], _score, paper="joint_attribution_score"
        )
    }
    operations = {"remove": ("removal", "Removal"), "enhance": ("enhancement", "Enhancement")}
    for operation, (key, name) in operations.items():
        entry = partial(_deviation, operation=operation, what="accuracy_deviation")
        title, paper = f"{name} Accuracy Deviation, points", f"{key}_accuracy_deviation"
        measures[paper] = Measure(title, "accuracy", 2, [*EDITED], entry, True, paper)
    for operation, (key, name) in operations.items():
        for what, words in (("mean_ratio", "mean of ratios"), ("ratio_of_means", "ratio of means")):
            entry = partial(_deviation, operation=operation, what=what)
            title = f"{name} Probability Deviation, {words}"
            measures[f"{key}_probability_deviation_{what}"] = Measure(title, "probability", 4, [*EDITED], entry)
    others = [method for method in EDITED if method != "ja"]
    for operation, (key, name) in operations.items():
        entry = partial(_paired, operation=operation, what="after")
        title = f"{name}, Neuron Path's mean probability minus that of"
        measures[f"{key}_paired_probability"] = Measure(title, "paired", 4, others, entry, True)
    return measures


MEASURES = _measures()
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES.values()))


def paper_results() -> dict:
    """The paper's own figures."""
    return json.loads((files(__package__) / "paper_results.json").read_text())


def table(results: Results, models: Sequence[str], groups: Iterable[str] = GROUPS) -> dict:
    """{"models": {model: settings}, "mixed": {model: {job: text}}, "measures": {measure: {method: {model: entry}}}}.

    JSON values. `settings` are those of a model's first job, `mixed` says which jobs' records were made otherwise. An
    entry holds `value`, `low` and `high` (95 % interval), `n` images, and `paper` where the model is one of the
    paper's; `value` is None where records are missing.
    """
    paper, entries = paper_results(), {}
    chosen = {key: measure for key, measure in MEASURES.items() if measure.group in groups}
    todo = [(key, method, model) for key, measure in chosen.items() for method in measure.methods for model in models]
    for key, method, model in tqdm(todo, desc="table", unit="entry", disable=None, leave=False):
        try:
            entry = asdict(MEASURES[key].of(results, model, method))
        except Missing:
            entry = {"value": None}
        if model in paper["models"] and method in paper.get(MEASURES[key].paper, {}):
            entry["paper"] = paper[MEASURES[key].paper][method][paper["models"].index(model)]
        entries.setdefault(key, {}).setdefault(method, {})[model] = entry
    return {
        "models": {model: _circumstances(results.settings(model)) for model in models},
        "mixed": {model: found for model in models if (found := results.mixed(model))},
        "measures": entries,
    }


def _circumstances(settings: dict) -> dict:
    names = {
        "quadrature": "quadrature",
        "ig_total_step": "steps",
        "model_img_size": "img_size",
        "preprocess": "preprocess",
    }
    return {name: settings.get(key) for key, name in names.items()}


def markdown(found: dict) -> str:
    """`table` as Markdown, 95 % intervals in brackets; what is missing is shown as missing."""
    models = found["models"]
    lines = [f"{model}: {_header(circumstances, _counts(found, model))}" for model, circumstances in models.items()]
    lines += ["", f"| [95 % interval] | | {' | '.join(models)} |", "|---" * (2 + len(models)) + "|"]
    notes = [(model, job) for model, jobs in found["mixed"].items() for job in jobs]
    for key, methods in found["measures"].items():
        for i, (method, row) in enumerate(methods.items()):
            name = "" if i else MEASURES[key].name
            jobs = MEASURES[key].jobs(method)
            cells = [_cell(entry, MEASURES[key]) + _marks(model, jobs, notes) for model, entry in row.items()]
            lines.append(f"| {name} | {EDITED[method].name} | {' | '.join(cells)} |")
    for i, (model, job) in enumerate(notes, 1):
        first = f"{model} in {job} was made otherwise than the line above the table says"
        lines += ["", f"({i}) {first}: {found['mixed'][model][job]}."]
    left_out = [
        e["left_out"] for m in found["measures"].values() for row in m.values() for e in row.values() if "n" in e
    ]
    if any(left_out):
        lines += ["", f"Up to {max(left_out)} images, whose probability was 0 before the edit, are left out of ratios."]
    return "\n".join(lines)


def _marks(model: str, jobs: Sequence[str], notes: list[tuple[str, str]]) -> str:
    """Which of the numbered `notes`, (model, job), hold for an entry of these."""
    return "".join(f" ({i})" for i, (of, job) in enumerate(notes, 1) if of == model and job in jobs)


def _header(circumstances: dict, counts: list[int]) -> str:
    c = circumstances
    rule = describe(c["quadrature"], c["steps"]) if c["quadrature"] else "quadrature unknown"
    size = f"{c['img_size']} pixels, {c['preprocess']} preprocessing" if c["img_size"] else "image size unknown"
    n = f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}" if counts else "no images"
    return f"{rule}, {size}, {n}"


def _counts(found: dict, model: str) -> list[int]:
    entries = [row[model] for methods in found["measures"].values() for row in methods.values()]
    return sorted({entry["n"] for entry in entries if entry["value"] is not None})


def _cell(entry: dict, measure: Measure) -> str:
    ours = "missing"
    if entry["value"] is not None:
        ours = Estimate(**{k: v for k, v in entry.items() if k != "paper"}).shown(measure.digits, measure.signed)
    if "paper" not in entry:
        return ours
    return f"{ours} (paper: {entry['paper']:{'+' if measure.signed else ''}.{measure.digits}f})"
