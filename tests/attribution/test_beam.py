"""Beam search against a literal one, and what must not change it."""

import oracle
import pytest
import torch
from helpers import KINDS, problem, tiny_config

from neuronpath import Beam, Exhaustive, Layer, Quadrature, Shortlist, find_path, find_path_auto, score_path
from neuronpath.attribution.beam import beam_search
from neuronpath.attribution.candidates import STOPPED, Scores
from neuronpath.attribution.choice import choose, margins
from neuronpath.attribution.engine import Problem
from neuronpath.attribution.rows import default_rows
from neuronpath.errors import NonFiniteError

RULES = (("gauss-legendre", 2), ("gauss-radau", 2))
IMAGES = 2
ALL = Shortlist(64, 1e9)  # its rule is never met, so that all candidates are scored
SEARCHED = ("search_rank", "search_scored", "search_stopped")


def make(kind: str, images: int = IMAGES, **sizes):
    return problem(tiny_config(kind, **{"depth": 3, "mlp_dim": 7} | sizes), images)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("overs", [(Layer(),), (Exhaustive(), ALL)], ids=["layer", "exact"])
@pytest.mark.parametrize(
    ("kind", "rule", "objective"),
    [
        *((kind, RULES[0], "probability") for kind in KINDS),
        ("cls", RULES[1], "logit"),
        ("mean", RULES[1], "sigmoid"),
    ],
)
def test_equals_a_literal_beam(kind, rule, objective, overs, width):
    model, images, labels = make(kind)
    searches = [Beam(width, over) for over in overs]
    runs = [find_path(model, images, labels, Quadrature(*rule), search=s, objective=objective) for s in searches]
    scores_of = oracle.layer_scores if overs == (Layer(),) else oracle.exact_scores
    defined = {"rule": rule[0], "m": rule[1], "objective": objective}
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path, margin, score, least = oracle.beam_search(model, image, label, width, scores_of, **defined)
        assert least > 1e-9, "the model has no near-ties"
        for found in runs:
            assert found.path[i].tolist() == path
            assert found.score[i].item() == pytest.approx(score, rel=1e-9)
            assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("over", [Layer(), ALL], ids=lambda over: over.name)
@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_that_keeps_every_path_finds_the_best_there_is(kind, over):
    model, images, labels = make(kind, depth=2, mlp_dim=5)
    rule = Quadrature(*RULES[0])
    found = find_path(model, images, labels, rule, search=Beam(1000, over))
    every = torch.cartesian_prod(torch.arange(5), torch.arange(5))[..., None]  # (25, 2, 1)
    for i in range(IMAGES):
        given = images[i].expand(25, -1, -1, -1), labels[i].expand(25)
        scores = score_path(model, *given, every, rule)
        assert found.path[i].tolist() == every[scores.argmax()].tolist()
        assert found.score[i].item() == pytest.approx(scores.max().item(), rel=1e-9)


@pytest.mark.parametrize("rule", [Quadrature(*rule) for rule in RULES], ids=str)
@pytest.mark.parametrize("over", [Layer(), Shortlist(), Exhaustive()], ids=lambda over: over.name)
@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_of_one_is_the_greedy_search_bit_for_bit(kind, over, rule):
    """Both as it is asked for, and by the code that wider beams take."""
    model, images, labels = problem(tiny_config(kind, depth=4), 4)
    greedy = find_path(model, images, labels, rule, search=over)
    found = find_path(model, images, labels, rule, search=Beam(1, over))
    for key, column in vars(greedy).items():
        if key != "greedy_score":
            assert column is getattr(found, key) is None or torch.equal(column, getattr(found, key))
    assert greedy.greedy_score is None
    assert torch.equal(found.greedy_score, greedy.score)
    score, layers = beam_search(Problem.of(model, images, labels, rule, 1000), Beam(1, over))
    assert torch.equal(score, greedy.score)
    keys = {"chosen": "path", "margin": "margin", **dict(zip(("rank", "scored", "stopped"), SEARCHED, strict=True))}
    for layer, choice in enumerate(layers):
        for key in (key for key in keys if key in vars(choice)):
            assert torch.equal(getattr(choice, key), getattr(greedy, keys[key])[:, layer])


@pytest.mark.parametrize("over", [Layer(), Shortlist()], ids=lambda over: over.name)
@pytest.mark.parametrize("rule", [Quadrature(*rule) for rule in RULES], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_batches(kind, rule, over):
    model, images, labels = problem(tiny_config(kind, depth=3), 3)
    search = Beam(3, over)
    expected = find_path(model, images, labels, rule, search=search, internal_batch_size=10_000)
    runs = [find_path(model, images, labels, rule, search=search, internal_batch_size=n) for n in (1, 5)]
    runs.append(find_path(model, images[2:], labels[2:], rule, search=search))
    for run, which in zip(runs, (slice(None), slice(None), slice(2, None)), strict=True):
        assert torch.equal(run.path, expected.path[which])
        for key in ("score", "greedy_score", "margin"):
            torch.testing.assert_close(getattr(run, key), getattr(expected, key)[which], rtol=1e-9, atol=1e-12)
        if over == Shortlist():
            assert all(torch.equal(getattr(run, key), getattr(expected, key)[which]) for key in SEARCHED)


def test_no_more_rows_at_once_than_with_one_path(monkeypatch):
    """Every path has its own rows, whatever their number."""
    model, images, labels = make("cls")
    seen, read = [], model.read
    monkeypatch.setattr(type(model), "read", lambda self, z: seen.append(len(z)) or read(z))
    for over in (Layer(), Shortlist()):
        find_path(model, images, labels, Quadrature("midpoint", 3), search=Beam(4, over), internal_batch_size=3)
    assert max(seen) == 3
    assert default_rows(model, images.device) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_that_of_the_path_and_the_greedy_one_is_beside_it(kind):
    model, images, labels = problem(tiny_config(kind), 5)
    rule = Quadrature(*RULES[0])
    for over in (Layer(), Shortlist()):
        greedy = find_path(model, images, labels, rule, search=over)
        for width in (1, 2, 4):
            found = find_path(model, images, labels, rule, search=Beam(width, over))
            assert torch.equal(found.greedy_score, greedy.score)
            torch.testing.assert_close(found.score, score_path(model, images, labels, found.path, rule))
            same = (found.path == greedy.path).flatten(1).all(1)
            torch.testing.assert_close(found.score[same], greedy.score[same])
            assert torch.equal(found.base_path, greedy.base_path)


def test_a_wide_beam_beats_the_greedy_path_and_a_narrow_one_need_not():
    """The beam goes by the scores of unfinished paths, which promise nothing: an image that loses is in the records."""
    model, images, labels = problem(tiny_config("mean"), 3)
    rule = Quadrature("gauss-radau", 3)
    two, forty = (find_path(model, images, labels, rule, search=Beam(width)) for width in (2, 40))
    assert (two.score >= two.greedy_score - 1e-12).tolist() == [True, True, False]
    assert (forty.score > forty.greedy_score).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_shortlists_find_what_all_scores_find_for_less(kind):
    model, images, labels = problem(tiny_config(kind, depth=4), 6)
    rule = Quadrature(*RULES[0])
    given, exact = (model, images, labels, rule), Exhaustive()
    expected = find_path(*given, search=Beam(4, exact))
    found = find_path(*given, search=Beam(4, Shortlist(64, 4.0)))
    same = (found.path == expected.path).flatten(1).all(1)
    assert same.double().mean() > 0.8
    torch.testing.assert_close(found.score[same], expected.score[same], rtol=1e-9, atol=0)
    assert (found.search_rank <= found.search_scored).all()
    assert found.search_scored[:, 0].min() >= 8, "the best four and one more"
    assert found.search_scored.double().mean() < 28
    assert {STOPPED[i] for i in found.search_stopped.flatten().tolist()} <= {"rule", "all"}


def test_a_pooled_shortlist_stops_where_no_pair_can_be_among_the_best():
    """A path whose candidates are far below those of the other has 4 scored; the cap holds for each path."""
    model, images, labels = problem(tiny_config("cls", depth=4), 6)
    rule = Quadrature(*RULES[0])
    for most in (1, 3):
        found = find_path(model, images, labels, rule, search=Beam(4, Shortlist(most, 1e9)))
        assert (found.search_scored == most).all()
        assert (found.search_stopped == STOPPED.index("cap")).all()
        if most == 1:  # one candidate per path, so that there is never a second path
            one = find_path(model, images, labels, rule, search=Shortlist(1))
            assert torch.equal(found.path, one.path)


def test_ties_go_to_the_lowest_path_and_then_to_the_lowest_neuron():
    values = torch.tensor([[[1.0, 3.0, 3.0], [3.0, 2.0, 3.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    parents, step = Scores(values).best(5)
    assert parents.tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert step.chosen.tolist() == [[1, 2, 0, 2, 1], [0, 1, 2, 0, 1]]
    assert step.margin.tolist() == [[0, 0, 0, 0, pytest.approx(-1 / 3)], [0] * 5]
    assert Scores(values).best(99)[0].shape == (2, 6)


def test_a_margin_is_that_of_a_choice_where_the_best_is_chosen():
    scores = torch.tensor([[5.0, -1.0, 4.0, 2.0], [1.0, 1.0, 0.5, -8.0], [7.0, -torch.inf, -torch.inf, -torch.inf]])
    best, margin = choose(scores, 1, ~scores.isneginf())
    assert torch.equal(margins(scores, best)[:, 0], margin)
    assert margins(scores[:2], torch.tensor([[2, 3], [2, 3]])).tolist() == [
        pytest.approx([-0.2, -0.6]),
        pytest.approx([-0.0625, -1.125]),
    ]
    assert margins(scores[:1, :1], torch.tensor([[0]])).item() == 1
    assert margins(torch.tensor([[torch.nan, 1.0]]), torch.tensor([[1]])).isnan().all()


def test_what_a_beam_cannot_do_is_refused():
    model, images, labels = make("cls")
    for wrong in ({"k": 2, "search": Beam(2)}, {"search": Beam(0)}, {"search": Beam(2), "doubt": True}):
        with pytest.raises(ValueError, match="a beam needs a width of at least 1, k = 1, and no doubt"):
            find_path(model, images, labels, Quadrature("midpoint", 2), **wrong)
    with pytest.raises(ValueError, match="'beam' has no nodes that adapt"):
        find_path_auto(model, images, labels, search=Beam(2))
    images[1] = torch.nan
    for over in (Layer(), Shortlist()):
        with pytest.raises(NonFiniteError, match="image 1"):
            find_path(model, images, labels, Quadrature("midpoint", 1), search=Beam(2, over))
