"""What a record holds, key by key: which values are sound, what is said of the others, and who writes it."""

import json
from dataclasses import asdict

import pytest
from helpers import tiny_config

from neuronpath.records.schema import (
    BASELINES,
    CONTROLS,
    EDITED,
    KEYS,
    METHODS,
    MOST_UNITS,
    OPERATIONS,
    OPTIONAL,
    PAPER,
    PATHS,
    UNIT,
    UnitSizes,
    check_record,
    is_path,
    keys_of,
)

SIZES = tiny_config(depth=2, mlp_dim=5, num_classes=3)
INDEX = ([0, 2], [3, -1, 1.0, True, "1", None, [1]])
NUMBER = ([0, -1, 0.5, 1e308, 2**1000], ["1", None, [1], float("inf"), float("-inf"), float("nan"), 10**400])
LISTS = (
    [[[0], [4]], [[1, 0], [2, 3]]],
    [
        [[0]],
        [[0], [1], [2]],
        [[0], []],
        [[0], [5]],
        [[0], [-1]],
        [[0], [1, 1]],
        [[0], [True]],
        [[0], [1.0]],
        [0, 1],
        [[0], 1],
        "01",
        None,
    ],
)
LAYERS = ([[0, 0.5], [-1, 1e9]], [[0], [0, 1, 2], [0, "1"], [0, None], 0, None, {}])
PATH_SAYS = "2 lists of distinct units, each 0 to 4"
#: By key: what is said, values that are sound, and values that are not.
VALUES = {
    **dict.fromkeys(("image", "unit", "method", "ablation"), ("text", ["", "a"], [None, 1, ["a"]])),
    **dict.fromkeys(
        ("label", "pred", "original_label", "remove_label", "enhance_label", "retain_label", "prune_label"),
        ("one of 3 classes", *INDEX),
    ),
    **dict.fromkeys(
        ("prob", "ja_score", "base_score", "score", "greedy_score", "original", "remove", "enhance", "retain", "prune"),
        ("a number", *NUMBER),
    ),
    **dict.fromkeys(("gate_score", "ja_drop", "base_drop", "gate_drop"), ("a number", *NUMBER)),
    **dict.fromkeys(("ja", "base", "gate", "path"), (PATH_SAYS, *LISTS)),
    **dict.fromkeys(
        ("ja_act", "base_act", "control_ratio"),
        ("2 lists of numbers", [[[0.5], [1]], [[], [1, 2]]], [[[0.5]], [[1], ["a"]], [1, 2], None, [[1], [2], [3]]]),
    ),
    **dict.fromkeys(("margin", "search_rank", "search_scored"), ("2 numbers", *LAYERS)),
    "search_stopped": ("2 words", [["rule", "cap"]], [["rule"], ["a", 1], "ab", None, ["a", "b", "c"]]),
    "nodes": ("a whole number", [0, 16, 2**31 - 1], [-1, 2**31, 1.0, True, None]),
    "converged": ("true, false or null", [True, False, None], [0, 1, "true", []]),
    "gain": ("a list of numbers", [[], [0.5, 1]], [0.5, ["1"], [None], None, {}]),
    "gain_label": ("a list of classes", [[], [0, 2]], [[3], [-1], [True], 0, None]),
    "draws": ("a list of objects", [[], [{}], [{"a": 1}]], [{}, [1], None]),
}


class TestValues:
    def test_every_key_is_here(self):
        assert VALUES.keys() == KEYS.keys()

    @pytest.mark.parametrize("name", VALUES)
    def test_what_is_sound_and_what_is_said_of_the_rest(self, name):
        says, good, bad = VALUES[name]
        for value in good:
            assert check_record({"label": 0, name: value}, SIZES, ()) == "", value
        for value in bad:
            assert check_record({"label": 0, name: value}, SIZES, ()) == f"{name} is not {says}", value

    def test_a_missing_key_comes_first_the_label_before_all(self):
        assert check_record({"pred": 9}, SIZES, ("pred", "prob")) == "label is missing"
        assert check_record({"label": 0, "pred": 9}, SIZES, ("pred", "prob", "ja")) == "prob is missing"
        assert check_record({"label": 0, "pred": 9}, SIZES, ("pred",)) == "pred is not one of 3 classes"

    def test_other_keys_are_no_fault(self):
        assert check_record({"label": 0, "note": object()}, SIZES, ()) == ""


class TestWriters:
    JOINT = ("pred", "prob", "ja", "ja_score", "ja_act", "base", "base_score", "base_act", "margin")
    OF_HEADS = ("pred", "prob", "unit", "ja", "ja_score", "ja_drop", "ja_act", "base", "base_score", "base_drop")
    HEADS = (*OF_HEADS, "base_act", "gate", "gate_score", "gate_drop", "margin")
    EDIT = ("pred", "prob", "method", "path", "original", "original_label")

    @pytest.mark.parametrize(
        ("writers", "keys"),
        [
            ((), ("pred", "prob")),
            (("joint_attr",), JOINT),
            (("influence_pattern",), ["pred", "prob", "path", "score", "margin"]),
            (("baseline",), ["pred", "prob", "path", "score", "margin"]),
            (("heads",), HEADS),
            (
                ("joint_attr", "shortlist", "auto"),
                (*JOINT, "search_rank", "search_scored", "search_stopped", "nodes", "converged"),
            ),
            (("edit", "remove"), (*EDIT, "remove", "remove_label")),
            (("edit", "enhance"), (*EDIT, "enhance", "enhance_label")),
            (
                ("edit", "remove", "ablation", "retain"),
                (*EDIT[:3], "ablation", *EDIT[3:], "remove", "remove_label", "retain", "retain_label"),
            ),
            (("others",), ("pred", "prob", "draws")),
            (("prune",), (*EDIT, "prune", "prune_label")),
            (("gain", "draws"), ("pred", "prob", "gain", "gain_label", "draws", "control_ratio")),
        ],
    )
    def test_what_they_put_into_a_record_in_its_order(self, writers, keys):
        assert keys_of(*writers) == tuple(keys)

    def test_paths(self):
        assert PATHS == ("ja", "base", "gate", "path")
        assert MOST_UNITS == 1_048_576

    def test_methods_are_the_papers_in_its_order(self):
        rows = [
            ("base", "Activation", "activation path", "ja", "base", "base_score", "#D55E00"),
            (
                "influence_pattern",
                "Influence Pattern",
                "influence pattern",
                "influence_pattern",
                "path",
                "score",
                "#009E73",
            ),
            ("ja", "Neuron Path", "neuron path", "ja", "ja", "ja_score", "#0072B2"),
            ("random", "Matched control", "matched control", "ja", "ja", "", "#7F7F7F"),
            *((key, *names, f"baseline/{job}", "path", "score", colour) for key, job, *names, colour in self.OTHERS),
        ]
        found = [(name, *asdict(method).values()) for name, method in EDITED.items()]
        assert found[:9] == [(*row, "neurons", "") for row in rows]
        assert [*METHODS.items()] == [item for item in EDITED.items() if item[0] not in CONTROLS]
        assert tuple(EDITED)[:3] == PAPER
        assert {*OPTIONAL} == {*EDITED} - {*PAPER, "random"}

    def test_paths_of_heads_are_those_of_their_script(self):
        keys = {"heads": "ja", "heads_norm": "base", "heads_gate": "gate", "mixed": "ja", "neurons": "ja"}
        units = {"mixed": "both", "neurons": "neurons"}
        assert [*METHODS][8:] == [*keys]
        for name, key in keys.items():
            method, of = METHODS[name], units.get(name, "heads")
            assert (method.units, method.job, method.option) == (of, f"heads/{of}", "heads_path")
            assert (method.path, method.score, method.drop) == (key, f"{key}_score", f"{key}_drop")
        assert {"random": "ja", **{f"{name}_random": name for name in ("heads", "mixed", "neurons")}} == CONTROLS
        for name, of in CONTROLS.items():
            assert (EDITED[name].job, EDITED[name].path, EDITED[name].score) == (METHODS[of].job, METHODS[of].path, "")
            assert EDITED[name].units == METHODS[of].units
        assert len({method.colour for method in EDITED.values()}) == len(EDITED)
        assert [*UNIT.items()] == [("neurons", "neuron"), ("heads", "head"), ("both", "both")]

    def test_a_path_of_sites_with_different_units(self):
        sizes = UnitSizes((2, 5), 3)
        assert is_path([[1], [4, 0]], sizes)
        assert not is_path([[2], [4]], sizes)
        assert not is_path([[1]], sizes)
        fault = check_record({"label": 0, "ja": [[2], [4]]}, sizes, ())
        assert fault == "ja is not 2 lists of distinct units, each 0 to 4"

    OTHERS = (
        ("gradient_activation",) * 2 + ("Gradient × Activation", "path by gradient × activation", "#E69F00"),
        ("conductance", "conductance", "Conductance", "path by conductance", "#56B4E9"),
        ("layer_ig",) * 2 + ("Layer Integrated Gradients", "path by layer integrated gradients", "#CC79A7"),
        ("ablation", "ablation", "Ablation", "path by ablation", "#000000"),
        ("uniform", "random", "Random", "random path", "#F0E442"),
    )

    def test_baselines_by_the_words_of_their_script(self):
        assert {job: key for key, job, *_ in self.OTHERS} == BASELINES

    def test_which_option_of_edit_tells_where_records_are(self):
        options = {"base": "ja_path", "influence_pattern": "influence_pattern_path", "ja": "ja_path"}
        options |= dict.fromkeys(BASELINES.values(), "baseline_path") | {"random": "ja_path"}
        assert {key: method.option for key, method in EDITED.items() if not method.job.startswith("heads")} == options

    def test_operations(self):
        assert json.loads(json.dumps({name: asdict(one) for name, one in OPERATIONS.items()})) == {
            "remove": {"noun": "Removal", "what": "zero-out", "factor": 0.0},
            "enhance": {"noun": "Enhancement", "what": "doubling", "factor": 2.0},
        }
