"""What a job or a study works on, opened by its options, and all images at once."""

import pytest
import torch
from helpers import IMAGES, LABELS, fault

from neuronpath import load, load_images
from neuronpath.cli import options as opt
from neuronpath.cli.parsing import Parser
from neuronpath.runs import Inputs, open_inputs, open_model


@pytest.fixture
def opened(checkpoint, image_folder, monkeypatch):
    """`open_inputs` of these words of a command line."""

    def start(*words, call=open_inputs):
        parser = Parser("study")
        opt.add_data(parser)
        opt.add_model(parser)
        parser.set_defaults(shard=(0, 1))
        given = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--pretrain_weight", checkpoint)
        monkeypatch.setattr("sys.argv", ["study", *map(str, (*given, "--num_workers", 0, *words))])
        return call(opt.settle(parser.parse_args()))

    return start


def damage(folder, *images: str) -> None:
    for image in images:
        (folder / image).write_bytes(b"no image")


def test_all_images_in_order_as_the_model_takes_them(opened, image_folder, checkpoint):
    inputs = opened()
    items, images = inputs.load_all()
    assert isinstance(inputs, Inputs)
    assert inputs.items == inputs.chosen == items
    assert [item.image for item in items] == IMAGES
    expected, labels = load_images(image_folder, load(checkpoint))
    assert torch.equal(images, expected)
    assert [item.label for item in items] == labels.tolist()


def test_those_that_the_options_choose(opened):
    items, images = opened("--labels", "0,3", "--images_per_class", 2).load_all()
    assert [item.image for item in items] == ["class0/00.png", "class0/01.png", "class3/00.png", "class3/01.png"]
    assert images.shape == (4, 3, 9, 9)


def test_the_models_precision_and_preprocessing(opened, image_folder):
    words = ("--precision", "fp64", "--preprocess", "native", "--mean", "0,0,0", "--std", "1,1,1", "--crop_pct", "1")
    _, images = opened(*words, "--interpolation", "bilinear").load_all()
    assert images.dtype == torch.float64
    assert images.min() >= 0
    assert not torch.equal(images, opened("--precision", "fp64").load_all()[1])


def test_several_batches_and_a_bad_one_among_them(opened, image_folder):
    """Batches are of ten: of the second, all that is left is unreadable."""
    damage(image_folder, *IMAGES[10:])
    items, images = opened("--on_bad_image", "skip").load_all()
    assert [item.image for item in items] == IMAGES[:10]
    assert len(images) == 10


def test_an_unreadable_image_ends_it_unless_it_is_to_be_skipped(opened, image_folder):
    bad = IMAGES[4]
    whole = dict(zip(IMAGES, opened().load_all()[1], strict=True))
    damage(image_folder, bad)
    message = fault(opened().load_all)
    assert message.startswith(f"{image_folder / bad}: cannot be read (")
    assert message.endswith("; replace it or use --on_bad_image skip")
    items, images = opened("--on_bad_image", "skip").load_all()
    assert [item.image for item in items] == [image for image in IMAGES if image != bad]
    assert [item.label for item in items] == [LABELS[item.image] for item in items]
    assert all(torch.equal(image, whole[item.image]) for item, image in zip(items, images, strict=True))


def test_none_that_can_be_read(opened, image_folder):
    damage(image_folder, *IMAGES)
    message = fault(opened("--on_bad_image", "skip").load_all)
    assert message == f"{image_folder}: no image can be read; replace them"


def test_the_model_that_the_options_name(opened, checkpoint):
    model = opened("--precision", "fp64", call=open_model)
    assert model.dtype == torch.float64
    expected = load(checkpoint, dtype=torch.float64)
    assert torch.equal(model.head.weight, expected.head.weight)
    assert model.config == expected.config
    words = ("--preprocess", "native", "--mean", "0,0,0", "--std", "1,1,1", "--crop_pct", "1")
    native = opened(*words, "--interpolation", "bilinear", call=open_model).native
    assert (native.mean, native.std, native.crop) == ((0, 0, 0), (1, 1, 1), 9)
    assert fault(opened, "--mean", "0,0,0").startswith("--mean counts for --preprocess native")
