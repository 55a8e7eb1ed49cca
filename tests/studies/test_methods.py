"""What scripts/study_methods.py measures of every image, against the literal oracle, on tiny models in float64."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from foreign import timm_vit
from helpers import problem, random_model, tiny_config

from neuronpath import Beam, Quadrature, Shortlist, find_path
from neuronpath.attribution.activations import Others
from neuronpath.attribution.controls import matched_paths, noisy
from neuronpath.models.adapted import adapt
from neuronpath.studies import methods as study
from neuronpath.studies.methods import METHODS, Images, Subject, block_passes, compare_methods, measure
from neuronpath.studies.parts import METHOD_NAMES

N, FEW, KS = 5, 2, (1, 2, 5, 10)
NOISY = [0, 2, 4]  # about FEW of N
STD = (0.02, 0.03, 0.05)  # small, so that the noise is large and paths change
SEED = 42
FOUR = {"rule": "gauss-radau", "m": 4}
#: By method the path of one image, the best K of every layer, literally.
PATHS = {
    "layer": lambda model, x, y, K: oracle.search(model, x, y, **FOUR, K=K)[0],
    "influence_pattern": lambda model, x, y, K: oracle.best(oracle.influence(model, x, y, **FOUR), K),
    "gradient_activation": lambda model, x, y, K: oracle.best(oracle.gradient_activation(model, x, y), K),
    "conductance": lambda model, x, y, K: oracle.best(oracle.conductance(model, x, y, 4), K),
    "layer_ig": lambda model, x, y, K: oracle.best(oracle.layer_ig(model, x, y, **FOUR), K),
    "ablation": lambda model, x, y, K: oracle.best(oracle.ablation(model, x, y), K),
    "base": lambda model, x, y, K: oracle.activation_path(model, x, K),
}
TWO = {"shortlist": Shortlist(), "beam_4": Beam(4, Shortlist()), "beam_16": Beam(16, Shortlist())}
SINGLE = ("influence_pattern", *TWO)  # of which only the best can be had


def make(pool: str = "cls", n: int = N, **changes) -> Subject:
    model, x, y = problem(tiny_config(pool, **{"depth": 2, "mlp_dim": 24, **changes}), n)
    return Subject(model, Images(x, y, [f"{label}/ä{i}.png" for i, label in enumerate(y.tolist())], STD))


@pytest.fixture(params=["cls", "mean"])
def subject(request) -> Subject:
    return make(request.param)


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By head and method what `measured` found."""
    return {}


@pytest.fixture
def measured(subject, known):
    def of(name: str) -> dict[str, np.ndarray]:
        key = subject.model.config.pool, name
        if key not in known:
            known[key] = measure(subject, METHODS[name], FEW)
        return known[key]

    return of


def others(images: Images, i: int) -> list[torch.Tensor]:
    """The five other images that image i is resampled from."""
    pool = Others(zip(images.y.tolist(), images.names, strict=True))
    names = [next(pool.draw(images.names[i], int(images.y[i]), draw, SEED))[1] for draw in range(5)]
    return [images.x[images.names.index(name)] for name in names]


def effects(subject: Subject, i: int, path: list[list[int]]) -> dict[str, float]:
    """Of one image what its path scores, and p and whether the label is predicted before and after every edit."""
    model, x, y = subject.model, subject.images.x[i], int(subject.images.y[i])
    means, tokens = oracle.means(model, subject.images.x), model.num_neuron_tokens
    after = {
        "": [oracle.forward(model, x)[0]],
        "_zero": [oracle.edited(model, x, oracle.path_factors(model, path, 0))],
        "_mean": [oracle.ablated(model, x, oracle.at_means(path, means, tokens))],
        "_resample": [
            oracle.ablated(model, x, oracle.of_other(model, path, other)) for other in others(subject.images, i)
        ],
        "_double": [oracle.edited(model, x, oracle.path_factors(model, path, 2))],
    }
    values = {f"p{name}": np.mean([p[y].item() for p in several]) for name, several in after.items()}
    values |= {f"right{name}": np.mean([int(p.argmax()) == y for p in several]) for name, several in after.items()}
    return {"jas": oracle.jas(model, x, y, path, rule="gauss-legendre", m=8), **values}


def paths_of(subject: Subject, name: str, K: int) -> list[list[list[int]]]:
    """Of every image."""
    images = zip(subject.images.x, subject.images.y.tolist(), strict=True)
    return [PATHS[name](subject.model, x, y, K) for x, y in images]


def singles(paths: list[list[list[int]]]) -> list[list[int]]:
    return [[layer[0] for layer in path] for path in paths]


def drawn(subject: Subject, name: str, K: int) -> list[list[list[list[int]]]]:
    """By draw the paths of all images."""
    model, images = subject.model, subject.images
    if name == "uniform":
        found = []
        for draw in range(5):
            ranking = study.RandomUnits(seed=SEED + draw)
            whole = study.baseline_path(model, images.x, images.y, ranking, k=K, names=images.names)
            found.append(whole.path.tolist())
        return found
    own = paths_of(subject, "layer", K)
    several = [
        matched_paths(oracle.unit_weights(model, x), path, image, SEED)
        for x, path, image in zip(images.x, own, images.names, strict=True)
    ]
    return [list(draw) for draw in zip(*several, strict=True)]


def test_every_name_is_a_method_in_order():
    assert [*METHODS] == [*METHOD_NAMES]
    assert {name for name, method in METHODS.items() if method.nested is None} == {*SINGLE}
    assert {name for name, method in METHODS.items() if method.drawn} == {"uniform", "random"}
    assert study.KS == (1, 2, 5, 10, 20, 50)
    assert study.SEED == SEED


@pytest.mark.parametrize("name", PATHS)
def test_paths_equal_the_oracle(name, subject, measured):
    values = measured(name)
    assert values["path"].tolist() == [singles(paths_of(subject, name, 1))]
    images = subject.images
    x = noisy(images.x, images.names, STD, SEED)
    again = [PATHS[name](subject.model, x[i], int(images.y[i]), 1) for i in NOISY]
    assert values["again_of"].tolist() == NOISY
    assert values["again"].tolist() == singles(again)
    assert values["again"].tolist() != values["path"][0, NOISY].tolist(), "noise that changes nothing would pass"


@pytest.mark.parametrize("name", TWO)
def test_searches_with_two_nodes(name, subject, measured):
    values, images = measured(name), subject.images
    for key, x in (("path", images.x), ("again", noisy(images.x, images.names, STD, SEED))):
        paths = find_path(subject.model, x, images.y, Quadrature("gauss-radau", 2), search=TWO[name]).path[..., 0]
        assert values[key].tolist() == ([paths.tolist()] if key == "path" else paths[NOISY].tolist())


@pytest.mark.parametrize("name", ["layer", "beam_4", "gradient_activation", "base"])
def test_scores_and_edits_equal_the_oracle(name, subject, measured):
    values = measured(name)
    for i, path in enumerate(values["path"][0].tolist()):
        for key, expected in effects(subject, i, [[unit] for unit in path]).items():
            assert values[key][i] == pytest.approx(expected, rel=1e-9, abs=1e-15), (i, key)
    for after in ("zero", "mean", "resample", "double"):
        assert (abs(values[f"p_{after}"] - values["p"]) > 1e-6).all(), "an edit that changes nothing would pass"


@pytest.mark.parametrize("name", ["uniform", "random"])
def test_of_drawn_paths_the_means(name, subject, measured):
    values, draws = measured(name), drawn(subject, name, 1)
    assert values["path"].tolist() == [singles(draw) for draw in draws]
    assert len({str(draw) for draw in draws}) == 5
    for i in (0, N - 1):
        several = [effects(subject, i, draw[i]) for draw in draws]
        for key in several[0]:
            assert values[key][i] == pytest.approx(np.mean([one[key] for one in several]), rel=1e-9, abs=1e-15)
    assert not {"again", "again_of"} & values.keys(), "their noise is the generator's"


@pytest.mark.parametrize("name", ["layer", "gradient_activation", "base", "uniform", "random"])
def test_curves_equal_the_oracle(name, subject, measured):
    """Of several draws those of the first. K ends at half of the layer's 24: the control takes as many units again."""
    values, model, images = measured(name), subject.model, subject.images
    assert values["ks"].tolist() == [*KS]
    paths = paths_of(subject, name, 10) if name in PATHS else drawn(subject, name, 10)[0]
    means, tokens = oracle.means(model, images.x), model.num_neuron_tokens
    for i, (x, y, path) in enumerate(zip(images.x, images.y.tolist(), paths, strict=True)):
        for j, k in enumerate(KS):
            first = [layer[:k] for layer in path]
            removed = oracle.ablated(model, x, oracle.at_means(first, means, tokens))[y].item()
            retained = oracle.ablated(model, x, oracle.all_but(first, means, tokens))[y].item()
            assert values["removed"][i, j] == pytest.approx(removed, rel=1e-9), (i, k)
            assert values["retained"][i, j] == pytest.approx(retained, rel=1e-9), (i, k)
    assert np.ptp(values["removed"], 1).min() > 1e-6


def test_no_curves_where_only_the_best_can_be_had(measured):
    for name in SINGLE:
        assert not {"ks", "removed", "retained"} & measured(name).keys()


@pytest.mark.parametrize("name", ["base", "random"])
def test_layers_narrower_than_the_largest_k(name):
    values = measure(make(depth=1, mlp_dim=4), METHODS[name], FEW)
    assert values["ks"].tolist() == [1, 2]
    assert values["removed"].shape == values["retained"].shape == (N, 2)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.nested])
def test_of_nested_methods_the_first_of_more_is_the_best_one(name, subject):
    (one, *_), (more, *_) = (METHODS[name].find(subject, subject.images, k) for k in (1, 10))
    assert torch.equal(one[..., 0], more[..., 0])


@pytest.mark.parametrize("name", METHODS)
def test_batches_do_not_matter(name, subject, measured, monkeypatch):
    whole = measured(name)
    monkeypatch.setattr(study, "AT_ONCE", 2)
    parts = measure(subject, METHODS[name], FEW)
    assert parts.keys() == whole.keys()
    for key in whole.keys() - {"seconds", "cpu_seconds"}:
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-9, atol=1e-15, err_msg=key)


def test_the_control_is_drawn_in_float64_whatever_the_model_is_in(subject, monkeypatch):
    asked = []
    draws = study.matched_draws
    monkeypatch.setattr(
        study, "matched_draws", lambda model, *a, **k: asked.append(model.dtype) or draws(model, *a, **k)
    )
    images = replace(subject.images, x=subject.images.x.float())
    model = random_model(subject.model.config, dtype=torch.float32)
    METHODS["random"].find(Subject(model, images), images, 1)
    assert asked == [torch.float64]
    assert model.dtype == torch.float32


def test_what_is_evenly_spread():
    for n, count, expected in (
        (10, 5, [0, 2, 4, 6, 8]),
        (5, 2, [0, 2, 4]),
        (3, 50, [0, 1, 2]),
        (100, 10, [*range(0, 100, 10)]),
    ):
        assert [*range(n)][study.spread(n, count)] == expected


@pytest.mark.parametrize("part", ["names", "y", "x"])
def test_the_digest_is_of_all_that_is_explained(part, subject):
    images = subject.images
    other = {"names": [*images.names[:-1], "z"], "y": images.y.flip(0), "x": images.x + 1e-3}[part]
    changed = replace(images, **{part: other})
    assert changed.digest() != images.digest()
    assert images.digest() == replace(images, x=images.x.clone()).digest()
    assert len(images.digest()) == 8


class TestBlockPasses:
    def test_the_activation_path_costs_a_forward(self):
        subject = make(depth=12, width=64, num_heads=4, mlp_dim=256)
        assert 11 < block_passes(subject, METHODS["base"]) < 12.5

    def test_are_per_image(self):
        few, more = (block_passes(make(n=n), METHODS["layer"]) for n in (2, 6))
        assert few == pytest.approx(more, rel=1e-9)

    def test_are_counted_on_about_ten_images(self, monkeypatch):
        asked = []
        monkeypatch.setattr(study, "COUNTED", 2)
        method = study.Method(lambda subject, of, k: asked.append((of.names, k)))
        subject = make()
        assert block_passes(subject, method) == 0
        assert asked == [([subject.images.names[i] for i in NOISY], 1)]

    def test_products_of_another_library_are_not_known(self):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        images = Images(x, torch.tensor([0, 2]), ["a", "b"], STD)
        subject = Subject(adapt(timm_vit(), img_size=8), images)
        assert np.isnan(block_passes(subject, METHODS["base"]))
        assert measure(subject, METHODS["base"], 1)["path"].shape == (1, 2, 2)


class TestCompareMethods:
    METHODS = ("gradient_activation", "base")

    def refuse(self, monkeypatch) -> None:
        def fails(*given):
            raise AssertionError("nothing is to be computed")

        monkeypatch.setattr(study, "measure", fails)
        monkeypatch.setattr(study, "block_passes", fails)

    def test_what_is_kept_is_not_computed_again(self, tmp_path, monkeypatch):
        subject, kept = make(), tmp_path / "new/kept"
        found = compare_methods("ViT", subject, self.METHODS, kept, FEW)
        assert [*found] == [*self.METHODS]
        expected = [f"ViT-{subject.images.digest()}-{FEW}-{name}.npz" for name in self.METHODS]
        assert sorted(file.name for file in kept.iterdir()) == sorted(expected)
        self.refuse(monkeypatch)
        again = compare_methods("ViT", make(), self.METHODS, kept, FEW)
        for name in self.METHODS:
            assert again[name].keys() == found[name].keys()
            assert all(np.array_equal(again[name][key], found[name][key]) for key in found[name])

    def test_they_are_what_measure_finds_and_the_block_passes(self, tmp_path):
        subject = make()
        found = compare_methods("ViT", subject, ["base"], tmp_path, FEW)["base"]
        expected = measure(subject, METHODS["base"], FEW)
        assert found.keys() == {*expected, "block_passes"}
        for key in expected.keys() - {"seconds", "cpu_seconds"}:
            assert np.array_equal(found[key], expected[key]), key
        assert found["block_passes"] == block_passes(subject, METHODS["base"])

    @pytest.mark.parametrize("changed", ["images", "few", "name", "method"])
    def test_of_anything_else_there_is_another_file(self, changed, tmp_path, monkeypatch):
        subject = make()
        compare_methods("ViT", subject, ["base"], tmp_path, FEW)
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        given = {"name": "ViT", "subject": subject, "methods": ["base"], "few": FEW}
        images = replace(subject.images, x=subject.images.x + 1)
        given |= {
            "images": {"subject": Subject(subject.model, images)},
            "few": {"few": 1},
            "name": {"name": "MAE"},
            "method": {"methods": ["gradient_activation"]},
        }[changed]
        compare_methods(kept=tmp_path, **given)
        assert len([*tmp_path.iterdir()]) == 2
        assert all(file.read_bytes() == content for file, content in before.items())
        self.refuse(monkeypatch)
        compare_methods("ViT", subject, ["base"], tmp_path, FEW)

    def test_a_killed_run_goes_on_with_the_next_method(self, tmp_path, monkeypatch):
        subject, asked, original = make(), [], study.measure

        def killed(subject, method, few):
            asked.append(method)
            if method is METHODS["base"]:
                raise KeyboardInterrupt
            return original(subject, method, few)

        monkeypatch.setattr(study, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            compare_methods("ViT", subject, self.METHODS, tmp_path, FEW)
        assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]
        monkeypatch.setattr(study, "measure", lambda *given: asked.append(given[1]) or original(*given))
        assert [*compare_methods("ViT", subject, self.METHODS, tmp_path, FEW)] == [*self.METHODS]
        assert asked == [METHODS["gradient_activation"], METHODS["base"], METHODS["base"]]
