"""Operations counted by hand, product by product."""

import pytest
import torch
from helpers import tiny_config

from neuronpath import Quadrature
from neuronpath.studies.cost import CountFlops, block_flops, engine_flops, plain_flops

CONFIG = tiny_config(depth=4)
T, D, H = 10, 20, 28


def block(ffn: int = T, queries: int = T) -> int:
    """Keys and values of all tokens, query and output of some, QK and AV of these, both layers of the FFN of some."""
    products = [
        *[(T, D, D)] * 2,
        *[(queries, D, D)] * 2,
        (queries, D, T),
        (queries, T, D),
        (ffn, D, H),
        (ffn, H, D),
    ]
    return sum(2 * a * b * c for a, b, c in products)


@pytest.mark.parametrize("ffn", [0, 1, T])
@pytest.mark.parametrize("queries", [0, 1, T])
def test_a_block_is_its_matrix_products(ffn, queries):
    assert block_flops(CONFIG, ffn, queries) == block(ffn, queries)


def test_without_more_words_a_block_is_of_all_tokens():
    assert block_flops(CONFIG) == block()
    assert block_flops(CONFIG, ffn_tokens=1) == block(1)
    assert block_flops(CONFIG, queries=1) == block(queries=1)


@pytest.mark.parametrize(("steps", "candidates"), [(1, 0), (3, 0), (3, 8), (20, 1)])
def test_a_search_is_tails_stream_tangent_and_score(steps, candidates):
    """Of 4 layers; forward and backward are alike."""
    last = block(1, 1)
    tails = (block() * 2 + last) + (block() + last) + last
    stream = 2 * block(T - 1) + block(0, 1)
    node = 2 * (tails * (1 + candidates) + 2 * stream)
    for rule in ("left", "midpoint", "gauss-legendre"):
        q = Quadrature(rule, steps)
        assert engine_flops(CONFIG, q, candidates) == steps * node + 4 * block()
        assert engine_flops(CONFIG, q) == engine_flops(CONFIG, q, 0)
        assert engine_flops(tiny_config(depth=1), q, candidates) == block()
    # At α = 1 the plain forward of the CLS token's way alone, its backward, one tangent, and the activation path.
    forward, backward = 3 * block() + last, 2 * block() + last
    for q in (Quadrature("right", steps), Quadrature("gauss-radau", steps + 1)):
        nodes = len(q.nodes) - 1
        assert engine_flops(CONFIG, q, candidates) == nodes * node + forward + backward + 2 * stream
        assert engine_flops(CONFIG, q) == engine_flops(CONFIG, q, 0)
        assert engine_flops(tiny_config(depth=1), q, candidates) == block()
    half = [engine_flops(CONFIG, Quadrature("left", steps), candidates=c) for c in (1, 1.5, 2)]
    assert half[1] == (half[0] + half[2]) / 2, "candidates may be a mean"


@pytest.mark.parametrize("steps", [1, 20])
def test_the_plain_search_is_a_forward_and_a_backward_per_layer_and_score(steps):
    backward = 3 * block() + 2 * T * D * H
    assert plain_flops(CONFIG, steps) == steps * 6 * (4 * block() + backward) + 4 * block()


def test_products_are_counted_and_nothing_else():
    with CountFlops() as count:
        a = torch.ones(3, 5) @ torch.ones(5, 7)
        torch.nn.functional.conv2d(torch.ones(1, 2, 4, 4), torch.ones(3, 2, 2, 2))
        (a + a).exp().sum()
    assert count.flops == 2 * 3 * 5 * 7 + 2 * 9 * 3 * 2 * 4
    assert len(count.by_operation) == 2
