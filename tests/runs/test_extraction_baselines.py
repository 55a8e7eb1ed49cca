"""path/baseline.py as users meet it: records, resuming, refusals, both kinds of heads, and edits of what it finds."""

import json

import pytest
import torch
from helpers import IMAGES, LABELS, EditCommand, records, run_file, settings
from made import write_paths

from neuronpath import Ablation, Quadrature, RandomUnits, baseline_path
from neuronpath.attribution.edits import edit, enhance, remove
from neuronpath.records.schema import BASELINES
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import Baseline
from neuronpath.runs.pruning import TopKEdit

METHODS = ("gradient_activation", "conductance", "layer_ig", "ablation", "random")


class Found(EditCommand):
    """The baseline command on a checkpoint of either head, in fp64."""

    kind = Baseline


@pytest.fixture
def run(wide, tmp_path) -> Found:
    found = Found(wide.checkpoint, wide.images, tmp_path, steps=3, more=("--precision", "fp64"))
    found.head, found.pool = wide.pool, None
    return found


@pytest.mark.parametrize(("method", "k"), [*((method, 3) for method in METHODS), ("conductance", 1)])
def test_records_hold_what_the_baseline_finds(run, method, k):
    text = run("--method", method, "--topK", k, "--batch_size", 4, "--internal_batch_size", 13)
    model, images = run.loaded()
    x, labels = torch.stack([*images.values()]), torch.tensor(list(LABELS.values()))
    found = baseline_path(model, x, labels, method, Quadrature("right", 3), k=k, names=IMAGES)
    got = records(run.out)
    assert list(got) == IMAGES
    for i, record in enumerate(got.values()):
        assert list(record) == ["image", "label", "pred", "prob", "path", "score", "margin"]
        assert record["path"] == found.path[i].tolist()
        assert record["score"] == pytest.approx(found.score[i].item(), rel=1e-9)
        assert record["margin"] == pytest.approx(found.margin[i].tolist(), rel=1e-7, abs=1e-10)
        assert record["prob"] == pytest.approx(found.logits[i].softmax(-1)[record["label"]].item(), rel=1e-9)
    args = json.loads((run.out / "imgnet_all.args.json").read_text())
    assert args["job"] == "baseline"
    own = {"ablation": {"candidates": 64}, "random": {"seed": 42}}.get(method, {})
    expected = {"method": method, "topK": k, **own, "quadrature": "right", "ig_total_step": 3, "target": "label"}
    assert expected.items() <= args["settings"].items()
    assert not {"candidates", "seed"} - own.keys() & args["settings"].keys()
    assert "mean JAS" in text
    assert "in units of probability" in text
    assert "11 from earlier" in run("--method", method, "--topK", k)


def test_the_numbers_of_the_options_reach_the_method(run, tmp_path):
    model, images = run.loaded()
    x, labels = torch.stack([*images.values()]), torch.tensor(list(LABELS.values()))
    for i, (words, ranking) in enumerate(
        [
            (("--method", "ablation", "--candidates", 5), Ablation(5)),
            (("--method", "ablation", "--candidates", "all"), Ablation(None)),
            (("--method", "random", "--seed", 7), RandomUnits(7)),
        ]
    ):
        run(*words, "--topK", 2, "--target", "pred", "--objective", "logit", out=tmp_path / f"{i}")
        named = {"names": IMAGES, "objective": "logit", "k": 2}
        found = baseline_path(model, x, torch.full_like(labels, -1), ranking, Quadrature("right", 3), **named)
        got = [*records(tmp_path / f"{i}").values()]
        assert [record["path"] for record in got] == found.path.tolist()
        assert [record["score"] for record in got] == pytest.approx(found.score.tolist(), rel=1e-9)
    assert settings(tmp_path / "1")["candidates"] == "all"


@pytest.mark.parametrize("method", ["conductance", "ablation", "random"])
def test_shards_and_batches_do_not_matter(run, tmp_path, method):
    run("--method", method)
    for part in ("1/2", "0/2"):
        run("--method", method, "--shard", part, "--batch_size", 1, out=tmp_path / "parts")
    whole, parts = records(run.out), records(tmp_path / "parts")
    assert list(whole) == list(parts)
    for image, record in whole.items():
        assert record["path"] == parts[image]["path"]
        assert record["score"] == pytest.approx(parts[image]["score"], rel=1e-9)


def test_what_a_resumed_run_must_agree_with(run, tmp_path):
    run("--labels", 0, "--method", "ablation")
    again = ("--labels", 0, "--method", "ablation")
    assert "method ablation → conductance" in run("--labels", 0, "--method", "conductance", code=2)
    assert "topK 1 → 2" in run(*again, "--topK", 2, code=2)
    assert "candidates 64 → 9" in run(*again, "--candidates", 9, code=2)
    assert "objective probability → logit" in run(*again, "--objective", "logit", code=2)
    assert "3 from earlier" in run(*again, "--seed", 1), "which ablation does not use"
    run("--labels", 0, "--method", "random", out=tmp_path / "random")
    assert "seed 42 → 1" in run("--labels", 0, "--method", "random", "--seed", 1, out=tmp_path / "random", code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--topK", 91), "--topK 91: a layer of this model has 90 neurons"),
        (("--topK", 0), "must be a whole number from 1"),
        (("--method", "ablation", "--topK", 9, "--candidates", 8), "--candidates 8: at least the 9 neurons of --topK"),
        (("--method", "ablation", "--topK", 70), "--candidates 64: at least the 70 neurons of --topK must be tried"),
        (("--candidates", 8), "--candidates: --method gradient_activation has no use for it; leave one of the two out"),
        (("--method", "ablation", "--candidates", 0), "must be a whole number from 1"),
        (("--method", "ablation", "--candidates", "some"), "must be a whole number from 1"),
        (("--method", "uniform"), "invalid choice: 'uniform'"),
        (("--search", "layer"), "--search"),
        (("--quadrature", "auto"), "invalid choice: 'auto'"),
        (("--target", 9), "--target 9: the model's classes are 0 to 3"),
    ],
)
def test_what_is_refused(run, words, said):
    assert said in run.refused(*words)


def test_a_head_of_another_kind_than_told_is_no_matter_of_the_script(run):
    if run.head == "mean":
        return  # the file tells
    message = run.refused("--pool", "mean")
    assert "run path/" not in message


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ((), "baseline/gradient_activation"),
        (("--method", "random"), "baseline/random"),
        (("--method", "layer_ig", "--topK", 3), "baseline/layer_ig_top3"),
    ],
)
def test_folders(words, folder):
    assert Baseline().folder(job.parse(Baseline(), "", ["--pretrain_weight", "a.npz", *map(str, words)])) == folder


def test_one_script_for_both_heads(run):
    result = run_file("path/baseline.py", *run.words("--method", "random", "--labels", 1)).expect()
    assert result.stdout.startswith("baseline\n")
    assert list(records(run.out)) == IMAGES[3:4]


@pytest.mark.parametrize("method", METHODS)
def test_edits_take_its_paths(run, tmp_path, method):
    run("--method", method, "--topK", 2)
    run.pool = run.head
    run("--method", BASELINES[method], "--baseline_path", run.out, kind=Edit, out=tmp_path / "edits")
    found, paths = records(tmp_path / "edits"), records(run.out)
    model, images = run.loaded()
    for image, record in found.items():
        assert record["path"] == paths[image]["path"]
        assert record["method"] == BASELINES[method]
        path = torch.tensor([record["path"]])
        edits = edit(model, images[image][None], remove(model, path), enhance(model, path))
        for key, logits in zip(("remove", "enhance"), edits, strict=True):
            assert record[key] == pytest.approx(logits.softmax(-1)[0, record["label"]].item(), rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "words", "folder"),
    [
        (Edit, ("uniform",), "baseline/random"),
        (Edit, ("layer_ig",), "baseline/layer_ig"),
        (TopKEdit, ("layer_ig", "--topK", "2"), "baseline/layer_ig_top2"),
        (TopKEdit, ("layer_ig", "--topK", "1"), "baseline/layer_ig"),
    ],
)
def test_where_edits_look_for_them(run, tmp_path, monkeypatch, kind, words, folder):
    if run.head == "mean" and kind is TopKEdit:
        return  # for the CLS head alone
    monkeypatch.setattr("neuronpath.files.ROOT", tmp_path / "root")
    operation = ("--edit_operation", "remove") if kind is TopKEdit else ()
    run.kind, run.pool = kind, run.head
    message = run("--method", *words, *operation, code=2)
    place = tmp_path / "root/results" / folder / run.checkpoint.stem
    assert message.endswith(f"{place}: no such folder; run the search first, or give --baseline_path")
    write_paths(place, "path", 2, 90)
    run("--method", *words, *operation)
    assert list(records(run.out)) == IMAGES
