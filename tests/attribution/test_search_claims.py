"""Searches, scores and edits as they are called: defaults, refusals, and how many rows they run at once."""

import re

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath import (
    Beam,
    Exhaustive,
    Layer,
    NonFiniteError,
    Quadrature,
    Shortlist,
    activation_path,
    edit,
    find_path,
    find_path_auto,
    gain,
    influence_path,
    remove,
    score_path,
)
from neuronpath.attribution import adaptive
from neuronpath.models.vit import VisionTransformer

IMAGES = 5


def make(kind: str = "cls", images: int = IMAGES, scale: float = 0.35, **changes):
    config, generator = tiny_config(kind, **changes), torch.Generator().manual_seed(1)
    size = config.img_size
    x = torch.randn(images, 3, size, size, generator=generator, dtype=torch.float64)
    return random_model(config, scale=scale), x, torch.arange(images) % 4


def equal(a, b) -> bool:
    return all(
        x is y is None or torch.equal(x, y)
        for x, y in ((getattr(a, f), getattr(b, f)) for f in type(a).__annotations__)
    )


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


class TestDefaults:
    def test_the_papers_rule_one_neuron_per_layer_and_the_released_search(self):
        given = make(depth=2)
        assert equal(find_path(*given), find_path(*given, Quadrature("right", 20), 1, search=Layer()))
        assert equal(influence_path(*given), influence_path(*given, Quadrature("right", 20)))
        path = activation_path(*given[:2])
        assert path.shape == (IMAGES, 2, 1)
        expected = score_path(*given, path, Quadrature("right", 20))
        assert torch.equal(score_path(*given, path), expected)

    @pytest.mark.parametrize(
        ("name", "search"),
        [
            ("layer", Layer()),
            ("shortlist", Shortlist(64, 2.0, 4)),
            ("exhaustive", Exhaustive()),
            ("beam", Beam(4, Layer())),
        ],
    )
    def test_a_searchs_name_stands_for_its_defaults(self, name, search):
        given = make(depth=2)
        two = Quadrature("midpoint", 2)
        assert Shortlist() == Shortlist(most=64, kappa=2.0, first=4)
        assert equal(find_path(*given, two, search=name), find_path(*given, two, search=search))

    def test_auto_tries_few_gauss_radau_nodes_and_more_of_them(self):
        assert adaptive.RULE == "gauss-radau"
        assert adaptive.NODES == {"layer": (4, 5, 9), "shortlist": (2, 3, 5), "exhaustive": (2, 3, 5)}
        given = make(depth=2)
        assert equal(find_path_auto(*given), find_path_auto(*given, search=Layer()))
        assert equal(find_path_auto(*given, search="shortlist"), find_path_auto(*given, search=Shortlist()))

    @pytest.mark.parametrize("search", ["layer", "shortlist", "exhaustive"])
    def test_auto_tries_again_where_a_lower_rule_chooses_otherwise_and_nowhere_else(self, search):
        given, first = make(depth=3, images=20), adaptive.NODES[search][0]
        doubt = find_path(*given, Quadrature("gauss-radau", first), search=search, doubt=True).doubt.tolist()
        assert {True, False} == set(doubt), "some are in doubt and some are not"
        found = find_path_auto(*given, search=search)
        assert [n > first for n in found.nodes.tolist()] == doubt
        assert [c == -1 for c in found.converged.tolist()] == [not d for d in doubt]

    def test_edits_are_at_the_neuron_tokens(self):
        model, x, _ = make()
        factors = remove(model, activation_path(model, x, 3))
        (found,), (few,), (many,) = (
            edit(model, x, factors),
            edit(model, x, factors, all_tokens=False),
            edit(model, x, factors, all_tokens=True),
        )
        assert torch.equal(found, few)
        assert not torch.allclose(found, many)


class TestShortlists:
    @pytest.mark.parametrize(
        ("k", "least", "first"),
        [
            *((k, 4, first) for k, first in ((1, 4), (3, 4), (4, 8), (7, 8), (8, 16), (15, 16), (16, 28))),
            *((k, 8, first) for k, first in ((1, 8), (7, 8), (8, 16), (15, 16), (16, 28))),
        ],
    )
    def test_some_are_scored_at_first_and_twice_as_many_until_there_are_more_than_k(self, k, least, first):
        """With a rule that is met as soon as a gap is positive."""
        given = make(depth=2)
        search = Shortlist(64, 0.0) if least == 4 else Shortlist(64, 0.0, least)
        found = find_path(*given, Quadrature("midpoint", 2), k, search=search)
        scored = found.search_scored.flatten().tolist()
        assert min(scored) == first
        assert set(scored) <= {n for n in (4, 8, 16, 28) if n >= first}

    def test_the_cap_is_what_it_says(self):
        given = make(depth=2)
        for most in (1, 3, 27, 28, 99):
            found = find_path(*given, Quadrature("midpoint", 2), search=Shortlist(most, float("inf")))
            assert set(found.search_scored.flatten().tolist()) == {min(most, 28)}
            assert (found.search_stopped == (1 if most < 28 else 2)).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ({"k": 0}, "k must be 1 to 28 (the neurons of a layer), not 0"),
            ({"k": 29}, "k must be 1 to 28 (the neurons of a layer), not 29"),
            ({"search": "best"}, "search 'best' is unknown; choose from layer, shortlist, exhaustive, beam"),
            (
                {"k": 3, "search": Shortlist(2)},
                "the most of a shortlist must be at least k = 3, not 2",
            ),
        ],
    )
    def test_of_a_search(self, named, said):
        with pytest.raises(ValueError, match=exactly(said)):
            find_path(*make(depth=1), **named)

    def test_the_largest_k_and_the_smallest_cap_do(self):
        given = make(depth=1)
        one = Quadrature("midpoint", 1)
        assert find_path(*given, one, 28).path.sort(-1).values.tolist() == [[list(range(28))]] * IMAGES
        assert find_path(*given, one, 28).margin.tolist() == [[1.0]] * IMAGES
        assert find_path(*given, one, 3, search=Shortlist(3)).path.shape == (IMAGES, 1, 3)

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            (torch.zeros(5, 7, 1), "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (5, 7, 1)"),
            (torch.zeros(4, 6, 1), "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (4, 6, 1)"),
            (torch.zeros(5, 0, 1), "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (5, 0, 1)"),
            (torch.zeros(5, 6, 0), "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (5, 6, 0)"),
            (torch.zeros(5, 6), "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (5, 6)"),
            (
                torch.arange(29).expand(5, 6, 29),
                "a path must be (images, layers, K) = (5, 1 to 6, 1 to 28), not (5, 6, 29)",
            ),
            (torch.full((5, 6, 1), 28), "a path's neurons are 0 to 27, but this one holds 28 to 28"),
            (torch.tensor([-1, 4]).expand(5, 6, 2), "a path's neurons are 0 to 27, but this one holds -1 to 4"),
            (torch.full((5, 6, 2), 3), "a path names one unit twice in a layer"),
        ],
    )
    def test_of_a_path_by_scores(self, path, said):
        with pytest.raises(ValueError, match=exactly(said)):
            score_path(*make(), path.long())

    def test_of_a_path_by_edits(self):
        model, *_ = make()
        with pytest.raises(ValueError, match=r"not \(5, 7, 1\)"):
            gain(model, torch.zeros(5, 7, 1).long(), 2)
        every = torch.arange(28).expand(5, 6, 28)
        assert (gain(model, every, 2) == 2).all()

    @pytest.mark.parametrize("find", [find_path, influence_path, find_path_auto])
    def test_what_is_not_finite_names_image_and_layer(self, find):
        model, x, y = make()
        x[3] = torch.nan
        with pytest.raises(NonFiniteError) as e:
            find(model, x, y)
        assert (e.value.image, e.value.what) == (3, "scores of layer 0")
        assert str(e.value) == "image 3 of the batch: the scores of layer 0 are not finite"


class Watched:
    """The most images that were embedded at once, and the most rows that a block attended to."""

    def __init__(self, model, monkeypatch):
        self.images = self.rows = 0
        embed, attend = VisionTransformer.embed, type(model.blocks[0]).attend

        def embedded(model, x):
            self.images = max(self.images, len(x))
            return embed(model, x)

        def attended(block, z, *more):
            self.rows = max(self.rows, len(z))
            return attend(block, z, *more)

        monkeypatch.setattr(VisionTransformer, "embed", embedded)
        monkeypatch.setattr(type(model.blocks[0]), "attend", attended)


#: Three nodes to be ramped; α = 1 is none.
THREE = (Quadrature("midpoint", 3), Quadrature("gauss-radau", 4))


class TestRows:
    @pytest.mark.parametrize("kind", ["cls", "mean"])
    @pytest.mark.parametrize("search", ["layer", "shortlist", "exhaustive"])
    @pytest.mark.parametrize(("rows", "images"), [(7, 2), (3, 1), (2, 1)])
    @pytest.mark.parametrize("rule", THREE, ids=str)
    def test_of_a_search_with_three_nodes(self, monkeypatch, kind, search, rows, images, rule):
        given = make(kind, depth=2)
        watched = Watched(given[0], monkeypatch)
        find_path(*given, rule, search=search, internal_batch_size=rows)
        assert watched.images == images
        assert images <= watched.rows <= rows

    @pytest.mark.parametrize(
        ("rows", "images", "most"), [(7, 2, 6), (6, 2, 6), (5, 1, 3), (3, 1, 3), (2, 1, 2), (1, 1, 1)]
    )
    @pytest.mark.parametrize("rule", THREE, ids=str)
    def test_of_a_score(self, monkeypatch, rows, images, most, rule):
        model, x, y = make(depth=2)
        path = activation_path(model, x)
        watched = Watched(model, monkeypatch)
        score_path(model, x, y, path, rule, internal_batch_size=rows)
        assert (watched.images, watched.rows) == (images, most)

    @pytest.mark.parametrize(("rows", "most"), [(7, 6), (6, 6), (5, 3), (3, 3), (2, 2), (1, 1)])
    @pytest.mark.parametrize("rule", THREE, ids=str)
    def test_of_an_influence(self, monkeypatch, rows, most, rule):
        given = make(depth=2)
        watched = Watched(given[0], monkeypatch)
        influence_path(*given, rule, internal_batch_size=rows)
        assert (watched.images, watched.rows) == (most, most)

    @pytest.mark.parametrize(("rows", "most"), [(9, 5), (5, 5), (4, 4), (1, 1)])
    def test_of_an_edit(self, monkeypatch, rows, most):
        model, x, _ = make(depth=2)
        watched = Watched(model, monkeypatch)
        edit(model, x, None, internal_batch_size=rows)
        assert (watched.images, watched.rows) == (most, most)


class TestResults:
    @pytest.mark.parametrize("kind", ["cls", "mean"])
    def test_activations_are_means_over_the_neuron_tokens_and_signed(self, kind):
        model, x, y = make(kind, depth=1)
        found = find_path(model, x, y, Quadrature("midpoint", 2), 3)
        a = model.blocks[0].attend(model.embed(x))
        h = model.blocks[0].hidden(a)[:, model.neuron_tokens].mean(1)
        for path, activation in ((found.path, found.activation), (found.base_path, found.base_activation)):
            torch.testing.assert_close(activation[:, 0], h.gather(1, path[:, 0]), rtol=1e-9, atol=1e-12)
        assert torch.equal(found.base_path[:, 0], h.topk(3).indices)
        torch.testing.assert_close(found.logits, model(x), rtol=1e-9, atol=1e-9)

    def test_what_only_some_searches_tell_is_none_elsewhere(self):
        given = make(depth=1)
        one = Quadrature("midpoint", 1)
        extra = ("search_rank", "search_scored", "search_stopped", "doubt", "nodes", "converged")

        def told(found):
            return [name for name in extra if getattr(found, name) is not None]

        assert told(find_path(*given, one)) == told(find_path(*given, one, search="exhaustive")) == []
        assert told(find_path(*given, one, search="shortlist")) == [*extra[:3]]
        assert told(find_path(*given, one, doubt=True)) == ["doubt"]
        assert told(find_path_auto(*given)) == [*extra[3:]]
        assert told(find_path_auto(*given, search="shortlist")) == [*extra]
