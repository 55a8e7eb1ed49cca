"""Similarity checked against what a model confuses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import COUNTS, random_model, tiny_config
from made import random_paths, write_classes
from scipy.stats import spearmanr

import neuronpath
from neuronpath.analysis.classes import Classes
from neuronpath.analysis.confusion import mantel, recorded_items, soft_confusion
from neuronpath.data.images import open_dataset
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.models.checkpoint import sha256
from neuronpath.pixels import Preprocessing

IMAGES = {label: [f"class{label}/{i:02d}.png" for i in range(n)] for label, n in enumerate(COUNTS)}


@pytest.mark.parametrize(
    ("recorded", "typed", "used"),
    [("native", None, "native"), ("native", "paper", "paper"), ("paper", None, "paper"), (None, None, "paper")],
)
def test_images_are_preprocessed_as_the_records_say(
    checkpoint,
    image_folder,
    tmp_path,
    similar,
    recorded,
    typed,
    used,
):
    settings = {"model_img_size": 9} | ({"preprocess": recorded} if recorded else {})
    paths = {label: random_paths(len(images), seed=label) for label, images in IMAGES.items()}
    folder = write_classes(tmp_path / "ja", paths, **settings)
    options = ["--results", folder, "--dataset_path", image_folder, "--pretrain_weight", checkpoint]
    similar("pair-sim", *options, *(["--preprocess", typed] if typed else [])).expect()
    model, source = neuronpath.load(checkpoint), open_dataset("imagefolder", image_folder, 4)
    transform = preprocessing(used, model.config, "imagefolder", model.native)
    assert_confused(tmp_path, model, source, transform)


def assert_confused(tmp_path, model, source, transform) -> None:
    """What pair-sim wrote is the soft confusion of the model on the images so prepared."""
    means = []
    for label, images in IMAGES.items():
        x = torch.stack([transform(source.rgb(Item(image, label))) for image in images])
        means.append(model(x).softmax(-1).numpy().mean(0))
    means = np.array(means)
    np.testing.assert_allclose(np.load(tmp_path / "out/confusion.npy"), (means + means.T) / 2, rtol=1e-4)


NATIVE = Preprocessing(11, 9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "box")


@pytest.mark.parametrize("same", [True, False])
def test_what_a_file_does_not_tell_is_as_in_records_of_the_same_weights(image_folder, tmp_path, similar, same):
    file, told = tmp_path / "bare.pth", {"num_heads": 4, "pool": "mean", "activation": "quick-gelu"}
    torch.save(random_model(tiny_config(), dtype=torch.float32).state_dict(), file)
    settings = {"model_img_size": 9, "model_num_heads": 4, "model_norm_first": True, "model_activation": "quick-gelu"}
    settings |= {"preprocess": "native"} | {f"preprocess_{name}": value for name, value in NATIVE.to_dict().items()}
    settings["checkpoint_sha256"] = sha256(file) if same else "0" * 64
    paths = {label: random_paths(len(images), seed=label) for label, images in IMAGES.items()}
    folder = write_classes(tmp_path / "ja", paths, **settings)
    typed = [] if same else ["--num_heads", 4, "--pool", "mean", "--activation", "quick-gelu"]
    options = ["--results", folder, "--dataset_path", image_folder, "--pretrain_weight", file, *typed]
    similar("pair-sim", *options).expect()
    model, source = neuronpath.load(file, **told), open_dataset("imagefolder", image_folder, 4)
    transform = preprocessing("native", model.config, native=NATIVE)
    assert_confused(tmp_path, model, source, transform)
    if not same:
        assert "--num_heads" in similar("pair-sim", *options[: -len(typed)]).fault
    other = similar("pair-sim", *options, "--mean", "0,0,0").expect()
    assert other.code == 0
    assert_confused(
        tmp_path, model, source, preprocessing("native", model.config, native=replace(NATIVE, mean=(0.0,) * 3))
    )
    write_classes(tmp_path / "ja", {}, **settings | {"preprocess_std": "x"})
    assert "preprocess_std of the records cannot be 'x'" in similar("pair-sim", *options).fault


def test_means_over_images_symmetrised_in_ascending_label():
    labels = np.array([3, 0, 3])
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.5, 0.1, 0.1, 0.3]])
    np.testing.assert_allclose(soft_confusion(p, labels), [[0.7, 0.2], [0.2, 0.35]])


def test_correlation_is_spearmans_and_a_planted_relation_is_found():
    rng = np.random.default_rng(0)
    x, noise = (m + m.T for m in rng.random((2, 12, 12)))
    y = x**3 + 0.5 * noise
    r, p = mantel(x, y)
    upper = np.triu_indices(12, 1)
    assert r == pytest.approx(spearmanr(x[upper], y[upper]).statistic, abs=1e-12)
    assert p == 1 / 10_000
    assert mantel(x, y, 99) == mantel(x, y, 99)
    assert mantel(x, -y, 99)[1] == 1  # one-sided


def test_p_is_uniform_where_there_is_no_relation():
    rng = np.random.default_rng(1)
    pairs = [[m + m.T for m in rng.random((2, 7, 7))] for _ in range(200)]
    p = np.array([mantel(x, y, 99, seed=i)[1] for i, (x, y) in enumerate(pairs)])
    assert 0.42 < p.mean() < 0.58
    assert (p <= 0.05).mean() < 0.1


def test_classes_are_permuted_and_not_pairs():
    """One class unlike all others: of its rows, half of the arrangements of classes do as much, of pairs few."""
    x, y = np.zeros((2, 6, 6))
    x[0, 1:] = x[1:, 0] = (1, 2, 3, 4, 5)
    y[0, 1:] = y[1:, 0] = (2, 1, 3, 5, 4)
    upper = np.triu_indices(6, 1)

    def correlation(a):
        return spearmanr(a[upper], y[upper]).statistic

    observed = correlation(x)
    orders = [list(order) for order in itertools.permutations(range(6))]
    exact = np.mean([correlation(x[order][:, order]) >= observed - 1e-12 for order in orders])
    rng, pairs = np.random.default_rng(0), x[upper]
    shuffled = [spearmanr(rng.permutation(pairs), y[upper]).statistic >= observed - 1e-12 for _ in range(2000)]
    assert mantel(x, y, 4000)[1] == pytest.approx(exact, abs=0.015)
    assert abs(exact - np.mean(shuffled)) > 0.01


def test_every_permutation_that_changes_nothing_counts():
    x = np.array([[1, 0.5, 0.2], [0.5, 1, 0.2], [0.2, 0.2, 1]])  # of 6 permutations 2 leave it as it is
    assert mantel(x, x, 2000)[1] == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize("x", [np.eye(2), np.eye(5)])
def test_pairs_that_do_not_differ_are_refused(x):
    with pytest.raises(UserError, match="do not differ"):
        mantel(x, np.random.default_rng(0).random(x.shape))


def test_pair_sim_runs_the_model_on_the_recorded_images_only(checkpoint, class_records, image_folder, similar):
    few = write_classes(class_records, {3: random_paths(2)}, images={3: IMAGES[3][3:]}, model_img_size=9)
    options = ("--results", few, "--dataset_path", image_folder, "--pretrain_weight", checkpoint)
    result = similar("pair-sim", *options, "--device", "cpu").expect()
    assert "n = 8 recorded images" in result.stdout
    model, source, rows = neuronpath.load(checkpoint), open_dataset("imagefolder", image_folder, 4), {}
    transform = preprocessing("paper", model.config)
    for label, images in (IMAGES | {3: IMAGES[3][3:]}).items():
        for image in images:
            x = transform(source.rgb(Item(image, label)))
            rows.setdefault(label, []).append(model(x[None]).softmax(-1)[0].numpy())
    means = np.array([np.mean(found, 0) for found in rows.values()])
    np.testing.assert_allclose(np.load(few.parent / "out/confusion.npy"), (means + means.T) / 2, rtol=1e-5)


def test_other_weights_are_a_warning(checkpoint, class_records, image_folder, similar):
    write_classes(class_records, {}, checkpoint_sha256="0" * 64)
    options = ("--results", class_records, "--dataset_path", image_folder, "--pretrain_weight", checkpoint)
    result = similar("pair-sim", *options).expect()
    assert any("not the weights" in line for line in result.warnings)


def test_records_of_images_that_are_not_there_are_refused(image_folder):
    source = open_dataset("imagefolder", image_folder, 4)
    for image in ("../secret.png", "class1/00.png", "/etc/passwd"):
        with pytest.raises(UserError, match="is not in that class"):
            recorded_items(Classes({0: random_paths(1)}, {0: [image]}, 28, "ja"), source)


def test_released_records_are_joined_by_position(image_folder):
    source = open_dataset("imagefolder", image_folder, 4)
    with pytest.warns(UserWarning, match="joined by position"):
        items = recorded_items(Classes({2: random_paths(2)}, {2: [None, None]}, 28, "ja"), source)
    assert [item.image for item in items] == IMAGES[2]
    with pytest.raises(UserError, match="cannot be joined"):
        recorded_items(Classes({2: random_paths(1)}, {2: [None]}, 28, "ja"), source)
