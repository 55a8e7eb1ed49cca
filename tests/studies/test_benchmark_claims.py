"""The benchmark's contenders and its table, with a clock that is told what to say."""

import itertools
import re

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath import Quadrature, Shortlist, find_head_path, find_path
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.influence import layer_influence
from neuronpath.attribution.reference import plain_influence, plain_search
from neuronpath.studies import benchmark
from neuronpath.studies.benchmark import (
    Contender,
    compare,
    heads_table,
    influences_table,
    product_rate,
    rules_table,
    searches_table,
    sizes_table,
)
from neuronpath.studies.cost import block_flops, engine_flops, head_flops, plain_flops


@pytest.fixture
def given():
    config = tiny_config(depth=3)
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return random_model(config), x, torch.tensor([1, 2])


def passes(model, contender: Contender) -> float:
    return contender.flops / block_flops(model.config)


def test_searches_are_what_they_are_called_and_cost_what_is_useful(given):
    model, x, y = given
    found = searches_table(*given, 5, 1000)
    engine = {
        "engine, right 5": Quadrature("right", 5),
        "engine, Gauss-Legendre 4": Quadrature("gauss-legendre", 4),
        "engine, Gauss-Radau 4": Quadrature("gauss-radau", 4),
    }
    short = {
        "shortlist of 4, Gauss-Radau 2": (4, Quadrature("gauss-radau", 2)),
        "shortlist of 8, Gauss-Legendre 3": (8, Quadrature("gauss-legendre", 3)),
    }
    assert list(found) == ["plain search, right 5", *engine, *short]
    plain, right = found["plain search, right 5"], Quadrature("right", 5)
    assert plain.flops == plain_flops(model.config, 5)
    assert torch.equal(plain.run()["ja_score"], plain_search(model, x, y, right)["ja_score"])
    for name, quadrature in engine.items():
        assert found[name].flops == engine_flops(model.config, quadrature)
        assert torch.equal(found[name].run().score, find_path(model, x, y, quadrature).score)
    for name, (C, quadrature) in short.items():
        assert found[name].flops == engine_flops(model.config, quadrature, candidates=C)
        path = found[name].run()
        assert set(path.search_scored.flatten().tolist()) == {C}  # whatever the rule says
        expected = find_path(model, x, y, quadrature, search=Shortlist(C, float("inf")))
        assert torch.equal(path.path, expected.path)
        assert torch.equal(path.score, expected.score)


def test_influences_layer_by_layer_and_in_one_pass(given):
    model, x, y = given
    found = influences_table(*given, 4, 1000)
    assert list(found) == [
        "influence pattern layer by layer, midpoint 4",
        "influence pattern in one pass, midpoint 4",
    ]
    slow, fast = found.values()
    # Of 3 layers: 3 forwards of 3 blocks each; backwards through 2, 1 and 0 blocks.
    assert passes(model, slow) == 4 * (9 + 3)
    assert passes(model, fast) == 4 * (3 + 2)
    midpoint = Quadrature("midpoint", 4)
    for a, b in zip(slow.run(), plain_influence(model, x, y, midpoint), strict=True):
        assert torch.equal(a, b)
    problem = Problem.of(model, x, y, midpoint, 1000)
    for a, b in zip(fast.run(), layer_influence(problem, x), strict=True):
        assert torch.equal(a, b)


def test_heads_beside_neurons_at_the_same_nodes(given):
    rule = Quadrature("gauss-legendre", 2)
    found = heads_table(*given, rule, 1000)
    assert list(found) == ["neurons, gauss-legendre 2", "heads, every one alone, gauss-legendre 2"]
    neurons, heads = found.values()
    assert torch.equal(neurons.run().score, find_path(*given, rule).score)
    assert torch.equal(heads.run().score, find_head_path(*given, rule).score)
    config = given[0].config
    assert (neurons.flops, heads.flops) == (engine_flops(config, rule), head_flops(config, rule))


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (8, ["default: 8 rows", "2 rows", "4 rows", "16 rows", "32 rows"]),
        (1, ["default: 1 rows", "2 rows", "4 rows"]),
        (3, ["default: 3 rows", "1 rows", "6 rows", "12 rows"]),
    ],
)
def test_sizes_are_a_quarter_half_twice_and_four_times_the_default(given, monkeypatch, rows, names):
    asked = []
    monkeypatch.setattr(benchmark, "find_path", lambda *_, internal_batch_size: asked.append(internal_batch_size))
    found = sizes_table(*given, Quadrature("right", 5), rows)
    assert list(found) == names
    assert {c.flops for c in found.values()} == {engine_flops(given[0].config, Quadrature("right", 5))}
    for contender in found.values():
        contender.run()
    assert asked == [int(re.search(r"(\d+) rows", name)[1]) for name in names]


def test_rules_are_the_papers_and_the_fast_ones(given):
    model, x, y = given
    found = rules_table(*given, 1000)
    assert list(found) == ["right 20", "gauss-legendre 4", "gauss-radau 4"]
    for m, (name, contender) in zip((20, 4, 4), found.items(), strict=True):
        quadrature = Quadrature(name.split()[0], m)
        assert contender.flops == engine_flops(model.config, quadrature)
        assert torch.equal(contender.run().score, find_path(model, x, y, quadrature).score)


def test_operations_of_a_mean_head_are_those_of_one_node_times_the_nodes():
    model = random_model(tiny_config("mean", depth=3))

    def flops(rule: str, m: int, of=model) -> float:
        return benchmark.search_flops(of, Quadrature(rule, m))

    one, free = flops("midpoint", 1), flops("right", 1)
    for rule in ("left", "midpoint", "gauss-legendre"):
        assert flops(rule, 20) == 20 * one
    assert flops("right", 20) == 19 * one + free  # at α = 1 nothing is ramped
    assert flops("gauss-radau", 4) == 3 * one + free
    assert 10 < one / block_flops(model.config) < 40
    assert 3 < free / block_flops(model.config) < one / block_flops(model.config)
    cls = random_model(tiny_config(depth=3))
    for rule in ("right", "left", "gauss-radau"):
        assert flops(rule, 20, cls) == engine_flops(cls.config, Quadrature(rule, 20))


def test_the_table_is_of_medians_and_speed_ups_over_the_first(monkeypatch):
    """3 repetitions of 4 images: 8, 4, 16 s against 2, 2, 2 s; product rates of 1, 2 and 4 GFLOP/s."""
    model = random_model(tiny_config())
    unit = block_flops(model.config)
    ran, times = [], iter([8.0, 2.0, 4.0, 2.0, 16.0, 2.0])
    rates = iter([1e9, 2e9, 4e9])
    clock = iter([0.0, 4.0, 4.0, 5.0, 5.0, 7.0, 7.0, 8.0, 8.0, 16.0, 16.0, 18.0])  # 4, 2, 8 s on the CPU; 1, 1, 2 s
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(benchmark, "seconds", lambda run, device: run() or next(times))
    monkeypatch.setattr(benchmark, "product_rate", lambda like: next(rates))
    contenders = {
        name: Contender(lambda name=name: ran.append(name), flops)
        for name, flops in {"slow": 7 * unit, "fast": 1e8}.items()
    }
    text = re.sub(r"\d+\.\d\d GiB", "some GiB", compare(contenders, model, 4, 3))
    assert ran == ["slow", "fast"] * 4  # the warm-up, and in turns
    shares = sorted(1e8 * 4 / 2 / rate for rate in (1e9, 2e9, 4e9))
    slow_share = sorted(7 * unit * 4 / t / r for t, r in ((8, 1e9), (4, 2e9), (16, 4e9)))[1]
    assert text.splitlines() == [
        "| | s/image | images/s | speed-up, median (least-most) | CPU time, median (least-most) | block passes/image "
        "| share of product rate | peak memory |",
        "|---|---|---|---|---|---|---|---|",
        f"| slow | 2 | 0.5 | 1.00 (1.00-1.00) | 1.00 (1.00-1.00) | 7 | {100 * slow_share:.0f} % | some GiB |",
        f"| fast | 0.5 | 2 | 4.00 (2.00-8.00) | 0.25 (0.25-0.50) | {1e8 / unit:.0f} | {100 * shares[1]:.0f} % "
        "| some GiB |",
        "",
        "product rate: 2 GFLOP/s, median of 3",
    ]


def test_the_product_rate_counts_two_operations_per_multiply_add(monkeypatch):
    calls = itertools.count()
    monkeypatch.setattr(benchmark, "seconds", lambda run, device: len(run()) + 0 * next(calls))
    assert product_rate(torch.ones(1), 8) == 2 * 8**3  # three products in 3 s
    assert next(calls) == 1


def test_the_peak_is_of_each_contender_alone(monkeypatch):
    """A block of 256 MiB, and after it nothing: the second peak is below the first."""
    monkeypatch.setattr(benchmark, "product_rate", lambda like: 1e9)
    runs = {"large": Contender(lambda: torch.ones(2**26).sum(), 1), "small": Contender(lambda: None, 1)}
    large, small = map(float, re.findall(r"(\d+\.\d\d) GiB", compare(runs, random_model(tiny_config()), 1, 1)))
    assert 0.2 < large - small < 0.35
    assert small > 0.05
