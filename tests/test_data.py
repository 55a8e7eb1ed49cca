"""Images: their identity, selection, colours, preprocessing, and what happens to those that cannot be read."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import NUM_CLASSES, Payload, tiny_config
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets
from torchvision.transforms import ToTensor

from neuronpath.data.digits import write_images
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.files import DATASETS, Item

COUNTS = (3, 1, 2, 5)  # of the image_folder fixture
ITEMS = [Item(f"class{label}/{i:02d}.png", label) for label, count in enumerate(COUNTS) for i in range(count)]


def pixels(file: Path) -> np.ndarray:
    """What the data set makes of one image file: (height, width, 3), 0 to 255."""
    source = open_dataset("imagefolder", file.parent.parent, 1)
    (item,) = (item for item in source.items if item.image.endswith(file.name))
    (batch,) = batches(source, [item], ToTensor())
    assert batch.items == [item], batch.bad
    return (batch.images[0] * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def folder(tmp_path) -> Path:
    """The one class folder of an empty data set."""
    path = tmp_path / "images" / "class0"
    path.mkdir(parents=True)
    return path


class TestIdentity:
    def test_identities_are_relative_paths_class_by_class(self, image_folder):
        source = open_dataset("imagefolder", image_folder, NUM_CLASSES)
        assert source.items == ITEMS
        assert source.classes == [f"class{label}" for label in range(NUM_CLASSES)]

    def test_nested_folders_and_odd_names(self, tmp_path):
        names = ["a/deep/er/x.JPEG", 'a/é "1".png', "b/ 2 .png"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(tmp_path / name)
        (tmp_path / "a" / "notes.txt").write_text("no image")
        source = open_dataset("imagenet1k", tmp_path, 2)
        assert sorted(item.image for item in source.items) == sorted(names)
        (batch,) = batches(source, source.items, ToTensor())
        assert batch.items == source.items

    @pytest.mark.parametrize("num_workers", [0, 2])
    @pytest.mark.parametrize("batch_size", [1, 4, 100])
    def test_every_image_keeps_its_identity_in_batches(self, image_folder, num_workers, batch_size):
        source, config = open_dataset("imagefolder", image_folder, NUM_CLASSES), tiny_config()
        found = list(batches(source, source.items, preprocessing("paper", config), batch_size, num_workers=num_workers))
        assert [len(batch.items) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
        assert [item for batch in found for item in batch.items] == ITEMS
        for batch in found:
            for item, image in zip(batch.items, batch.images, strict=True):
                expected = preprocessing("paper", config)(Image.open(image_folder / item.image))
                assert np.array_equal(image, expected), item


class TestSelection:
    @pytest.mark.parametrize(
        ("labels", "images_per_class", "expected"),
        [
            (None, None, ITEMS),
            ([3, 1], None, [item for item in ITEMS if item.label in (1, 3)]),
            (None, 2, [item for item in ITEMS if item.image[-6:] in ("00.png", "01.png")]),
            ([0], 1, ITEMS[:1]),
            ([2], 99, [item for item in ITEMS if item.label == 2]),
        ],
    )
    def test_labels_and_images_per_class(self, image_folder, labels, images_per_class, expected):
        source = open_dataset("imagefolder", image_folder, NUM_CLASSES)
        assert source.select(labels, images_per_class) == expected

    def test_unknown_label(self, image_folder):
        with pytest.raises(UserError, match=r"--labels.*class 4.*0 to 3"):
            open_dataset("imagefolder", image_folder, NUM_CLASSES).select([0, 4])

    def test_no_images_left(self, image_folder):
        (image_folder / "class1" / "00.png").unlink()
        with pytest.raises(UserError, match="no images"):
            open_dataset("imagefolder", image_folder, NUM_CLASSES).select([1])


class TestFolders:
    def test_other_number_of_classes(self, image_folder):
        with pytest.raises(UserError, match=r"images: 4 classes.*\b3\b"):
            open_dataset("imagefolder", image_folder, 3)

    def test_absent(self, tmp_path):
        with pytest.raises(UserError, match="nowhere"):
            open_dataset("imagefolder", tmp_path / "nowhere", 4)

    def test_a_file_instead_of_a_folder(self, checkpoint):
        with pytest.raises(UserError, match=checkpoint.name):
            open_dataset("imagefolder", checkpoint, 4)

    def test_empty(self, tmp_path):
        with pytest.raises(UserError, match=str(tmp_path)):
            open_dataset("imagefolder", tmp_path, 4)

    def test_images_without_class_folders(self, image_folder):
        with pytest.raises(UserError, match=r"class1.*class folder"):
            open_dataset("imagefolder", image_folder / "class1", 4)

    def test_class_folders_without_images(self, folder):
        (folder / "notes.txt").write_text("no image")
        with pytest.raises(UserError, match="no images"):
            open_dataset("imagefolder", folder.parent, 1)


class TestBadImages:
    def spoil(self, image_folder: Path) -> dict[str, bytes]:
        """Break five of the images, each in its own way; those that are good are left."""
        whole = (image_folder / "class3" / "04.png").read_bytes()
        contents = {
            "class0/01.png": b"",
            "class1/00.png": b"just text, no image\n",
            "class2/01.png": whole[: len(whole) // 2],
            "class3/00.png": whole[:40] + bytes(byte ^ 0xFF for byte in whole[40:60]) + whole[60:],
            "class3/02.png": b"GIF89a" + bytes(100),
        }
        for name, content in contents.items():
            (image_folder / name).write_bytes(content)
        return contents

    @pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (2, 0), (3, 2), (100, 0)])
    def test_they_are_named_and_displace_no_other(self, image_folder, batch_size, num_workers):
        spoilt, config = self.spoil(image_folder), tiny_config()
        source = open_dataset("imagefolder", image_folder, NUM_CLASSES)
        found = list(batches(source, source.items, preprocessing("paper", config), batch_size, num_workers=num_workers))
        bad = [entry for batch in found for entry in batch.bad]
        assert [item for item, _ in bad] == [item for item in ITEMS if item.image in spoilt]
        assert all(reason.strip() and reason.isprintable() for _, reason in bad)
        assert [item for batch in found for item in batch.items] == [i for i in ITEMS if i.image not in spoilt]
        for batch in found:
            for item, image in zip(batch.items, batch.images, strict=True):
                assert np.array_equal(image, preprocessing("paper", config)(Image.open(image_folder / item.image)))

    def test_vanished_image(self, image_folder):
        source = open_dataset("imagefolder", image_folder, NUM_CLASSES)
        (image_folder / "class2" / "00.png").unlink()
        (batch,) = batches(source, source.items, preprocessing("paper", tiny_config()), 100)
        assert [item.image for item, _ in batch.bad] == ["class2/00.png"]

    def test_decompression_bomb(self, image_folder, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        Image.new("RGB", (60, 50)).save(image_folder / "class2" / "00.png")
        source = open_dataset("imagefolder", image_folder, NUM_CLASSES)
        (batch,) = batches(source, source.items, preprocessing("paper", tiny_config()), 100)
        assert [item.image for item, _ in batch.bad] == ["class2/00.png"]
        assert "bomb" in batch.bad[0][1]
        assert len(batch.items) == len(batch.images) == len(ITEMS) - 1


class TestColours:
    GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
    COLOUR = np.stack([GREY, GREY.T, 255 - GREY], -1)

    def of(self, folder: Path, image: Image.Image, name: str = "x.png", **options) -> np.ndarray:
        image.save(folder / name, **options)
        return pixels(folder / name)

    def test_rgb(self, folder):
        assert np.array_equal(self.of(folder, Image.fromarray(self.COLOUR)), self.COLOUR)

    def test_grey(self, folder):
        assert np.array_equal(self.of(folder, Image.fromarray(self.GREY)), self.GREY[..., None].repeat(3, 2))

    def test_one_bit(self, folder):
        bits = self.GREY > 100
        assert np.array_equal(self.of(folder, Image.fromarray(bits)), np.where(bits, 255, 0)[..., None].repeat(3, 2))

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha_is_left_out(self, folder, mode):
        colours = self.COLOUR if mode == "RGBA" else self.GREY[..., None]
        image = Image.fromarray(np.concatenate([colours, self.GREY.T[..., None]], -1), mode)
        assert np.array_equal(self.of(folder, image), np.broadcast_to(colours, self.COLOUR.shape))

    @pytest.mark.parametrize("transparency", [{}, {"transparency": 3}])
    def test_palette(self, folder, transparency):
        palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
        image = Image.fromarray(self.GREY)
        image.putpalette(palette.tobytes())
        assert image.mode == "P"
        assert np.array_equal(self.of(folder, image, **transparency), palette[self.GREY])

    @pytest.mark.parametrize(
        ("ink", "expected"),
        [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 0, 51), (0, 204, 204))],
    )
    def test_cmyk_jpeg(self, folder, ink, expected):
        found = self.of(folder, Image.new("CMYK", (16, 16), ink), "x.jpg", quality=95)
        assert np.abs(found.astype(int) - expected).max() <= 3

    @pytest.mark.parametrize("name", ["x.png", "x.tif"])
    def test_16_bit_grey_is_scaled_and_does_not_clip(self, folder, name):
        values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
        found = self.of(folder, Image.fromarray(values), name)
        assert (found[0, 0] == 0).all()
        assert (found[-1, -1] == 255).all()
        assert np.abs(found - values[..., None] / 257).max() <= 1


def normalised(image: Image.Image, mean, std) -> np.ndarray:
    return ((np.asarray(image, np.float64) / 255 - mean) / std).transpose(2, 0, 1)


class TestPreprocessing:
    IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @pytest.fixture(params=[(500, 300), (300, 500), (100, 100)])
    def image(self, request) -> Image.Image:
        """A smooth image of some width and height with some noise on it."""
        width, height = request.param
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        noise = np.random.default_rng(0).random((height, width, 3))
        return Image.fromarray((255 * (0.8 * np.stack([x, y, x * y], -1) + 0.2 * noise)).astype(np.uint8))

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    @pytest.mark.parametrize("size", [224, 9])
    def test_paper(self, image, size, pool):
        found = preprocessing("paper", tiny_config(pool, img_size=size))(image)
        resized = image.resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, normalised(resized, *self.IMAGENET), atol=1e-5)

    @pytest.mark.parametrize("dataset", DATASETS)
    def test_the_papers_cifar_is_normalised_by_half(self, dataset):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
        found = preprocessing("paper", tiny_config(img_size=32), dataset)(image)
        expected = normalised(image, *((0.5, 0.5) if dataset in ("cifar10", "cifar100") else self.IMAGENET))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("pool", "size", "short"),
        [
            ("cls", 224, 248),
            ("cls", 384, 384),
            ("cls", 32, 35),
            ("mean", 224, 256),
            ("mean", 384, 438),
            ("mean", 32, 36),
        ],
    )
    def test_native(self, image, pool, size, short):
        found = preprocessing("native", tiny_config(pool, img_size=size))(image)
        width, height = (short * side // min(image.size) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        cropped = resized.crop((left, top, left + size, top + size))
        expected = normalised(cropped, *((0.5, 0.5) if pool == "cls" else self.IMAGENET))
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestNumberedFolders:
    def folder(self, root: Path, names) -> Path:
        for name in names:
            (root / name).mkdir(parents=True)
            Image.new("RGB", (3, 3)).save(root / name / "a.png")
        return root

    def test_labels_that_are_not_the_numbers_are_a_warning(self, tmp_path):
        root = self.folder(tmp_path / "x", [str(i) for i in range(12)])
        with pytest.warns(UserWarning, match=r"'10' is label 2; .* name it with 2 digits, as 02") as caught:
            source = open_dataset("imagefolder", root, 12)
        assert str(root) in str(caught[0].message)
        assert source.classes[2] == "10"

    @pytest.mark.parametrize("names", [[str(i) for i in range(10)], ["00", "01", "10"], ["1", "10", "a"], ["5", "7"]])
    def test_numbers_in_order_or_names_are_none(self, tmp_path, names, recwarn):
        open_dataset("imagefolder", self.folder(tmp_path / "x", names), len(names))
        assert not recwarn


class TestCifar:
    LABELS = (2, 0, 1, 0, 2, 2, 1)
    IMAGES = np.random.default_rng(0).integers(0, 256, (len(LABELS), 3, 32, 32), dtype=np.uint8)
    KINDS = pytest.mark.parametrize(
        ("name", "kind", "folder", "files"),
        [
            (
                "cifar10",
                datasets.CIFAR10,
                "cifar-10-batches-py",
                ("test_batch", "labels", "batches.meta", "label_names"),
            ),
            ("cifar100", datasets.CIFAR100, "cifar-100-python", ("test", "fine_labels", "meta", "fine_label_names")),
        ],
    )

    @KINDS
    def test_order_identity_and_pixels(self, name, kind, folder, files, tmp_path, monkeypatch):
        batch, labels, meta, names = files
        contents = {
            batch: {"data": self.IMAGES.reshape(len(self.LABELS), -1), labels: list(self.LABELS)},
            meta: {names: ["ant", "bee", "cat"]},
        }
        md5 = {}
        (tmp_path / folder).mkdir()
        for file, content in contents.items():
            (tmp_path / folder / file).write_bytes(data := pickle.dumps(content))
            md5[file] = hashlib.md5(data).hexdigest()
        monkeypatch.setattr(kind, "train_list", [])
        monkeypatch.setattr(kind, "test_list", [[batch, md5[batch]]])
        monkeypatch.setattr(kind, "meta", {"filename": meta, "key": names, "md5": md5[meta]})

        source = open_dataset(name, tmp_path, 3)
        assert source.classes == ["ant", "bee", "cat"]
        expected = [("1", 0), ("3", 0), ("2", 1), ("6", 1), ("0", 2), ("4", 2), ("5", 2)]
        assert source.items == [Item(*pair) for pair in expected]
        for found in batches(source, source.items, ToTensor(), batch_size=2, num_workers=2):
            for item, image in zip(found.items, found.images, strict=True):
                assert np.array_equal((image * 255).round().byte(), self.IMAGES[int(item.image)])
        with pytest.raises(UserError, match="3 classes"):
            open_dataset(name, tmp_path, 10)

    @KINDS
    def test_absent_or_not_the_original_files(self, name, kind, folder, files, tmp_path):
        with pytest.raises(UserError, match=name):
            open_dataset(name, tmp_path, 10)
        canary = tmp_path / "canary"
        (tmp_path / folder).mkdir()
        for file in files[::2]:
            (tmp_path / folder / file).write_bytes(pickle.dumps(Payload(canary)))
        with pytest.raises(UserError, match=name):
            open_dataset(name, tmp_path, 10)
        assert not canary.exists()


class TestDigits:
    def test_written_once_as_a_folder_of_the_very_pixels(self, tmp_path):
        root, digits = tmp_path / "digits", load_digits()
        write_images(root)
        files = {part: sorted((root / part).rglob("*.png")) for part in ("train", "val")}
        index = {part: {int(file.stem) for file in found} for part, found in files.items()}
        assert index["train"].isdisjoint(index["val"])
        assert index["train"] | index["val"] == set(range(1797))
        assert len(files["train"]) + len(files["val"]) == 1797
        for file in (*files["train"], *files["val"]):
            i = int(file.stem)
            assert file.parent.name == str(digits.target[i])
            with Image.open(file) as image:
                assert np.array_equal(np.asarray(image), np.round(digits.images[i] * 255 / 16)), file
        times = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
        write_images(root)
        assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == times
        source = open_dataset("digits", root / "val", 10)
        assert len(source.items) == len(files["val"])
        assert min(sum(item.label == label for item in source.items) for label in range(10)) >= 30

    def test_a_killed_run_is_completed(self, tmp_path, monkeypatch):
        root, save, left = tmp_path / "digits", Image.Image.save, iter(range(700))

        def save_until_killed(*args, **kwargs):
            if next(left, None) is None:
                raise KeyboardInterrupt
            save(*args, **kwargs)

        monkeypatch.setattr(Image.Image, "save", save_until_killed)
        with pytest.raises(KeyboardInterrupt):
            write_images(root)
        monkeypatch.undo()
        write_images(root)
        assert len(list(root.rglob("*.png"))) == 1797

    def test_a_folder_that_lost_a_part_is_completed(self, tmp_path):
        root = tmp_path / "digits"
        write_images(root)
        for file in sorted((root / "val").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (root / "val").rmdir()
        write_images(root)
        assert len(list(root.rglob("*.png"))) == 1797
