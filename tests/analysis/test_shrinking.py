"""How smaller models compare: values, intervals, verdicts, the tables, and the page, which shows those of its JSON."""

import json

import numpy as np
import pytest
from helpers import ROOT, fault

from neuronpath.analysis.metrics import Edited, accuracy_difference, difference
from neuronpath.analysis.shrinking import (
    IMPORTANCES,
    of_smaller_models,
    read_shrink,
    shrink_tables,
    verdict,
    verdicts_of,
)
from neuronpath.studies.parts import SHRINK_NAMES

LABELS, SHARES = np.repeat([0, 1], 10), (0.5, 0.1)


def arrays(seed: int, shape=(2,)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"p": rng.random((*shape, 20)), "right": rng.integers(0, 2, (*shape, 20)).astype(float)}


def measured(names=("path_1", "taylor", "random")) -> dict:
    own = {name: {"plain": arrays(i), "folded": arrays(100 + i)} for i, name in enumerate(names)}
    return {"full": arrays(50, ()), **own}


@pytest.fixture(scope="module")
def found() -> dict:
    return of_smaller_models(LABELS, SHARES, measured())


def test_every_study_has_names_for_its_importances():
    assert [*IMPORTANCES] == [*SHRINK_NAMES]


def test_levels_and_paired_differences(found):
    given = measured()
    assert [*found] == ["full", "path_1", "taylor", "random"]
    assert found["full"] == {"accuracy": 100 * given["full"]["right"].mean(), "p": given["full"]["p"].mean()}
    names = [str(i) for i in range(20)]

    def edited(key: str, way: str, i: int) -> Edited:
        own, full = (given["full"],) * 2 if key == "full" else (given[key][way], given["full"])
        p, right = (own[part] if key == "full" else own[part][i] for part in ("p", "right"))
        return Edited(names, LABELS, full["p"], p, full["right"], right)

    for way in ("plain", "folded"):
        for i, share in enumerate(("0.5", "0.1")):
            entry = found["path_1"][way][share]
            assert entry["p"] == pytest.approx(given["path_1"][way]["p"][i].mean())
            assert entry["accuracy"] == pytest.approx(100 * given["path_1"][way]["right"][i].mean())
            assert [*entry["minus"]] == ["taylor", "random", "full"]
            for other, values in entry["minus"].items():
                pair = edited("path_1", way, i), edited(other, way, i)
                assert values["p"]["value"] == pytest.approx((pair[0].after - pair[1].after).mean())
                for key, one in (("p", difference(*pair, "after")), ("accuracy", accuracy_difference(*pair))):
                    assert {name: values[key][name] for name in ("value", "low", "high", "p")} == {
                        "value": one.value,
                        "low": one.low,
                        "high": one.high,
                        "p": one.p,
                    }
    fold = found["path_1"]["folded"]["0.5"]["fold"]["p"]["value"]
    assert fold == pytest.approx((given["path_1"]["folded"]["p"][0] - given["path_1"]["plain"]["p"][0]).mean())
    assert "fold" not in found["path_1"]["plain"]["0.5"]
    assert [*found["taylor"]["plain"]["0.5"]["minus"]] == ["random", "full"]


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"value": 0.2, "low": 0.1, "high": 0.3, "p": None}, "win"),
        ({"value": -0.2, "low": -0.3, "high": -0.1, "p": None}, "loss"),
        ({"value": 0.2, "low": -0.1, "high": 0.3, "p": None}, "tie"),
        ({"value": 0.2, "low": None, "high": None, "p": None}, "tie"),
        ({"value": 0.2, "low": -0.1, "high": 0.3, "p": 0.04}, "win"),
        ({"value": -0.2, "low": -0.3, "high": -0.1, "p": 0.06}, "tie"),
    ],
)
def test_verdicts(entry, word):
    assert verdict(entry) == word


def study(kept: dict) -> dict:
    ratio = {"median": 0.625, "low": 0.5, "high": 0.75}
    entry = {"flops": 2e9, "weights": 3_000_000, "seconds": 0.5, "cpu": 0.25, "ratio": ratio, "cpu_ratio": ratio}
    shares = {"1": {**entry, "flops": 4e9}, "0.5": entry}
    time = {"model": "ViT-B_32", "images": 4, "rounds": 3, "device": "cpu", "shares": shares}
    flops = {"1": 2.5e6, "0.5": 1.5e6, "0.1": 0.9e6}
    group = {"training": 9, "images": 20, "held": {"path_1": 0.335, "path_5": 0.6}, "flops": flops, "kept": kept}
    return {"models": {"a<b": group}, "time": time}


def test_tables(found):
    text = shrink_tables(study(found))
    assert r"### a\<b: 20 held-out images, 9 to choose by" in text
    own = found["path_1"]
    accuracy = " | ".join(f"{own['plain'][share]['accuracy']:.1f}" for share in ("0.5", "0.1"))
    assert f"| paths, K = 1 | {accuracy} |" in text
    assert f"| paths, K = 1 | {own['folded']['0.5']['p']:.4f} | {own['folded']['0.1']['p']:.4f} |" in text
    assert "| top-1, %; cut units at 0; " in text
    assert "| operations; 2.5 million uncut | 0.5 | 0.1 |" in text
    assert "| of the uncut model's | 60 % | 36 % |" in text
    assert "Units that are in any path, K = 1: 34 %; K = 5: 60 %." in text
    counts = [verdicts_of(found, "path_1", "plain", "taylor", "p").count(word) for word in ("win", "tie", "loss")]
    assert sum(counts) == 2
    assert f"| paths, K = 1 | {', '.join(map(str, counts))} |" in text
    assert (
        "| mean p: wins, ties, losses | against Taylor, at 0 | against random, at 0 | against Taylor, folded |" in text
    )
    both = [
        [verdicts_of(found, "taylor", way, "random", "accuracy").count(word) for word in ("win", "tie", "loss")]
        for way in ("plain", "folded")
    ]
    plain, folded = (", ".join(map(str, counts)) for counts in both)
    assert f"| Taylor |  | {plain} |  | {folded} |" in text[text.index("| accuracy: wins, ties, losses |") :]
    first = own["plain"]["0.5"]["minus"]["taylor"]
    assert f"| 0.5 | {first['p']['value']:+.3f} [{first['p']['low']:.3f}, {first['p']['high']:.3f}] | " in text
    assert "| 0.5 | 2.00 | 50 % | 3.0 | 0.2500 | 0.62 (0.50-0.75) | 0.62 |" in text
    assert "ViT-B_32 sizes: 4 images at once, one thread, 3 interleaved rounds, cpu" in text


def test_without_times_or_paths(found):
    given = study({key: found[key] for key in ("full", "taylor")}) | {"time": {}}
    text = shrink_tables(given)
    assert "GFLOP" not in text
    assert "minus" not in text


def test_is_read(found, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(study(found)))
    assert read_shrink(tmp_path / "x.json") == json.loads(json.dumps(study(found)))
    message = "docs/none.json: no such file; python scripts/study_shrink.py … --output docs/none makes it"
    assert fault(read_shrink, ROOT / "docs/none.json") == message


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", '{"models": {}}', '{"models": {"a": {"kept": {"x": 1}}}, "time": {}}']
)
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    assert "not of study_shrink.py" in fault(read_shrink, tmp_path / "x.json")


def test_the_page_shows_the_tables_of_its_json():
    """docs/shrink.md: every table is what docs/shrink.json gives."""
    page = (ROOT / "docs/shrink.md").read_text()
    assert shrink_tables(read_shrink(ROOT / "docs/shrink.json")).strip() in page
