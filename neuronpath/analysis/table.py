"""The paper's table from result folders: scores and deviations of all methods and models, ours beside the paper's."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files

import numpy as np
from tqdm import tqdm

from ..errors import in_markdown
from ..records.args import BEFORE, describe_rule
from ..records.schema import EDITED, METHODS, OPERATIONS
from .metrics import Estimate, Missing, accuracy_difference, difference, estimate, in_both
from .results import EDITS, Results, control_words, edited_of, matches_of, scored_of, scores_of


@dataclass(frozen=True)
class Measure:
    """One block of rows: `of(results, model, method)` computes an entry; `paper`: its key among the paper's figures.

    `claim`: of Neuron Path minus another method, on which side of 0 it is claimed to be, 1 or -1.
    """

    name: str
    group: str
    digits: int
    methods: Sequence[str]
    of: Callable[["Results", str, str], Estimate]
    signed: bool = False
    paper: str = ""
    claim: int = 0

    def jobs(self, method: str) -> list[str]:
        """Whose records an entry is of: folders below the results' root."""
        names = ("ja", method) if self.claim else (method,)
        return [*dict.fromkeys(METHODS[name].job if self.of_scores else f"{EDITS}/{name}" for name in names)]

    @property
    def of_scores(self) -> bool:
        """Whether it is of the records of searches, not of edits."""
        return self.of in (score, drop, _paired_score)


def drop(results: Results, model: str, method: str) -> Estimate:
    """The mean F(1) - F(0) of the clamped path. Missing where there are no records."""
    return score(results, model, method, drops=True)


def score(results: Results, model: str, method: str, drops: bool = False) -> Estimate:
    """The mean Joint Attribution Score. Missing where there are no records."""
    scores = scores_of(results, model, method, drops)
    if not scores:
        raise Missing
    labels, values = np.repeat([*scores], [*map(len, scores.values())]), np.concatenate([*scores.values()])
    return estimate(labels, lambda i: values[i].mean(-1))


def _deviation(results: Results, model: str, method: str, operation: str, what: str) -> Estimate:
    return getattr(edited_of(results, model, method, operation), what)()


def _paired(results: Results, model: str, method: str, operation: str, compare: Callable[..., Estimate]) -> Estimate:
    return compare(*(edited_of(results, model, name, operation) for name in ("ja", method)))


def _paired_score(results: Results, model: str, method: str) -> Estimate:
    (images, labels, path), (others, _, other) = (scored_of(results, model, name) for name in ("ja", method))
    i, j = in_both(images, others)
    values = path[i] - other[j]
    return estimate(labels[i], lambda k: values[k].mean(-1))


def _measures() -> dict[str, Measure]:
    measures = {
        "joint_attribution_score": Measure(
            "Joint Attribution Score", "score", 4, [*METHODS], score, paper="joint_attribution_score"
        ),
        "drop": Measure(
            "F(1) - F(0) of the clamped path",
            "score",
            4,
            [key for key, method in METHODS.items() if method.drop],
            drop,
        ),
    }
    operations = {key: (operation.noun.lower(), operation.noun) for key, operation in OPERATIONS.items()}
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
    title, scored = (
        "Joint Attribution Score, Neuron Path's mean minus that of",
        [key for key, method in METHODS.items() if key != "ja" and method.units == "neurons"],
    )
    measures["paired_joint_attribution_score"] = Measure(title, "paired", 4, scored, _paired_score, True, claim=1)
    for operation, (key, name) in operations.items():
        claim = 1 if OPERATIONS[operation].factor > 1 else -1
        entry = partial(_paired, operation=operation, compare=partial(difference, what="after"))
        title = f"{name}, Neuron Path's mean probability minus that of"
        measures[f"{key}_paired_probability"] = Measure(title, "paired", 4, others, entry, True, claim=claim)
        entry = partial(_paired, operation=operation, compare=accuracy_difference)
        title = f"{name}, Neuron Path's accuracy minus that of, points"
        measures[f"{key}_paired_accuracy"] = Measure(title, "paired", 2, others, entry, True, claim=claim)
    return measures


MEASURES = _measures()
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES.values()))


def paper_results() -> dict:
    """The paper's own figures."""
    return json.loads((files(__package__) / "paper_results.json").read_text())


def table(results: Results, models: Sequence[str], groups: Iterable[str] = GROUPS) -> dict:
    """{"models": {model: settings}, "mixed": {model: {job: text}}, "control": …, "measures": …}, JSON values.

    `settings` are those of a model's first job, `mixed` says which jobs' records were made otherwise. `control` is
    `results.matches_of`: how well the matched control's units match. `measures` are {measure: {method: {model:
    entry}}}: `value`, `low` and `high` (95 % interval), `n` images, of accuracies `p` of the exact test, and `paper`
    where the model is one of the paper's; `value` is None where records are missing.
    """
    paper = paper_results()
    entries: dict[str, dict[str, dict[str, dict]]] = {}
    chosen = {key: measure for key, measure in MEASURES.items() if measure.group in groups}
    shown = {
        key: results.shown(measure.methods, models, edits=not measure.of_scores) for key, measure in chosen.items()
    }
    todo = [(key, method, model) for key, methods in shown.items() for method in methods for model in models]
    for key, method, model in tqdm(todo, desc="table", unit="entry", disable=None, leave=False):
        try:
            entry = asdict(MEASURES[key].of(results, model, method))
            if entry["p"] is None:
                del entry["p"]
        except Missing:
            entry = {"value": None}
        if model in paper["models"] and method in paper.get(MEASURES[key].paper, {}):
            entry["paper"] = paper[MEASURES[key].paper][method][paper["models"].index(model)]
        entries.setdefault(key, {}).setdefault(method, {})[model] = entry
    edits = any("random" in measure.methods for measure in chosen.values())
    return {
        "models": {model: _circumstances(results.settings(model)) for model in models},
        "mixed": {model: found for model in models if (found := results.mixed(model))},
        "control": matches_of(results, models) if edits else {},
        "measures": entries,
    }


def _circumstances(settings: dict) -> dict:
    names = {
        "quadrature": "quadrature",
        "ig_total_step": "steps",
        "objective": "objective",
        "model_img_size": "img_size",
        "preprocess": "preprocess",
    }
    known = {**BEFORE, **settings}
    return {name: known.get(key) for key, name in names.items()}


def markdown(found: dict) -> str:
    """`table` as Markdown, 95 % intervals in brackets; what is missing is shown as missing."""
    models = found["models"]
    lines = [
        f"{in_markdown(model)}: {_header(circumstances, _counts(found, model))}"
        for model, circumstances in models.items()
    ]
    lines += ["", f"| [95 % interval] | | {' | '.join(map(in_markdown, models))} |", "|---" * (2 + len(models)) + "|"]
    notes = [(model, job) for model, jobs in found["mixed"].items() for job in jobs]
    for key, methods in found["measures"].items():
        for i, (method, row) in enumerate(methods.items()):
            name = "" if i else MEASURES[key].name
            jobs = MEASURES[key].jobs(method)
            cells = [_cell(entry, MEASURES[key]) + _marks(model, jobs, notes) for model, entry in row.items()]
            lines.append(f"| {name} | {EDITED[method].name} | {' | '.join(cells)} |")
    for i, (model, job) in enumerate(notes, 1):
        first = f"{in_markdown(model)} in {job} was made otherwise than the line above the table says"
        lines += ["", f"({i}) {first}: {found['mixed'][model][job]}."]
    left_out = [
        e["left_out"] for m in found["measures"].values() for row in m.values() for e in row.values() if "n" in e
    ]
    if words := control_words(found["control"]):
        lines += ["", words]
    if any(left_out):
        lines += ["", f"Up to {max(left_out)} images, whose probability was 0 before the edit, are left out of ratios."]
    return "\n".join(lines)


def _marks(model: str, jobs: Sequence[str], notes: list[tuple[str, str]]) -> str:
    """Which of the numbered `notes`, (model, job), hold for an entry of these."""
    return "".join(f" ({i})" for i, (of, job) in enumerate(notes, 1) if of == model and job in jobs)


def _header(circumstances: dict, counts: list[int]) -> str:
    c = circumstances
    rule = describe_rule({**c, "ig_total_step": c["steps"]})
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
