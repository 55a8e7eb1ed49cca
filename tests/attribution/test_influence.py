"""Influence Pattern against the literal layer-by-layer overwriting, and its cost."""

from itertools import product

import oracle
import pytest
import torch
from helpers import KINDS, problem, random_model, tiny_config
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuronpath import Quadrature, influence_path
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.influence import layer_influence
from neuronpath.attribution.objectives import OBJECTIVES
from neuronpath.attribution.quadrature import RULES
from neuronpath.attribution.reference import plain_influence
from neuronpath.studies.cost import CountFlops, block_flops

IMAGES = 5
CONFIGS = {
    "cls": tiny_config("cls"),
    "mean": tiny_config("mean"),
    "mean-1": tiny_config("mean-1"),
    "mean-2": tiny_config("mean", patch_size=2, img_size=4, width=18, depth=3, num_heads=2, mlp_dim=25, num_classes=7),
}


def make(name: str):
    return problem(CONFIGS[name], IMAGES, seed=3)


CASES = [
    *product(CONFIGS, RULES, ["probability"]),
    *product(["cls", "mean"], ["left", "gauss-radau"], ["logit", "sigmoid"]),
]


@pytest.mark.parametrize(("name", "rule", "objective"), CASES)
def test_gradients_choices_and_scores_equal_the_oracle(name, rule, objective):
    model, images, labels = make(name)
    m, given = 3, {"objective": objective}
    found = influence_path(model, images, labels, Quadrature(rule, m), internal_batch_size=7, **given)
    of = Problem.of(model, images, labels, Quadrature(rule, m), 7, objective=OBJECTIVES[objective])
    gradients = layer_influence(of, images)
    plain = plain_influence(model, images, labels, Quadrature(rule, m), **given)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        expected = oracle.influence(model, image, label, rule, m, objective)
        for layer, influence in enumerate(expected):
            torch.testing.assert_close(gradients[layer][i], influence, rtol=1e-9, atol=1e-15)
            torch.testing.assert_close(plain[layer][i], influence, rtol=1e-9, atol=1e-15)
        path = [[max(range(len(g)), key=lambda j: g[j])] for g in [e.tolist() for e in expected]]
        assert found.path[i].tolist() == path
        ranked = [sorted(g.tolist(), reverse=True) for g in expected]
        margins = [(first - second) / max(map(abs, (first, last))) for first, second, *_, last in ranked]
        assert found.margin[i].tolist() == pytest.approx(margins, rel=1e-8, abs=1e-12)
        score = oracle.jas(model, image, label, path, rule=rule, m=m, **given)
        assert found.score[i].item() == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_batches_orders_and_internal_batches_do_not_matter(name):
    model, images, labels = make(name)
    whole = influence_path(model, images, labels, Quadrature("right", 4), internal_batch_size=1000)
    for rows in (1, 3, 9):
        found = influence_path(model, images, labels, Quadrature("right", 4), internal_batch_size=rows)
        assert torch.equal(found.path, whole.path)
        torch.testing.assert_close(found.score, whole.score, rtol=1e-9, atol=0)
    for i in range(IMAGES):
        single = influence_path(model, images[i : i + 1], labels[i : i + 1], Quadrature("right", 4))
        assert torch.equal(single.path[0], whole.path[i])
        assert single.score[0].item() == pytest.approx(whole.score[i].item(), rel=1e-9)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_one_forward_and_one_backward_per_node_and_image(pool):
    config = tiny_config(pool, depth=12, width=64, num_heads=4, mlp_dim=256)
    model = random_model(config, scale=0.1, dtype=torch.float32)
    images, labels = torch.randn(2, 3, 9, 9), torch.tensor([0, 1])
    problem = Problem.of(model, images, labels, Quadrature("midpoint", 4), 100)
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:
        layer_influence(problem, images)
    # Patch embedding and head make the few percent over 12 blocks forward and 12 backward.
    assert count.flops / (2 * 4) <= 2 * 12 * block_flops(config) * 1.03
