"""Edits of neurons against the literal oracle, the matched control, and the edit job as users meet it."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from helpers import KINDS, NUM_CLASSES, ROOT, random_model, run_script, tiny_config
from test_cli import IMAGES, Run as SearchRun, contents, messages, records
from test_search import CONFIGS

import neuronpath
from neuronpath.attribution.controls import DRAWS, NEAREST, matched_paths
from neuronpath.attribution.edits import edit, enhance, gain, remove
from neuronpath.cli import exits as cli
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.models.checkpoint import save
from neuronpath.records.args import Args
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import InfluencePattern, JointAttribution

FOLDER = "experiments/quantitative-comparison/manipulation"
SCRIPTS = {"cls": f"{FOLDER}/ViT/edit.py", "mean": f"{FOLDER}/MAE/edit.py"}
LABELS = {image: int(image[5]) for image in IMAGES}
STEPS = 2
SHAPES = {**CONFIGS, "one-layer-mean": tiny_config("mean", depth=1)}
B = 5


def make(name: str, dtype=torch.float64):
    config = SHAPES[name]
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(B, 3, config.img_size, config.img_size, generator=generator, dtype=torch.float64)
    return random_model(config, dtype=dtype), images.to(dtype)


def random_path(config, layers: int, k: int, n: int = B, seed: int = 2) -> torch.Tensor:
    """(n, layers, k), the units of a layer distinct."""
    generator = torch.Generator().manual_seed(seed)
    units = [torch.randperm(config.mlp_dim, generator=generator)[:k] for _ in range(n * layers)]
    return torch.stack(units).view(n, layers, k)


class TestEdit:
    @pytest.mark.parametrize("factor", [0, 2, 0.5, -1])
    @pytest.mark.parametrize(("layers", "k"), [(6, 1), (6, 3), (2, 1), (1, 3)])
    @pytest.mark.parametrize("name", KINDS)
    def test_equals_the_oracle(self, name, layers, k, factor):
        model, images = make(name)
        path = random_path(model.config, layers, k)
        plain, found = (x.softmax(-1) for x in edit(model, images, None, gain(model, path, factor)))
        for i, image in enumerate(images):
            expected = oracle.edited(model, image, oracle.path_factors(model, path[i].tolist(), factor))
            torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=0)
            assert found[i].argmax() == expected.argmax()
            torch.testing.assert_close(plain[i], oracle.forward(model, image)[0], rtol=1e-9, atol=0)
        assert ((found - plain).abs().amax(-1) > 1e-5).all(), "an edit that changes nothing would pass"

    @pytest.mark.parametrize("name", SHAPES)
    def test_other_shapes_and_all_tokens(self, name):
        model, images = make(name)
        path = random_path(model.config, model.config.depth, 2)
        edits = [remove(model, path), enhance(model, path)]
        for all_tokens in (False, True):
            found = edit(model, images, *edits, all_tokens=all_tokens)
            for logits, factor in zip(found, (0, 2), strict=True):
                for i, image in enumerate(images):
                    factors = oracle.path_factors(model, path[i].tolist(), factor)
                    expected = oracle.edited(model, image, factors, all_tokens)
                    torch.testing.assert_close(logits[i].softmax(-1), expected, rtol=1e-9, atol=0)

    @pytest.mark.parametrize("name", KINDS)
    def test_all_tokens_are_more_than_the_neuron_tokens(self, name):
        model, images = make(name)
        factors = remove(model, random_path(model.config, 6, 3))
        few, many = edit(model, images, factors) + edit(model, images, factors, all_tokens=True)
        assert ((few - many).abs().amax(-1) > 1e-5).all()

    @pytest.mark.parametrize("name", KINDS)
    def test_one_edit_for_all_images_broadcasts(self, name):
        model, images = make(name)
        generator = torch.Generator().manual_seed(3)
        factors = torch.rand(1, 6, 28, generator=generator, dtype=torch.float64) * 2
        (expanded,) = edit(model, images, factors.expand(B, -1, -1).clone())
        for rows in (None, 1, 2):
            (found,) = edit(model, images, factors, internal_batch_size=rows)
            torch.testing.assert_close(found, expanded, rtol=1e-12, atol=1e-12)
        for logits, image in zip(found, images, strict=True):
            expected = oracle.edited(model, image, factors[0])
            torch.testing.assert_close(logits.softmax(-1), expected, rtol=1e-9, atol=0)

    @pytest.mark.parametrize("name", ["cls", "mean", "one-layer", "one-layer-mean"])
    def test_removal_in_the_last_block_equals_zeroed_columns(self, name):
        """Of the last block the head reads the neuron tokens alone, so the units are gone from the model."""
        model, images = make(name)
        units, last = [3, 0, 17], len(model.blocks) - 1
        factors = torch.ones(1, last + 1, 28, dtype=torch.float64)
        factors[0, last, units] = 0
        before, found, everywhere = (
            *edit(model, images, None, factors),
            *edit(model, images, factors, all_tokens=True),
        )
        model.blocks[last].mlp.fc2.weight[:, units] = 0
        torch.testing.assert_close(found, model(images), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(everywhere, model(images), rtol=1e-12, atol=1e-12)
        assert ((found - before).abs().amax(-1) > 1e-5).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", SHAPES)
    def test_factor_1_changes_nothing_bit_for_bit(self, name, dtype):
        model, images = make(name, dtype)
        path = random_path(model.config, model.config.depth, 3)
        for all_tokens in (False, True):
            plain, same = edit(model, images, None, gain(model, path, 1), all_tokens=all_tokens)
            assert torch.equal(same, plain)
            assert torch.equal(same, model(images))

    @pytest.mark.parametrize("name", KINDS)
    def test_batches_do_not_matter(self, name):
        model, images = make(name)
        edits = [None, remove(model, random_path(model.config, 6, 3)), enhance(model, random_path(model.config, 4, 1))]
        expected = edit(model, images, *edits, internal_batch_size=1000)
        for rows in (1, 2, 3, 5):
            for a, b in zip(edit(model, images, *edits, internal_batch_size=rows), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        order = [3, 0, 4, 1, 2]
        permuted = edit(model, images[order], *(f if f is None else f[order] for f in edits), internal_batch_size=2)
        for a, b in zip(permuted, expected, strict=True):
            torch.testing.assert_close(a, b[order], rtol=1e-12, atol=1e-12)
        for i in range(B):
            single = edit(model, images[i : i + 1], *(f if f is None else f[i : i + 1] for f in edits))
            for a, b in zip(single, expected, strict=True):
                torch.testing.assert_close(a[0], b[i], rtol=1e-12, atol=1e-12)

    def test_factors_are_what_they_say(self):
        model, _ = make("cls")
        path = random_path(model.config, 4, 3)
        for factors, factor in ((remove(model, path), 0), (enhance(model, path), 2), (gain(model, path, -0.3), -0.3)):
            expected = torch.stack([oracle.path_factors(model, p, factor) for p in path.tolist()])
            assert torch.equal(factors, expected)

    @pytest.mark.parametrize(
        "path",
        [torch.zeros(5, 7, 1), torch.zeros(5, 6), torch.full((5, 6, 1), 28), torch.full((5, 6, 1), -1),
         torch.zeros(5, 6, 2), torch.zeros(5, 0, 1)],
    )  # fmt: skip
    def test_a_path_that_does_not_fit_is_refused(self, path):
        with pytest.raises(ValueError, match="path"):
            remove(make("cls")[0], path.long())

    def test_the_package_offers_them(self):
        assert (neuronpath.edit, neuronpath.gain, neuronpath.remove, neuronpath.enhance) == (
            edit,
            gain,
            remove,
            enhance,
        )

    def test_images_and_model_stay_as_they_are(self):
        model, images = make("mean")
        before, state = images.clone(), {k: v.clone() for k, v in model.state_dict().items()}
        edit(model, images, remove(model, random_path(model.config, 6, 3)))
        assert torch.equal(images, before)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def candidates(values: list[float], own: list[int], drawn: list[int]) -> set[int]:
    """The units next in rank to the neuron that follows `drawn`, literally."""
    order = sorted(range(len(values)), key=lambda j: (-values[j], j))
    rank = {unit: r for r, unit in enumerate(order)}
    centre = rank[own[len(drawn)]]
    free = [unit for unit in order if unit not in own and unit not in drawn]
    return set(sorted(free, key=lambda unit: (abs(rank[unit] - centre), rank[unit]))[:20])


def assert_matched(values: list[list[float]], own: list[list[int]], draw: list[list[int]]) -> None:
    """One draw: every unit near in rank, none of the path, none twice."""
    assert [len(layer) for layer in draw] == [len(layer) for layer in own]
    for layer, units in enumerate(draw):
        assert not set(units) & set(own[layer])
        assert len(set(units)) == len(units)
        for i, unit in enumerate(units):
            assert unit in candidates(values[layer], own[layer], units[:i])


class TestMatchedPaths:
    L, H = 4, 90

    def values(self, seed: int = 0, layers: int = L, units: int = H) -> torch.Tensor:
        return torch.randn(layers, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def path(self, k: int, seed: int = 0, layers: int = L, units: int = H) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.choice(units, k, replace=False).tolist() for _ in range(layers)]

    def test_constants(self):
        assert (DRAWS, NEAREST) == (5, 20)

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("units", [90, 45, 15])
    def test_near_in_rank_never_the_paths_own_and_distinct(self, k, units):
        for seed in range(20):
            values, path = self.values(seed, units=units), self.path(k, seed, units=units)
            draws = matched_paths(values, path, f"{seed}.png", 42)
            assert len(draws) == 5
            for draw in draws:
                assert_matched(values.tolist(), path, draw)

    @pytest.mark.parametrize("neighbours", [True, False])
    def test_neurons_close_to_each_other_and_at_both_ends(self, neighbours):
        values = torch.arange(self.H, 0, -1).double().repeat(2, 1)  # unit = rank
        path = [[0, 1, 2], [89, 88, 87]] if neighbours else [[0, 89, 44], [89, 0, 45]]
        for i in range(40):
            for draw in matched_paths(values, path, f"{i}.png", 42):
                assert_matched(values.tolist(), path, draw)

    def test_ties_rank_by_index(self):
        values = torch.zeros(1, 60)
        for i in range(40):
            for ((unit,),) in matched_paths(values, [[30]], f"{i}.png", 0):
                assert unit in {*range(20, 41)} - {30}

    def test_depend_on_seed_image_and_layer_alone(self):
        values, path = self.values()[:1].repeat(self.L, 1), [[7, 3]] * self.L
        draws = matched_paths(values, path, "a/b.png", 42)
        assert matched_paths(values.clone(), list(path), "a/b.png", 42) == draws
        assert matched_paths(values, path, "a/b.png", 43) != draws
        assert matched_paths(values, path, "a/c.png", 42) != draws
        by_layer = [[draw[layer] for draw in draws] for layer in range(self.L)]
        assert all(by_layer[i] != by_layer[j] for i in range(self.L) for j in range(i))
        assert len({str(draw) for draw in draws}) == 5

    def test_a_layer_does_not_depend_on_the_others(self):
        values, path = self.values(), self.path(2)
        draws = matched_paths(values, path, "a.png", 42)
        other_values, other_path = values.clone(), [list(layer) for layer in path]
        other_values[2] = self.values(1)[2]
        other_path[2] = [*self.path(4, 1)[2]]
        others = matched_paths(other_values, other_path, "a.png", 42)
        for layer in (0, 1, 3):
            assert [draw[layer] for draw in others] == [draw[layer] for draw in draws]
        assert [draw[2] for draw in others] != [draw[2] for draw in draws]
        assert matched_paths(values[:2], path[:2], "a.png", 42) == [draw[:2] for draw in draws]

    @pytest.mark.parametrize("rank", [0, 10, 45, 89])
    def test_uniform_over_the_twenty_nearest(self, rank):
        values = torch.arange(self.H, 0, -1).double()[None]
        counts, repeated, images = Counter(), 0, 400
        for i in range(images):
            units = [unit for ((unit,),) in matched_paths(values, [[rank]], f"class/{i:04d}.png", 42)]
            counts.update(units)
            repeated += len(set(units)) < DRAWS
        assert counts.keys() == candidates(values[0].tolist(), [rank], [])
        expected = images * DRAWS / NEAREST
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        assert 5 < chi_square < 45  # 19 degrees of freedom: about 0.05 % on either side
        chance = 1 - math.prod((NEAREST - i) / NEAREST for i in range(DRAWS))  # draws are independent of each other
        assert repeated / images == pytest.approx(chance, abs=0.1)

    @pytest.mark.parametrize("path", [[0, 1, 2], [89, 88, 87], [0, 2, 1, 4, 3, 6]])
    def test_twenty_are_left_beside_the_paths_own_units(self, path):
        values = torch.arange(self.H, 0, -1).double()[None]
        draws = [d for i in range(400) for ((*d,),) in matched_paths(values, [path], f"{i}.png", 42)]
        assert {first for first, *_ in draws} == candidates(values[0].tolist(), path, [])
        for neuron in range(1, len(path)):
            every = {unit for d in draws for unit in candidates(values[0].tolist(), path, d[:neuron])}
            assert {d[neuron] for d in draws} == every

    def test_layers_as_small_as_can_be(self):
        assert matched_paths(torch.tensor([[1.0, 2.0]]), [[1]], "a", 0) == [[[0]]] * 5

    def test_an_image_name_that_is_not_utf8(self):
        name = os.fsdecode(b"a/\xff.png")
        assert matched_paths(self.values(), self.path(1), name, 0) == matched_paths(
            self.values(), self.path(1), name, 0
        )


def write_paths(directory: Path, key: str = "ja", k: int = 1, units: int = 28, seed: int = 0, layers: int = 6) -> dict:
    """Records with a random path of its own for every image, as little as edits need; the paths by image."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = random_path(tiny_config(mlp_dim=units), layers, k, len(IMAGES), seed)
    found = dict(zip(IMAGES, paths.tolist(), strict=True))
    for label in range(NUM_CLASSES):
        lines = [{"image": i, "label": label, key: found[i]} for i in IMAGES if LABELS[i] == label]
        (directory / f"imgnet_all-{label}.rlt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def change(file: Path, line: int, **changes) -> None:
    """Other values in one record."""
    found = [json.loads(text) for text in file.read_text().splitlines()]
    found[line] |= changes
    file.write_text("".join(json.dumps(record) + "\n" for record in found))


class Run(SearchRun):
    """The edit command, in this process; `ja` holds the paths."""

    def __init__(self, checkpoint: Path, images: Path, tmp_path: Path, capsys, pool: str = "cls"):
        self.checkpoint, self.images, self.capsys, self.pool = checkpoint, images, capsys, pool
        self.ja, self.out, self.influence = (tmp_path / name for name in ("ja", "out", "influence"))
        self.stderr = ""

    def given(self, *more, checkpoint=None, out=None) -> list[str]:
        pairs = {
            "--dataset": "imagefolder",
            "--num_workers": 0,
            "--pretrain_weight": checkpoint or self.checkpoint,
            "--dataset_path": self.images,
            "--ja_path": self.ja,
            "--influence_pattern_path": self.influence,
            "--output_dir": out or self.out,
        }
        return [str(word) for pair in pairs.items() for word in pair] + [str(word) for word in more]

    def __call__(self, *more, code: int = 0, **changes) -> str:
        """Its stdout, or what it says on stderr where it fails."""
        found = cli.command(lambda: job.main(Edit(self.pool), "", self.given(*more, **changes)))
        stdout, self.stderr = self.capsys.readouterr()
        assert found == code, self.stderr
        assert "Traceback" not in self.stderr
        return "\n".join(messages(self.stderr)) if code == 2 else stdout

    def search(self, kind=JointAttribution, out=None, *more) -> None:
        """The records of the search itself."""
        words = ["--dataset", "imagefolder", "--num_workers", 0, "--pretrain_weight", self.checkpoint, "--dataset_path"]
        words += [self.images, "--ig_total_step", STEPS, "--output_dir", out or self.ja, *more]
        assert cli.command(lambda: job.main(kind(self.pool), "", [str(word) for word in words])) == 0
        self.capsys.readouterr()

    def loaded(self):
        """The model in float64 and the images by name."""
        model = neuronpath.load(self.checkpoint, dtype=torch.float64)
        source = open_dataset("imagefolder", self.images, NUM_CLASSES)
        (batch,) = batches(source, source.items, preprocessing("paper", model.config), 100)
        return model, {i.image: x.double() for i, x in zip(batch.items, batch.images, strict=True)}


@pytest.fixture
def run(checkpoint, image_folder, tmp_path, capsys) -> Run:
    return Run(checkpoint, image_folder, tmp_path, capsys)


@pytest.fixture(params=["cls", "mean"])
def wide(request, image_folder, tmp_path, capsys) -> Run:
    """Both heads, with layers of 90 units, so that 20 are few."""
    file = tmp_path / {"cls": "wide.npz", "mean": "wide.pth"}[request.param]
    save(random_model(tiny_config(request.param, mlp_dim=90), seed=5, scale=0.25, dtype=torch.float32), file)
    return Run(file, image_folder, tmp_path, capsys, request.param)


def numbers(record: dict) -> list[float]:
    """The record's probabilities, in order."""
    found = [record[key] for key in ("prob", "original", "remove", "enhance") if key in record] + record.get("gain", [])
    return found + [x for draw in record.get("draws", []) for x in numbers(draw)]


def without_numbers(record: dict) -> dict:
    names = {"prob", "original", "remove", "enhance", "gain"}
    rest = {key: value for key, value in record.items() if key not in names}
    return rest | ({"draws": [without_numbers(draw) for draw in record["draws"]]} if "draws" in record else {})


def assert_same(found: dict[str, dict], expected: dict[str, dict], tolerance: float = 1e-6) -> None:
    assert list(found) == list(expected)
    for a, b in zip(found.values(), expected.values(), strict=True):
        assert without_numbers(a) == without_numbers(b)
        assert numbers(a) == pytest.approx(numbers(b), rel=0, abs=tolerance)


class TestRecords:
    KEYS = ("image", "label", "pred", "prob", "method", "path", "original", "original_label")
    RESULTS = ("remove", "remove_label", "enhance", "enhance_label")

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("method", ["ja", "base", "influence_pattern"])
    def test_equal_the_oracle(self, wide, method, k):
        folder, key = (wide.influence, "path") if method == "influence_pattern" else (wide.ja, method)
        paths = write_paths(folder, key, k, 90)
        wide("--method", method, "--precision", "fp64", "--gain", 0.5, -30, 3, "--batch_size", 4)
        model, images = wide.loaded()
        found = records(wide.out)
        assert list(found) == IMAGES
        for image, record in found.items():
            assert tuple(record) == (*self.KEYS, *self.RESULTS, "gain", "gain_label")
            assert (record["label"], record["method"], record["path"]) == (LABELS[image], method, paths[image])
            factors = [1, 0, 2, 0.5, -30, 3]
            edited = [oracle.edited(model, images[image], oracle.path_factors(model, paths[image], f)) for f in factors]
            p = [x[record["label"]].item() for x in edited]
            original, removed, doubled, *gains = (x.argmax().item() for x in edited)
            assert [record["original"], record["remove"], record["enhance"], *record["gain"]] == pytest.approx(p, 1e-9)
            assert record["prob"] == record["original"]
            assert record["pred"] == record["original_label"] == original
            assert (record["remove_label"], record["enhance_label"]) == (removed, doubled)
            assert record["gain_label"] == gains
        assert any(record["gain_label"][1] != record["original_label"] for record in found.values())

    def test_of_the_search_itself_in_fp32(self, wide):
        wide.search()
        wide.search(InfluencePattern, wide.influence)
        model, images = wide.loaded()
        for method in ("ja", "base", "influence_pattern"):
            folder, key = (wide.influence, "path") if method == "influence_pattern" else (wide.ja, method)
            out = wide.out / method
            stdout = wide("--method", method, out=out)
            found, searched = records(out), records(folder)
            assert list(found) == IMAGES
            for image, record in found.items():
                assert tuple(record) == (*self.KEYS, *self.RESULTS)
                assert record["path"] == searched[image][key]
                assert record["pred"] == searched[image]["pred"]
                assert record["original"] == pytest.approx(searched[image]["prob"], rel=1e-4)
                for operation, factor in (("original", 1), ("remove", 0), ("enhance", 2)):
                    factors = oracle.path_factors(model, record["path"], factor)
                    expected = oracle.edited(model, images[image], factors)
                    assert record[operation] == pytest.approx(expected[record["label"]].item(), rel=1e-4, abs=1e-6)
            for operation in ("original", "remove", "enhance"):
                right = sum(record[f"{operation}_label"] == record["label"] for record in found.values())
                assert f"{100 * right / len(found):.2f} %" in stdout
                assert f"{np.mean([record[operation] for record in found.values()]):.4f}" in stdout
            assert "11 new" in stdout
            assert str(out) in stdout

    def test_of_the_matched_control(self, wide):
        paths = write_paths(wide.ja, k=3, units=90)
        wide("--method", "random", "--precision", "fp64", "--gain", 0.5, "--seed", 7, "--batch_size", 4)
        model, images = wide.loaded()
        plain = {image: oracle.forward(model, x)[1] for image, x in images.items()}
        averaged = Counter()
        for image, record in records(wide.out).items():
            assert tuple(record) == (*self.KEYS, *self.RESULTS, "gain", "gain_label", "draws")
            assert (record["method"], record["path"]) == ("random", paths[image])
            label, sums = record["label"], torch.stack([h.sum(0) for h in plain[image]])
            drawn = [draw["path"] for draw in record["draws"]]
            assert drawn == matched_paths(sums, paths[image], image, 7)
            for path in drawn:
                assert_matched(sums.tolist(), paths[image], path)
            totals = [torch.zeros(NUM_CLASSES) for _ in range(3)]
            for draw in record["draws"]:
                assert tuple(draw) == ("path", *self.RESULTS, "gain", "gain_label")
                edited = [
                    oracle.edited(model, images[image], oracle.path_factors(model, draw["path"], factor))
                    for factor in (0, 2, 0.5)
                ]
                p = [x[label].item() for x in edited]
                assert [draw["remove"], draw["enhance"], *draw["gain"]] == pytest.approx(p, rel=1e-9)
                predicted = [x.argmax().item() for x in edited]
                assert [draw["remove_label"], draw["enhance_label"], *draw["gain_label"]] == predicted
                totals = [a + b / 5 for a, b in zip(totals, edited, strict=True)]
                averaged[predicted[0]] += 1
            assert [record["remove"], record["enhance"], *record["gain"]] == pytest.approx(
                [x[label].item() for x in totals], rel=1e-9
            )
            assert [record["remove_label"], record["enhance_label"], *record["gain_label"]] == [
                x.argmax().item() for x in totals
            ]
            assert record["original"] == pytest.approx(oracle.forward(model, images[image])[0][label].item(), rel=1e-9)
        assert len(averaged) > 1

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_ranks_of_the_control_are_taken_in_float64(self, tmp_path, image_folder, capsys, pool):
        """Units that fp32 cannot tell apart: its ranks could differ between batch sizes."""
        model = random_model(tiny_config(pool, mlp_dim=90), seed=5, scale=0.25, dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        for block in model.blocks:
            for weight in (block.mlp.fc1.weight, block.mlp.fc1.bias):
                weight.copy_(weight[:1] * (1 + 1e-7 * torch.randn(weight.shape, generator=generator)))
        save(model, tmp_path / "near.pth")
        run = Run(tmp_path / "near.pth", image_folder, tmp_path, capsys, pool)
        paths = write_paths(run.ja, units=90)
        model, images = run.loaded()
        sums = {image: torch.stack([h.sum(0) for h in oracle.forward(model, x)[1]]) for image, x in images.items()}
        exact = {image: matched_paths(sums[image], paths[image], image, 42) for image in IMAGES}
        coarse = {image: matched_paths(sums[image].float(), paths[image], image, 42) for image in IMAGES}
        assert exact != coarse
        for i, size in enumerate((1, 4, 100)):
            run("--method", "random", "--batch_size", size, out=tmp_path / f"out{i}")
            found = records(tmp_path / f"out{i}")
            assert {image: [draw["path"] for draw in r["draws"]] for image, r in found.items()} == exact

    def test_factor_1_is_the_original_exactly(self, wide):
        write_paths(wide.ja, units=90)
        wide("--gain", 1, 0, 2)
        for record in records(wide.out).values():
            assert record["gain"] == [record["original"], record["remove"], record["enhance"]]
            labels = [record[f"{operation}_label"] for operation in ("original", "remove", "enhance")]
            assert record["gain_label"] == labels

    @pytest.mark.parametrize("method", ["ja", "random"])
    def test_batches_do_not_matter(self, wide, tmp_path, method):
        write_paths(wide.ja, units=90)
        more = ("--method", method, "--gain", 0.5, 3)
        wide(*more)
        expected = records(wide.out)
        for i, (option, value) in enumerate([("batch", 1), ("batch", 4), ("internal_batch", 1), ("internal_batch", 3)]):
            wide(*more, f"--{option}_size", value, out=tmp_path / f"out{i}")
            assert_same(records(tmp_path / f"out{i}"), expected)

    def test_seed_matters_to_the_control_alone(self, run, tmp_path):
        write_paths(run.ja)
        for method in ("ja", "random"):
            outs = [tmp_path / f"{method}{seed}" for seed in (1, 2)]
            for seed, out in enumerate(outs, 1):
                run("--method", method, "--seed", seed, out=out)
            a, b = (records(out) for out in outs)
            assert (a == b) == (method == "ja")

    def test_args_say_what_made_them(self, run):
        write_paths(run.ja)
        run("--gain", 0.5, 3, "--seed", 7)
        args = json.loads((run.out / "imgnet_all.args.json").read_text())
        assert args["job"] == "edit"
        expected = {"method": "ja", "operation": "remove_enhance", "gain": [0.5, 3.0], "seed": 7, "precision": "fp32"}
        assert expected.items() <= args["settings"].items()
        assert {"ja_path": str(run.ja), "input_prefix": "imgnet_all", "method": "ja"}.items() <= args["options"].items()

    def test_default_folders(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr("neuronpath.files.ROOT", tmp_path)
        write_paths(tmp_path / "results" / "ja" / "tiny")
        write_paths(tmp_path / "results" / "influence_pattern" / "tiny", "path")
        words = ["--dataset", "imagefolder", "--num_workers", "0", "--pretrain_weight", str(run.checkpoint)]
        for method in ("ja", "base", "influence_pattern", "random"):
            if method == "base":
                write_paths(tmp_path / "results" / "ja" / "tiny", "base")
            elif method == "random":
                write_paths(tmp_path / "results" / "ja" / "tiny")
            given = [*words, "--dataset_path", str(run.images), "--method", method]
            assert cli.command(lambda given=given: job.main(Edit("cls"), "", given)) == 0
            assert list(records(tmp_path / "results" / "edit" / "remove_enhance" / method / "tiny")) == IMAGES

    def test_prefixes(self, run):
        write_paths(run.ja)
        for file in run.ja.iterdir():
            file.rename(file.with_name(file.name.replace("imgnet_all", "mine")))
        assert "imgnet_all" in run.refused()
        run("--input_prefix", "mine", "--output_prefix", "yours")
        assert list(records(run.out, "yours")) == IMAGES

    def test_a_part_of_the_images(self, run):
        paths = write_paths(run.ja)
        for label in (0, 2):
            (run.ja / f"imgnet_all-{label}.rlt.jsonl").unlink()
        run("--labels", "1,3", "--images_per_class", 2)
        found = records(run.out)
        assert list(found) == ["class1/00.png", "class3/00.png", "class3/01.png"]
        assert all(record["path"] == paths[image] for image, record in found.items())


class TestGoingOn:
    def test_after_a_kill(self, run):
        write_paths(run.ja)
        more = ("--method", "random", "--gain", 0.5)
        run(*more)
        before, file = records(run.out), run.out / "imgnet_all-3.rlt.jsonl"
        whole = contents(run.out)
        assert "0 new, 11 from earlier" in run(*more)
        assert contents(run.out) == whole
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:2]) + lines[2][:50])
        (run.out / "imgnet_all-1.rlt.jsonl").unlink()
        assert "4 new, 7 from earlier" in run(*more, "--batch_size", 3)
        assert_same(records(run.out), before)

    def test_selection_grows(self, run, tmp_path):
        write_paths(run.ja)
        run(out=tmp_path / "whole")
        run("--images_per_class", 1)
        assert list(records(run.out)) == [f"class{label}/00.png" for label in range(4)]
        assert "7 new, 4 from earlier" in run()
        assert_same(records(run.out), records(tmp_path / "whole"))

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--method", "base"), "method ja → base"),
            (("--gain", "0.5"), "gain [3.0] → [0.5]"),
            (("--gain", "3", "0.5"), "gain [3.0] → [3.0, 0.5]"),
            ((), "gain [3.0] → None"),
            (("--gain", "3", "--seed", "1"), "seed 42 → 1"),
            (("--gain", "3", "--precision", "fp64"), "precision fp32 → fp64"),
        ],
    )
    def test_other_settings_are_refused(self, run, more, words):
        write_paths(run.ja)
        run("--gain", 3)
        if "base" in more:
            write_paths(run.ja, "base")
            more = (*more, "--gain", "3")
        before = contents(run.out)
        message = run(*more, code=2)
        assert words in message
        assert "\n" not in message
        assert contents(run.out) == before
        run(*more, "--overwrite")
        assert list(records(run.out)) == IMAGES

    @pytest.mark.parametrize("method", ["ja", "random"])
    def test_other_paths_are_refused(self, run, method):
        paths = write_paths(run.ja)
        run("--method", method)
        before, other = contents(run.out), [[(layer[0] + 1) % 28] for layer in paths["class3/01.png"]]
        change(run.ja / "imgnet_all-3.rlt.jsonl", 1, ja=other)
        message = run("--method", method, code=2)
        assert f"{run.out / 'imgnet_all-3.rlt.jsonl'}, line 2" in message
        assert "path" in message
        assert contents(run.out) == before
        run("--method", method, "--labels", "0-2")
        run("--method", method, "--overwrite")
        assert records(run.out)["class3/01.png"]["path"] == other

    def test_folder_of_the_search_is_refused(self, run):
        run.search()
        before = contents(run.ja)
        for more in ((), ("--overwrite",)):
            assert "joint_attr" in run(*more, out=run.ja, code=2)
        assert contents(run.ja) == before

    @pytest.mark.parametrize("key", ["remove", "enhance_label", "path", "method", "original"])
    def test_records_that_lack_something(self, run, key):
        write_paths(run.ja)
        run()
        file = run.out / "imgnet_all-0.rlt.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        del lines[1][key]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        message = run(code=2)
        assert f"{file}, line 2" in message
        assert key in message


class TestPaths:
    """What is read of the search, and what is said when it does not fit."""

    def test_image_without_a_path(self, run):
        paths = write_paths(run.ja)
        file = run.ja / "imgnet_all-3.rlt.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:1] + lines[2:]))
        message = run.refused()
        assert "class3/01.png" in message
        assert str(run.ja) in message
        assert "--on_bad_image skip" in message
        listed = run.out / "imgnet_all.skipped.jsonl"
        for _ in range(2):
            assert str(listed) in run("--on_bad_image", "skip", code=3)
            found = records(run.out)
            assert list(found) == [image for image in IMAGES if image != "class3/01.png"]
            assert all(record["path"] == paths[image] for image, record in found.items())
            (entry,) = (json.loads(line) for line in listed.read_text().splitlines())
            assert (entry["image"], entry["label"]) == ("class3/01.png", 3)
            assert str(run.ja) in entry["error"]
        write_paths(run.ja)
        assert "1 new, 10 from earlier" in run("--on_bad_image", "skip")
        assert list(records(run.out)) == IMAGES
        assert not listed.exists()

    def test_unreadable_image_and_image_without_a_path(self, run):
        write_paths(run.ja)
        (run.ja / "imgnet_all-1.rlt.jsonl").unlink()
        (run.images / "class3" / "02.png").write_text("no image")
        run("--on_bad_image", "skip", "--batch_size", 2, code=3)
        skipped = (run.out / "imgnet_all.skipped.jsonl").read_text().splitlines()
        assert [json.loads(line)["image"] for line in skipped] == ["class1/00.png", "class3/02.png"]
        assert list(records(run.out)) == [i for i in IMAGES if i not in ("class1/00.png", "class3/02.png")]

    def test_label_file_missing(self, run):
        write_paths(run.ja)
        (run.ja / "imgnet_all-2.rlt.jsonl").unlink()
        message = run.refused()
        assert "class2/00.png" in message
        assert str(run.ja) in message
        run("--on_bad_image", "skip", code=3)
        assert list(records(run.out)) == [image for image in IMAGES if LABELS[image] != 2]

    @pytest.mark.parametrize(
        ("method", "option", "name"),
        [("ja", "--ja_path", "ja"), ("base", "--ja_path", "ja"), ("random", "--ja_path", "ja"),
         ("influence_pattern", "--influence_pattern_path", "influence")],
    )  # fmt: skip
    def test_folder_missing(self, run, method, option, name):
        write_paths({"ja": run.influence, "influence": run.ja}[name])
        message = run.refused("--method", method)
        assert str(run.influence if name == "influence" else run.ja) in message
        assert option in message

    def test_empty_folder(self, run):
        run.ja.mkdir()
        assert IMAGES[0] in run.refused()
        run("--on_bad_image", "skip", code=3)
        assert not list(run.out.glob("*.rlt.jsonl"))

    @pytest.mark.parametrize(
        "path",
        [
            [[1]] * 5,
            [[1]] * 7,
            [[1]] * 5 + [[28]],
            [[1]] * 5 + [[-1]],
            [[1]] * 5 + [[3, 3]],
            [[1]] * 5 + [[]],
            [[1]] * 5 + [["1"]],
            [[1]] * 5 + [[1.0]],
            [[1]] * 5 + [[True]],
            [[1]] * 5 + [3],
            [1] * 6,
            "path",
            None,
            {},
        ],
        ids=str,
    )
    def test_bad_path(self, run, path):
        write_paths(run.ja)
        file = run.ja / "imgnet_all-2.rlt.jsonl"
        change(file, 1, ja=path)
        for method in ("ja", "random"):
            message = run.refused("--method", method)
            assert str(file) in message
            assert "class2/01.png" in message
        assert str(file) in run.refused("--on_bad_image", "skip")
        run("--labels", "0,1,3")

    @pytest.mark.parametrize("method", ["ja", "random"])
    @pytest.mark.parametrize("where", ["layers", "images"])
    def test_paths_of_several_lengths_are_no_traceback(self, run, method, where):
        """Edited each as it is, or refused in one line."""
        paths = write_paths(run.ja, k=2)
        path = paths["class2/01.png"]
        path = [*path[:-1], path[-1][:1]] if where == "layers" else [layer[:1] for layer in path]
        change(run.ja / "imgnet_all-2.rlt.jsonl", 1, ja=path)
        code = cli.command(lambda: job.main(Edit("cls"), "", run.given("--method", method)))
        (last, *_) = messages(run.capsys.readouterr().err) or [""]
        assert code == 0 or (code == 2 and "class2/01.png" in last)

    def test_paths_that_leave_too_few_units_for_the_control(self, run):
        """28 units, 15 of them the path's: 13 cannot stand for 15."""
        write_paths(run.ja, k=15)
        run("--method", "ja")
        code = cli.command(lambda: job.main(Edit("cls"), "", run.given("--method", "random", out=run.out / "random")))
        assert code == 2

    def test_records_of_another_search(self, run):
        write_paths(run.ja, "path")
        write_paths(run.influence, "ja")
        for method, folder in (("ja", run.ja), ("base", run.ja), ("influence_pattern", run.influence)):
            assert str(folder) in run.refused("--method", method)

    @pytest.mark.parametrize("line", ["", "{", "3", '{"image": "class2/01.png", "ja": NaN}'])
    def test_broken_line(self, run, line):
        write_paths(run.ja)
        file = run.ja / "imgnet_all-2.rlt.jsonl"
        first, _ = file.read_text().splitlines()
        file.write_text(f"{first}\n{line}\n")
        assert f"{file}, line 2" in run.refused()

    def released(self, run, label: int, paths: list) -> Path:
        """A label file as the authors' scripts write it: one list, no images, flat paths."""
        file = run.ja / f"imgnet_all-{label}.rlt.jsonl"
        lines = [{"label": [label], "ja": [[u for (u,) in path]], "ja_score": [[0.5]]} for path in paths]
        file.write_text(json.dumps(lines) + "\n")
        return file

    def test_released_records_are_joined_by_position(self, run, tmp_path):
        paths = write_paths(run.ja)
        run(out=tmp_path / "ours")
        for label in (0, 1, 3):
            file = self.released(run, label, [paths[image] for image in IMAGES if LABELS[image] == label])
        run()
        assert_same(records(run.out), records(tmp_path / "ours"))
        warned = [line for line in run.stderr.splitlines() if "warning" in line]
        assert sum("position" in line for line in warned) == 3
        assert any(str(file) in line for line in warned)

    def test_released_records_and_a_part_of_the_images(self, run):
        paths = write_paths(run.ja)
        self.released(run, 3, [paths[image] for image in IMAGES if LABELS[image] == 3])
        run("--images_per_class", 2)
        found = records(run.out)
        assert all(record["path"] == paths[image] for image, record in found.items())
        assert sum(image.startswith("class3") for image in found) == 2

    @pytest.mark.parametrize("count", [0, 4, 6])
    def test_released_records_of_another_count_are_refused(self, run, count):
        paths = write_paths(run.ja)
        own = [paths[image] for image in IMAGES if LABELS[image] == 3]
        file = self.released(run, 3, (own * 2)[:count])
        if count:
            message = run.refused()
            assert str(file) in message
            assert "position" in message
        else:
            assert "class3/00.png" in run.refused()

    def test_found_in_other_circumstances(self, run, tmp_path):
        run.search()
        run()
        assert "warning" not in run.stderr
        run("--preprocess", "native", "--img_size", 12, out=tmp_path / "other")
        (warned,) = (line for line in run.stderr.splitlines() if "warning" in line and "other settings" in line)
        assert "preprocess paper → native" in warned
        assert "model_img_size 9 → 12" in warned
        assert str(run.ja) in warned

    def test_found_on_other_images_or_for_another_target(self, run, tmp_path):
        run.search(JointAttribution, run.ja, "--target", "pred")
        run("--dataset", "digits")
        (warned,) = (line for line in run.stderr.splitlines() if "other settings" in line)
        assert "dataset imagefolder → digits" in warned
        assert "target pred → label" in warned
        paths = Args.read(run.out / "imgnet_all.args.json").paths
        assert {"target": "pred", "quadrature": "right", "ig_total_step": STEPS}.items() <= paths.items()

    @pytest.mark.parametrize("method", ["ja", "random", "influence_pattern"])
    def test_found_on_other_weights(self, run, tmp_path, method):
        kind, folder = (
            (InfluencePattern, run.influence) if method == "influence_pattern" else (JointAttribution, run.ja)
        )
        run.search(kind, folder)
        other = tmp_path / "other.npz"
        save(random_model(tiny_config(), seed=1, dtype=torch.float32), other)
        message = run.refused("--method", method, checkpoint=other)
        assert "other weights" in message
        assert "--allow_other_weights" in message
        assert str(folder) in message
        run("--method", method, "--allow_other_weights", checkpoint=other)
        assert any("checkpoint_sha256" in line for line in run.stderr.splitlines() if "warning" in line)
        assert list(records(run.out)) == IMAGES

    def test_another_precision_or_data_set_is_refused_on_resuming(self, run):
        write_paths(run.ja)
        run("--labels", "0,1")
        assert "precision fp32 → fp64" in run("--precision", "fp64", code=2)
        assert "dataset imagefolder → digits" in run("--dataset", "digits", code=2)

    def test_search_that_is_being_overwritten(self, run):
        write_paths(run.ja)
        (run.ja / "imgnet_all-1.rlt.jsonl.partial").touch()
        assert "imgnet_all-1.rlt.jsonl" in run.refused()


class TestFaults:
    @pytest.mark.parametrize(("pool", "other"), [("cls", "mean"), ("mean", "cls")])
    def test_the_other_head_names_its_script(self, run, tmp_path, pool, other):
        write_paths(run.ja)
        file = tmp_path / "other.pth"
        save(random_model(tiny_config(other), dtype=torch.float32), file)
        run.pool = pool
        message = run.refused(checkpoint=file)
        assert SCRIPTS[other] in message
        assert SCRIPTS[pool] not in message
        assert (ROOT / SCRIPTS[other]).is_file()

    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--method", "nonsense", "nonsense"),
            ("--method", "", "--method"),
            ("--meth", "ja", "--meth"),
            ("--gain", "much", "much"),
            ("--gain", "nan", "nan"),
            ("--gain", "inf", "inf"),
            ("--seed", "-1", "--seed"),
            ("--input_prefix", "a/b", "a/b"),
            ("--topK", "3", "--topK"),
            ("--target", "pred", "--target"),
            ("--ig_total_step", "3", "--ig_total_step"),
        ],
    )
    def test_bad_options(self, run, option, value, word):
        write_paths(run.ja)
        assert word in run.refused(option, value)

    def test_help_names_every_option(self, capsys):
        for pool in ("cls", "mean"):
            with pytest.raises(SystemExit) as caught:
                cli.command(lambda pool=pool: job.main(Edit(pool), "", ["--help"]))
            assert not caught.value.code
            text = capsys.readouterr().out
            options = "dataset dataset_path output_dir output_prefix model_type pretrain_weight img_size preprocess"
            options += " method ja_path influence_pattern_path input_prefix gain batch_size internal_batch_size labels"
            options += " images_per_class device no_cuda precision num_workers seed on_bad_image overwrite"
            assert all(f"--{option} " in text for option in options.split())

    def test_probabilities_that_are_not_finite_name_the_image(self, run):
        write_paths(run.ja)
        message = run("--gain", 1e38, "--batch_size", 2, code=2)
        assert IMAGES[0] in message
        assert "finite" in message
        assert not records(run.out)

    def test_short_memory_halves_the_rows(self, run, monkeypatch, tmp_path):
        write_paths(run.ja)
        run(out=tmp_path / "whole")
        whole, rows = edit, []

        def short(*given, internal_batch_size, **named):
            rows.append(internal_batch_size)
            if internal_batch_size > 3:
                raise torch.OutOfMemoryError("out of memory")
            return whole(*given, internal_batch_size=internal_batch_size, **named)

        monkeypatch.setattr("neuronpath.runs.editing.edit", short)
        run("--internal_batch_size", 12)
        assert rows[:3] == [12, 6, 3]
        assert_same(records(run.out), records(tmp_path / "whole"))


class TestScripts:
    """In processes of their own."""

    def test_vit_from_the_root(self, run):
        paths = write_paths(run.ja)
        result = run_script(SCRIPTS["cls"], *run.given("--method", "random", "--num_workers", 1))
        assert result.returncode == 0, result.stderr
        assert messages(result.stderr) == []
        assert str(run.out) in result.stdout
        assert [record["path"] for record in records(run.out).values()] == list(paths.values())

    def test_mae_from_its_own_folder_with_relative_paths(self, wide):
        """For the other kind of checkpoint it names the other script."""
        write_paths(wide.ja, units=90)
        here = (ROOT / SCRIPTS["mean"]).parent
        words = [os.path.relpath(word, here) if word.startswith("/") else word for word in wide.given()]
        result = run_script(SCRIPTS["mean"], *words, cwd=here)
        if wide.pool == "mean":
            assert result.returncode == 0, result.stderr
            assert list(records(wide.out)) == IMAGES
        else:
            assert result.returncode == 2
            (message,) = messages(result.stderr)
            assert message.startswith("edit.py: ")
            assert SCRIPTS["cls"] in message
            assert not wide.out.exists()
