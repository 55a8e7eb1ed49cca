"""Result folders: which jobs and models they hold, and which settings are said of a model."""

import json
from pathlib import Path

import pytest

from neuronpath.analysis.metrics import Missing
from neuronpath.analysis.results import Results, edited_of, scores_of
from neuronpath.errors import UserError

BASELINES = ("gradient_activation", "conductance", "layer_ig", "ablation")
HEADS = ("heads", "heads_norm", "heads_gate", "mixed", "neurons", "heads_random", "mixed_random", "neurons_random")
EDITED = ("base", "influence_pattern", "ja", "random", *BASELINES, "uniform", *HEADS)
JOBS = ["ja", "influence_pattern", *(f"baseline/{m}" for m in (*BASELINES, "random"))]
JOBS += ["heads/heads", "heads/both", "heads/neurons"]
JOBS += [f"edit/remove_enhance/{m}" for m in EDITED]


def write(root: Path, job: str, model: str, *records: dict, prefix: str = "p", label: int = 0, **settings) -> Path:
    folder = root / job / model
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"image": f"{label}/{i}", **record}) + "\n" for i, record in enumerate(records))
    (folder / f"{prefix}-{label}.rlt.jsonl").write_text(text)
    if settings:
        args = {"job": job, "settings": settings, "versions": {}}
        (folder / f"{prefix}.args.json").write_text(json.dumps(args))
    return folder


def test_jobs_in_the_order_in_which_they_are_asked(tmp_path):
    assert Results(tmp_path, "p").jobs == JOBS


@pytest.mark.parametrize("job", JOBS)
def test_a_model_counts_once_any_job_has_records_of_its_prefix(tmp_path, job):
    write(tmp_path, job, "z")
    write(tmp_path, "ja", "b")
    write(tmp_path, "ja", "other prefix", prefix="q")
    write(tmp_path, "edit/prune/ja", "other job")
    assert Results(tmp_path, "p").models() == ["b", "z"]


def test_no_records_say_where_they_are_looked_for(tmp_path):
    with pytest.raises(UserError) as e:
        Results(tmp_path, "p").models()
    assert str(e.value) == f"{tmp_path}: no p records in <job>/<model>, <job> being {', '.join(JOBS)}"


def test_baselines_are_shown_where_a_model_has_their_records(tmp_path):
    results = Results(tmp_path, "p")
    assert results.shown(EDITED, ["a", "b"]) == [*EDITED[:4]]
    write(tmp_path, "baseline/random", "b")
    write(tmp_path, "edit/remove_enhance/layer_ig", "a")
    assert results.shown(EDITED, ["a", "b"]) == [*EDITED[:4], "uniform"]
    assert results.shown(EDITED[:1], ["a", "b"]) == ["base"]
    assert results.shown(EDITED, ["a", "b"], edits=True) == [*EDITED[:4], "layer_ig"]
    assert results.shown(EDITED, ["a"]) == [*EDITED[:4]]


def test_records_are_read_once_and_labels_without_any_are_left_out(tmp_path):
    folder, results = write(tmp_path, "ja", "a", {"ja_score": 1}, label=3), Results(tmp_path, "p")
    write(tmp_path, "ja", "a", label=1)
    expected = {3: [{"image": "3/0", "ja_score": 1}]}
    assert results.records("ja", "a") == expected
    (folder / "p-3.rlt.jsonl").write_text("")
    assert results.records("ja", "a") == expected
    with pytest.raises(Missing):
        results.records("ja", "b")


def test_settings_are_those_of_the_first_job_that_tells(tmp_path):
    results = Results(tmp_path, "p")
    assert results.settings("a") == results.mixed("a") == {}
    for job in reversed(JOBS):
        write(tmp_path, job, "a", preprocess=job)
        assert results.settings("a") == {"preprocess": job}
    assert list(results.args("a")) == JOBS
    assert results.mixed("a") == {job: f"preprocess ja → {job}" for job in JOBS[1:]}


def test_scores_are_each_methods_own(tmp_path):
    for label in (2, 0):
        write(tmp_path, "ja", "a", *({"ja_score": i + label, "base_score": -i} for i in range(2)), label=label)
    write(tmp_path, "influence_pattern", "a", {"score": 0.5})
    results = Results(tmp_path, "p")
    found = {m: scores_of(results, "a", m) for m in ("ja", "base", "influence_pattern")}
    assert {m: {label: x.tolist() for label, x in s.items()} for m, s in found.items()} == {
        "ja": {0: [0, 1], 2: [2, 3]},
        "base": {0: [0, -1], 2: [0, -1]},
        "influence_pattern": {0: [0.5]},
    }


def test_what_is_broken_says_which_script_makes_it(tmp_path):
    write(tmp_path, "ja", "a", {"ja_score": "x"})
    write(tmp_path, "edit/remove_enhance/base", "a", {"original": 1})
    results = Results(tmp_path, "p")
    with pytest.raises(UserError) as e:
        scores_of(results, "a", "ja")
    assert str(e.value) == f"{tmp_path}/ja/a: records without a number ja_score; were they made by path/*.py?"
    with pytest.raises(UserError) as e:
        edited_of(results, "a", "base", "enhance")
    words = "records without numbers for enhance ('enhance'); were they made by edit.py?"
    assert str(e.value) == f"{tmp_path}/edit/remove_enhance/base/a: {words}"
