"""Means, differences and tables of the study of methods, on numbers made up and by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from helpers import ROOT
from scipy.stats import spearmanr

from neuronpath.analysis.methods import (
    NAMES,
    TABLES,
    method_tables,
    of_training,
    over_trainings,
    read_study,
)
from neuronpath.studies.parts import METHOD_NAMES

LABELS = np.array([0, 1, 0, 1, 0, 1, 2])  # one class of a single image
N, KS, AGAIN = len(LABELS), [1, 2, 5], [0, 2, 4, 6]
AFTER = ("zero", "mean", "resample", "double")


def made_up(seed: int, *, draws: int = 1, curves: bool = True, again: bool = True, **changes) -> dict[str, np.ndarray]:
    """What `studies.methods.measure` returns, of N images and 4 layers of 3 units."""
    rng = np.random.default_rng(seed)
    found = {"path": rng.integers(0, 3, (draws, N, 4)), "jas": rng.random(N), "p": rng.random(N)}
    found["right"] = rng.integers(0, 2, N).astype(float)
    for name in AFTER:
        found[f"p_{name}"] = rng.random(N)
        found[f"right_{name}"] = rng.integers(0, 2, N) if name != "resample" else rng.integers(0, 6, N) / 5
    if curves:
        found |= {"ks": np.array(KS), "removed": rng.random((N, 3)), "retained": rng.random((N, 3))}
    if again:
        found |= {"again": rng.integers(0, 3, (4, 4)), "again_of": np.array(AGAIN)}
    costs = {"seconds": 0.5 + seed, "cpu_seconds": 0.25 + seed, "block_passes": 100.0 * (1 + seed)}
    return {**found, **{key: np.array(value) for key, value in costs.items()}, **changes}


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def stability(own) -> float:
    """Mean over images and layers of |P ∩ P'| / |P ∪ P'|, which is 0 or 1 for single units."""
    pairs = zip(own["path"][0][AGAIN], own["again"], strict=True)
    return mean(float(a == b) for one, other in pairs for a, b in zip(one, other, strict=True))


def validity(own) -> float:
    return spearmanr(own["jas"], own["p"] - own["p_zero"]).statistic


def area(values) -> float:
    """Mean over the images of the mean over ln K, by trapezoids."""
    x = [math.log(k) for k in KS]
    steps = range(len(KS) - 1)
    of_image = [sum((v[i] + v[i + 1]) / 2 * (x[i + 1] - x[i]) for i in steps) / (x[-1] - x[0]) for v in values]
    return mean(of_image)


def p_value(differences) -> float:
    """Of the test that tosses the sign of every difference, literally."""
    seen = abs(sum(differences)) - 1e-9
    tosses = itertools.product((-1, 1), repeat=len(differences))
    return mean(float(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen) for signs in tosses)


FIRST, OTHER, DRAWN = made_up(0), made_up(1), made_up(2, draws=3, again=False)
SINGLE = made_up(3, curves=False, block_passes=np.array(math.nan))


@pytest.fixture(scope="module")
def found() -> dict:
    return of_training(LABELS, {"layer": FIRST, "beam_4": SINGLE, "conductance": OTHER, "random": DRAWN})


class TestOfTraining:
    @pytest.mark.parametrize(
        ("method", "own"), [("layer", FIRST), ("beam_4", SINGLE), ("conductance", OTHER), ("random", DRAWN)]
    )
    def test_values_by_hand(self, found, method, own):
        entries = found[method]
        assert entries["jas"]["value"] == pytest.approx(mean(own["jas"]))
        assert entries["validity"]["value"] == pytest.approx(validity(own))
        assert (entries["seconds"], entries["cpu_seconds"]) == (own["seconds"], own["cpu_seconds"])
        assert entries["block_passes"] == (None if method == "beam_4" else own["block_passes"])
        for name in AFTER:
            assert entries[f"p_{name}"]["value"] == pytest.approx(mean(own[f"p_{name}"] - own["p"]))
            moved = own[f"right_{name}"] - own["right"]
            assert entries[f"accuracy_{name}"]["value"] == pytest.approx(100 * mean(moved))
            assert entries[f"accuracy_{name}"]["p"] == pytest.approx(p_value(moved))
        if "again" in own:
            assert 0 < stability(own) < 1
            assert entries["stability"]["value"] == pytest.approx(stability(own))
            assert entries["stability"]["n"] == 4
        else:
            assert not {"stability", "stability_minus"} & entries.keys()
        for name in ("removed", "retained"):
            if "ks" in own:
                assert entries[f"area_{name}"]["value"] == pytest.approx(area(own[name]))
                expected = {"0": mean(own["p"])} | {str(k): mean(own[name][:, i]) for i, k in enumerate(KS)}
                assert entries[f"curve_{name}"] == pytest.approx(expected)
            else:
                assert not {f"area_{name}", f"area_{name}_minus", f"curve_{name}"} & entries.keys()

    @pytest.mark.parametrize(("method", "own"), [("beam_4", SINGLE), ("conductance", OTHER), ("random", DRAWN)])
    def test_differences_are_the_first_methods_minus_the_own(self, found, method, own):
        entries = found[method]
        assert entries["jas_minus"]["value"] == pytest.approx(mean(FIRST["jas"]) - mean(own["jas"]))
        assert entries["validity_minus"]["value"] == pytest.approx(validity(FIRST) - validity(own))
        for name in AFTER:
            p, right = f"p_{name}", f"right_{name}"
            assert entries[f"{p}_minus"]["value"] == pytest.approx(mean(FIRST[p]) - mean(own[p]))
            accuracy, apart = entries[f"accuracy_{name}_minus"], FIRST[right] - own[right]
            assert accuracy["value"] == pytest.approx(100 * mean(apart))
            assert accuracy["p"] == pytest.approx(p_value(apart))
        if "again" in own:
            assert entries["stability_minus"]["value"] == pytest.approx(stability(FIRST) - stability(own))
        for name in ("removed", "retained") if "ks" in own else ():
            assert entries[f"area_{name}_minus"]["value"] == pytest.approx(area(FIRST[name]) - area(own[name]))

    def test_the_first_is_not_compared_with_itself(self, found):
        assert not [key for key in found["layer"] if key.endswith("_minus")]
        assert [*found] == ["layer", "beam_4", "conductance", "random"]

    def test_intervals_contain_the_values(self, found):
        entries = [entry for own in found.values() for entry in own.values() if isinstance(entry, dict)]
        entries = [entry for entry in entries if "value" in entry]
        assert len(entries) > 60
        for entry in entries:
            assert entry["low"] <= entry["value"] <= entry["high"]
        own = found["conductance"]
        assert own["p_zero"]["low"] < own["p_zero"]["high"]
        assert own["p_zero_minus"]["n"] == N

    def test_differences_are_paired(self):
        """Of methods that differ by the same in every image the interval has no width, however images differ."""
        other = {**FIRST, "jas": FIRST["jas"] - 0.25, "p_zero": FIRST["p_zero"] + 0.5}
        own = of_training(LABELS, {"layer": FIRST, "base": other})["base"]
        for key, value in (("jas_minus", 0.25), ("p_zero_minus", -0.5)):
            assert [own[key][x] for x in ("value", "low", "high")] == pytest.approx([value] * 3)

    def test_they_are_json(self, found):
        assert json.loads(json.dumps(found)) == found


def entry(value: float, low: float | None, high: float | None, p: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high, "n": 9, "left_out": 0, "p": p}


class TestOverTrainings:
    def test_mean_spread_and_clear_differences(self):
        cases = [
            {"a": {"x_minus": entry(1, 0.5, 2), "y_minus": entry(-3, -6, 1, 0.04), "passes": 5.0}},
            {"a": {"x_minus": entry(2, -1, 4), "y_minus": entry(3, 1, 6, 0.06), "passes": 7.0}},
            {"a": {"x_minus": entry(-6, -9, -5), "y_minus": entry(-2, -4, 0, 0.049), "passes": 12.0}},
        ]
        found = over_trainings(cases)["a"]
        assert found["x_minus"] == {
            "mean": -1,
            "sd": pytest.approx(math.sqrt((4 + 9 + 25) / 2)),
            "min": -6,
            "max": 2,
            "of": 3,
            "larger": 1,
            "smaller": 1,
        }
        assert (found["y_minus"]["larger"], found["y_minus"]["smaller"]) == (0, 2), "their p decides"
        assert found["passes"] == {
            "mean": 8,
            "sd": pytest.approx(math.sqrt((9 + 1 + 16) / 2)),
            "min": 5,
            "max": 12,
            "of": 3,
            "larger": 0,
            "smaller": 0,
        }

    def test_classes_of_one_image_tell_no_chance(self):
        found = over_trainings([{"a": {"x": entry(1, None, None)}}])["a"]["x"]
        assert (found["larger"], found["smaller"], found["sd"], found["of"]) == (0, 0, None, 1)

    def test_a_bound_at_0_is_not_clear(self):
        found = over_trainings([{"a": {"x": entry(1, 0, 2)}}, {"a": {"x": entry(-1, -2, 0)}}])["a"]["x"]
        assert (found["larger"], found["smaller"]) == (0, 0)

    def test_methods_and_values_that_some_lack(self):
        trainings = [
            {"layer": {"jas": entry(1, 0, 2), "passes": None}, "beam_16": {"jas": entry(4, 3, 5), "passes": 3.0}},
            {"layer": {"jas": entry(2, 1, 3), "passes": None}},
        ]
        found = over_trainings(trainings)
        assert [*found] == ["layer", "beam_16"]
        assert found["layer"]["jas"]["of"] == 2
        assert found["layer"]["passes"] is None
        assert (found["beam_16"]["jas"]["of"], found["beam_16"]["jas"]["mean"]) == (1, 4)
        assert [*over_trainings(trainings[::-1])] == ["layer", "beam_16"]

    def test_curves_are_left_to_the_trainings(self):
        assert [*over_trainings([{"a": {"jas": entry(1, 0, 2), "curve_removed": {"0": 1.0}}}])["a"]] == ["jas"]

    def test_of_what_is_made_of_trainings(self, found):
        other = of_training(LABELS, {"layer": made_up(4), "conductance": made_up(5)})
        over = over_trainings([found, other])
        both = [training["conductance"]["jas_minus"]["value"] for training in (found, other)]
        assert over["conductance"]["jas_minus"]["mean"] == pytest.approx(mean(both))
        assert over["random"]["jas"]["of"] == 1


def spread(mean: float, sd: float | None = 0.5, of: int = 3, larger: int = 0, smaller: int = 0) -> dict:
    return {"mean": mean, "sd": sd, "min": mean, "max": mean, "of": of, "larger": larger, "smaller": smaller}


def rows(over: dict, trainings: int = 3) -> dict[str, dict[str, list[str]]]:
    """By title and method the cells, and of the title itself the headings."""
    text = method_tables({"ViT": {"images": 9, "trainings": {i: {} for i in range(trainings)}, "over": over}})
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            if name in TABLES:
                found[name] = own = {"": cells}
            else:
                own[name] = cells
    return found


class TestTables:
    def test_every_method_has_a_name(self):
        assert {*NAMES} == {*METHOD_NAMES}

    @pytest.mark.parametrize(("title", "key"), [(title, key) for title, columns in TABLES.items() for key in columns])
    @pytest.mark.parametrize(("larger", "smaller"), [(2, 1), (3, 0), (0, 0), (0, 2)])
    def test_what_is_worse_and_what_is_better(self, title, key, larger, smaller):
        """`larger`: trainings in which the first method's is larger."""
        heading, digits, sense = TABLES[title][key]
        over = {"layer": {key: spread(1)}, "base": {key: spread(2), f"{key}_minus": spread(0, 1, 3, larger, smaller)}}
        worse, better = {1: (larger, smaller), -1: (smaller, larger), 0: (larger, smaller)}[sense]
        said = f"{2:.{digits}f}" + (f" ± {0.5:.{digits}f}" if sense else "")
        said += f", worse {worse}" * bool(worse) + f", better {better}" * bool(better)
        found = rows(over)[title]
        assert found[""] == [heading]
        assert found["Activation"] == [said]
        assert found["Neuron Path, layer"] == [f"{1:.{digits}f}" + (f" ± {0.5:.{digits}f}" if sense else "")]

    def test_less_is_better_of_removal_and_more_of_all_else(self):
        senses = {key: sense for columns in TABLES.values() for key, (*_, sense) in columns.items()}
        less = {f"{what}_{name}" for what in ("p", "accuracy") for name in ("zero", "mean", "resample")}
        assert {key for key, sense in senses.items() if sense < 0} == {*less, "area_removed"}
        assert {key for key, sense in senses.items() if sense == 0} == {"block_passes", "cpu_seconds"}

    def test_by_hand(self):
        over = {
            "layer": {"jas": spread(0.51236), "block_passes": spread(660.6), "p_zero": spread(-0.2, 0.01)},
            "beam_16": {
                "jas": spread(0.6, None, 1),
                "jas_minus": spread(-0.1, None, 1, 0, 1),
                "block_passes": None,
                "p_zero": spread(-0.3, None, 1),
                "p_zero_minus": spread(0.1, None, 1, 1, 0),
            },
            "random": {"jas": spread(-0.00001), "jas_minus": spread(0.5, 0.1, 3, 3), "block_passes": spread(12)},
        }
        first = {
            "layer": {"jas": entry(0.5, 0.4, 0.6)},
            "beam_16": {"jas": entry(0.6, 0.5, 0.7), "jas_minus": entry(-0.1, -0.2, -0.05)},
            "random": {"jas": entry(0.1, 0, 0.2)},
        }
        text = method_tables({"ViT": {"images": 9, "trainings": {"a": first, "b": {}, "c": {}}, "over": over}})
        assert text.partition("| Change of accuracy")[0] == (
            "### ViT: 3 trainings, 9 images each\n\n"
            "| Scores and costs | mean JAS | block passes |\n|---|---|---|\n"
            "| Neuron Path, layer | 0.5124 ± 0.5000 | 661 |\n"
            "| Matched control | 0.0000 ± 0.5000, worse 3 | 12 |\n\n"
            "| Change of the label's probability | removed to 0 |\n|---|---|\n"
            "| Neuron Path, layer | -0.2000 ± 0.0100 |\n\n"
        )
        assert text.partition("alone:\n\n")[2].partition("| Change of the label")[0] == (
            "| Scores and costs | mean JAS |\n|---|---|\n"
            "| Neuron Path, layer | 0.5000 |\n"
            "| Neuron Path, beam 16 | 0.6000, better 1 |\n\n"
        )
        assert "### ViT" in text
        assert "ViT, the first training alone:" in text
        assert text.endswith(
            "|---|---|---|---|---|---|\n| Neuron Path, beam 16 | -0.1000 [-0.2000, -0.0500] |  |  |  |  |\n"
        )

    def test_models_one_after_the_other(self):
        groups = {
            name: {"images": 4, "trainings": {"a": {}}, "over": {"layer": {"jas": spread(1, None, 1)}}}
            for name in ("ViT", "MAE")
        }
        lines = method_tables(groups).splitlines()
        assert [line for line in lines if line.startswith("#")] == [
            f"### {x}: 1 training, 4 images each" for x in groups
        ]
        assert lines.count("| Neuron Path, layer | 1.0000 |") == 2


def test_the_page_shows_the_studys_own_tables():
    """docs/methods.md: every table is what docs/methods.json gives."""
    page = (ROOT / "docs/methods.md").read_text()
    assert method_tables(read_study(ROOT / "docs/methods.json")).strip() in page
