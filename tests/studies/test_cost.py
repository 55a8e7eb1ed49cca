"""Block passes, counted from the matrix products that really run."""

import pytest
import torch
from helpers import random_model, tiny_config
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuronpath import Beam, Layer, Quadrature, Shortlist, find_head_path, find_path
from neuronpath.attribution.beam import beam_search
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.objectives import OBJECTIVES
from neuronpath.attribution.reference import plain_search
from neuronpath.studies.cost import CountFlops, block_flops, engine_flops, head_flops, plain_flops

CONFIG = tiny_config(depth=12, width=64, num_heads=4, mlp_dim=256)
SHALLOW = CONFIG.with_(depth=6)  # for counts of which the analytic one knows the depth
IMAGES = 2


def block_passes(run, config, **arguments) -> float:
    """Per image, in units of one block forward of one row."""
    model = random_model(config, scale=0.1, dtype=torch.float32)
    images, labels = torch.randn(IMAGES, 3, 9, 9), torch.arange(IMAGES)
    with sdpa_kernel(SDPBackend.MATH), CountFlops() as count:  # the counter knows the products of this kernel
        run(model, images, labels, **arguments)
    return count.flops / IMAGES / block_flops(config)


@pytest.mark.parametrize("m", [4, pytest.param(20, marks=pytest.mark.long)])
def test_block_passes_of_the_plain_search_and_of_the_engine(m):
    q = Quadrature("right", m)
    assert block_passes(plain_search, CONFIG, quadrature=q) == pytest.approx(328 * m, rel=0.03)
    assert block_passes(find_path, CONFIG, quadrature=q, k=3) <= 165 * m + 25
    passes = {F: block_passes(find_path, CONFIG, quadrature=q, objective=F) for F in OBJECTIVES}
    assert passes["probability"] <= 165 * m + 25
    assert len({*passes.values()}) == 1, "they do not depend on F"
    assert block_passes(find_path, CONFIG, quadrature=q, internal_batch_size=2) <= 165 * m + 25


def test_mean_head_block_passes():
    """Clamped layers cost attention only; the plain search does not know that."""
    config = tiny_config("mean", depth=12, width=64, num_heads=4, mlp_dim=256)
    q = Quadrature("right", 20)
    assert block_passes(plain_search, config, quadrature=q) == pytest.approx(328 * 20, rel=0.03)
    assert block_passes(find_path, config, quadrature=q) <= 182 * 20
    assert block_passes(find_path, config, quadrature=q, internal_batch_size=10) <= 212 * 20  # prefix recomputed


@pytest.mark.parametrize(("pool", "node", "free"), [("cls", 156, 43), ("mean", 180, 70)])
def test_the_node_at_one_is_nearly_free(pool, node, free):
    """(m - 1) nodes below it, the plain forward and at most this for all the rest, whatever the search."""
    config = tiny_config(pool, depth=12, width=64, num_heads=4, mlp_dim=256)
    for q in (Quadrature("right", 1), Quadrature("gauss-radau", 2), Quadrature("gauss-radau", 4)):
        passes = block_passes(find_path, config, quadrature=q)
        assert passes <= (q.steps - 1) * node + free
        if pool == "cls" and q.steps > 1:  # beside a rule of as many nodes without α = 1
            whole = block_passes(find_path, config, quadrature=Quadrature("midpoint", q.steps))
            assert passes <= (q.steps - 1) * whole / q.steps + 40


def test_algorithm_1_for_the_price_of_a_few_nodes():
    """Radau 2 and lists of four: at most 720 block passes, where the plain search of the shortcut takes 6544."""
    q, search = Quadrature("gauss-radau", 2), Shortlist(4, float("inf"))
    assert block_passes(find_path, CONFIG, quadrature=q, search=search) <= 720


@pytest.mark.parametrize("C", [8, pytest.param(32, marks=pytest.mark.long)])
def test_a_shortlist_adds_a_tail_per_candidate(C):
    q, search = Quadrature("gauss-legendre", 3), Shortlist(C, float("inf"))
    expected = engine_flops(SHALLOW, q, candidates=C) / block_flops(SHALLOW)
    for rows in (None, 7):
        found = block_passes(find_path, SHALLOW, quadrature=q, internal_batch_size=rows, search=search)
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("over", [Layer(), Shortlist(3, float("inf"))], ids=lambda over: over.name)
def test_a_beam_costs_its_width_from_layer_1_on(pool, over):
    """Beside the greedy search. A mean head runs its clamped layers again in each layer, a quarter more."""
    config, q = tiny_config(pool, depth=7, width=64, num_heads=4, mlp_dim=256), Quadrature("midpoint", 1)

    def passes(width: int) -> float:
        def run(model, images, labels):
            beam_search(Problem.of(model, images, labels, q, 1000), Beam(width, over))

        return block_passes(run, config) - config.depth  # without the plain forward

    one, two, three = (passes(width) for width in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=1e-6)
    assert 0.6 * one < two - one < 0.9 * one, "layer 0 is shared"
    greedy, whole = (block_passes(find_path, config, quadrature=q, search=s) for s in (over, Beam(3, over)))
    assert whole == pytest.approx(greedy + three, rel=1e-3)
    assert one < (1 if pool == "cls" else 1.25) * greedy


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize(("rule", "m"), [("gauss-legendre", 2), ("gauss-radau", 2)])
@pytest.mark.parametrize("C", [0, 4])
def test_the_analytic_count_of_a_beam_is_the_one_that_runs(rule, m, C, width):
    q, search = Quadrature(rule, m), Beam(width, Shortlist(C, float("inf")) if C else Layer())
    config = SHALLOW if C else CONFIG  # the counts leave embedding and head out, too much of a few passes
    expected = engine_flops(config, q, candidates=C, width=width) / block_flops(config)
    assert block_passes(find_path, config, quadrature=q, search=search) == pytest.approx(expected, rel=0.02)


def test_a_head_costs_a_tail_forward_and_backward_per_node():
    """131 block passes per head of a layer and node at L = 12, for any N; the rest of a node takes about 65."""
    q, few = Quadrature("gauss-legendre", 1), tiny_config(depth=12, width=64, num_heads=2, mlp_dim=256)
    four, two = (block_passes(find_head_path, config, quadrature=q) for config in (CONFIG, few))
    assert (four - two) / 2 == pytest.approx(131, abs=2)
    assert four == pytest.approx(4 * 131 + 65 + 66, rel=0.02)
    assert four == pytest.approx(head_flops(CONFIG, q) / block_flops(CONFIG), rel=0.02)
    assert block_passes(find_head_path, CONFIG.with_(pool="mean"), quadrature=q) == pytest.approx(717, rel=0.02)


def test_the_analytic_counts_are_those_that_run():
    for rule, m in (("gauss-legendre", 4), ("gauss-legendre", 20), ("gauss-radau", 3)):
        q = Quadrature(rule, m)
        unit = block_flops(SHALLOW)
        found, plain = (block_passes(search, SHALLOW, quadrature=q) for search in (find_path, plain_search))
        assert found == pytest.approx(engine_flops(SHALLOW, q) / unit, rel=0.02)
        assert plain == pytest.approx(plain_flops(SHALLOW, m) / unit, rel=0.02)
