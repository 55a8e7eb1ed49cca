"""Search and scores against the literal oracle, and what must not change them."""

import oracle
import pytest
import torch
from helpers import KINDS, random_model, tiny_config

from neuronpath import Quadrature, activation_path, edit, find_path, influence_path, remove, score_path
from neuronpath.attribution.choice import choose
from neuronpath.attribution.quadrature import RULES
from neuronpath.attribution.reference import plain_search
from neuronpath.attribution.search import SEARCHES
from neuronpath.errors import NonFiniteError
from neuronpath.models.vit import VisionTransformer

CONFIGS = {
    "cls": tiny_config("cls"),
    "mean": tiny_config("mean"),
    "mean-1": tiny_config("mean-1"),
    "cls-2": tiny_config("cls", patch_size=2, img_size=4, width=18, depth=3, num_heads=2, mlp_dim=25, num_classes=7),
    "one-layer": tiny_config("cls", depth=1),
}
IMAGES = 5


def make(name: str, dtype=torch.float64):
    config = CONFIGS[name]
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(IMAGES, 3, config.img_size, config.img_size, generator=generator, dtype=torch.float64)
    labels = torch.arange(IMAGES) % config.num_classes  # classes mix
    return random_model(config, dtype=dtype), images.to(dtype), labels


def assert_equal(found, expected, precision=1e-9):
    assert torch.equal(found.path, expected.path)
    assert torch.equal(found.base_path, expected.base_path)
    for key in ("score", "base_score", "activation", "base_activation", "logits"):
        torch.testing.assert_close(getattr(found, key), getattr(expected, key), rtol=precision, atol=0)
    torch.testing.assert_close(found.margin, expected.margin, rtol=precision, atol=precision)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CONFIGS)
def test_search_and_scores_equal_the_oracle(name, rule, k):
    model, images, labels = make(name)
    m, reached = 4, []
    found = find_path(model, images, labels, Quadrature(rule, m), k)
    plain = plain_search(model, images, labels, Quadrature(rule, m), k)
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path, margin = oracle.search(model, image, label, rule, m, k)
        base = oracle.activation_path(model, image, k)
        score, base_score = (oracle.jas(model, image, label, p, rule, m) for p in (path, base))
        assert found.path[i].tolist() == plain["ja"][i].tolist() == path
        assert found.base_path[i].tolist() == plain["base"][i].tolist() == base
        assert found.margin[i].tolist() == pytest.approx(margin, rel=1e-9, abs=1e-12)
        assert [found.score[i].item(), plain["ja_score"][i].item()] == pytest.approx([score] * 2, rel=1e-9)
        assert [found.base_score[i].item(), plain["base_score"][i].item()] == pytest.approx([base_score] * 2, rel=1e-9)
        reached.append(abs(score))
    assert sum(reached) / IMAGES > 1e-2, "the model is scaled so that relative errors mean something"


@pytest.mark.parametrize("layers", [1, 2, 6])
@pytest.mark.parametrize("name", KINDS)
def test_score_of_any_path_equals_the_oracle(name, layers):
    model, images, labels = make(name)
    generator = torch.Generator().manual_seed(2)
    path = torch.stack([torch.randperm(28, generator=generator)[:2] for _ in range(IMAGES * layers)])
    path = path.view(IMAGES, layers, 2)
    scores = score_path(model, images, labels, path, Quadrature("midpoint", 3), internal_batch_size=4)
    expected = [
        oracle.jas(model, x, y, p.tolist(), "midpoint", 3)
        for x, y, p in zip(images, labels.tolist(), path, strict=True)
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("neuron", [0, 17, 27])
def test_one_neuron_alone_scores_the_probability_it_adds(name, neuron):
    """|P| = 1: JAS is a path integral, F(w̄) - F(0) (divided by N as every reported score)."""
    model, images, labels = make(name)
    path = torch.full((IMAGES, 1, 1), neuron)
    scores = score_path(model, images, labels, path, Quadrature("gauss-legendre", 40))
    for image, label, score in zip(images, labels.tolist(), scores.tolist(), strict=True):
        probabilities, hidden = oracle.forward(model, image)
        without = hidden[0].clone()
        without[:, neuron] = 0
        added = probabilities[label] - oracle.forward(model, image, [without])[0][label]
        assert score * len(without) == pytest.approx(added.item(), rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("name", KINDS)
def test_internal_batch_size_does_not_matter(name):
    model, images, labels = make(name)
    expected = find_path(model, images, labels, Quadrature("right", 5), k=2, internal_batch_size=1000)
    for rows in (1, 2, 5, 7, 11):
        found = find_path(model, images, labels, Quadrature("right", 5), k=2, internal_batch_size=rows)
        assert_equal(found, expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_mixed_batch_equals_a_loop_of_singles_in_any_order(name):
    model, images, labels = make(name)
    batch = find_path(model, images, labels, Quadrature("right", 3))
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = find_path(model, images[order], labels[order], Quadrature("right", 3))
    for i in range(IMAGES):
        single = find_path(model, images[i : i + 1], labels[i : i + 1], Quadrature("right", 3))
        j = order.tolist().index(i)
        for found, at in ((batch, i), (permuted, j)):
            assert torch.equal(found.path[at], single.path[0])
            assert found.score[at].item() == pytest.approx(single.score[0].item(), rel=1e-9)
            assert found.base_score[at].item() == pytest.approx(single.base_score[0].item(), rel=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_fp32_agrees_up_to_near_ties(name):
    model, images, labels = make(name)
    exact = find_path(model, images, labels)
    single = find_path(make(name, torch.float32)[0], images.float(), labels)
    compared = 0
    for i in range(IMAGES):
        near = (exact.margin[i] < 1e-4).nonzero()
        until = near[0].item() if len(near) else len(exact.margin[i])
        assert torch.equal(single.path[i, :until], exact.path[i, :until])
        if until == len(exact.margin[i]):
            compared += 1
            assert single.score[i].item() == pytest.approx(exact.score[i].item(), rel=1e-4)
    assert compared >= 3


def test_the_score_of_the_found_path_is_its_given_path_score():
    for name in KINDS:
        model, images, labels = make(name)
        found = find_path(model, images, labels, Quadrature("left", 4), k=2)
        again = score_path(model, images, labels, found.path, Quadrature("left", 4))
        torch.testing.assert_close(found.score, again, rtol=1e-9, atol=0)
        assert torch.equal(activation_path(model, images, 2), found.base_path)


class NeuronTokenLast(VisionTransformer):
    """The same model with its CLS token behind the patches: attention does not know the order."""

    neuron_tokens = property(lambda self: slice(self.pos_embed.shape[1] - 1, None))
    other_tokens = property(lambda self: slice(0, self.pos_embed.shape[1] - 1))

    def join(self, neuron, other):
        return torch.cat((other, neuron), dim=1)

    def embed(self, x):
        return super().embed(x).roll(-1, 1)


@pytest.mark.parametrize("search", SEARCHES)
def test_where_the_neuron_token_stands_does_not_matter(search):
    model, images, labels = make("cls")
    moved = NeuronTokenLast(model.config).double().eval().requires_grad_(False)
    moved.load_state_dict(model.state_dict())
    arguments = images, labels, Quadrature("midpoint", 2)
    found, expected = (find_path(m, *arguments, search=search) for m in (moved, model))
    assert_equal(found, expected)
    torch.testing.assert_close(
        score_path(moved, *arguments[:2], found.base_path), score_path(model, *arguments[:2], expected.base_path)
    )
    (removed,), (same,) = (edit(m, images, remove(m, expected.path)) for m in (moved, model))
    torch.testing.assert_close(removed, same, rtol=1e-9, atol=0)
    influence, again = (influence_path(m, *arguments) for m in (moved, model))
    assert torch.equal(influence.path, again.path)


def test_a_negative_target_is_the_predicted_class():
    model, images, labels = make("cls")
    predicted = model(images).argmax(-1)
    assert not torch.equal(predicted, labels)
    assert_equal(find_path(model, images, torch.full_like(labels, -1)), find_path(model, images, predicted))


def test_choose_ties_margins_and_nan():
    scores = torch.tensor([[1.0, 3.0, 3.0, -6.0], [0.0, 0.0, 0.0, 0.0], [1.0, float("nan"), 2.0, 0.0]])
    chosen, margin = choose(scores, 2)
    assert chosen[:2].tolist() == [[1, 2], [0, 1]]
    assert margin[:2].tolist() == pytest.approx([(3 - 1) / 6, 0])
    assert margin[2].isnan()
    assert choose(scores[:1], 1)[1].item() == 0  # a tie
    assert choose(scores[:1], 4)[1].item() == 1


def test_scores_that_are_not_finite_name_image_and_layer():
    model, images, labels = make("cls")
    images[3] = torch.nan
    with pytest.raises(NonFiniteError) as e:
        find_path(model, images, labels)
    assert (e.value.image, e.value.what) == (3, "scores of layer 0")


def test_a_neuron_named_twice_in_a_layer_is_refused_wherever_it_stands():
    model, images = random_model(tiny_config()), torch.zeros(1, 3, 9, 9).double()
    for layer in ([3, 3, 5], [3, 5, 3], [5, 3, 4, 5]):
        with pytest.raises(ValueError, match="names one neuron twice"):
            score_path(model, images, torch.zeros(1).long(), torch.tensor([[layer] * 6]))


@pytest.mark.parametrize(
    "path", [torch.zeros(5, 7, 1), torch.zeros(4, 6, 1), torch.full((5, 6, 1), 28), torch.zeros(5, 6, 2)]
)
def test_a_path_that_does_not_fit_is_refused(path):
    model, images, labels = make("cls")
    with pytest.raises(ValueError, match="path"):
        score_path(model, images, labels, path.long())


def test_bad_arguments_are_refused():
    model, images, labels = make("cls")
    for wrong in ({"k": 0}, {"k": 29}, {"search": "best"}):
        with pytest.raises(ValueError, match=r"must be|unknown"):
            find_path(model, images, labels, **wrong)
