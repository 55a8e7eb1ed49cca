"""Top-K paths and pruning by class on a tiny model: against the oracle, masks, splits, and what is refused."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from helpers import ROOT, random_model, run_script, tiny_config
from PIL import Image
from test_cli import messages

from neuronpath import load
from neuronpath.analysis.pruning import arrays, markdown, read_runs
from neuronpath.attribution.controls import random_units
from neuronpath.attribution.pruning import prune, retained_units, split, unit_draws
from neuronpath.cli import exits as cli
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.figures.pruning import plot_runs
from neuronpath.files import Item
from neuronpath.models.checkpoint import save
from neuronpath.runs import job
from neuronpath.runs.extraction import InfluencePattern, JointAttribution, TopKAttribution
from neuronpath.runs.pruning import TopKEdit

L, H, COUNTS = 6, 28, (6, 1, 2, 11)  # images per class
MANIPULATION = "topK/experiments/quantitative-comparison/manipulation"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """Images, a checkpoint whose predictions differ between them, and joint_attr records, K = 5."""
    root, rng = tmp_path_factory.mktemp("pruning"), np.random.default_rng(0)
    for label, count in enumerate(COUNTS):
        (root / f"images/class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/class{label}/{i:02d}.png")
    save(random_model(tiny_config(), dtype=torch.float32), root / "tiny.npz")
    found = {"images": root / "images", "checkpoint": root / "tiny.npz", "ja": root / "ja"}
    assert run(found, found["ja"], "--topK", 5, "--ig_total_step", 2, of=TopKAttribution) == 0
    return found


def run(data, out, *more, of=TopKEdit, **changes) -> int:
    given = {"--dataset": "imagefolder", "--dataset_path": data["images"], "--pretrain_weight": data["checkpoint"]}
    given |= {"--output_dir": out, "--num_workers": 0, "--precision": "fp64"}
    if of is TopKEdit:
        given |= {"--ja_path": data["ja"]}
    given |= changes
    words = [str(word) for pair in given.items() for word in pair] + [str(word) for word in more]
    return cli.command(lambda: job.main(of("cls"), "", words))


def read(out: Path) -> dict[str, dict]:
    lines = [line for file in sorted(out.glob("*.rlt.jsonl")) for line in file.read_text().splitlines()]
    return {record["image"]: record for record in map(json.loads, lines)}


def images_of(data, model) -> dict[str, torch.Tensor]:
    source = open_dataset("imagefolder", data["images"], 4)
    (batch,) = batches(source, source.items, preprocessing("paper", model.config), 99)
    return {item.image: x.double() for item, x in zip(batch.items, batch.images, strict=True)}


def counted_by_hand(data, label: int, selection: int, k: int) -> list[list[int]]:
    """The k units most frequent among the first k of every path, in the first `selection` records of a class."""
    records = [r for r in read(data["ja"]).values() if r["label"] == label][:selection]
    retained = []
    for layer in range(L):
        votes = [0] * H
        for record in records:
            for unit in record["ja"][layer][:k]:
                votes[unit] += 1
        retained.append(sorted(range(H), key=lambda unit: -votes[unit])[:k])
    return retained


class TestTopK:
    def test_one_neuron_equals_joint_attr(self, data, tmp_path):
        for name, more, of in (("k", ("--topK", 1), TopKAttribution), ("one", (), JointAttribution)):
            assert run(data, tmp_path / name, *more, "--ig_total_step", 2, of=of) == 0
        assert read(tmp_path / "k") == read(tmp_path / "one")

    def test_records_k_neurons_per_layer(self, data):
        found = read(data["ja"])
        assert len(found) == sum(COUNTS)
        for record in found.values():
            for key in ("ja", "base", "ja_act", "base_act"):
                assert [len(layer) for layer in record[key]] == [5] * L
        assert json.loads((data["ja"] / "imgnet_all.args.json").read_text())["settings"]["topK"] == 5

    def test_more_neurons_than_there_are(self, data, tmp_path, capsys):
        assert run(data, tmp_path / "out", "--topK", 29, of=TopKAttribution) == 2
        assert "28 neurons" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_another_k_is_refused_on_resume(self, data, capsys):
        assert run(data, data["ja"], "--topK", 4, "--ig_total_step", 2, of=TopKAttribution) == 2
        assert "topK 5 → 4" in capsys.readouterr().err

    @pytest.mark.parametrize("operation", ["remove", "enhance"])
    @pytest.mark.parametrize("k", [2, 5])
    def test_remove_and_enhance_the_first_k(self, data, tmp_path, operation, k):
        assert run(data, tmp_path, "--edit_operation", operation, "--topK", k) == 0
        model = load(data["checkpoint"], dtype=torch.float64)
        images, paths = images_of(data, model), read(data["ja"])
        factor = {"remove": 0, "enhance": 2}[operation]
        other = {"remove": "enhance", "enhance": "remove"}[operation]
        for image, record in read(tmp_path).items():
            path = [layer[:k] for layer in paths[image]["ja"]]
            expected = oracle.edited(model, images[image], oracle.path_factors(model, path, factor))
            assert record["path"] == path
            assert other not in record
            assert record[operation] == pytest.approx(expected[record["label"]].item(), rel=1e-9)
            assert record[f"{operation}_label"] == expected.argmax().item()

    def test_paths_shorter_than_k(self, data, tmp_path, capsys):
        assert run(data, tmp_path, "--edit_operation", "remove", "--topK", 6) == 2
        assert "5 neurons per layer" in capsys.readouterr().err


class TestPrune:
    @pytest.mark.parametrize("tokens", ["cls", "all"])
    @pytest.mark.parametrize(("p", "depth"), [(1, None), (1, 2), (0.4, None), (0, None)])
    def test_equals_the_oracle(self, data, tmp_path, tokens, p, depth):
        more = () if depth is None else ("--depth_prune", depth)
        assert run(data, tmp_path, "--topK", 3, "--mask_proportion", p, "--prune_tokens", tokens, *more) == 0
        model = load(data["checkpoint"], dtype=torch.float64)
        images, found = images_of(data, model), read(tmp_path)
        assert list(found) == ["class0/04.png", "class0/05.png", "class2/01.png"] + [
            f"class3/{i:02d}.png" for i in (8, 9, 10)
        ]
        for image, record in found.items():
            label = record["label"]
            retained = counted_by_hand(data, label, {0: 4, 2: 1, 3: 8}[label], 3)
            factors = torch.ones(L, H).double()
            for layer in range(L if depth is None else depth):
                u = np.random.default_rng((42, label, layer)).random(H)
                for unit in range(H):
                    if u[unit] < p and unit not in retained[layer]:
                        factors[layer, unit] = 0
            expected = oracle.edited(model, images[image], factors, tokens == "all")
            assert record["path"] == retained
            assert record["prune"] == pytest.approx(expected[label].item(), rel=1e-9)
            assert record["prune_label"] == expected.argmax().item()
            assert record["original"] == pytest.approx(oracle.forward(model, images[image])[0][label].item(), rel=1e-9)
            assert (record["prune"] == record["original"]) == (p == 0)  # bit for bit

    def test_nothing_depends_on_batches_or_classes(self, data, tmp_path):
        more = ("--topK", 2, "--mask_proportion", 0.5)
        for name, options in {"a": (), "b": ("--batch_size", 1), "c": ("--internal_batch_size", 2)}.items():
            assert run(data, tmp_path / name, *more, *options) == 0
        assert run(data, tmp_path / "d", *more, "--labels", 3) == 0
        assert run(data, tmp_path / "d", *more) == 0
        expected = read(tmp_path / "a")
        for name in "bcd":
            found = read(tmp_path / name)
            assert list(found) == list(expected)
            for image, record in found.items():
                assert record["path"] == expected[image]["path"]
                assert record["prune"] == pytest.approx(expected[image]["prune"], rel=1e-12)

    def test_masks_are_nested_and_spare_the_retained(self):
        model, draws = random_model(tiny_config()), torch.from_numpy(unit_draws(1, 3, L, H))[None]
        retained = torch.tensor([random_units(1, 3, L, H, 4)])
        masks = [prune(model, retained, draws, p, L) == 0 for p in (0, 0.2, 0.7, 1)]
        assert [m.any().item() for m in masks] == [False, True, True, True]
        for small, large in itertools.pairwise(masks):
            assert not (small & ~large).any()
        assert (masks[-1].sum(-1) == H - 4).all()
        assert not masks[-1].gather(2, retained).any()
        half = prune(model, retained, draws, 1, 2) == 0
        assert half[:, :2].any(-1).all()
        assert not half[:, 2:].any()

    def test_draws_are_of_seed_label_and_layer(self):
        draws = unit_draws(0, 1, L, H)
        assert np.array_equal(unit_draws(0, 1, 2, H), draws[:2])
        assert not np.isin(unit_draws(1, 1, L, H), draws).any()
        assert not np.isin(unit_draws(0, 2, L, H), draws).any()
        assert len(np.unique(draws)) == L * H

    def test_random_control_is_uniform_and_distinct(self):
        units = np.array([random_units(0, label, 1, H, 4)[0] for label in range(2000)])
        assert all(len(set(row)) == 4 for row in units.tolist())
        counts = np.bincount(units.ravel(), minlength=H)
        assert abs(counts - 2000 * 4 / H).max() < 5 * np.sqrt(2000 * 4 / H)

    @pytest.mark.parametrize("method", ["base", "random", "influence_pattern"])
    def test_other_methods_select_otherwise(self, data, tmp_path, method):
        more = ()
        if method == "influence_pattern":
            assert run(data, tmp_path / "ip", "--ig_total_step", 2, of=InfluencePattern) == 0
            more = ("--influence_pattern_path", tmp_path / "ip")
        assert run(data, tmp_path / "out", "--topK", 1, "--method", method, *more) == 0
        assert run(data, tmp_path / "ja_out", "--topK", 1) == 0
        found, ja = read(tmp_path / "out"), read(tmp_path / "ja_out")
        assert list(found) == list(ja)
        assert any(found[image]["path"] != ja[image]["path"] for image in found)
        assert {record["method"] for record in found.values()} == {method}

    def test_retained_units_by_frequency_then_index(self):
        paths = [[[5, 1]], [[1, 7]], [[5, 2]]]
        assert retained_units(paths, 3) == [[1, 5, 2]]
        with pytest.raises(ValueError, match="layer 0: its paths hold 4 distinct units, fewer than 5"):
            retained_units(paths, 5)

    @pytest.mark.parametrize(("n", "fraction", "first"), [(2, 0.8, 1), (5, 0.8, 4), (10, 0.8, 8), (3, 0, 1), (3, 1, 2)])
    def test_split_is_disjoint_and_leaves_one_on_each_side(self, n, fraction, first):
        items = [Item(str(i), 0) for i in range(n)]
        selection, evaluation = split(items, fraction)
        assert selection + evaluation == items
        assert len(selection) == first

    def test_class_of_one_image_is_left_out_and_named(self, data, tmp_path, capsys):
        assert run(data, tmp_path / "out", "--topK", 1) == 0
        assert "one image, of which nothing is left to evaluate: 1" in capsys.readouterr().err
        assert run(data, tmp_path / "alone", "--topK", 1, "--labels", 1) == 2
        assert not (tmp_path / "alone").exists()

    def test_images_that_all_choose_one_unit(self, data, tmp_path, capsys):
        ja = tmp_path / "ja"
        shutil.copytree(data["ja"], ja)
        file = ja / "imgnet_all-3.rlt.jsonl"
        lines = [json.loads(line) | {"ja": [[7]] * L} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert run(data, tmp_path / "out", "--topK", 1, **{"--ja_path": ja}) == 0
        assert read(tmp_path / "out")["class3/10.png"]["path"] == [[7]] * L
        assert run(data, tmp_path / "two", "--topK", 2, **{"--ja_path": ja}) == 2
        assert "label 3, layer 0" in messages(capsys.readouterr().err)[-1]
        assert not (tmp_path / "two").exists()

    def test_paths_found_on_other_weights(self, data, tmp_path, capsys):
        other = tmp_path / "other.npz"
        save(random_model(tiny_config(), seed=3, dtype=torch.float32), other)
        assert run(data, tmp_path / "out", "--topK", 1, **{"--pretrain_weight": other}) == 2
        assert "--allow_other_weights" in messages(capsys.readouterr().err)[-1]
        assert run(data, tmp_path / "out", "--topK", 1, "--allow_other_weights", **{"--pretrain_weight": other}) == 0
        assert run(data, tmp_path / "own", "--topK", 1) == 0
        capsys.readouterr()
        for name in ("out", "own"):
            (tmp_path / "runs" / name).mkdir(parents=True)
            (tmp_path / name).rename(tmp_path / "runs" / name / "tiny")
        with pytest.raises(UserError, match="same settings"):
            read_runs(tmp_path / "runs", "imgnet_all")
        args = tmp_path / "runs/out/tiny/imgnet_all.args.json"
        args.write_text(args.read_text().replace('"method": "ja"', '"method": "base"'))
        with pytest.warns(UserWarning, match="checkpoint_sha256"):
            read_runs(tmp_path / "runs", "imgnet_all")

    def test_selection_image_without_a_path(self, data, tmp_path, capsys):
        ja = tmp_path / "ja"
        shutil.copytree(data["ja"], ja)
        file = ja / "imgnet_all-3.rlt.jsonl"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
        assert run(data, tmp_path / "out", "--topK", 1, **{"--ja_path": ja}) == 2
        assert "class3/00.png" in capsys.readouterr().err
        assert run(data, tmp_path / "out", "--topK", 1, "--on_bad_image", "skip", **{"--ja_path": ja}) == 3
        assert "class3/10.png" in read(tmp_path / "out")
        assert "class3/00.png" in (tmp_path / "out/imgnet_all.skipped.jsonl").read_text()

    def test_resumes_and_refuses_other_settings(self, data, tmp_path, capsys):
        more = ("--topK", 2, "--mask_proportion", 0.5)
        assert run(data, tmp_path, *more) == 0
        expected = read(tmp_path)
        file = tmp_path / "imgnet_all-3.rlt.jsonl"
        file.write_bytes(file.read_bytes()[:-40])
        assert run(data, tmp_path, *more) == 0
        found = read(tmp_path)
        assert list(found) == list(expected)
        assert [r["prune"] for r in found.values()] == pytest.approx([r["prune"] for r in expected.values()], rel=1e-12)
        capsys.readouterr()
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
            assert run(data, tmp_path, *more, option, value) == 2
            (message,) = messages(capsys.readouterr().err)[-1:]
            assert name in message
        assert read(tmp_path) == found

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
    def test_bad_options(self, data, tmp_path, capsys, option, value):
        assert run(data, tmp_path / "out", option, value) == 2
        (message,) = [m for m in messages(capsys.readouterr().err) if ": warning: " not in m]
        assert option in message
        assert not (tmp_path / "out").exists()


class TestResults:
    @pytest.fixture
    def runs(self, data, tmp_path):
        for method in ("ja", "random"):
            for p in (0.5, 1):
                more = ("--topK", 2, "--method", method, "--mask_proportion", p)
                assert run(data, tmp_path / f"runs/{method}{p}/tiny", *more) == 0
        return tmp_path / "runs"

    def test_table_arrays_and_picture(self, runs, tmp_path):
        found = read_runs(runs, "imgnet_all")
        assert [(run.method, run.proportion, run.depth, run.topK) for run in found] == [
            ("ja", 0.5, 6, 2),
            ("random", 0.5, 6, 2),
            ("ja", 1.0, 6, 2),
            ("random", 1.0, 6, 2),
        ]
        records = list(read(runs / "ja1/tiny").values())
        i, columns = 2, arrays(found)
        assert columns["prob"][i] == pytest.approx(np.mean([r["prune"] for r in records]))
        assert columns["prob_before"][i] == pytest.approx(np.mean([r["original"] for r in records]))
        assert columns["top1"][i] == pytest.approx(100 * np.mean([r["prune_label"] == r["label"] for r in records]))
        assert columns["n"].tolist() == [6] * 4
        assert (columns["prob_low"] <= columns["prob"]).all()
        assert (columns["prob"] <= columns["prob_high"]).all()
        assert f"{columns['prob'][i]:.4f}" in markdown(found).splitlines()[2 + i]
        figure = plot_runs(found, "tiny")
        (panel,) = [axes for axes in figure.axes if axes.get_title()]
        assert "K = 2" in panel.get_title()
        figure.savefig(tmp_path / "a.png")

    def test_two_runs_of_the_same_settings(self, runs, capsys):
        shutil.copytree(runs / "ja1/tiny", runs / "copy/tiny")
        result = run_script(f"{MANIPULATION}/analysis/plot_probability_deviation.py", "--results", runs)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert "same settings" in result.stderr

    def test_scripts_run_from_their_folders_and_the_root(self, data, runs, tmp_path):
        for cwd in (ROOT, ROOT / MANIPULATION / "analysis"):
            result = run_script(f"{MANIPULATION}/analysis/plot_probability_deviation.py", "--results", runs, cwd=cwd)
            assert result.returncode == 0, result.stderr
            assert result.stdout.startswith("| model |")
        assert (runs / "pruning.npz").exists()
        for name in ("prob", "top1"):
            assert (runs / f"pruning-tiny-{name}.png").stat().st_size > 5000
        given = ("--dataset", "imagefolder", "--dataset_path", data["images"], "--pretrain_weight", data["checkpoint"])
        for cwd in (ROOT, ROOT / MANIPULATION / "ViT"):
            out = tmp_path / cwd.name
            edit = run_script(
                f"{MANIPULATION}/ViT/edit.py",
                *given,
                "--ja_path",
                data["ja"],
                "--output_dir",
                out,
                "--topK",
                2,
                cwd=cwd,
            )
            assert edit.returncode == 0, edit.stderr
            assert len(read(out)) == 6
        top = run_script(
            "topK/path/joint_attr.py", *given, "--output_dir", tmp_path / "top", "--topK", 2, cwd=ROOT / "topK/path"
        )
        assert top.returncode == 0, top.stderr
        assert len(read(tmp_path / "top")) == sum(COUNTS)
