"""Paths of heads and mixed ones against the literal definitions, and what must not change them."""

import oracle_heads as oracle
import pytest
import torch
from helpers import problem, random_model, tiny_config

from neuronpath import (
    NonFiniteError,
    Quadrature,
    Shortlist,
    baseline_path,
    find_head_path,
    find_path,
    score_head_path,
)
from neuronpath.attribution.problem import Problem
from neuronpath.attribution.score import path_drop
from neuronpath.attribution.sites import BOTH, HEADS

SMALL = {
    "cls": tiny_config("cls", depth=3, mlp_dim=4),
    "mean": tiny_config("mean", depth=3, mlp_dim=4, registers=1),
    "mean-1": tiny_config("mean-1", depth=2, mlp_dim=4),
    "one-layer": tiny_config("mean", depth=1, mlp_dim=4),
}
UNITS = ("heads", "both", "neurons")
RULE, M = "gauss-legendre", 2
FOUR = Quadrature("gauss-legendre", 4)


def close(found: torch.Tensor, expected) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", SMALL)
def test_all_that_is_found_equals_the_literal_definitions(name, units, k):
    model, images, labels = problem(SMALL[name], 1, seed=3)
    found = find_head_path(model, images, labels, Quadrature(RULE, M), k, units=units, search="exhaustive")
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        given = model, image, label
        path, margin = oracle.search(*given, units=units, rule=RULE, m=M, K=k)
        assert min(margin) > 1e-7, "the model has no near-ties"
        assert found.path[i].tolist() == path
        close(found.margin[i], margin)
        base, gradient = oracle.largest(model, image, units=units, K=k), oracle.gradient(*given, units=units, K=k)
        assert found.base_path[i].tolist() == base
        assert found.gradient_path[i].tolist() == gradient
        for of_path, score, drop in (
            (path, found.score, found.drop),
            (base, found.base_score, found.base_drop),
            (gradient, found.gradient_score, found.gradient_drop),
        ):
            close(score[i], oracle.jas(*given, of_path, units=units, rule=RULE, m=M))
            close(drop[i], oracle.drop(*given, of_path, units=units))
        written, hidden = oracle.stored(model, image)
        for site, (layer, kind) in enumerate(oracle.sites(model, units)):
            for place, unit in enumerate(path[site]):
                own = written[layer][unit].norm(dim=-1) if kind == "heads" else hidden[layer][:, unit]
                close(found.activation[i, site, place], own.mean())


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_neurons_of_a_mixed_path_by_the_shortcut(name):
    """The whole FFN is ramped at once, heads are not."""
    model, images, labels = problem(SMALL[name], 1, seed=3)
    found = find_head_path(model, images, labels, Quadrature(RULE, M), 2, units="both", search="layer")
    path, margin = oracle.search(model, images[0], 0, units="both", rule=RULE, m=M, K=2, layer=True)
    assert min(margin) > 1e-7
    assert found.path[0].tolist() == path
    close(found.margin[0], margin)


@pytest.mark.parametrize("objective", ["logit", "sigmoid"])
@pytest.mark.parametrize("rule", [("right", 4), ("left", 3), ("gauss-radau", 3)])
def test_rules_that_hold_one_and_other_objectives(rule, objective):
    """α = 1 is a ramp like the others here."""
    for name in ("cls", "mean"):
        model, images, labels = problem(SMALL[name], 2)
        found = find_head_path(model, images, labels, Quadrature(*rule), 2, units="both", objective=objective)
        defined = {"units": "both", "rule": rule[0], "m": rule[1], "objective": objective}
        score, drop = score_head_path(
            model, images, labels, found.path, Quadrature(*rule), units="both", objective=objective
        )
        close(found.score, score)
        close(found.drop, drop)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            close(score[i], oracle.jas(model, image, label, found.path[i].tolist(), **defined))


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_with_converged_quadrature_the_score_is_the_path_times_its_drop(name):
    model, images, labels = problem(tiny_config(name), 4)
    for k in (1, 3):
        path = find_head_path(model, images, labels, FOUR, k).path
        score, drop = score_head_path(model, images, labels, path, Quadrature("gauss-legendre", 32))
        expected = path[0].numel() * drop / model.num_neuron_tokens
        assert expected.abs().min() > 1e-2
        torch.testing.assert_close(score, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_neurons_are_those_of_find_path_bit_for_bit(name):
    model, images, labels = problem(tiny_config(name), 4)
    for search in ("layer", Shortlist(8)):
        found = find_head_path(model, images, labels, FOUR, 2, units="neurons", search=search)
        expected = find_path(model, images, labels, FOUR, 2, search=search)
        for key in ("path", "score", "margin", "activation", "base_path", "base_score", "base_activation", "logits"):
            assert torch.equal(getattr(found, key), getattr(expected, key)), key
        gradient = baseline_path(model, images, labels, "gradient_activation", FOUR, k=2)
        assert torch.equal(found.gradient_path, gradient.path)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", ["cls", "mean"])
def test_rows_and_batches_change_nothing(name, units):
    model, images, labels = problem(SMALL[name], 3)
    whole = find_head_path(model, images, labels, FOUR, units=units, search="layer")
    for rows in (1, 6):
        parts = find_head_path(model, images, labels, FOUR, units=units, search="layer", internal_batch_size=rows)
        assert torch.equal(parts.path, whole.path)
        close(parts.score, whole.score)
    score, drop = score_head_path(model, images, labels, whole.path, FOUR, units=units, internal_batch_size=1)
    close(score, whole.score)
    close(drop, whole.drop)


def test_a_path_of_the_first_layers():
    model, images, labels = problem(SMALL["cls"], 2)
    path = torch.tensor([[[4], [0]], [[2], [3]]])
    score, drop = score_head_path(model, images, labels, path, Quadrature(RULE, M), units="both")
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        given = model, image, label, path[i].tolist()
        close(score[i], oracle.jas(*given, units="both", rule=RULE, m=M))
        close(drop[i], oracle.drop(*given, units="both"))


def test_half_precision_and_single():
    for name in ("cls", "mean"):
        model, images, labels = problem(SMALL[name], 3)
        expected = find_head_path(model, images, labels, FOUR, units="both")
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.3)):
            lower = random_model(SMALL[name]).set_dtype(dtype)
            score, drop = score_head_path(lower, images.float(), labels, expected.path, FOUR, units="both")
            assert score.dtype == drop.dtype == torch.float32
            torch.testing.assert_close(score.double(), expected.score, rtol=tolerance, atol=tolerance / 10)
            torch.testing.assert_close(drop.double(), expected.drop, rtol=tolerance, atol=tolerance / 10)


def test_what_is_refused():
    model, images, labels = problem(SMALL["cls"], 2)
    with pytest.raises(ValueError, match=r"k must be 1 to 4 \(the units of a layer\), not 6"):
        find_head_path(model, images, labels, FOUR, 6, units="both")
    with pytest.raises(ValueError, match="units 'tokens' are unknown; choose from neurons, heads, both"):
        find_head_path(model, images, labels, FOUR, units="tokens")
    with pytest.raises(ValueError, match="search 'beam' is none of one path; choose from layer, shortlist, exhaustive"):
        find_head_path(model, images, labels, FOUR, search="beam")
    for path, units, words in (
        (torch.zeros(2, 4, 1), "heads", r"\(2, 1 to 3, 1 to 5\), not \(2, 4, 1\)"),
        (torch.full((2, 2, 1), 5), "both", "a path's units are 0 to 4, but this one holds 5 to 5"),
        (torch.zeros(2, 3, 2), "heads", "names one unit twice in a layer"),
    ):
        with pytest.raises(ValueError, match=words):
            score_head_path(model, images, labels, path.long(), FOUR, units=units)
    broken = random_model(SMALL["cls"])
    broken.blocks[1].attn.proj.weight.data[0, 0] = torch.nan
    with pytest.raises(NonFiniteError):
        find_head_path(broken, images, labels, FOUR)


def test_a_drop_is_of_the_clamped_path():
    """Not of the edit, in which later layers react."""
    model, images, labels = problem(SMALL["mean"], 2)
    for units in (HEADS, BOTH):
        problem_of = Problem.of(model, images, labels, FOUR, 100, units=units)
        path = torch.zeros(2, len(problem_of.plain.sites), 1, dtype=torch.long)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            expected = oracle.drop(model, image, label, path[i].tolist(), units=units.name)
            close(path_drop(problem_of, path)[i], expected)
