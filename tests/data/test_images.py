"""Images of a data set: their identity, selection and colours, and folders that are none."""

import hashlib
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import COUNTS, NUM_CLASSES, Payload
from PIL import Image
from torchvision import datasets
from torchvision.transforms import ToTensor

from neuronpath.data.images import DECODING_ERRORS, open_dataset, open_folder
from neuronpath.data.loading import batches
from neuronpath.errors import UserError
from neuronpath.files import Item

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
        source = open_dataset("imagefolder", tmp_path, 2)
        assert sorted(item.image for item in source.items) == sorted(names)
        (batch,) = batches(source, source.items, ToTensor())
        assert batch.items == source.items


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
        last = self.IMAGES[6].transpose(1, 2, 0).tobytes()
        assert source.sha256(Item("6", 1)) == hashlib.sha256(last).hexdigest()
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


@pytest.mark.parametrize("name", ["0.png", "0.PNG", "0.JPEG"])
def test_the_checksums_of_a_png_are_compared_whatever_it_is_called(tmp_path, name):
    def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)

    (tmp_path / "a").mkdir()
    header, pixels = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0), zlib.compress(bytes(6))
    for wrong in (0, 1):
        parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixels, wrong), chunk(b"IEND", b""))
        (tmp_path / "a" / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        source = open_folder(tmp_path)
        if wrong:
            with pytest.raises(DECODING_ERRORS):
                source.rgb(source.items[0])
        else:
            assert source.rgb(source.items[0]).size == (2, 2)
