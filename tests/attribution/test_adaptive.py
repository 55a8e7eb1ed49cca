"""As many nodes as an image needs: which rules are tried, when it stops, and what is reported."""

import oracle
import pytest
import torch
from helpers import KINDS, problem, tiny_config

from neuronpath import Quadrature, find_path, find_path_auto
from neuronpath.attribution import adaptive
from neuronpath.errors import NonFiniteError

IMAGES = 30
COLUMNS = ("path", "score", "activation", "margin", "base_path", "base_score", "base_activation", "logits")


def make(pool: str = "cls"):
    return problem(tiny_config(pool, depth=4), IMAGES, seed=2)


def best(scores, k):
    return set(sorted(range(len(scores)), key=lambda j: -scores[j])[:k])


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("pool", KINDS)
def test_doubt_is_where_a_lower_rule_on_every_other_node_chooses_otherwise(pool, k):
    """By the oracle's scores along the path found; of Radau 3 the first and last node, on which a line is exact."""
    model, x, y = problem(tiny_config(pool, depth=3, mlp_dim=10), 4, seed=16)
    rule, nodes = Quadrature("gauss-radau", 3), oracle.nodes_and_weights("gauss-radau", 3)
    a, b = min(nodes)[0], max(nodes)[0]
    lower = [(a, (b - 0.5) / (b - a)), (b, (0.5 - a) / (b - a))]
    found = find_path(model, x, y, rule, k, search="exhaustive", doubt=True)
    expected = []
    for image, label, path in zip(x, y.tolist(), found.path.tolist(), strict=True):
        doubt = False
        for layer in range(len(path)):
            scores = {
                alpha: oracle.exact_scores(model, image, label, path[:layer], rule=[(alpha, 1)], m=1)
                for alpha, _ in nodes
            }
            one, other = (
                best([sum(w * scores[alpha][j] for alpha, w in r) for j in range(10)], k) for r in (nodes, lower)
            )
            doubt |= one != other
        expected.append(doubt)
    assert found.doubt.tolist() == expected
    assert not all(expected)
    assert any(expected) or k > 1


def test_somebody_is_in_doubt_and_somebody_is_not():
    found = find_path(*make(), Quadrature("gauss-radau", 2), doubt=True).doubt
    assert 0 < found.sum() < IMAGES


@pytest.mark.parametrize(
    "options", [{}, {"k": 3}, {"search": "shortlist", "objective": "logit"}, {"search": "exhaustive"}]
)
@pytest.mark.parametrize("pool", KINDS)
def test_every_image_gets_the_rule_that_it_needs(pool, options):
    arguments, tried = make(pool), adaptive.NODES[options.get("search", "layer")]
    rules = {m: find_path(*arguments, Quadrature("gauss-radau", m), doubt=True, **options) for m in tried}
    found = find_path_auto(*arguments, **options)
    first, second, third = tried
    for i in range(IMAGES):
        paths = {m: [sorted(layer) for layer in f.path[i].tolist()] for m, f in rules.items()}
        expected = (first, -1)
        if rules[first].doubt[i]:
            expected = (second, 1) if paths[first] == paths[second] else (third, int(paths[second] == paths[third]))
        assert (found.nodes[i].item(), found.converged[i].item()) == expected
        for name in COLUMNS:
            a, b = (getattr(f, name)[i] for f in (found, rules[expected[0]]))
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert (found.search_rank is None) == (options.get("search") != "shortlist")


def fake(monkeypatch, paths: dict):
    """Each image's one-layer path by nodes, all of them in doubt. Which images and nodes were searched."""
    asked = []

    def find(model, images, targets, quadrature, k=1, *, search, doubt):
        assert doubt
        asked.append((quadrature.steps, images[:, 0].tolist()))
        path = torch.tensor([[paths[quadrature.steps][i]] for i in images[:, 0].tolist()])
        like = torch.zeros(len(images))
        columns = (path, like, path, like[:, None], path.clone(), like, path, like[:, None])
        return adaptive.NeuronPath(*columns, doubt=torch.ones(len(images), dtype=torch.bool))

    monkeypatch.setattr(adaptive, "find_path", find)
    images = torch.arange(len(paths[4]))[:, None]
    return find_path_auto(None, images, images[:, 0], k=len(paths[4][0])), asked


def test_it_goes_on_until_a_path_repeats_and_says_where_none_did(monkeypatch):
    found, asked = fake(
        monkeypatch,
        {4: [[0], [1], [2], [3]], 5: [[0], [5], [6], [7]], 9: [[9], [5], [8], [3]]},
    )
    assert asked == [(4, [0, 1, 2, 3]), (5, [0, 1, 2, 3]), (9, [1, 2, 3])]
    assert found.path.flatten().tolist() == [0, 5, 8, 3]
    assert found.nodes.tolist() == [5, 9, 9, 9]
    assert found.converged.tolist() == [1, 1, 0, 0]


def test_the_order_of_a_layers_neurons_does_not_matter(monkeypatch):
    found, asked = fake(monkeypatch, {4: [[0, 1]], 5: [[1, 0]]})
    assert found.nodes.tolist() == [5]
    assert found.path.tolist() == [[[1, 0]]]
    assert len(asked) == 2


def test_a_score_that_is_not_finite_names_the_image_of_the_whole_batch(monkeypatch):
    def find(model, images, targets, quadrature, *, search, doubt):
        if quadrature.steps == 5:
            raise NonFiniteError(1, "scores of layer 3")
        like = torch.zeros(len(images))
        path = torch.zeros(len(images), 1, 1, dtype=torch.long)
        columns = (path, like, path, like[:, None], path, like, path, like[:, None])
        return adaptive.NeuronPath(*columns, doubt=torch.tensor([False, True, True]))

    monkeypatch.setattr(adaptive, "find_path", find)
    with pytest.raises(NonFiniteError) as e:
        find_path_auto(None, torch.zeros(3, 1), torch.zeros(3))
    assert (e.value.image, e.value.what) == (2, "scores of layer 3")
