"""As many nodes as an image needs: which rules are tried, when it stops, and what is reported."""

import pytest
import torch
from helpers import KINDS, problem, tiny_config

from neuronpath import Quadrature, find_path, find_path_auto
from neuronpath.attribution import adaptive
from neuronpath.errors import NonFiniteError

IMAGES = 6
COLUMNS = ("path", "score", "activation", "margin", "base_path", "base_score", "base_activation", "logits")


def make(pool: str = "cls"):
    return problem(tiny_config(pool, depth=4), IMAGES)


def with_nodes(nodes: int, *arguments, **options):
    return find_path(*arguments, Quadrature("gauss-legendre", nodes), **options)


def literal(threshold, *arguments, **options):
    """(nodes, converged) of every image, in a loop over the definition."""
    rules = {nodes: with_nodes(nodes, *arguments, **options) for nodes in (4, 8, 16)}
    found = []
    for i in range(IMAGES):
        paths = {nodes: [sorted(layer) for layer in f.path[i].tolist()] for nodes, f in rules.items()}
        if rules[4].margin[i].min() >= threshold:
            found.append((4, -1))
        elif paths[4] == paths[8]:
            found.append((8, 1))
        else:
            found.append((16, int(paths[8] == paths[16])))
    return rules, found


@pytest.mark.parametrize("options", [{}, {"k": 3}, {"search": "shortlist"}, {"search": "exhaustive"}])
@pytest.mark.parametrize("pool", KINDS)
def test_every_image_gets_the_rule_that_it_needs(pool, options):
    arguments = make(pool)
    threshold = with_nodes(4, *arguments, **options).margin.amin(1).median().item() + 1e-12  # half of them
    rules, expected = literal(threshold, *arguments, **options)
    found = find_path_auto(*arguments, threshold=threshold, **options)
    assert list(zip(found.nodes.tolist(), found.converged.tolist(), strict=True)) == expected
    assert len({nodes for nodes, _ in expected}) > 1
    for i, (nodes, _) in enumerate(expected):
        for name in COLUMNS:
            a, b = (getattr(f, name)[i] for f in (found, rules[nodes]))
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert (found.search_rank is None) == (options.get("search") != "shortlist")


def test_no_image_is_searched_again_below_a_threshold_of_0_and_every_one_above_1():
    arguments = make()
    once = find_path_auto(*arguments, threshold=0)
    assert once.nodes.tolist() == [4] * IMAGES
    assert (once.converged == -1).all()
    assert find_path_auto(*arguments, threshold=1.1).nodes.min() == 8


def fake(monkeypatch, paths: dict):
    """Each image's one-layer path by nodes; margins 0. Which images and nodes were searched."""
    asked = []

    def find(model, images, targets, quadrature, k=1):
        asked.append((quadrature.steps, images[:, 0].tolist()))
        path = torch.tensor([[paths[quadrature.steps][i]] for i in images[:, 0].tolist()])
        like = torch.zeros(len(images))
        return adaptive.NeuronPath(path, like, path, like[:, None], path.clone(), like, path, like[:, None])

    monkeypatch.setattr(adaptive, "find_path", find)
    images = torch.arange(len(paths[4]))[:, None]
    return find_path_auto(None, images, images[:, 0], k=len(paths[4][0])), asked


def test_it_goes_on_until_a_path_repeats_and_says_where_none_did(monkeypatch):
    found, asked = fake(
        monkeypatch,
        {4: [[0], [1], [2], [3]], 8: [[0], [5], [6], [7]], 16: [[9], [5], [8], [3]]},
    )
    assert asked == [(4, [0, 1, 2, 3]), (8, [0, 1, 2, 3]), (16, [1, 2, 3])]
    assert found.path.flatten().tolist() == [0, 5, 8, 3]
    assert found.nodes.tolist() == [8, 16, 16, 16]
    assert found.converged.tolist() == [1, 1, 0, 0]


def test_the_order_of_a_layers_neurons_does_not_matter(monkeypatch):
    found, asked = fake(monkeypatch, {4: [[0, 1]], 8: [[1, 0]]})
    assert found.nodes.tolist() == [8]
    assert found.path.tolist() == [[[1, 0]]]
    assert len(asked) == 2


def test_a_score_that_is_not_finite_names_the_image_of_the_whole_batch(monkeypatch):
    def find(model, images, targets, quadrature):
        if quadrature.steps == 8:
            raise NonFiniteError(1, "scores of layer 3")
        like = torch.zeros(len(images))
        margin = torch.tensor([[1.0], [0.0], [0.0]])
        path = torch.zeros(len(images), 1, 1, dtype=torch.long)
        return adaptive.NeuronPath(path, like, path, margin, path, like, path, margin)

    monkeypatch.setattr(adaptive, "find_path", find)
    with pytest.raises(NonFiniteError) as e:
        find_path_auto(None, torch.zeros(3, 1), torch.zeros(3))
    assert (e.value.image, e.value.what) == (2, "scores of layer 3")
