"""Pruning by class as users meet it: against the oracle, resumed, and refused."""

import shutil

import numpy as np
import oracle
import pytest
import torch
from helpers import random_model, read_lines, record_lines, records, tiny_config, write_lines

from neuronpath.analysis.pruning import read_runs
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.runs.extraction import InfluencePattern

L, H = 6, 28


def counted_by_hand(topk, label: int, selection: int, k: int) -> list[list[int]]:
    """The k units most frequent among the first k of every path, in the first `selection` records of a class."""
    selected = [r for r in records(topk.ja).values() if r["label"] == label][:selection]
    retained = []
    for layer in range(L):
        votes = [0] * H
        for record in selected:
            for unit in record["ja"][layer][:k]:
                votes[unit] += 1
        retained.append(sorted(range(H), key=lambda unit: -votes[unit])[:k])
    return retained


@pytest.mark.parametrize("tokens", ["cls", "all"])
@pytest.mark.parametrize(
    ("p", "depth", "objective"),
    [*((p, depth, "probability") for p, depth in ((1, None), (1, 2), (0.4, None), (0, None))), (0.4, None, "sigmoid")],
)
def test_equals_the_oracle(topk, tmp_path, tokens, p, depth, objective):
    more = ("--objective", objective, *(() if depth is None else ("--depth_prune", depth)))
    topk("--topK", 3, "--mask_proportion", p, "--prune_tokens", tokens, *more, out=tmp_path)
    (model, images), found = topk.loaded(), records(tmp_path)
    assert list(found) == ["class0/04.png", "class0/05.png", "class2/01.png"] + [
        f"class3/{i:02d}.png" for i in (8, 9, 10)
    ]
    for image, record in found.items():
        label = record["label"]
        retained = counted_by_hand(topk, label, {0: 4, 2: 1, 3: 8}[label], 3)
        factors = torch.ones(L, H).double()
        for layer in range(L if depth is None else depth):
            u = np.random.default_rng((42, label, layer)).random(H)
            for unit in range(H):
                if u[unit] < p and unit not in retained[layer]:
                    factors[layer, unit] = 0
        expected = oracle.edited(model, images[image], factors, tokens == "all", objective)
        assert record["path"] == retained
        assert record["prune"] == pytest.approx(expected[label].item(), rel=1e-9)
        assert record["prune_label"] == expected.argmax().item()
        original = oracle.forward(model, images[image], objective=objective)[0][label].item()
        assert record["original"] == pytest.approx(original, rel=1e-9)
        assert (record["prune"] == record["original"]) == (p == 0)  # bit for bit


def test_nothing_depends_on_batches_or_classes(topk, tmp_path):
    more = ("--topK", 2, "--mask_proportion", 0.5)
    for name, options in {"a": (), "b": ("--batch_size", 1), "c": ("--internal_batch_size", 2)}.items():
        topk(*more, *options, out=tmp_path / name)
    topk(*more, "--labels", 3, out=tmp_path / "d")
    topk(*more, out=tmp_path / "d")
    expected = records(tmp_path / "a")
    for name in "bcd":
        found = records(tmp_path / name)
        assert list(found) == list(expected)
        for image, record in found.items():
            assert record["path"] == expected[image]["path"]
            assert record["prune"] == pytest.approx(expected[image]["prune"], rel=1e-12)


@pytest.mark.parametrize("method", ["base", "random", "influence_pattern"])
def test_other_methods_select_otherwise(topk, tmp_path, method):
    more = ()
    if method == "influence_pattern":
        topk(kind=InfluencePattern, out=tmp_path / "ip")
        more = ("--influence_pattern_path", tmp_path / "ip")
    topk("--topK", 1, "--method", method, *more, out=tmp_path / "out")
    topk("--topK", 1, out=tmp_path / "ja_out")
    found, ja = records(tmp_path / "out"), records(tmp_path / "ja_out")
    assert list(found) == list(ja)
    assert any(found[image]["path"] != ja[image]["path"] for image in found)
    assert {record["method"] for record in found.values()} == {method}


def test_class_of_one_image_is_left_out_and_named(topk, tmp_path):
    topk("--topK", 1, out=tmp_path / "out")
    assert "one image, of which nothing is left to evaluate: 1" in topk.stderr
    topk("--topK", 1, "--labels", 1, out=tmp_path / "alone", code=2)
    assert not (tmp_path / "alone").exists()


def test_images_that_all_choose_one_unit(topk, tmp_path):
    ja = tmp_path / "ja"
    shutil.copytree(topk.ja, ja)
    file = ja / "imgnet_all-3.rlt.jsonl"
    write_lines(file, [record | {"ja": [[7]] * L} for record in read_lines(file)])
    topk("--topK", 1, ja=ja, out=tmp_path / "out")
    assert records(tmp_path / "out")["class3/10.png"]["path"] == [[7]] * L
    topk("--topK", 2, ja=ja, out=tmp_path / "two", code=2)
    assert "label 3, layer 0" in topk.result.messages[-1]
    assert not (tmp_path / "two").exists()


def test_paths_found_on_other_weights(topk, tmp_path):
    other = tmp_path / "other.npz"
    save(random_model(tiny_config(), seed=3, dtype=torch.float32), other)
    topk("--topK", 1, checkpoint=other, out=tmp_path / "out", code=2)
    assert "--allow_other_weights" in topk.result.messages[-1]
    topk("--topK", 1, "--allow_other_weights", checkpoint=other, out=tmp_path / "out")
    topk("--topK", 1, out=tmp_path / "own")
    for name in ("out", "own"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / name).rename(tmp_path / "runs" / name / "tiny")
    with pytest.raises(UserError, match="same settings"):
        read_runs(tmp_path / "runs", "imgnet_all")
    args = tmp_path / "runs/out/tiny/imgnet_all.args.json"
    args.write_text(args.read_text().replace('"method": "ja"', '"method": "base"'))
    with pytest.warns(UserWarning, match="checkpoint_sha256"):
        read_runs(tmp_path / "runs", "imgnet_all")


def test_selection_image_without_a_path(topk, tmp_path):
    ja = tmp_path / "ja"
    shutil.copytree(topk.ja, ja)
    file = ja / "imgnet_all-3.rlt.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    topk("--topK", 1, ja=ja, out=tmp_path / "out", code=2)
    assert "class3/00.png" in topk.stderr
    topk("--topK", 1, "--on_bad_image", "skip", ja=ja, out=tmp_path / "out", code=3)
    assert "class3/10.png" in records(tmp_path / "out")
    assert "class3/00.png" in (tmp_path / "out/imgnet_all.skipped.jsonl").read_text()


def test_resumes_and_refuses_other_settings(topk, tmp_path):
    more = ("--topK", 2, "--mask_proportion", 0.5)
    topk(*more, out=tmp_path)
    expected = records(tmp_path)
    file = tmp_path / "imgnet_all-3.rlt.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    topk(*more, out=tmp_path)
    found = records(tmp_path)
    assert list(found) == list(expected)
    assert [r["prune"] for r in found.values()] == pytest.approx([r["prune"] for r in expected.values()], rel=1e-12)
    for option, value, name in (
        ("--mask_proportion", 0.6, "mask_proportion"),
        ("--topK", 1, "topK"),
        ("--depth_prune", 3, "depth_prune"),
        ("--prune_tokens", "all", "prune_tokens"),
        ("--select_fraction", 0.5, "select_fraction"),
        ("--seed", 1, "seed"),
        ("--method", "base", "method"),
        ("--images_per_class", 5, "images_per_class"),
        ("--edit_operation", "remove", "operation"),
    ):
        assert name in topk(*more, option, value, out=tmp_path, code=2)
    assert records(tmp_path) == found


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--mask_proportion", "1.1"),
        ("--mask_proportion", "nan"),
        ("--select_fraction", "-0.1"),
        ("--depth_prune", "7"),
        ("--topK", "0"),
        ("--topK", "29"),
        ("--edit_operation", "cut"),
        ("--prune_tokens", "patch"),
    ],
)
def test_bad_options(topk, tmp_path, option, value):
    assert option in topk(option, value, out=tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


def test_evaluation_images_need_no_path(topk, tmp_path):
    """Nor do classes that are left out."""
    topk("--topK", 2, out=tmp_path / "all")
    shutil.copytree(topk.ja, tmp_path / "ja")
    (tmp_path / "ja/imgnet_all-1.rlt.jsonl").unlink()
    for label, selection in {0: 4, 2: 1, 3: 8}.items():
        file = tmp_path / f"ja/imgnet_all-{label}.rlt.jsonl"
        write_lines(file, read_lines(file)[:selection])
    topk("--topK", 2, ja=tmp_path / "ja", out=tmp_path / "some")
    assert record_lines(tmp_path / "some") == record_lines(tmp_path / "all")
