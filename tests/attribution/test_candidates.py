"""The exact searches against a literal Algorithm 1, and what must not change them."""

import oracle
import pytest
import torch
from helpers import KINDS, problem, tiny_config

from neuronpath import Quadrature, Shortlist, find_path, score_path
from neuronpath.attribution.candidates import STOPPED, Frontier, shortlist
from neuronpath.attribution.engine import Problem, ReverseRamp, search_ramps
from neuronpath.attribution.objectives import OBJECTIVES
from neuronpath.attribution.rows import node_groups
from neuronpath.errors import NonFiniteError

CONFIGS = {
    "cls": tiny_config("cls", depth=4),
    "mean": tiny_config("mean", depth=4),
    "mean-1": tiny_config("mean-1", depth=4),
    "one-layer": tiny_config("mean", depth=1),
}


SMALL = {kind: tiny_config(kind, depth=3, mlp_dim=9) for kind in ("cls", "mean")}
CASES = [
    *((config, k, "probability") for config in CONFIGS.values() for k in (1, 3)),
    *((config, k, objective) for config in SMALL.values() for k in (1, 3) for objective in ("logit", "sigmoid")),
]


RULE, M = "gauss-legendre", 3
IMAGES = 2


def make(name: str, images: int = IMAGES):
    return problem(CONFIGS[name], images)


def assert_same(found, expected) -> None:
    assert torch.equal(found.path, expected.path)
    torch.testing.assert_close(found.score, expected.score, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.margin, expected.margin, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("config", "k", "objective"), CASES)
def test_exhaustive_equals_a_literal_algorithm_1(config, k, objective):
    model, images, labels = problem(config, IMAGES)
    defined = {"rule": RULE, "m": M, "objective": objective}
    found = find_path(model, images, labels, Quadrature(RULE, M), k, search="exhaustive", objective=objective)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path, margin, scores = oracle.exact_search(model, image, label, K=k, **defined)
        assert min(margin) > 1e-7, "the model has no near-ties"
        assert found.path[i].tolist() == path
        assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-8, abs=1e-10)
        N = model.num_neuron_tokens
        assert found.score[i].item() == pytest.approx(oracle.jas(model, image, label, path, **defined), rel=1e-9)
        if k == 1:  # the winner's score in the last layer is the path's
            assert max(scores[-1]) == pytest.approx(N * found.score[i].item(), rel=1e-9)
    assert found.search_rank is None


@pytest.mark.parametrize(
    ("name", "objective"), [*((kind, "probability") for kind in KINDS), ("cls", "logit"), ("mean", "sigmoid")]
)
def test_scores_of_all_candidates_equal_the_oracle(name, objective):
    """Of a layer in the middle, with a path of two neurons per layer before it that no search would find."""
    model, images, labels = make(name)
    H, rest = model.config.mlp_dim, model.config.depth - 1
    set_up = Problem.of(model, images, labels, Quadrature(RULE, M), 1000, objective=OBJECTIVES[objective])
    defined = {"rule": RULE, "m": M, "objective": objective}
    path, hidden = torch.tensor([[3, 11], [27, 0], [8, 9]])[:rest], set_up.plain.hidden
    reverse = [ReverseRamp(set_up, *part) for part in node_groups(set_up.quadrature, 99, set_up.plain.logits)]
    for ramps in (search_ramps(set_up), reverse):
        S = torch.zeros_like(hidden[0][..., 0])
        for layer, neurons in enumerate(path):
            for ramp in ramps:
                ramp.enter(layer)
                ramp.extend(neurons.expand(IMAGES, -1))
            S = S + hidden[layer][..., neurons].sum(-1)
        for ramp in ramps:
            ramp.enter(rest)
        frontier = Frontier(ramps, rest, S, hidden[rest], 1, 50)
        for i, image in enumerate(images):
            found = frontier.exact_scores(torch.full((H,), i), torch.arange(H))[0]
            expected = oracle.exact_scores(model, image, labels[i].item(), path.tolist(), **defined)
            assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("search", ["shortlist", "exhaustive"])
@pytest.mark.parametrize("name", KINDS)
def test_results_do_not_depend_on_how_candidates_are_batched(name, search):
    model, images, labels = problem(tiny_config(name, depth=4, mlp_dim=13), 4)
    arguments = (Quadrature(RULE, M), 2)
    expected = find_path(model, images, labels, *arguments, search=search, internal_batch_size=10_000)
    for rows in (1, 2, 3, 7, 40):  # with 1 and 2 the nodes of one image are apart
        found = find_path(model, images, labels, *arguments, search=search, internal_batch_size=rows)
        assert_same(found, expected)
        if search == "shortlist":
            assert torch.equal(found.search_scored, expected.search_scored)
    for i in range(4):
        single = find_path(model, images[i : i + 1], labels[i : i + 1], *arguments, search=search)
        assert torch.equal(single.path[0], expected.path[i])


@pytest.mark.parametrize(("config", "k", "objective"), CASES)
def test_a_shortlist_of_all_is_exhaustive(config, k, objective):
    model, images, labels = problem(config, IMAGES)
    given = (model, images, labels, Quadrature(RULE, M), k)
    exact = find_path(*given, search="exhaustive", objective=objective)
    found = find_path(*given, search=Shortlist(64, 1e9), objective=objective)  # never met
    assert_same(found, exact)
    assert (found.search_stopped == STOPPED.index("all")).all()
    assert (found.search_scored == model.config.mlp_dim).all()


@pytest.mark.parametrize("name", KINDS)
def test_a_shortlist_finds_the_exact_winner_where_its_rule_is_met(name):
    model, images, labels = make(name, images=6)
    exact = find_path(model, images, labels, Quadrature(RULE, M), 1, search="exhaustive")
    found = find_path(model, images, labels, Quadrature(RULE, M), 1, search="shortlist")
    same = (found.path == exact.path)[..., 0].long().cumprod(1)  # up to the first layer that differs
    assert same.double().mean() > 0.9
    assert (found.search_scored <= 28).all()
    again = score_path(model, images, labels, found.path, Quadrature(RULE, M))
    torch.testing.assert_close(found.score, again, rtol=1e-9, atol=0)


def test_the_estimate_leaves_the_layer_at_its_full_activations():
    """By definition: α = 1 for the layer at hand, α_k for the path; in layer 0 that is the plain gradient."""
    model, images, labels = make("mean")
    set_up = Problem.of(model, images, labels, Quadrature(RULE, M), 1000)
    plain = set_up.plain
    S = torch.zeros_like(plain.hidden[0][..., 0])
    found = Frontier(search_ramps(set_up), 0, S, plain.hidden[0], 1, 1000).layer_scores(whole_layer=False)[0]
    for i, image in enumerate(images):
        h = plain.hidden[0][i].clone().requires_grad_()
        (g,) = torch.autograd.grad(oracle.forward(model, image, [h])[0][labels[i]], h)
        torch.testing.assert_close(found[i], (h.detach() * g).sum(0), rtol=1e-9, atol=1e-12)


class Lookup:
    """Exact scores at hand, (B, H), and which were asked for."""

    def __init__(self, exact):
        self.exact, self.asked = torch.tensor(exact, dtype=torch.float64), []

    def __call__(self, images, neurons):
        self.asked += zip(images.tolist(), neurons.tolist(), strict=True)
        return [self.exact[images, neurons]]


def estimates(H: int = 40):
    return torch.linspace(1, 0, H, dtype=torch.float64)[None]


def test_the_rule_stops_where_errors_cannot_matter():
    """Errors of 0.05 and κ = 2: the best exact score must beat the next estimate by more than 0.1."""
    estimate = estimates()
    exact = estimate + 0.05
    exact[0, 3] = estimate[0, 3] - 0.05
    found = shortlist(estimate, 1, score := Lookup(exact.tolist()), Shortlist(64, 2, 8))
    assert (found.chosen.item(), found.rank.item()) == (0, 1)
    assert (found.scored.item(), STOPPED[found.stopped.item()]) == (8, "rule")
    assert len(score.asked) == len(set(score.asked)) == 8
    far = shortlist(
        estimate, 1, Lookup(exact.tolist()), Shortlist(64, 6, 8)
    )  # 1.05 - 0.590 > 0.3 after 16, 0.255 before
    assert (far.scored.item(), STOPPED[far.stopped.item()]) == (16, "rule")
    every = shortlist(estimate, 1, Lookup(exact.tolist()), Shortlist(64, 100, 8))
    assert (every.scored.item(), STOPPED[every.stopped.item()]) == (40, "all")


def test_the_rule_looks_at_the_first_that_is_not_scored():
    """The last that is scored stands close to the best, the next one far below: 8 are enough."""
    estimate = torch.tensor([[1 - 0.001 * j for j in range(8)] + [0.0] * 32], dtype=torch.float64)
    found = shortlist(estimate, 1, Lookup((estimate + 0.05).tolist()), Shortlist(64, 2, 8))
    assert (found.scored.item(), STOPPED[found.stopped.item()]) == (8, "rule")


def test_the_cap_holds_and_says_so():
    exact = estimates().clone()
    exact[0, 30] = 5  # nothing foretells it
    exact[0, 7] = 2  # an error of 1.2, so that the rule asks for more
    found = shortlist(estimates(), 1, score := Lookup(exact.tolist()), Shortlist(20, 2, 8))
    assert (found.chosen.item(), found.rank.item()) == (7, 8)
    assert (found.scored.item(), STOPPED[found.stopped.item()]) == (20, "cap")
    assert len(score.asked) == 20
    assert shortlist(estimates(), 1, Lookup(exact.tolist()), Shortlist(64, 2, 8)).chosen.item() == 30


def test_the_best_k_are_kept_and_the_last_of_them_decides():
    estimate, exact = estimates(), estimates().clone()
    exact[0, :8] -= torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.12, 0.0, 0.0])
    one, five = (shortlist(estimate, k, Lookup(exact.tolist()), Shortlist(64, 1, 8)) for k in (1, 5))
    assert (one.scored.item(), five.scored.item()) == (8, 16)  # 0.90 - 0.79 < 0.12 < 1 - 0.79
    assert five.chosen.tolist() == [[0, 1, 2, 3, 4]]
    assert five.rank.item() == 5
    many = shortlist(estimate, 20, Lookup(exact.tolist()), Shortlist(64, 1, 8))
    assert many.scored.item() >= 32
    assert shortlist(estimate, 40, Lookup(exact.tolist()), Shortlist(64, 2, 8)).margin.item() == 1


def test_images_of_a_batch_stop_apart_and_unscored_candidates_do_not_count():
    estimate = estimates().repeat(3, 1)
    exact = estimate.clone()
    exact[1] += 0.1 * torch.arange(40).remainder(3)
    exact[2, 39] = -50  # unscored
    batch = shortlist(estimate, 1, score := Lookup(exact.tolist()), Shortlist(64, 2, 8))
    for i in range(3):
        single = shortlist(estimate[i : i + 1], 1, Lookup(exact[i : i + 1].tolist()), Shortlist(64, 2, 8))
        for name in ("chosen", "margin", "rank", "scored", "stopped"):
            assert torch.equal(getattr(batch, name)[i], getattr(single, name)[0])
    assert batch.scored.tolist()[0] == batch.scored.tolist()[2] == 8 < batch.scored.tolist()[1]
    assert len(set(score.asked)) == len(score.asked) == batch.scored.sum()
    assert batch.margin[2] == pytest.approx(1 / 39)


def test_bad_arguments_and_scores_are_refused():
    model, images, labels = make("cls")
    with pytest.raises(ValueError, match="at least k = 3"):
        find_path(model, images, labels, k=3, search=Shortlist(2))
    images[1] = torch.nan
    for search in ("shortlist", "exhaustive"):
        with pytest.raises(NonFiniteError, match="image 1"):
            find_path(model, images, labels, Quadrature(RULE, 1), search=search)
