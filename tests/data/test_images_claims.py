"""Data sets: what they hold, in which order, and what is said of those that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from helpers import fault
from PIL import Image
from sklearn.utils import Bunch
from torchvision import datasets

from neuronpath.data.digits import write_images
from neuronpath.data.images import CIFAR, ImageSet, open_dataset, open_folder, to_rgb
from neuronpath.files import Item

ENDINGS = ".jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp"


class TestOpening:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("digits", "make it with: python scripts/train_digits.py"),
            *((name, "give --dataset_path") for name in ("imagenet1k", "imagefolder", "cifar10")),
        ],
    )
    def test_an_absent_folder_says_how_to_get_it(self, name, hint, tmp_path):
        assert fault(open_dataset, name, tmp_path / "x", 4) == f"{tmp_path / 'x'}: no such folder; {hint}"

    def test_an_empty_folder_and_empty_classes(self, tmp_path):
        said = "no class folders in it; images belong into one folder per class"
        assert fault(open_folder, tmp_path) == f"{tmp_path}: {said}"
        (tmp_path / "a").mkdir()
        assert fault(open_folder, tmp_path) == f"{tmp_path}: no images in its class folders ({ENDINGS})"

    def test_another_number_of_classes_than_the_heads(self, image_folder):
        for count in (3, 5):
            assert fault(open_dataset, "imagefolder", image_folder, count) == (
                f"{image_folder}: 4 classes, but the model's head has {count}; give the whole data set that the head "
                "was trained for, and take a part of it with --labels"
            )
        assert open_dataset("imagefolder", str(image_folder), 4).root == image_folder

    @pytest.mark.parametrize("name", ["cifar10", "cifar100"])
    def test_cifar_that_is_not_there(self, name, tmp_path):
        found = fault(open_dataset, name, tmp_path, 10)
        assert found.startswith(f"{tmp_path}: no sound {name} there (")
        assert found.endswith("); unpack its 'python version' there")

    def test_cifar_is_its_test_images_and_nothing_is_fetched(self, tmp_path, monkeypatch):
        asked = []

        class Cifar:
            classes, targets, data = ["a", "b"], [1, 0, 1], np.zeros((3, 32, 32, 3), np.uint8)

            def __init__(self, root, **more):
                asked.append((root, more))

            def __len__(self):
                return 3

        monkeypatch.setitem(CIFAR, "cifar10", Cifar)
        found = open_dataset("cifar10", tmp_path, 2)
        assert asked == [(str(tmp_path), {"train": False, "download": False})]
        assert found.items == [Item("1", 0), Item("0", 1), Item("2", 1)]

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (
                ("1", "10", "2"),
                "'10' is label 1; where a folder's number must be its label, name it with 2 digits, as 02",
            ),
            (
                ("100", "99"),
                "'100' is label 0; where a folder's number must be its label, name it with 3 digits, as 002",
            ),
        ],
    )
    def test_numbered_folders_that_are_not_their_labels(self, names, said, tmp_path):
        for name in names:
            (tmp_path / name).mkdir()
            Image.new("L", (1, 1)).save(tmp_path / name / "a.png")
        with pytest.warns(UserWarning, match="alphabet") as caught:
            open_folder(tmp_path)
        assert [str(w.message) for w in caught] == [
            f"{tmp_path}: its class folders are numbered, but labels follow the alphabet: {said}"
        ]


class TestSelection:
    ITEMS = [Item(f"{i}", label) for i, label in enumerate((0, 0, 1, 1, 1, 3))]  # noqa: RUF012

    @pytest.mark.parametrize(
        ("labels", "count", "chosen"),
        [
            (None, None, "012345"),
            ([3, 0], None, "015"),
            ([1], 2, "23"),
            (None, 1, "025"),
            ([2, 3], 9, "5"),
            ([0, 0], 1, "0"),
        ],
    )
    def test_the_first_of_each_in_their_order(self, labels, count, chosen):
        source = ImageSet(Path("val"), list("abcd"), self.ITEMS)
        assert "".join(item.image for item in source.select(labels, count)) == chosen

    def test_faults(self):
        source = ImageSet(Path("val"), list("abcd"), self.ITEMS)
        assert fault(source.select, [7, 0, 5]) == "--labels: val has no class 5; its labels are 0 to 3"
        assert fault(source.select, [4]) == "--labels: val has no class 4; its labels are 0 to 3"
        said = "val: no images in the chosen classes; check the folders and --labels"
        assert fault(source.select, [2]) == fault(source.select, []) == said


class TestPixels:
    def test_16_and_32_bits_are_scaled_to_8(self):
        values = [0, 256, 257, 513, 514, 65534, 65535]
        shown = [0, 0, 1, 1, 2, 254, 255]
        for kind in (np.uint16, np.int32):
            image = Image.fromarray(np.array([values], kind))
            assert np.asarray(to_rgb(image))[0, :, 1].tolist() == shown
        wide = Image.fromarray(np.array([[-5, 70_000]], np.int32))
        assert np.asarray(to_rgb(wide))[0].tolist() == [[0] * 3, [255] * 3]

    def test_floating_point_is_refused(self):
        with pytest.raises(ValueError, match=r"^its pixels are floating-point numbers of unknown range$"):
            to_rgb(Image.new("F", (1, 1)))

    def test_a_png_is_checked_and_read_once_more(self, tmp_path):
        (tmp_path / "a").mkdir()
        colours = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
        for name in ("x.png", "y.bmp"):
            Image.fromarray(colours).save(tmp_path / "a" / name)
        source = open_folder(tmp_path)
        for item in source.items:
            assert np.array_equal(source.rgb(item), colours)

    def test_arrays_are_found_by_their_number(self):
        arrays = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)
        source = ImageSet(Path(), ["a"], [], arrays)
        assert np.array_equal(source.rgb(Item("2", 0)), arrays[2])


class TestDigits:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch):
        """12 digits, the labels 0 and 1 in turns; of pixels 0 to 16."""
        images = np.arange(12 * 64).reshape(12, 8, 8) % 17.0
        found = Bunch(images=images, target=np.arange(12) % 2)
        monkeypatch.setattr("sklearn.datasets.load_digits", lambda: found)

    TRAIN = {*(f"train/{i % 2}/{i:04d}.png" for i in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11))}  # noqa: RUF012
    VAL = {"val/0/0008.png", "val/1/0009.png"}  # noqa: RUF012

    @staticmethod
    def written(root: Path) -> set[str]:
        return {file.relative_to(root).as_posix() for file in root.rglob("*.png")}

    def test_every_fifth_of_a_class_is_held_out(self, tmp_path):
        write_images(tmp_path / "digits")
        assert self.written(tmp_path / "digits") == self.TRAIN | self.VAL
        assert list(tmp_path.iterdir()) == [tmp_path / "digits"]

    def test_pixels_of_0_to_16_are_grey_of_0_to_255(self, tmp_path):
        write_images(tmp_path / "digits", 0)
        with Image.open(tmp_path / "digits/train/0/0000.png") as image:
            assert (image.mode, image.size) == ("L", (8, 8))
            grey = np.asarray(image).ravel()[:17].tolist()
        assert grey == [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]


def test_cifar_is_torchvisions():
    assert CIFAR == {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
