"""What a record holds: every key once, with what its value must be and who writes it. Methods and operations, too.

Checks, summaries, figures and the table of docs/records.md (`markdown`) come from here.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

#: Below this margin a precision does not tell which neuron is the better (docs/method.md §7).
NEAR_TIES = {"fp32": 1e-4, "fp64": 1e-4, "tf32": 5e-4, "bf16": 3e-3}

MOST_UNITS = 2**20  # per layer: what is beyond is no index of a unit but a broken record


@dataclass(frozen=True)
class Method:
    """One that names a path for an image."""

    name: str  # the paper's
    noun: str  # in a sentence
    job: str  # its records are in results/<job>/<model>
    path: str  # their key that holds the path
    score: str  # and the one that holds its Joint Attribution Score
    colour: str  # in pictures; Okabe and Ito's and Tol's: colour-blind safe
    units: str = "neurons"  # of what the path is: as `path/joint_attr_heads.py --units`
    drop: str = ""  # the key of F(1) - F(0) of the clamped path, where there is one

    @property
    def option(self) -> str:
        """What tells edit.py where its records are, without dashes."""
        return f"{self.job.partition('/')[0]}_path"


def _baseline(name: str, noun: str, script_name: str, colour: str) -> Method:
    return Method(name, noun, f"baseline/{script_name}", "path", "score", colour)


def _of_units(name: str, noun: str, units: str, key: str, colour: str) -> Method:
    return Method(name, noun, f"heads/{units}", key, f"{key}_score", colour, units, f"{key}_drop")


#: The paper's, in its order, the baselines of path/baseline.py, and the paths of path/joint_attr_heads.py.
METHODS = {
    "base": Method("Activation", "activation path", "ja", "base", "base_score", "#D55E00"),
    "influence_pattern": Method(
        "Influence Pattern", "influence pattern", "influence_pattern", "path", "score", "#009E73"
    ),
    "ja": Method("Neuron Path", "neuron path", "ja", "ja", "ja_score", "#0072B2"),
    "gradient_activation": _baseline(
        "Gradient × Activation", "path by gradient × activation", "gradient_activation", "#E69F00"
    ),
    "conductance": _baseline("Conductance", "path by conductance", "conductance", "#56B4E9"),
    "layer_ig": _baseline("Layer Integrated Gradients", "path by layer integrated gradients", "layer_ig", "#CC79A7"),
    "ablation": _baseline("Ablation", "path by ablation", "ablation", "#000000"),
    "uniform": _baseline("Random", "random path", "random", "#F0E442"),  # edits call another control "random"
    "heads": _of_units("Head Path", "head path", "heads", "ja", "#882255"),
    "heads_norm": _of_units("Largest Heads", "path of the largest heads", "heads", "base", "#44AA99"),
    "heads_gate": _of_units("Gradient × Gate", "path by gradient × gate", "heads", "gate", "#999933"),
    "mixed": _of_units("Mixed Path", "mixed path", "both", "ja", "#332288"),
    "neurons": _of_units("Neuron Path (--units)", "neuron path", "neurons", "ja", "#6699CC"),
}

PAPER = ("base", "influence_pattern", "ja")

#: Keys of METHODS by what `--method` of path/baseline.py calls them.
BASELINES = {method.job.partition("/")[2]: key for key, method in METHODS.items() if method.job.startswith("baseline/")}

#: The matched controls of edits, units that weigh about as much as those of a path: by name whose.
CONTROLS = {"random": "ja", "heads_random": "heads", "mixed_random": "mixed", "neurons_random": "neurons"}


def _control(key: str, name: str, colour: str) -> Method:
    return replace(METHODS[CONTROLS[key]], name=name, noun=name.lower(), score="", colour=colour, drop="")


#: With these, that of the neuron path behind the paper's.
EDITED = {
    **{key: METHODS[key] for key in PAPER},
    "random": _control("random", "Matched control", "#7F7F7F"),
    **{key: method for key, method in METHODS.items() if key not in PAPER},
    "heads_random": _control("heads_random", "Matched heads", "#AA4499"),
    "mixed_random": _control("mixed_random", "Matched mixed", "#88CCEE"),
    "neurons_random": _control("neurons_random", "Matched neurons", "#BBBBBB"),
}

#: Those that tables and figures leave out where there are no records of them.
OPTIONAL = tuple(key for key in EDITED if key not in (*PAPER, "random"))

#: By the value of `--units` what a record calls them.
UNIT = {"neurons": "neuron", "heads": "head", "both": "both"}


@dataclass(frozen=True)
class Operation:
    """One that multiplies a path's activations by a factor."""

    noun: str
    what: str
    factor: float


#: By the key that holds the probability after it.
OPERATIONS = {"remove": Operation("Removal", "zero-out", 0.0), "enhance": Operation("Enhancement", "doubling", 2.0)}

#: What removal sets a path's units to, by the option's value.
ABLATIONS = {
    "zero": "0",
    "mean": "their means over the run's images",
    "resample": "their activations in another image",
}

#: The operation that leaves a path alone: everything else at its mean. `edit.py --ablation mean` adds it to removal.
RETAIN = "retain"


class Sizes(Protocol):
    """What a check asks of a model's config."""

    @property
    def depth(self) -> int: ...
    @property
    def mlp_dim(self) -> int: ...
    @property
    def num_classes(self) -> int: ...


def _is_number(value: object) -> bool:
    """A finite one: 1e999 and integers beyond floating point are none."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_index(value: object, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _is_list(value: object, of: Callable[[object], bool], count: int | None = None) -> bool:
    return isinstance(value, list) and count in (None, len(value)) and all(map(of, value))


@dataclass(frozen=True)
class UnitSizes:
    """The sizes where paths are not of neurons alone: `counts` are the units of each of their layers."""

    counts: tuple[int, ...]
    num_classes: int

    @property
    def depth(self) -> int:
        return len(self.counts)

    @property
    def mlp_dim(self) -> int:
        return max(self.counts)


def is_path(value: object, sizes: Sizes) -> bool:
    """Whether it is L lists of distinct units."""

    def is_layer(layer: object, count: int) -> bool:
        units = _is_list(layer, lambda unit: _is_index(unit, count))
        return units and isinstance(layer, list) and 0 < len(layer) == len(set(layer))

    counts = sizes.counts if isinstance(sizes, UnitSizes) else (sizes.mlp_dim,) * sizes.depth
    return isinstance(value, list) and len(value) == len(counts) and all(map(is_layer, value, counts))


@dataclass(frozen=True)
class Kind:
    """What a value must be: `says` it, with L layers, C classes and the last neuron; `holds` tells whether it is."""

    says: str
    holds: Callable[[object, Sizes], bool]

    def of(self, sizes: Sizes) -> str:
        return self.says.format(L=sizes.depth, C=sizes.num_classes, last=sizes.mlp_dim - 1)


TEXT = Kind("text", lambda value, s: isinstance(value, str))
CLASS = Kind("one of {C} classes", lambda value, s: _is_index(value, s.num_classes))
NUMBER = Kind("a number", lambda value, s: _is_number(value))
PATH = Kind("{L} lists of distinct units, each 0 to {last}", is_path)
LAYERS = Kind("{L} numbers", lambda value, s: _is_list(value, _is_number, s.depth))
NEURONS = Kind("{L} lists of numbers", lambda value, s: _is_list(value, lambda x: _is_list(x, _is_number), s.depth))
WORDS = Kind("{L} words", lambda value, s: _is_list(value, lambda word: isinstance(word, str), s.depth))
COUNT = Kind("a whole number", lambda value, s: _is_index(value, 2**31))
FLAG = Kind("true, false or null", lambda value, s: value is None or isinstance(value, bool))
NUMBERS = Kind("a list of numbers", lambda value, s: _is_list(value, _is_number))
CLASSES = Kind("a list of classes", lambda value, s: _is_list(value, lambda x: _is_index(x, s.num_classes)))
OBJECTS = Kind("a list of objects", lambda value, s: _is_list(value, lambda x: isinstance(x, dict)))


@dataclass(frozen=True)
class Key:
    kind: Kind
    writers: tuple[str, ...]  # of WRITERS
    meaning: str


#: Who writes records, with what documentation calls it.
WRITERS = {
    "all": "all",
    "joint_attr": "`joint_attr`",
    "influence_pattern": "`influence_pattern`",
    "baseline": "`baseline`",
    "heads": "`joint_attr_heads`",
    "shortlist": "`joint_attr --search shortlist`",
    "auto": "`joint_attr --quadrature auto`",
    "beam": "`joint_attr --search beam`",
    "edit": "`edit.py`",
    "remove": "`edit.py` but for `prune`",
    "enhance": "`edit.py` but for `prune`",
    "prune": "`edit.py --edit_operation prune`",
    "gain": "`edit.py --gain`",
    "ablation": "`edit.py --ablation mean` or `resample`",
    "retain": "`edit.py --ablation mean`",
    "draws": "`edit.py --method random` but for `prune`",
    "others": "`edit.py --ablation resample`",
}

#: By name, in the order of a record.
KEYS = {
    "image": Key(
        TEXT,
        ("all",),
        "path relative to `--dataset_path`, `/`-separated; CIFAR: the index; of `--images` elsewhere: the whole path",
    ),
    "label": Key(CLASS, ("all",), "the image's class; of `--dataset images` the predicted one"),
    "pred": Key(CLASS, ("all",), "the predicted class"),
    "prob": Key(NUMBER, ("all",), "probability of the target"),
    "unit": Key(TEXT, ("heads",), "what the paths are of: `head`, `neuron`, `both`, each layer's heads, then neurons"),
    "ja": Key(PATH, ("joint_attr", "heads"), "the neuron path, K neurons per layer, best first; of `unit`s where told"),
    "ja_score": Key(NUMBER, ("joint_attr", "heads"), "its Joint Attribution Score"),
    "ja_drop": Key(NUMBER, ("heads",), "F(1) - F(0): what F loses with its units at 0, its layers clamped"),
    "ja_act": Key(
        NEURONS,
        ("joint_attr", "heads"),
        "its neurons' activations, of heads the norms of what they write (mean head: the mean over the patch tokens)",
    ),
    "base": Key(PATH, ("joint_attr", "heads"), "the activation path; of heads the largest"),
    "base_score": Key(NUMBER, ("joint_attr", "heads"), "its Joint Attribution Score"),
    "base_drop": Key(NUMBER, ("heads",), "its F(1) - F(0)"),
    "base_act": Key(NEURONS, ("joint_attr", "heads"), "its units' activations or norms"),
    "gate": Key(PATH, ("heads",), "the path by gradient × gate, of neurons by gradient × activation"),
    "gate_score": Key(NUMBER, ("heads",), "its Joint Attribution Score"),
    "gate_drop": Key(NUMBER, ("heads",), "its F(1) - F(0)"),
    "method": Key(TEXT, ("edit", "prune"), "whose paths are edited"),
    "ablation": Key(TEXT, ("ablation",), "what the path's neurons are set to by removal: `mean`, `resample`"),
    "path": Key(
        PATH,
        ("influence_pattern", "baseline", "edit", "prune"),
        "the influence pattern; the baseline's path; the path edited; the units retained",
    ),
    "score": Key(NUMBER, ("influence_pattern", "baseline"), "its Joint Attribution Score"),
    "margin": Key(
        LAYERS,
        ("joint_attr", "influence_pattern", "baseline", "heads"),
        "how clearly each layer's choice was made, 0 (a tie) to 1; of a beam below 0 where the path has another neuron "
        "than the best beside its earlier ones",
    ),
    "search_rank": Key(LAYERS, ("shortlist",), "the chosen neuron's place in the estimate, from 1"),
    "search_scored": Key(LAYERS, ("shortlist",), "neurons that were scored exactly"),
    "search_stopped": Key(WORDS, ("shortlist",), "`rule` met, `cap` hit, or `all` scored"),
    "nodes": Key(COUNT, ("auto",), "of the Gauss-Radau rule whose results these are, α = 1 included"),
    "converged": Key(
        FLAG, ("auto",), "whether the last two rules found the same path; null where one rule alone was tried"
    ),
    "greedy_score": Key(NUMBER, ("beam",), "the Joint Attribution Score of the greedy path, which a beam of one finds"),
    "original": Key(NUMBER, ("edit", "prune"), "probability of the label, unedited"),
    "original_label": Key(CLASS, ("edit", "prune"), "predicted class, unedited"),
    "remove": Key(NUMBER, ("remove",), "probability of the label, the path's neurons at 0, or as `ablation` says"),
    "remove_label": Key(CLASS, ("remove",), "predicted class"),
    "enhance": Key(NUMBER, ("enhance",), "probability of the label, the path's neurons doubled"),
    "enhance_label": Key(CLASS, ("enhance",), "predicted class"),
    "retain": Key(NUMBER, ("retain",), "probability of the label, all but the path's neurons at their means"),
    "retain_label": Key(CLASS, ("retain",), "predicted class"),
    "prune": Key(NUMBER, ("prune",), "probability of the label, most other units at 0"),
    "prune_label": Key(CLASS, ("prune",), "predicted class"),
    "gain": Key(NUMBERS, ("gain",), "probability of the label for each factor of `--gain`"),
    "gain_label": Key(CLASSES, ("gain",), "predicted class for each factor"),
    "draws": Key(
        OBJECTS,
        ("draws", "others"),
        "of each of the 5 draws its path (`random`), its other image (`resample`, as `other`) and its results, whose "
        "means are above",
    ),
    "control_ratio": Key(
        NEURONS,
        ("draws",),
        "for each draw the mean over the layer's path neurons of the control's |activation|·‖fc2 column‖ over the path "
        "neuron's own; none where the path's are all 0",
    ),
}

PATHS = tuple(name for name, key in KEYS.items() if key.kind is PATH)


def keys_of(*writers: str) -> tuple[str, ...]:
    """What `writers` put into a record, in its order, beside `image` and `label`."""
    wanted = {"all", *writers}
    return tuple(name for name, key in KEYS.items() if wanted & {*key.writers} and name not in ("image", "label"))


def check_record(record: dict, sizes: Sizes, keys: tuple[str, ...]) -> str:
    """What is wrong with one of our records, which has `keys`, for a model of these sizes, or ""."""
    if missing := [name for name in ("label", *keys) if name not in record]:
        return f"{missing[0]} is missing"
    for name, value in record.items():
        if name in KEYS and not KEYS[name].kind.holds(value, sizes):
            return f"{name} is not {KEYS[name].kind.of(sizes)}"
    return ""


def markdown() -> str:
    """The table of docs/records.md."""
    lines = ["| key | value | written by |", "|---|---|---|"]
    for name, key in KEYS.items():
        says = key.kind.says.format(L="L", C="C", last="H-1")
        writers = ", ".join(dict.fromkeys(WRITERS[writer] for writer in key.writers))
        lines.append(f"| `{name}` | {says}: {key.meaning} | {writers} |")
    return "\n".join(lines)
