"""The records of result folders, by job and model: where every table and figure gets its numbers from."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..attribution.matching import Match, match_words
from ..attribution.objectives import Objective, objective_of
from ..errors import UserError, one_line
from ..records.args import Args, args_file, objective_name
from ..records.reading import label_files, read_label
from ..records.schema import EDITED, METHODS, OPTIONAL
from .metrics import Edited, Missing, image_names

EDITS = "edit/remove_enhance"  # the job that the table's edits are of
UNMATCHED = "not recorded, drawn by the rank of activations alone"  # by older versions


class Results:
    """The records below `root`, <job>/<model>/`prefix`-<label>.rlt.jsonl, read once each.

    `reduced`: what of a record is kept, where not all of it.
    """

    def __init__(self, root: Path, prefix: str, reduced: Callable[[dict], dict] | None = None):
        self.root, self.prefix, self.reduced = root, prefix, reduced
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

    def shown(self, methods: Iterable[str], models: Iterable[str], edits: bool = False) -> list[str]:
        """Of `methods`, keys of EDITED, those for tables and figures of scores, or of edits.

        What the paper does not have is left out where none of `models` has its records.
        """
        models = [*models]

        def there(method: str) -> bool:
            job = f"{EDITS}/{method}" if edits else EDITED[method].job
            return any(label_files(self.root / job / model, self.prefix) for model in models)

        return [method for method in methods if method not in OPTIONAL or there(method)]

    def records(self, job: str, model: str) -> dict[int, list[dict]]:
        """By label. Missing where there are none."""
        name = f"{job}/{model}"
        if name not in self._read:
            if not label_files(self.root / name, self.prefix):
                raise Missing
            read = {
                label: [*map(self.reduced, found)] if self.reduced else found
                for label, file in label_files(self.root / name, self.prefix).items()
                if (found := read_label(file))
            }
            self._read[name] = read
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


def objective_found(settings: dict, where: Path) -> Objective:
    """What F was in records with these settings, which are found at `where`. UserError where it is none of ours."""
    try:
        return objective_of(objective_name(settings))
    except ValueError as e:
        raise UserError(f"{where}: settings of records of another kind ({e}); give records of this project") from e


def scores_of(results: Results, model: str, method: str, drop: bool = False) -> dict[int, np.ndarray]:
    """By label the Joint Attribution Scores of its images, or the drops F(1) - F(0). Missing where there are none."""
    job, key = METHODS[method].job, METHODS[method].drop if drop else METHODS[method].score
    records = results.records(job, model)
    try:
        scores = {label: np.array([record[key] for record in found], float) for label, found in records.items()}
    except (KeyError, TypeError, ValueError):
        scores = {0: np.array([np.nan])}
    if not all(np.isfinite(values).all() for values in scores.values()):
        folder = results.root / job / model
        raise UserError(f"{folder}: records without a number {key}; were they made by path/*.py?")
    return scores


def scored_of(results: Results, model: str, method: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Of all its images names, labels (n,) and Joint Attribution Scores (n,). Missing where there are none."""
    records, scores = results.records(METHODS[method].job, model), scores_of(results, model, method)
    if not scores:
        raise Missing
    return image_names(records), np.repeat([*scores], [*map(len, scores.values())]), np.concatenate([*scores.values()])


def matches_of(results: Results, models: Iterable[str]) -> dict[str, dict[str, float] | None]:
    """How well each model's matched control matches, as `Match.found`; None for records of before, which do not tell.

    Nothing of models without records. UserError where what they tell is no number.
    """
    found = {}
    for model in models:
        with suppress(Missing):
            found[model] = _match_of(results, model)
    return found


def _match_of(results: Results, model: str) -> dict[str, float] | None:
    job, match = f"{EDITS}/random", Match()
    for record in (record for found in results.records(job, model).values() for record in found):
        if "control_ratio" not in record:
            return None
        try:
            match.add(record["control_ratio"])
        except TypeError as e:
            fault = f"records whose control_ratio is no lists of numbers ({one_line(e)})"
            raise UserError(f"{results.root / job / model}: {fault}; were they made by edit.py?") from e
    return match.found()


def control_words(matches: dict[str, dict[str, float] | None]) -> str:
    """The `matches` of `matches_of` in a sentence; "" where there are none."""
    found = [f"{model}: {match_words(**match) if match else UNMATCHED}" for model, match in matches.items()]
    what = "What the matched control's units write, |activation|·‖fc2 column‖"
    return f"{what}: {'; '.join(found)}." if found else ""


def edited_of(results: Results, model: str, method: str, operation: str) -> Edited:
    """What `operation` did to the images of an edit run. Missing where there are no records."""
    job = f"{EDITS}/{method}"
    records = results.records(job, model)
    try:
        return Edited.of(records, operation)
    except (KeyError, TypeError, ValueError) as e:
        fault = f"records without numbers for {operation} ({one_line(e)})"
        raise UserError(f"{results.root / job / model}: {fault}; were they made by edit.py?") from e
