"""args.json: with which job, settings, options and versions the records beside it were made."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from ..pixels import google, mae

#: Settings that decide what a record says, beside the model's sizes: `table.py` compares them between jobs.
CIRCUMSTANCES = (
    "checkpoint_sha256",
    "classifier_sha256",
    "dataset",
    "label_table",
    "preprocess",
    "preprocess_mean",
    "preprocess_std",
    "preprocess_size",
    "preprocess_crop",
    "preprocess_rounding",
    "preprocess_interpolation",
    "target",
    "objective",
    "quadrature",
    "ig_total_step",
    "search",
    "beam_width",
    "beam_over",
    "precision",
)

#: Settings that records of before lack, with what these were made with.
BEFORE = {"objective": "probability", "control": "rank"}


@dataclass(frozen=True)
class Args:
    """What args.json holds. A resumed run must agree with `settings` (flat, JSON values) and `job`.

    `paths`: for edits, the settings of the records whose paths were edited. `assumed`: what the file of the weights did
    not tell of the model, in words. `class_names`: by label, where they came with the weights.
    """

    job: str
    settings: dict
    options: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    paths: dict = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Args":
        """UserError where the file is none of ours."""
        try:
            args = json.loads(file.read_bytes())
            parts: dict[str, Any] = {key: dict(args.get(key) or {}) for key in ("options", "paths")}
            parts |= {key: [str(text) for text in args.get(key) or []] for key in ("assumed", "class_names")}
            return cls(str(args["job"]), dict(args["settings"]), versions=dict(args["versions"]), **parts)
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as e:
            raise UserError(f"{file}: not a settings file ({one_line(e)}); remove it, or choose another folder") from e

    def require(self, *names: str) -> list:
        """The settings of these names. UserError where one is missing."""
        if missing := [name for name in names if name not in self.settings]:
            raise UserError(f"the records' settings lack {', '.join(missing)}; give records of this project's scripts")
        return [self.settings[name] for name in names]

    def text(self) -> str:
        """The content of the file."""
        may_lack = ("paths", "assumed", "class_names")
        present = {key: value for key, value in asdict(self).items() if value or key not in may_lack}
        return json.dumps(present, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def circumstances(self) -> dict:
        """Those of `settings`, and for edits of `paths`, that decide what a record says."""
        both = _complete({**self.paths, **self.settings})
        return {key: value for key, value in both.items() if key in CIRCUMSTANCES or key.startswith("model_")}

    def unlike(self, first: "Args") -> str:
        """In what the circumstances differ from those of `first`, and the paths of an edit from its own; or "".

        What only one of both has, such as the search of a neuron path, is no difference, but for the ablation: without
        one units were set to 0.
        """
        texts = [shared_differences(first.circumstances(), self.circumstances())]
        ablations = [{"ablation": args.settings.get("ablation", "zero")} for args in (first, self)]
        texts.append(differences(ablations[0], ablations[1]))
        if own := shared_differences(self.paths, self.settings):
            texts.append(f"its paths: {own}")
        return "; ".join(text for text in texts if text)


def differences(old: dict, new: dict, keys: Collection[str] | None = None) -> str:
    """'KEY OLD → NEW, …' of `keys`, by default of all that one of both has, or ""."""
    keys = dict.fromkeys((*old, *new)) if keys is None else keys
    old, new = _complete(old), _complete(new)
    pairs = [(key, old.get(key), new.get(key)) for key in keys]
    return ", ".join(f"{key} {_shown(a)} → {_shown(b)}" for key, a, b in pairs if a != b)


def _complete(settings: dict) -> dict:
    """With what records of before lack, as these were made: `native` followed from the kind of head."""
    found, size = {**BEFORE, **settings}, settings.get("model_img_size")
    if found.get("preprocess") == "native" and "preprocess_size" not in found and isinstance(size, int):
        used = (google if found.get("model_pool") == "cls" else mae)(size)
        found |= {f"preprocess_{name}": value for name, value in used.to_dict().items()}
    return found


def shared_differences(old: dict, new: dict) -> str:
    """The same of the keys that both have."""
    return differences(old, new, [key for key in old if key in new])


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) < 64 else f"{text[:12]}…"  # a digest


def describe_rule(settings: dict) -> str:
    """The quadrature, for headings, and F where it is not the paper's; `auto` has no fixed number of nodes.

    "quadrature unknown" where nothing tells.
    """
    rule, steps, objective = settings.get("quadrature"), settings.get("ig_total_step"), objective_name(settings)
    if not rule:
        return "quadrature unknown"
    nodes = "" if steps is None else f", m = {steps}"
    return f"quadrature {rule}{nodes}" + ("" if objective == BEFORE["objective"] else f", F = {objective}")


def objective_name(settings: dict) -> str:
    """What F was: a name of `attribution.objectives.OBJECTIVES` in records of ours."""
    return str(settings.get("objective") or BEFORE["objective"])


def args_file(directory: Path, prefix: str) -> Path:
    return directory / f"{prefix}.args.json"
