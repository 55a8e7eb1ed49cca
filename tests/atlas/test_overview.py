"""What every page of a model needs: names, counts and intervals."""

import numpy as np
import pytest
from atlases import FOLDERS, FULL, ONLY_INFLUENCE, PREFIX, Records

from neuronpath.analysis.metrics import class_means
from neuronpath.analysis.results import Results, scores_of
from neuronpath.atlas.gather import Gathered
from neuronpath.atlas.overview import overview


@pytest.fixture(scope="module")
def shown(world):
    found = Gathered(Results(world.results, PREFIX), FULL)
    assert [*found.classes()]
    return overview(found, FOLDERS[:-1])


def test_names_by_label_where_there_are_some(shown):
    names = [name for _, name, *_ in shown["classes"]]
    assert names[:-1] == [name.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e") for name in FOLDERS[:-1]]
    assert names[-1] == str(len(FOLDERS) - 1)


def test_intervals_are_those_of_the_analysis(shown, world):
    """The same resampling as tables and figures."""
    expected = class_means(scores_of(Results(world.results, PREFIX), FULL, "ja"))
    place = [method["key"] for method in shown["methods"]].index("ja")
    rows = {label: scores[place] for label, _, _, _, scores, *_ in shown["classes"]}
    assert rows.pop(ONLY_INFLUENCE) is None
    assert {*rows} == {*expected}
    for label, three in rows.items():
        one = expected[label]
        assert three == [round(x, 4) for x in (one.value, one.low, one.high)]


def test_near_ties(shown, world):
    lines = Records(world.results, FULL).methods
    for key, name in (("ja", "Neuron Path"), ("influence_pattern", "Influence Pattern"), ("uniform", "Random")):
        margins = [margin for of in lines[name].values() for *_, margin in of.values()]
        assert shown["near"]["share"][key] == pytest.approx(np.mean([min(m) < 1e-4 for m in margins]))
    assert shown["near"]["below"] == 1e-4
    assert "base" not in shown["near"]["share"]


def test_words_and_facts(shown, world):
    count = sum(map(len, world.images.values()))
    assert shown["words"] == f"5 layers of 40 units; 6 classes, {count} images"
    facts = dict(shown["facts"])
    assert facts["mlp_dim"] == "40"
    jobs = {job["name"]: job["settings"] for job in shown["jobs"]}
    assert jobs["ja"]["precision"] == "fp32"
    assert jobs["ja"]["torch"] == "2"
