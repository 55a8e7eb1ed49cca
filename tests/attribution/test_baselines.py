"""The baselines beyond the paper's: against literal loops, Captum, completeness, and what they cost."""

from itertools import product

import oracle
import pytest
import timm
import torch
from helpers import KINDS, SHAPES, problem, random_model, tiny_config
from torch.nn.attention import SDPBackend, sdpa_kernel

import neuronpath
from neuronpath import Quadrature, score_path
from neuronpath.attribution.baselines import Layers, baseline_path
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.objectives import OBJECTIVES
from neuronpath.attribution.quadrature import RULES
from neuronpath.attribution.rankings import RANKINGS, Ablation, LayerIG, RandomUnits
from neuronpath.errors import NonFiniteError
from neuronpath.models.vit import VisionTransformer
from neuronpath.studies.cost import CountFlops, block_flops

IMAGES, M = 3, 3
NAMES = [f"class/{i}.png" for i in range(IMAGES)]
SCORED = [name for name in RANKINGS if name != "random"]
MIDPOINT = Quadrature("midpoint", 3)
#: Pairwise different sizes, both heads; the neuron token of "mean-1" is not the first.
SIZES = {
    **{kind: tiny_config(kind, depth=3) for kind in KINDS},
    "cls-2": SHAPES["cls-2"],
    "mean-registers": SHAPES["mean-registers"],
    "one-layer": SHAPES["one-layer"],
}


def make(name: str, count: int = IMAGES):
    return problem(SIZES[name], count, seed=3)


def layers_of(model, images, labels, quadrature, rows=7, objective="probability") -> Layers:
    given = {"objective": OBJECTIVES[objective], "differentiable": True}
    return Layers(Problem.of(model, images, labels, quadrature, rows, **given), images)


def scores_of(name: str, layers: Layers) -> list[torch.Tensor]:
    return layers.ablation(None)[0] if name == "ablation" else getattr(layers, name)()


def expected_scores(name, model, image, label, rule, m, objective="probability") -> list[list[float]]:
    more = {"conductance": (m,), "layer_ig": (rule, m)}.get(name, ())
    return getattr(oracle, name)(model, image, label, *more, objective)


CASES = [
    *product(SIZES, SCORED, ["right"], ["probability"]),
    *product(["cls", "mean"], ["gradient_activation", "conductance", "layer_ig"], [*RULES], ["probability"]),
    *product(["cls", "mean"], SCORED, ["gauss-radau"], ["logit", "sigmoid"]),
]


@pytest.mark.parametrize(("name", "method", "rule", "objective"), [*dict.fromkeys(CASES)])
def test_scores_choices_and_jas_equal_the_oracle(name, method, rule, objective):
    model, images, labels = make(name)
    quadrature = Quadrature(rule, M)
    found = scores_of(method, layers_of(model, images, labels, quadrature, objective=objective))
    ranking = Ablation(None) if method == "ablation" else method
    named = {"objective": objective, "internal_batch_size": 7}
    paths = {k: baseline_path(model, images, labels, ranking, quadrature, k=k, **named) for k in (1, 3)}
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        scores = expected_scores(method, model, image, label, rule, M, objective)
        for layer, expected in enumerate(scores):
            assert found[layer][i].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-14)
        for k, of in paths.items():
            path = oracle.best(scores, k)
            assert of.path[i].tolist() == path
            jas = oracle.jas(model, image, label, path, rule=rule, m=M, objective=objective)
            assert of.score[i].item() == pytest.approx(jas, rel=1e-9, abs=1e-15)
            ranked = [sorted(s, reverse=True) for s in scores]
            margins = [(r[k - 1] - r[k]) / max(map(abs, r)) for r in ranked]
            assert of.margin[i].tolist() == pytest.approx(margins, rel=1e-7, abs=1e-11)
    torch.testing.assert_close(paths[1].logits, model(images), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["cls", "mean"])
@pytest.mark.parametrize("k", [1, 3])
def test_ablation_of_the_best_by_gradient_activation(name, k):
    """Few candidates: exact scores decide among them alone, and the margin is among them."""
    _, images, labels = make(name)
    model = random_model(SIZES[name], scale=0.8)  # so curved that the gradient alone errs
    found = baseline_path(model, images, labels, Ablation(4), MIDPOINT, k=k)
    some = baseline_path(model, images, labels, Ablation(k), MIDPOINT, k=k)
    other = 0
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        first = oracle.best(oracle.gradient_activation(model, image, label), 4)
        drops = oracle.ablation(model, image, label)
        other += oracle.best(drops, k) != some.path[i].tolist()
        for layer, candidates in enumerate(first):
            order = sorted(candidates, key=lambda j: -drops[layer][j])
            assert found.path[i, layer].tolist() == order[:k]
            values = [drops[layer][j] for j in order]
            margin = (values[k - 1] - values[k]) / max(map(abs, values))
            assert found.margin[i, layer].item() == pytest.approx(margin, rel=1e-7)
            assert some.path[i, layer].tolist() == sorted(candidates[:k], key=lambda j: -drops[layer][j])
        assert some.margin[i].tolist() == [1] * len(first)
    assert other, "candidates must matter"
    every = [baseline_path(model, images, labels, Ablation(n), MIDPOINT).path for n in (None, 28, 10**6)]
    assert torch.equal(every[0], every[1])
    assert torch.equal(every[0], every[2])


@pytest.mark.parametrize("method", RANKINGS)
@pytest.mark.parametrize("name", KINDS)
def test_batches_orders_and_internal_batches_do_not_matter(name, method):
    model, images, labels = make(name)
    quadrature, k = Quadrature("right", 4), 2

    def find(at, rows=None):
        given = {"k": k, "names": [NAMES[i] for i in at], "internal_batch_size": rows}
        return baseline_path(model, images[at], labels[at], method, quadrature, **given)

    whole = find([0, 1, 2], 1000)
    for at, rows in (([0, 1, 2], 1), ([0, 1, 2], 2), ([0, 1, 2], 7), ([2, 0, 1], 5), ([0], None), ([1], 3), ([2], 1)):
        found = find(at, rows)
        assert torch.equal(found.path, whole.path[at])
        torch.testing.assert_close(found.score, whole.score[at], rtol=1e-9, atol=0)
        torch.testing.assert_close(found.margin, whole.margin[at], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_completeness_of_layer_integrated_gradients(name):
    """Σ_j s_j = F - F(h = 0), of every layer."""
    model, images, labels = make(name)
    found = layers_of(model, images, labels, Quadrature("gauss-legendre", 100), 500).layer_ig()
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        F, hidden = oracle.forward(model, image)
        for layer, scores in enumerate(found):
            without = oracle.forward(model, image, {layer: torch.zeros_like(hidden[layer])})[0]
            assert abs(F[label] - without[label]) > 1e-4
            assert scores[i].sum().item() == pytest.approx((F - without)[label].item(), abs=1e-10)


class Shuffled(VisionTransformer):
    """The same model, its tokens in another order, so that the neuron tokens are an index: attention does not know."""

    ORDER = torch.tensor([4, 1, 0, 7, 9, 2, 8, 3, 6, 5])  # which token stands there
    INVERSE = ORDER.argsort()
    neuron_tokens = property(lambda self: self.INVERSE[1:])
    other_tokens = property(lambda self: self.INVERSE[:1])

    def join(self, neuron, other):
        return torch.cat((other, neuron), 1)[:, self.ORDER]

    def embed(self, x):
        return super().embed(x)[:, self.ORDER]


@pytest.mark.parametrize("method", SCORED)
def test_where_the_neuron_tokens_stand_does_not_matter(method):
    model, images, labels = make("mean")
    moved = Shuffled(model.config).double().eval().requires_grad_(False)
    moved.load_state_dict(model.state_dict())
    found, expected = (baseline_path(m, images, labels, method, MIDPOINT, k=3) for m in (moved, model))
    assert torch.equal(found.path, expected.path)
    torch.testing.assert_close(found.score, expected.score, rtol=1e-9, atol=0)


class TestRandom:
    def test_seed_image_and_layer_decide(self):
        model, images, labels = make("cls")
        given = {"quadrature": MIDPOINT, "k": 5}
        found = baseline_path(model, images, labels, "random", names=NAMES, **given).path
        assert torch.equal(found, baseline_path(model, images, labels, RandomUnits(42), names=NAMES, **given).path)
        other = baseline_path(model, images, labels, RandomUnits(1), names=NAMES, **given).path
        moved = baseline_path(model, images[:1], labels[:1], RandomUnits(42), names=["b.png"], **given).path
        flat = [path.tolist() for path in (*found.flatten(0, 1), *other.flatten(0, 1), *moved.flatten(0, 1))]
        assert len({tuple(path) for path in flat}) == len(flat)
        assert all(len({*path}) == 5 for path in flat)
        again = baseline_path(*problem(SIZES["cls"], IMAGES, seed=9), "random", names=NAMES, **given).path
        assert torch.equal(found, again), "neither weights nor pixels do"

    def test_the_best_k_begin_those_of_more(self):
        model, images, labels = make("mean")
        five, all_ = (baseline_path(model, images, labels, "random", MIDPOINT, k=k, names=NAMES).path for k in (5, 28))
        assert torch.equal(five, all_[..., :5])
        assert torch.equal(all_.sort(-1).values, torch.arange(28).expand_as(all_))

    def test_uniform(self):
        """Each of 28 neurons is drawn as often as any other: chi-squared of 27 degrees, far from its tails."""
        names = [f"{i}.png" for i in range(2800)]
        model, images, labels = make("one-layer", 1)
        layers = layers_of(model, images, labels, MIDPOINT)
        layers.names = names
        (choice,) = layers.drawn(0, 3)
        counts = choice.chosen.flatten().bincount(minlength=28).double()
        expected = 3 * 2800 / 28
        assert 8 < ((counts - expected) ** 2 / expected).sum() < 60

    def test_margins_are_one_and_scores_those_of_the_paths(self):
        model, images, labels = make("mean")
        found = baseline_path(model, images, labels, "random", MIDPOINT, k=2, names=NAMES)
        assert torch.equal(found.margin, torch.ones(IMAGES, 3).double())
        expected = score_path(model, images, labels, found.path, MIDPOINT)
        torch.testing.assert_close(found.score, expected, rtol=1e-9, atol=0)

    def test_names_that_are_not_utf8(self):
        model, images, labels = make("cls", 1)
        assert baseline_path(model, images, labels, "random", MIDPOINT, names=["\udcff.png"]).path.shape == (1, 3, 1)


@pytest.mark.parametrize(
    ("words", "method", "more"),
    [
        ("k must be 1 to 28 .* not 29", "layer_ig", {"k": 29}),
        ("k must be 1 to 28 .* not 0", "layer_ig", {"k": 0}),
        ("at least k = 3, not 2", Ablation(2), {"k": 3}),
        ("give `names`", "random", {}),
        ("give `names`", "random", {"names": ["one.png"]}),
        ("method 'gradient' is unknown; choose from gradient_activation, conduct", "gradient", {}),
        ("objective 'x' is unknown", "ablation", {"objective": "x"}),
    ],
)
def test_what_is_refused(words, method, more):
    with pytest.raises(ValueError, match=words):
        baseline_path(*make("cls"), method, MIDPOINT, **more)


def test_scores_that_are_not_finite():
    model, images, labels = make("cls")
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteError) as caught:
        baseline_path(model, images, labels, LayerIG(), MIDPOINT)
    assert caught.value.image == 1


def test_a_negative_target_is_the_predicted_class():
    model, images, _ = make("mean")
    for method in SCORED:
        found, same = (
            baseline_path(model, images, targets, method, MIDPOINT)
            for targets in (torch.full((IMAGES,), -1), model(images).argmax(-1))
        )
        assert torch.equal(found.path, same.path)
        assert torch.equal(found.score, same.score)


def test_models_of_other_libraries():
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
    module = timm.create_model("vit_tiny_patch16_224", **sizes).double().eval()
    model = neuronpath.adapt(module, img_size=32)
    hooked = oracle.Hooked(module, [block.mlp.fc2 for block in module.blocks], [0])
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for method in SCORED:
        ranking = Ablation(None) if method == "ablation" else method
        found = baseline_path(model, images, torch.tensor([1, 4]), ranking, Quadrature("right", 2), k=3)
        for i, label in enumerate((1, 4)):
            scores = expected_scores(method, hooked, images[i], label, "right", 2)
            assert found.path[i].tolist() == oracle.best(scores, 3)


#: From what a layer writes to its neurons, once per image: a product with fc2, a third of a block for all tokens.
COLUMNS = {"cls": 0.5, "mean": 12 / 3}


class TestCost:
    """In block passes of one image, counted from the matrix products that run; the path's own score is not counted."""

    @staticmethod
    def passes(pool: str, steps: int, run, images: int = 2) -> float:
        config = tiny_config(pool, depth=12, width=64, num_heads=4, mlp_dim=256)
        model = random_model(config, scale=0.1, dtype=torch.float32)
        x, labels = torch.randn(images, 3, 9, 9), torch.arange(images)
        with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:
            layers = layers_of(model, x, labels, Quadrature("midpoint", steps), 100)
            run(layers)
        return count.flops / images / block_flops(config)

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_gradient_activation_takes_one_forward_and_one_backward(self, pool):
        assert self.passes(pool, 4, Layers.gradient_activation) <= (24 + COLUMNS[pool]) * 1.03

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    @pytest.mark.parametrize("m", [1, 4])
    def test_conductance_takes_one_forward_and_one_backward_per_node(self, pool, m):
        """And one forward of the image 0, for all images."""
        assert self.passes(pool, m, Layers.conductance) <= (24 * m + 12 / 2 + COLUMNS[pool]) * 1.03

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_layer_integrated_gradients_take_the_tails_alone(self, pool):
        """No block before the layer: Σ_l (L - 1 - l) = 66 forward and backward, less what the head does not read."""
        assert self.passes(pool, 4, Layers.layer_ig) <= 4 * 2 * 66 + (12 + COLUMNS[pool]) * 1.03

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_ablation_takes_a_tail_forward_per_candidate(self, pool):
        few, more = (self.passes(pool, 1, lambda layers, n=n: layers.ablation(n)) for n in (5, 15))
        assert (more - few) / 10 <= 66
        assert few <= (24 + COLUMNS[pool]) * 1.03 + 5 * 66
