"""Pruning runs in folders: how they are told apart, their table and their arrays, whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from neuronpath.analysis.metrics import Edited, Estimate
from neuronpath.analysis.pruning import Outcome, Run, arrays, markdown, read_runs
from neuronpath.errors import UserError

SETTINGS = {
    "operation": "prune",
    "prune_tokens": "cls",
    "depth_prune": 6,
    "topK": 5,
    "mask_proportion": 0.5,
    "method": "ja",
    "checkpoint_sha256": "a",
}


def write(root: Path, folder: str, after=(0.25, 0.5), prefix: str = "p", paths=None, **changes) -> Path:
    """Images of one class each: p of the label 0.5 before, wrong for the second."""
    directory = root / folder
    directory.mkdir(parents=True, exist_ok=True)
    for label, p in enumerate(after):
        record = {"image": f"{label}/0", "original": 0.5, "original_label": 0, "prune": p, "prune_label": label}
        (directory / f"{prefix}-{label}.rlt.jsonl").write_text(json.dumps(record) + "\n")
    args = {"job": "edit_topk", "settings": {**SETTINGS, **changes}, "versions": {}, "paths": paths or {}}
    (directory / f"{prefix}.args.json").write_text(json.dumps(args))
    return directory


def test_a_run_is_told_by_its_settings_wherever_it_lies(tmp_path):
    write(tmp_path, "deep/er/m", prune_tokens="all", depth_prune=2, topK=10, mask_proportion=0.25, method="random")
    write(tmp_path, "x/m")
    write(tmp_path, "y/m", operation="remove")
    write(tmp_path, "z/m", prefix="q", topK=1)
    (write(tmp_path, "empty/m", topK=2) / "p-0.rlt.jsonl").unlink()
    (tmp_path / "empty/m/p-1.rlt.jsonl").unlink()
    found = read_runs(tmp_path, "p")
    assert list(found) == [Run("m", "all", 2, 10, 0.25, "random"), Run("m", "cls", 6, 5, 0.5, "ja")]
    outcome = found[Run("m", "cls", 6, 5, 0.5, "ja")]
    values = [
        outcome.prob_before, outcome.prob, outcome.top1_before, outcome.top1, outcome.prob_change,
    ]  # fmt: skip
    assert [(e.value, e.low, e.n) for e in values] == [
        (0.5, None, 2),
        (0.375, None, 2),
        (50, None, 2),
        (100, None, 2),
        (-0.125, None, 2),
    ]


def test_runs_are_sorted_by_model_tokens_depth_k_share_and_method():
    names = ("model", "tokens", "depth", "topK", "proportion", "method")
    low, high = ("a", "all", 2, 5, 0.5, "base"), ("b", "cls", 6, 10, 1.0, "ja")
    for i in range(len(names)):  # a larger value in one place outweighs smaller ones in all places after it
        first, second = Run(*low[: i + 1], *high[i + 1 :]), Run(*low[:i], high[i], *low[i + 1 :])
        assert first < second, names[i]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: None, "{root}: no records of edit.py --edit_operation prune below it; run that first"),
        (
            lambda root: (write(root, "a/m"), write(root, "b/m")),
            "{root}/a/m and {root}/b/m: two runs of the same settings; remove one",
        ),
        (
            lambda root: (write(root, "a/m").joinpath("p-0.rlt.jsonl")).write_text('{"image": "x", "prune": 1}\n'),
            "{root}/a/m: no 'original' in its settings or records; were they made by edit.py?",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_of_runs(tmp_path, spoil, said):
    spoil(tmp_path)
    with pytest.raises(UserError) as e:
        read_runs(tmp_path, "p")
    assert str(e.value) == said.format(root=tmp_path)


def test_a_run_made_otherwise_than_the_first_of_its_model_is_a_warning(tmp_path, recwarn):
    write(tmp_path, "a/m")
    write(tmp_path, "b/other", checkpoint_sha256="b")
    write(tmp_path, "c/m", topK=1, checkpoint_sha256="c")
    write(tmp_path, "d/m", topK=2)
    assert len(read_runs(tmp_path, "p")) == 4
    (warned,) = (str(w.message) for w in recwarn)
    first = f"{tmp_path}/a/m/p.args.json"
    words = f"not made as {first} was (checkpoint_sha256 a → c), but in one table with it"
    assert warned == f"{tmp_path}/c/m/p.args.json: {words}"


def outcome(after: list[float], bounds: tuple | None = (0.25, 0.75)) -> Outcome:
    one, n = np.ones(len(after)), len(after)
    edited = Edited([f"{i}" for i in range(n)], np.arange(n), one, np.array(after), one, one)

    def of(value: float) -> Estimate:
        return Estimate(value, *(bounds or (None, None)), n)

    return Outcome(edited, of(0.9), of(0.12345), of(75), of(62.5), of(-0.5))


def runs() -> dict[Run, Outcome]:
    return {
        Run("ViT-B_32", "all", 6, 5, 0.125, "ja"): outcome([0.5, 0.5]),
        Run("ViT-B_32", "all", 6, 5, 0.125, "random"): outcome([0.25, 0.75]),
        Run("ViT-B_32", "cls", 6, 10, 1.0, "base"): outcome([0.5, 0.25, 1]),
        Run("ViT-B_32", "cls", 6, 10, 1.0, "ja"): outcome([0.25, 0.25, 0.25], None),
    }


HEAD = (
    "| model | tokens | layers | K | zeroed | retained by | mean p of the label, before | after | after - before "
    "| top-1 before | after | n |"
)
VALUES = "0.9000 | 0.1235 [0.2500, 0.7500] | -0.5000 [0.2500, 0.7500] | 75.00 % | 62.50 [0.25, 0.75] %"


def test_the_text_of_a_whole_table():
    assert markdown(runs()) == "\n".join([
        HEAD,
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        f"| ViT-B_32 | all | 6 | 5 | 12.5 % | Neuron Path | {VALUES} | 2 |",
        f"| ViT-B_32 | all | 6 | 5 | 12.5 % | Random units | {VALUES} | 2 |",
        f"| ViT-B_32 | cls | 6 | 10 | 100 % | Activation | {VALUES} | 3 |",
        "| ViT-B_32 | cls | 6 | 10 | 100 % | Neuron Path | 0.9000 | 0.1235 | -0.5000 | 75.00 % | 62.50 % | 3 |",
        "",
        "| Neuron Path's mean p of the label minus that of | tokens | layers | K | zeroed "
        "| Activation | Random units |",
        "|---|---|---|---|---|---|---|",
        "| ViT-B_32 | all | 6 | 5 | 12.5 % | missing | +0.0000 |",
        "| ViT-B_32 | cls | 6 | 10 | 100 % | -0.3333 | missing |",
        "",
        "The paper's mean probabilities for ViT-B_32: unpruned 51.95 %, top5_mask100 54.07 %, top10_mask100 51.597 %.",
    ])  # fmt: skip


@pytest.mark.parametrize("method", ["ja", "random"])
def test_one_method_alone_has_nothing_to_be_compared_with(method):
    run = {Run("tiny", "cls", 6, 5, 1.0, method): outcome([0.5])}
    assert markdown(run).splitlines()[2:] == [
        f"| tiny | cls | 6 | 5 | 100 % | {'Neuron Path' if method == 'ja' else 'Random units'} | {VALUES} | 1 |",
    ]


def test_arrays_have_an_entry_per_run():
    found = {name: column.tolist() for name, column in arrays(runs()).items()}
    estimates = {"prob_before": 0.9, "prob": 0.12345, "top1_before": 75, "top1": 62.5, "prob_change": -0.5}
    assert found.keys() == {
        "model", "tokens", "depth", "topK", "proportion", "method", "n",
        *(f"{name}{end}" for name in estimates for end in ("", "_low", "_high")),
    }  # fmt: skip
    assert found["model"] == ["ViT-B_32"] * 4
    assert found["tokens"] == ["all", "all", "cls", "cls"]
    assert (found["depth"], found["topK"], found["n"]) == ([6] * 4, [5, 5, 10, 10], [2, 2, 3, 3])
    assert found["proportion"] == [0.125, 0.125, 1, 1]
    assert found["method"] == ["ja", "random", "base", "ja"]
    for name, value in estimates.items():
        assert found[name] == [value] * 4
        np.testing.assert_array_equal(found[f"{name}_low"], [0.25] * 3 + [np.nan])
        np.testing.assert_array_equal(found[f"{name}_high"], [0.75] * 3 + [np.nan])


def test_methods_without_a_common_image_are_not_compared(tmp_path):
    write(tmp_path, "ja/m")
    other = write(tmp_path, "base/m", method="base")
    for file in other.glob("*.jsonl"):
        file.write_text(file.read_text().replace('/0"', '/1"'))
    assert "| m | cls | 6 | 5 | 50 % | no common image |" in markdown(read_runs(tmp_path, "p")).splitlines()


def test_a_run_without_a_record_is_left_out_and_named(tmp_path):
    write(tmp_path, "ja/m")
    empty = write(tmp_path, "base/m", method="base")
    for file in empty.glob("*.jsonl"):
        file.write_text("")
    with pytest.warns(UserWarning, match="no record yet") as caught:
        found = read_runs(tmp_path, "p")
    assert [run.method for run in found] == ["ja"]
    assert str(empty) in str(caught[0].message)
