"""The handwritten digits as an image folder."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from neuronpath.data.digits import write_images
from neuronpath.data.images import open_dataset


def test_written_once_as_a_folder_of_the_very_pixels(tmp_path):
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


def test_a_killed_run_is_completed(tmp_path, monkeypatch):
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


def test_a_folder_that_lost_a_part_is_completed(tmp_path):
    root = tmp_path / "digits"
    write_images(root)
    for file in sorted((root / "val").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (root / "val").rmdir()
    write_images(root)
    assert len(list(root.rglob("*.png"))) == 1797
