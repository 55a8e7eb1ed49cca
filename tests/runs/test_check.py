"""scripts/check.py: what it finds before a long run, and what it says to do about it."""

import os
import re
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, Result, random_model, run_file, run_script, tiny_config, words_of
from PIL import Image
from timm.data import ImageNetInfo

import neuronpath
from neuronpath.data.images import ImageSet
from neuronpath.data.preprocessing import preprocessing
from neuronpath.files import Item
from neuronpath.models.checkpoint import save
from neuronpath.models.configs import CONFIGS
from neuronpath.runs import checks
from neuronpath.runs.checks import sample

SCRIPT = "scripts/check.py"
LEVELS = ("ok", "WARNING", "FAULT")
ALL = ["weights", "data", "images", "accuracy", "memory", "time", "output"]
SYNSETS = ImageNetInfo("imagenet-1k").label_names()


def words(checkpoint, images, *more) -> list[str]:
    given = {"--pretrain_weight": checkpoint, "--dataset": "imagefolder", "--dataset_path": images}
    return words_of(given | {"--num_workers": 0, "--ig_total_step": 1}, *more)


def split(result: Result) -> list[tuple[str, str, str]]:
    """(level, what, text) of each line; faults, which are on stderr, come last."""
    faults = [line for line in result.messages if line.startswith("check.py: ")]
    lines = [*result.stdout.splitlines(), *(line.removeprefix("check.py: ") for line in faults)]
    found = [tuple(line.split(maxsplit=2)) for line in lines]
    assert all(level == "FAULT" for level, *_ in found[len(found) - len(faults) :])
    assert all(level in LEVELS[:2] for level, *_ in found[: len(found) - len(faults)])
    return found


class Check:
    """The command, in this process, on a checkpoint and an image folder."""

    def __init__(self, checkpoint: Path, images: Path):
        self.checkpoint, self.images = checkpoint, images

    def __call__(self, *more, code: int = 0, **changes) -> list[tuple[str, str, str]]:
        given = {"checkpoint": self.checkpoint, "images": self.images} | changes
        return split(run_file(SCRIPT, *words(*given.values(), *more)).expect(code))

    def faults(self, *more, **changes) -> list[tuple[str, str]]:
        """Those found, at least one: (what, text)."""
        found = of_level("FAULT", self(*more, code=2, **changes))
        assert found
        return found


def of_level(level: str, found: list) -> list[tuple[str, str]]:
    return [(what, text) for of, what, text in found if of == level]


@pytest.fixture
def run(checkpoint, image_folder) -> Check:
    return Check(checkpoint, image_folder)


def labelled(root: Path, checkpoint: Path, images: int, label_of) -> Path:
    """A folder of `images` random images, each in the class `label_of(paper, native)` of its predicted classes."""
    model, rng, left = neuronpath.load(checkpoint), np.random.default_rng(0), images
    transforms = [preprocessing(kind, model.config, native=model.native) for kind in ("paper", "native")]
    for label in range(model.config.num_classes):
        (root / str(label)).mkdir(parents=True)
    for i in count():
        image = Image.fromarray(rng.integers(0, 256, (4 + i % 5, 11 - i % 7, 3), dtype=np.uint8))
        predicted = model(torch.stack([transform(image) for transform in transforms])).argmax(-1)
        label = label_of(*predicted.tolist())
        if label is not None:
            image.save(root / str(label) / f"{i:04d}.png")
            left -= 1
        if not left:
            return root


@pytest.fixture(scope="module")
def good(checkpoint, tmp_path_factory) -> Path:
    """Images in the classes that the model predicts."""
    return labelled(tmp_path_factory.mktemp("good") / "images", checkpoint, 40, lambda paper, native: paper)


class TestAllWell:
    def test_a_line_for_each_check(self, run, good):
        found = run(images=good)
        assert [what for _, what, _ in found] == ALL
        assert {level for level, *_ in found} == {"ok"}
        text = {what: text for _, what, text in found}
        assert str(run.checkpoint) in text["weights"]
        assert text["weights"].endswith("path/joint_attr.py")
        assert f"{good}: 40 images of 4 classes" in text["data"]
        assert "40" in text["images"]
        assert "100.0 % of 40 images" in text["accuracy"]
        assert re.search(r"\d\.\d\d of [\d.]+ GiB on cpu", text["memory"])
        assert all(job in text["time"] for job in ("40 images", "joint_attr", "influence_pattern", "edit", "pruning"))

    def test_either_kind_of_head(self, run, good, tmp_path):
        file = tmp_path / "mean.pth"
        save(random_model(tiny_config("mean"), dtype=torch.float32), file)
        found = run(images=good, checkpoint=file)
        assert [what for _, what, _ in found] == ALL
        assert found[0][2].endswith("path/joint_attr_mae.py")
        assert "pruning" not in found[-1][2]

    def test_chosen_checks_of_several_checkpoints(self, run, good, tmp_path):
        file = tmp_path / "mean.pth"
        save(random_model(tiny_config("mean"), dtype=torch.float32), file)
        found = run("--checks", "weights", "data", "cost", "--pretrain_weight", run.checkpoint, file, images=good)
        assert [what for _, what, _ in found] == ["weights", "weights", "data", "memory", "time", "memory", "time"]
        assert [text.split(",")[0] for _, what, text in found if what == "time"] == ["tiny", "mean"]

    def test_a_folder_that_cannot_be_written(self, run, tmp_path):
        (tmp_path / "file").touch()
        assert [what for what, _ in run.faults("--output_dir", tmp_path / "file/out", "--checks", "output")] == [
            "output"
        ]

    def test_labels_and_images_per_class(self, run, good):
        found = {what: text for _, what, text in run("--labels", "1,2", "--images_per_class", 1, images=good)}
        assert "all 2 " in found["images"]
        assert "of 2 images" in found["accuracy"]
        assert ", 2 images on cpu" in found["time"]

    def test_from_the_root_with_workers(self, checkpoint, good):
        result = run_script(SCRIPT, *words(checkpoint, good, "--num_workers", 2)).expect()
        assert [line[:2] for line in split(result)] == [("ok", what) for what in ALL]

    def test_from_its_own_folder_with_relative_paths(self, image_folder, tmp_path):
        (image_folder / "class3" / "00.png").write_text("no image")
        here = ROOT / "scripts"
        given = words("nowhere.npz", os.path.relpath(image_folder, here))
        found = of_level("FAULT", split(run_script(SCRIPT, *given, cwd=here).expect(2)))
        assert [what for what, _ in found] == ["weights", "images", "images"]


class TestFaults:
    def test_unreadable_images_are_named(self, run):
        whole = (run.images / "class3" / "02.png").read_bytes()
        (run.images / "class3" / "02.png").write_bytes(whole[: len(whole) // 2])
        (run.images / "class0" / "01.png").write_text("no image")
        first, second, total = run.faults()
        for (what, text), name in ((first, "class0/01.png"), (second, "class3/02.png")):
            assert what == "images"
            assert re.search(rf"{re.escape(str(run.images / name))}: cannot be read \(.+\)", text)
        assert re.search(r"2 of 11 .*replace.*--on_bad_image skip", total[1])
        assert not of_level("FAULT", run("--labels", "1-2"))
        assert len(of_level("WARNING", run("--on_bad_image", "skip"))) >= 3

    def test_of_many_unreadable_images_the_first_are_named(self, run):
        for i in range(30):
            (run.images / "class1" / f"x{i:02d}.png").write_text("no image")
        *named, (_, total) = run.faults()
        assert [re.search(r"x(\d\d)\.png", text)[1] for _, text in named] == [f"{i:02d}" for i in range(20)]
        assert "30 of 41 cannot be read, the first 20" in total

    def test_number_of_classes_and_what_else_is_wrong(self, run):
        (run.images / "class5").mkdir()
        (run.images / "class5" / "0.png").write_text("no image")
        (data, text), (images, _), _ = run.faults()
        assert (data, images) == ("data", "images")
        assert re.search(r"5 classes.*head has 4", text)

    @pytest.mark.parametrize(("dataset", "hint"), [("digits", "train_digits.py"), ("cifar10", "--dataset_path")])
    def test_missing_folder(self, run, tmp_path, dataset, hint):
        ((what, text),) = run.faults("--dataset", dataset, images=tmp_path / "nowhere")
        assert what == "data"
        assert "nowhere: no such folder" in text
        assert hint in text

    @pytest.mark.parametrize("dataset", ["imagefolder", "imagenet1k", "cifar100"])
    def test_images_without_class_folders(self, run, dataset):
        ((what, text),) = run.faults("--dataset", dataset, images=run.images / "class3")
        assert what == "data"
        assert str(run.images / "class3") in text

    def test_missing_checkpoint_hides_no_other_fault(self, run, tmp_path):
        (run.images / "class2" / "00.png").write_bytes(b"")
        found = run.faults("--dataset", "imagenet1k", "--labels", "2,3", checkpoint=tmp_path / "none.npz")
        assert [what for what, _ in found] == ["weights", "data", "images", "images"]
        assert "none.npz" in found[0][1]

    def test_missing_checkpoint_and_folder(self, run, tmp_path):
        found = run.faults(checkpoint=tmp_path / "none.npz", images=tmp_path / "nowhere")
        assert [what for what, _ in found] == ["weights", "data"]

    def test_unknown_label_and_target(self, run):
        (weights, target), (data, label) = run.faults("--labels", "1,7", "--target", 4)
        assert (weights, data) == ("weights", "data")
        assert "--target 4" in target
        assert "no class 7" in label

    def test_option_that_is_none(self, run):
        result = run_file(SCRIPT, *words(run.checkpoint, run.images, "--image", 3))
        assert result.fault.startswith("check.py: unrecognized arguments: --image")
        assert result.stdout == ""

    def test_weights_that_are_not_finite(self, run, tmp_path):
        model, file = random_model(tiny_config(), dtype=torch.float32), tmp_path / "nan.npz"
        model.blocks[2].mlp.fc1.weight[3, 4] = torch.nan
        save(model, file)
        ((what, text),) = run.faults(checkpoint=file)
        assert what == "weights"
        assert re.search(r"nan\.npz: .*encoderblock_2/MlpBlock_3/Dense_0/kernel.*not finite", text)

    def test_results_that_are_not_finite(self, run, tmp_path):
        model, file = random_model(tiny_config(), dtype=torch.float32), tmp_path / "huge.npz"
        model.blocks[5].mlp.fc2.weight.fill_(3e38)
        save(model, file)
        (accuracy, text), (time, _) = run.faults(checkpoint=file)
        assert (accuracy, time) == ("accuracy", "time")
        assert str(run.images / "class0" / "00.png") in text

    def test_class_without_images(self, run):
        (run.images / "class1" / "00.png").unlink()
        assert [text for what, text in of_level("WARNING", run()) if what == "data" and "1 (class1)" in text]


@pytest.fixture(scope="module")
def thousand(tmp_path_factory) -> Path:
    """A checkpoint of 1000 classes."""
    file = tmp_path_factory.mktemp("ckpt") / "thousand.npz"
    save(random_model(tiny_config(num_classes=1000), dtype=torch.float32), file)
    return file


class TestSynsets:
    @pytest.fixture
    def imagenet(self, thousand, tmp_path) -> Check:
        root = tmp_path / "val"
        for synset in SYNSETS:
            (root / synset).mkdir(parents=True)
        for synset in SYNSETS[::300]:
            Image.new("RGB", (2, 2)).save(root / synset / "1.JPEG")
        return Check(thousand, root)

    def test_folder_of_the_synsets(self, imagenet):
        found = imagenet("--dataset", "imagenet1k")
        assert ("ok", "names") in [line[:2] for line in found]
        ((what, text),) = of_level("WARNING", found)
        assert what == "data"
        assert re.search(r"classes 0 \(n01440764\), .*988 more have not ImageNet's 50 images", text)

    @pytest.mark.parametrize(
        ("name", "says"), [("dog", r"'dog' is no synset"), ("n99999999", r"'n99999999' is no synset of ImageNet-1k")]
    )
    def test_renamed_folder(self, imagenet, name, says):
        (imagenet.images / SYNSETS[500]).rename(imagenet.images / name)
        ((what, text),) = imagenet.faults("--dataset", "imagenet1k")
        assert what == "data"
        assert re.search(says, text)
        assert not of_level("FAULT", imagenet())  # any names do for an image folder


class TestAccuracy:
    def test_wrong_weights(self, run, tmp_path):
        file = tmp_path / "ViT-digits.npz"  # the name says what it should reach
        save(random_model(CONFIGS["ViT-digits"], dtype=torch.float32), file)
        images = labelled(tmp_path / "digits", file, 20, lambda paper, native: (paper + 1) % 10)
        ((_, text),) = [
            found for found in of_level("WARNING", run(checkpoint=file, images=images)) if "top-1" in found[1]
        ]
        assert re.search(r"top-1 is 0\.0 % of 20 images, no better than guessing: it should be 83 %", text)

    def test_wrong_preprocessing(self, run, tmp_path):
        images = labelled(
            tmp_path / "cut", run.checkpoint, 30, lambda paper, native: native if native != paper else None
        )
        found = of_level("WARNING", run("--preprocess", "paper", images=images))
        assert [
            text
            for what, text in found
            if re.search(r"0\.0 % of 30 images, but 100\.0 % with --preprocess native", text)
        ]
        found = run("--preprocess", "native", images=images)
        assert [text for level, what, text in found if (level, what) == ("ok", "accuracy")]

    @pytest.mark.parametrize(
        ("classes", "each", "limit", "taken", "most"),
        [
            (1000, 2, None, 500, 1),
            (7, 100, None, 500, 72),
            (4, 3, None, 12, 3),
            (4, 300, None, 500, 125),
            (9, 99, 2, 18, 2),
        ],
    )
    def test_sample_is_spread_over_all_classes(self, classes, each, limit, taken, most):
        items = [Item(f"{label}/{i}", label) for label in range(classes) for i in range(each)]
        found = sample(ImageSet(Path(), [str(label) for label in range(classes)], items), None, limit)
        counts = Counter(item.label for item in found)
        assert len(set(found)) == len(found) == taken
        assert max(counts.values()) == most
        assert found == sorted(found, key=lambda item: items.index(item))
        assert len(counts) == min(classes, 500)
        assert max(counts) >= classes - 2


class TestCost:
    def test_short_memory_is_halved_until_it_suffices(self, run, monkeypatch):
        def seconds_per_image(model, steps, images, quadrature, rows):
            if rows > 3:
                raise torch.OutOfMemoryError("out of memory")
            return {"joint_attr": 60.0}

        monkeypatch.setattr(checks, "seconds_per_image", seconds_per_image)
        found = [line for line in run("--internal_batch_size", 8) if line[1] in ("memory", "time")]
        assert [level for level, *_ in found] == ["WARNING", "WARNING", "ok", "ok"]
        assert "--internal_batch_size 4" in found[0][2]
        assert "--internal_batch_size 2" in found[2][2]
        assert "joint_attr 11 min" in found[3][2]
        assert not [line for line in run("--internal_batch_size", 3) if line[0] == "WARNING" and line[1] == "memory"]

    def test_too_little_memory_left(self, run, monkeypatch):
        monkeypatch.setattr(checks, "peak_memory", lambda device: 95)
        monkeypatch.setattr(checks, "machine_memory", lambda device: 100)
        assert [text for what, text in of_level("WARNING", run()) if "lower --internal_batch_size" in text]
