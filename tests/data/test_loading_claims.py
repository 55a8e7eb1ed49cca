"""Batches, and a user's own images as tensors."""

import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_model, tiny_config
from PIL import Image

from neuronpath.data.images import ImageSet, open_folder
from neuronpath.data.loading import Batch, batches, load_images
from neuronpath.data.names import class_names, find_label, listing, safe_name
from neuronpath.data.preprocessing import paper_half, preprocessing
from neuronpath.errors import UserError
from neuronpath.files import DATASETS, Item
from neuronpath.interrupts import as_keyboard_interrupt
from neuronpath.pixels import HALF, IMAGENET, google, mae

NATIVE = {"cls": google, "mean": mae}


class TestBatches:
    @pytest.fixture
    def source(self) -> ImageSet:
        arrays = np.zeros((3, 2, 2, 3), np.uint8)
        return ImageSet(Path(), ["a"], [Item(str(i), 0) for i in range(3)], arrays)

    @pytest.mark.parametrize(
        "error",
        [
            *(
                kind("why")
                for kind in (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, OverflowError)
            ),
            *(KeyError("why"), struct.error("why"), zlib.error("why"), Image.DecompressionBombError("why")),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_cannot_be_decoded_is_bad_and_says_why(self, source, error):
        def transform(image):
            raise error

        (batch,) = batches(source, source.items, transform)
        assert batch.items == []
        assert len(batch.images) == 0
        assert [item for item, _ in batch.bad] == source.items
        assert {reason.strip("'") for _, reason in batch.bad} == {"why"}

    def test_a_fault_of_the_program_is_not_taken_for_a_bad_image(self, source):
        def transform(image):
            raise ZeroDivisionError("a fault")

        with pytest.raises(ZeroDivisionError, match="a fault"):
            next(batches(source, source.items, transform))

    @pytest.mark.parametrize(
        ("given", "asked"),
        [
            ({}, {"batch_size": 10, "num_workers": 0, "pin_memory": False}),
            ({"batch_size": 2, "num_workers": 8}, {"batch_size": 2, "num_workers": 2, "pin_memory": False}),
            ({"batch_size": 1, "num_workers": 2}, {"batch_size": 1, "num_workers": 2, "pin_memory": False}),
            (
                {"batch_size": 3, "num_workers": 2, "pin_memory": True},
                {"batch_size": 3, "num_workers": 1, "pin_memory": True},
            ),
        ],
    )
    def test_no_more_workers_than_batches(self, source, given, asked, monkeypatch):
        found = {}
        monkeypatch.setattr(torch.utils.data, "DataLoader", lambda data, **more: found.update(more) or [])
        batches(source, source.items, lambda image: image, **given)
        size, items = asked["batch_size"], range(len(source.items))
        assert found["batch_sampler"] == [[*items[i : i + size]] for i in items[::size]]
        rest = {name: value for name, value in asked.items() if name != "batch_size"}
        assert {name: found[name] for name in rest} == rest
        assert not found.get("shuffle")
        assert not found.get("drop_last")

    def test_processes_that_load_leave_signals_to_the_main_one(self, source):
        def transform(image):
            answers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            return torch.tensor([answers == [signal.SIG_IGN, signal.SIG_DFL]])

        with as_keyboard_interrupt():
            (batch,) = batches(source, source.items[:1], transform, num_workers=1)
        assert batch.images.all()

    def test_pinning_takes_the_images(self):
        class Images:
            def pin_memory(self):
                return "pinned"

        bad = [(Item("b", 0), "why")]
        assert Batch([Item("a", 1)], Images(), bad).pin_memory() == Batch([Item("a", 1)], "pinned", bad)


@pytest.fixture(scope="module")
def model():
    return random_model(tiny_config())


class TestOwnImages:
    @pytest.fixture
    def flat(self, image_folder) -> Path:
        """b.png, a.PNG and a file that is no image."""
        (image_folder / "class3/01.png").rename(image_folder.parent / "b.png")
        (image_folder / "class3/00.png").rename(image_folder.parent / "a.PNG")
        (image_folder.parent / "notes.txt").touch()
        return image_folder.parent

    def expected(self, model, *files: Path, kind: str = "paper") -> torch.Tensor:
        transform = preprocessing(kind, model.config, native=model.native)
        return torch.stack([transform(Image.open(file)) for file in files]).to(model.dtype)

    def test_class_folders_tell_the_targets(self, image_folder, model):
        images, targets = load_images(image_folder, model)
        assert targets.tolist() == [0] * 3 + [1] + [2] * 2 + [3] * 5
        assert torch.equal(images, self.expected(model, *sorted(image_folder.rglob("*.png"))))
        assert images.dtype == model.dtype == torch.float64

    def test_a_folder_of_images_a_file_and_several(self, flat, model):
        a, b = flat / "a.PNG", flat / "b.png"
        for given, files in (
            (flat, [a, b]),
            (str(flat), [a, b]),
            (b, [b]),
            (str(b), [b]),
            ([b, str(a)], [b, a]),
            ((a,), [a]),
        ):
            images, targets = load_images(given, model)
            assert torch.equal(images, self.expected(model, *files))
            assert targets.tolist() == [-1] * len(files)

    def test_preprocessing_is_chosen(self, flat, model):
        with pytest.raises(UserError, match="--preprocess native: nothing tells how the images were prepared"):
            load_images(flat / "b.png", model, "native")
        model.native = google(9)
        native, _ = load_images(flat / "b.png", model, "native")
        assert torch.equal(native, self.expected(model, flat / "b.png", kind="native"))
        assert not torch.equal(native, load_images(flat / "b.png", model)[0])

    def test_they_go_where_the_model_is(self, flat):
        model = random_model(tiny_config(), dtype=torch.float32).to("meta")
        images, targets = load_images(flat, model)
        assert (images.device.type, targets.device.type) == ("meta", "meta")
        assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)

    def test_faults(self, flat, model):
        def fault(given) -> str:
            with pytest.raises(UserError) as caught:
                load_images(given, model)
            return str(caught.value)

        hint = "give image files, or a folder of them"
        assert fault(flat / "x.png") == f"{flat / 'x.png'}: no such image; {hint}"
        assert fault([flat / "b.png", flat / "y", flat / "x"]) == f"{flat / 'y'}: no such image; {hint}"
        assert fault([]) == f"no images were given; {hint}"
        (flat / "b.png").write_bytes(b"")
        found = fault(flat)
        assert found.startswith(f"{flat / 'b.png'}: cannot be read (")
        assert found.endswith("); replace it or leave it out")


class TestPreprocessing:
    def test_means_and_deviations(self):
        assert IMAGENET == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert HALF == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        assert [name for name in DATASETS if paper_half(name)] == ["cifar10", "cifar100"]

    @pytest.mark.parametrize(
        ("kind", "pool", "dataset", "half"),
        [
            ("paper", "cls", "imagenet1k", False),
            ("paper", "mean", "cifar10", True),
            ("paper", "cls", "cifar100", True),
            ("native", "cls", "imagenet1k", True),
            ("native", "mean", "cifar10", False),
        ],
    )
    def test_white_and_black(self, kind, pool, dataset, half):
        transform = preprocessing(kind, tiny_config(pool), dataset, NATIVE[pool](9))
        for grey in (0, 255):
            found = transform(Image.new("RGB", (20, 30), (grey,) * 3))
            expected = [(grey / 255 - m) / s for m, s in zip(*(HALF if half else IMAGENET), strict=True)]
            torch.testing.assert_close(found, torch.tensor(expected)[:, None, None].expand(3, 9, 9))

    @pytest.mark.parametrize(
        ("pool", "size", "short"), [("cls", 383, 425), ("cls", 384, 384), ("cls", 385, 385), ("mean", 224, 256)]
    )
    def test_the_short_side_of_native_images(self, pool, size, short):
        """A white bar at one edge of a long image shows how much the crop leaves out."""
        pixels = np.zeros((100, 400, 3), np.uint8)
        found = preprocessing("native", tiny_config(img_size=size), native=NATIVE[pool](size))(Image.fromarray(pixels))
        assert found.shape == (3, size, size)
        columns = np.broadcast_to(np.arange(short, dtype=np.uint8)[:, None, None], (short, short, 3))
        found = preprocessing("native", tiny_config(img_size=size), native=NATIVE[pool](size))(
            Image.fromarray(np.ascontiguousarray(columns))
        )
        mean, deviation = (0.5, 0.5) if pool == "cls" else (IMAGENET[0][0], IMAGENET[1][0])
        first = round((float(found[0, 0, 0]) * deviation + mean) * 255)
        assert first == round((short - size) / 2) % 256, "the image is not resized, and cut at its middle"


class TestNames:
    NAMES = ("tench", "Tench", "great white", "goldfish")

    def test_a_label_by_its_name(self):
        assert [find_label(name, list(self.NAMES)) for name in self.NAMES] == [0, 1, 2, 3]

    def test_the_three_closest_are_named(self):
        with pytest.raises(UserError) as caught:
            find_label("GOLDFISCH", ["hammerhead", "goldfish", "wolf", "goldfinch"])
        assert str(caught.value) == "no class is called 'GOLDFISCH'; the closest are 'goldfish', 'goldfinch', 'wolf'"

    @pytest.mark.parametrize(
        ("labels", "shown"),
        [
            ((), "none"),
            ((3, 1), "1 (one), 3"),
            ({10, 2}, "2, 10"),
            ((4,), "4 (a\\nb)"),
            (range(20, 32), ", ".join(map(str, range(20, 32)))),
            (range(20, 33), ", ".join(map(str, range(20, 32))) + " and 1 more"),
            (range(20, 60), ", ".join(map(str, range(20, 32))) + " and 28 more"),
        ],
    )
    def test_lists_of_labels(self, labels, shown):
        assert listing(labels, {1: "one", 2: "2", 4: "a\nb"}) == shown

    @pytest.mark.parametrize(
        ("name", "safe"),
        [("a b/c", "a_b_c"), ("..x", "x"), ("", "_"), ("/", "_"), ("e\u0301-1.2_x", "é-1.2_x"), ("x" * 90, "x" * 80),
         ("é" * 50, "é" * 40), ("x" + "é" * 50, "x" + "é" * 39), ("__a__", "a__")],
    )  # fmt: skip
    def test_names_of_files(self, name, safe):
        assert safe_name(name) == safe

    def test_names_of_classes(self, image_folder, monkeypatch):
        assert (
            class_names("imagefolder", image_folder)
            == class_names("digits", image_folder)
            == open_folder(image_folder).classes
        )
        with pytest.raises(UserError, match=r"nowhere: no folder of class folders; give --dataset_path$"):
            class_names("imagefolder", Path("nowhere"))
        asked = []

        def opened(*given):
            asked.append(given)
            return ImageSet(Path(), ["a", "b"], [])

        monkeypatch.setattr("neuronpath.data.names.open_dataset", opened)
        for name, count in (("cifar10", 10), ("cifar100", 100)):
            assert class_names(name, Path("x")) == ["a", "b"]
            assert asked.pop() == (name, Path("x"), count)


def test_images_of_a_folder_are_in_the_order_of_their_names(image_folder, monkeypatch):
    """Whatever order the disk gives them in."""
    model, folder, listed = random_model(tiny_config()), image_folder / "class3", Path.iterdir
    expected, _ = load_images(sorted(folder.glob("*.png")), model)
    for backwards in (False, True):
        monkeypatch.setattr(Path, "iterdir", lambda self, b=backwards: iter(sorted(listed(self), reverse=b)))
        assert torch.equal(load_images(folder, model)[0], expected)
