"""The node α = 1, which costs no ramp: every search and score with it, against the oracle and against ramping it."""

import oracle
import pytest
import torch
from helpers import KINDS, random_model, tiny_config

from neuronpath import Quadrature, Shortlist, find_path, influence_path, score_path
from neuronpath.attribution.engine import Problem, ReverseRamp, path_gradients
from neuronpath.attribution.forward import gather_neurons

IMAGES = 3
RADAU2, RADAU3, ONE = Quadrature("gauss-radau", 2), Quadrature("gauss-radau", 3), Quadrature("right", 1)


def make(kind: str, depth: int = 4):
    config, generator = tiny_config(kind, depth=depth), torch.Generator().manual_seed(1)
    x = torch.randn(IMAGES, 3, config.img_size, config.img_size, generator=generator, dtype=torch.float64)
    return random_model(config), x, torch.arange(IMAGES) % config.num_classes


def random_path(model, k: int):
    generator = torch.Generator().manual_seed(k)
    return torch.rand(IMAGES, model.config.depth, model.config.mlp_dim, generator=generator).argsort(-1)[..., :k]


PAPER_F = [(4, "probability")]
OTHERS = [(2, "logit"), (2, "sigmoid")]  # layers, objective


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.long), 3])
@pytest.mark.parametrize(
    ("kind", "rule", "depth", "objective"),
    [
        (kind, rule, *of)
        for rules, ofs in (((RADAU2, RADAU3, ONE), PAPER_F), ((RADAU2, ONE), OTHERS))
        for kind in KINDS
        for rule in rules
        for of in ofs
    ],
    ids=str,
)
def test_exhaustive_equals_a_literal_algorithm_1(kind, rule, depth, objective, k):
    model, images, labels = make(kind, depth)
    found = find_path(model, images[:2], labels[:2], rule, k, search="exhaustive", objective=objective)
    defined = {"rule": rule.rule, "m": rule.steps, "K": k, "objective": objective}
    for i in range(2):
        path, margin, _ = oracle.exact_search(model, images[i], labels[i].item(), **defined)
        assert min(margin) > 1e-7, "the model has no near-ties"
        assert found.path[i].tolist() == path
        assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize(("depth", "objective"), [*PAPER_F, *OTHERS])
@pytest.mark.parametrize("rule", [RADAU2, RADAU3, ONE, Quadrature("right", 5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_shortcut_and_all_scores_equal_the_oracle(kind, rule, depth, objective, k):
    model, images, labels = make(kind, depth)
    found = find_path(model, images, labels, rule, k, objective=objective)
    defined = {"rule": rule.rule, "m": rule.steps, "objective": objective}
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path, margin = oracle.search(model, image, label, K=k, **defined)
        assert found.path[i].tolist() == path
        assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-8, abs=1e-10)
        for mine, score in ((path, found.score[i]), (found.base_path[i].tolist(), found.base_score[i])):
            assert score.item() == pytest.approx(oracle.jas(model, image, label, mine, **defined), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_any_path_of_the_first_layers(kind):
    model, images, labels = make(kind)
    for k, layers in ((1, 4), (3, 4), (2, 2), (1, 1)):
        path = random_path(model, k)[:, :layers]
        for rule in (RADAU2, ONE):
            found = score_path(model, images, labels, path, rule)
            expected = [
                oracle.jas(model, x, y, p, rule=rule.rule, m=rule.steps)
                for x, y, p in zip(images, labels.tolist(), path.tolist(), strict=True)
            ]
            assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("m", [2, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_right_is_as_if_its_last_node_were_ramped(kind, m):
    """To 1e-12: the only rule of the paper's own that holds α = 1."""
    model, images, labels = make(kind)
    rule, path = Quadrature("right", m), random_path(model, 2)
    problem = Problem.of(model, images, labels, rule, 1000)
    ramp = ReverseRamp(problem, torch.from_numpy(rule.nodes), torch.from_numpy(rule.weights))
    for layer in range(path.shape[1]):
        ramp.enter(layer)
        ramp.extend(path[:, layer])
    expected = ramp.finish()
    torch.testing.assert_close(path_gradients(problem, path), expected, rtol=1e-12, atol=1e-12 * expected.abs().max())


@pytest.mark.parametrize("search", ["layer", Shortlist(64, 2.0, 4), "exhaustive"], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_rows_or_batch(kind, search):
    model, images, labels = make(kind)
    for rule in (RADAU3, ONE):
        whole = find_path(model, images, labels, rule, 2, search=search)
        for rows in (1, 2, 5):
            found = find_path(model, images, labels, rule, 2, search=search, internal_batch_size=rows)
            assert torch.equal(found.path, whole.path)
            torch.testing.assert_close(found.score, whole.score, rtol=1e-9, atol=0)
            torch.testing.assert_close(found.margin, whole.margin, rtol=1e-9, atol=1e-9)
        alone = find_path(model, images[1:2], labels[1:2], rule, 2, search=search)
        assert torch.equal(alone.path, whole.path[1:2])


@pytest.mark.parametrize("kind", KINDS)
def test_influence_takes_its_last_node_from_the_plain_forward(kind):
    model, images, labels = make(kind)
    for rule in (RADAU2, ONE):
        found = influence_path(model, images, labels, rule)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            expected = oracle.influence(model, image, label, rule.rule, rule.steps)
            assert found.path[i, :, 0].tolist() == [layer.argmax().item() for layer in expected]


@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_one_layer_has_nothing_to_ramp_before_it(kind):
    model, images, labels = make(kind, depth=1)
    for rule in (RADAU2, ONE):
        found = find_path(model, images, labels, rule)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            assert found.path[i].tolist() == oracle.search(model, image, label, rule=rule.rule, m=rule.steps, K=1)[0]


def test_what_it_keeps_is_the_plain_forward():
    """Logits and activations are those of the rules that do not hold α = 1."""
    model, images, labels = make("cls")
    with_one = Problem.of(model, images, labels, RADAU2, 100).plain
    without = Problem.of(model, images, labels, Quadrature("left", 2), 100).plain
    torch.testing.assert_close(with_one.logits, without.logits, rtol=1e-12, atol=0)
    path = random_path(model, 2)
    for layer, (a, b) in enumerate(zip(with_one.hidden, without.hidden, strict=True)):
        torch.testing.assert_close(
            gather_neurons(a, path[:, layer]), gather_neurons(b, path[:, layer]), rtol=1e-11, atol=1e-14
        )
