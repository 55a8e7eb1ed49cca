"""Whether a model confuses classes of like paths: which images, which probabilities, and what is said on the way."""

import itertools
from argparse import Namespace

import numpy as np
import pytest
import torch
from helpers import NO_SOURCES, random_model, tiny_config
from scipy.stats import spearmanr

from neuronpath.analysis.classes import Classes
from neuronpath.analysis.confusion import check_confusion, mantel, probabilities, recorded_items, soft_confusion
from neuronpath.data.images import open_dataset
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.models.checkpoint import load, save, sha256
from neuronpath.pixels import PARTS

PATH = np.zeros((1, 6, 1), int)


def of_images(images: dict[int, list]) -> Classes:
    return Classes({label: np.repeat(PATH, len(names), 0) for label, names in images.items()}, images, 28, "ja")


def given(checkpoint, folder, **changes) -> Namespace:
    options = {
        "pretrain_weight": checkpoint,
        "model_type": "auto",
        "img_size": None,
        "num_heads": None,
        "classifier": None,
        "pool": None,
        "activation": None,
        **dict.fromkeys(PARTS),
    }
    options |= {"no_cuda": False, "device": "cpu", "preprocess": None, "batch_size": 3}
    return Namespace(**{**options, **NO_SOURCES, "dataset": "imagefolder", "dataset_path": folder, **changes})


def test_confusion_is_of_the_classes_there_are_and_symmetric():
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.5, 0.1, 0.1, 0.3], [0.25, 0.25, 0.25, 0.25]])
    labels = np.array([3, 0, 3, 1])
    means = np.array([p[1], p[3], (p[0] + p[2]) / 2])[:, [0, 1, 3]]
    np.testing.assert_allclose(soft_confusion(p, labels), (means + means.T) / 2)


def test_mantel_counts_the_permutations_of_numpys_generator():
    rng = np.random.default_rng(3)
    x, y = (m + m.T for m in rng.random((2, 5, 5)))
    upper = np.triu_indices(5, 1)
    observed = spearmanr(x[upper], y[upper]).statistic
    for seed in (42, 7):
        orders, as_much = np.random.default_rng(seed), 0
        for _ in range(19):
            order = orders.permutation(5)
            as_much += spearmanr(x[order][:, order][upper], y[upper]).statistic >= observed - 1e-12
        assert mantel(x, y, 19, seed) == (pytest.approx(observed), (1 + as_much) / 20)
    assert mantel(x, y, 19) == mantel(x, y, 19, 42)


@pytest.mark.parametrize("C", [1, 2])
def test_fewer_than_three_classes_are_refused(C):
    with pytest.raises(UserError) as e:
        mantel(np.eye(C), np.eye(C))
    assert str(e.value) == f"{C} classes whose pairs do not differ: no rank correlation; give records of more"


def test_recorded_images_are_found_class_by_class_in_the_records_order(image_folder):
    source = open_dataset("imagefolder", image_folder, 4)
    found = recorded_items(of_images({3: ["class3/04.png", "class3/00.png"], 0: ["class0/02.png"]}), source)
    assert found == [Item("class3/04.png", 3), Item("class3/00.png", 3), Item("class0/02.png", 0)]
    with pytest.raises(UserError) as e:
        recorded_items(of_images({1: ["class3/00.png"]}), source)
    assert str(e.value) == (
        f"{image_folder}: class3/00.png of the records of label 1 is not in that class; "
        "give the --dataset_path of the records"
    )


def test_probabilities_are_of_one_forward_each_whatever_the_batch(checkpoint, image_folder):
    model, source = load(checkpoint), open_dataset("imagefolder", image_folder, 4)
    transform = preprocessing("paper", model.config)
    expected = model(torch.stack([transform(source.rgb(item)) for item in source.items])).softmax(-1)
    for size in (1, 4, 100):
        found = probabilities(model, source, source.items, transform, size)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    (image_folder / "class1/00.png").write_text("no image")
    with pytest.raises(UserError) as e:
        probabilities(model, source, source.items, transform)
    assert str(e.value).startswith(f"{image_folder}/class1/00.png: cannot be read (")
    assert str(e.value).endswith("); replace it or its record")


@pytest.mark.parametrize(
    ("typed", "recorded", "size"), [(None, 12, 12), (12, 15, 12), (None, None, 9), (None, "12", 9), (None, 0, 9)]
)
def test_images_are_as_large_as_typed_or_as_the_records_say_or_as_the_checkpoints(
    checkpoint, image_folder, typed, recorded, size
):
    images = {0: ["class0/00.png", "class0/01.png"], 2: ["class2/00.png"]}
    settings = {"model_img_size": recorded, "checkpoint_sha256": sha256(checkpoint)}
    found, n = check_confusion(given(checkpoint, image_folder, img_size=typed), of_images(images), settings)
    model, source = load(checkpoint, img_size=size), open_dataset("imagefolder", image_folder, 4)
    transform = preprocessing("paper", model.config, "imagefolder")
    items = [Item(name, label) for label, names in images.items() for name in names]
    p = probabilities(model, source, items, transform)
    np.testing.assert_allclose(found, soft_confusion(p, np.array([0, 0, 2])), rtol=1e-6)
    assert n == 3


@pytest.mark.parametrize(("recorded", "warned"), [("0" * 64, True), (None, False), ("own", False)])
def test_other_weights_than_the_records_are_warned_of(checkpoint, image_folder, recwarn, recorded, warned):
    settings = {"checkpoint_sha256": sha256(checkpoint) if recorded == "own" else recorded}
    check_confusion(given(checkpoint, image_folder), of_images({1: ["class1/00.png"]}), settings)
    words = [f"{checkpoint}: not the weights whose paths are in the records"]
    assert [str(w.message) for w in recwarn if "weights" in str(w.message)] == words * warned


def test_probabilities_that_are_not_finite_are_refused(tmp_path, image_folder):
    model = random_model(tiny_config(), dtype=torch.float32)
    model.blocks[5].mlp.fc2.weight.fill_(3e38)
    save(model, tmp_path / "huge.npz")
    with pytest.raises(UserError) as e:
        check_confusion(given(tmp_path / "huge.npz", image_folder), of_images({1: ["class1/00.png"]}), {})
    words = "probabilities that are not finite; are these the weights of the records?"
    assert str(e.value) == f"{tmp_path}/huge.npz: {words}"


def test_every_pair_counts_once(image_folder):
    """Spearman's of the upper triangle: neither the diagonal nor the lower one is looked at."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 6, 6))
    x, y = (x + x.T) / 2, (y + y.T) / 2
    pairs = [*itertools.combinations(range(6), 2)]
    expected = spearmanr([x[i, j] for i, j in pairs], [y[i, j] for i, j in pairs]).statistic
    np.fill_diagonal(x, 9)
    assert mantel(x, y, 9)[0] == pytest.approx(expected)
