"""Batches: every image once, in order, under its own name, whatever cannot be read."""

from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from damage import FEW_AND_MANY, holds
from helpers import COUNTS, NUM_CLASSES, random_model, tiny_config
from hypothesis import strategies as st
from PIL import Image

from neuronpath import load_images
from neuronpath.data.images import ImageSet, open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.files import Item

ITEMS = [Item(f"class{label}/{i:02d}.png", label) for label, count in enumerate(COUNTS) for i in range(count)]


class TestIdentity:
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


class TestBatches:
    @FEW_AND_MANY
    def test_every_item_once_in_order(self, many):
        def check(n: int, batch_size: int, bad: list[int], random) -> None:
            order = list(range(n))
            random.shuffle(order)
            arrays = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))
            spoilt = {i for i in bad if i < n}
            items = [Item(str(n + i if i in spoilt else i), i % 5) for i in order]  # there is no image n + i
            source = ImageSet(Path(), [str(c) for c in range(5)], items, arrays)
            found = list(batches(source, items, lambda image: torch.tensor(image.getpixel((0, 0))), batch_size))
            sizes = [len(batch.items) + len(batch.bad) for batch in found]
            assert sizes == [min(batch_size, n - start) for start in range(0, n, batch_size)]
            for start, batch in zip(range(0, n, batch_size), found, strict=True):
                part, numbers = items[start : start + batch_size], order[start : start + batch_size]
                assert batch.items == [item for item, i in zip(part, numbers, strict=True) if i not in spoilt]
                assert [item for item, _ in batch.bad] == [
                    item for item, i in zip(part, numbers, strict=True) if i in spoilt
                ]
                assert len(batch.images) == len(batch.items)
                assert batch.images.flatten().tolist() == [i for i in numbers if i not in spoilt for _ in range(3)]

        holds(
            check,
            100,
            many,
            st.integers(0, 60),
            st.integers(1, 70),
            st.lists(st.integers(0, 60)),
            st.randoms(use_true_random=False),
        )


def test_endings_in_capitals_are_images_too(tmp_path):
    for name in ("a.PNG", "b.png", "c.Jpg"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    assert len(load_images(tmp_path, random_model(tiny_config()))[0]) == 3


def test_processes_that_are_spawned_load_images_too(image_folder):
    """As on macOS: nothing that a worker is given may need the memory of this process."""
    source, transform = open_dataset("imagefolder", image_folder, 4), preprocessing("paper", tiny_config())
    with_workers = torch.utils.data.DataLoader
    loader = partial(with_workers, multiprocessing_context="spawn")
    with mock.patch("torch.utils.data.DataLoader", loader):
        (found,) = batches(source, source.items, transform, 100, num_workers=1)
    (expected,) = batches(source, source.items, transform, 100)
    assert found.items == expected.items
    assert torch.equal(found.images, expected.images)
