"""Images of classes, copied."""

import numpy as np
import pytest
from PIL import Image

from neuronpath.analysis.export import export_images
from neuronpath.data.images import ImageSet
from neuronpath.errors import UserError
from neuronpath.files import Item


def test_images_never_leave_their_folder(tmp_path):
    source = tmp_path / "source"
    (source / "k").mkdir(parents=True)
    Image.new("RGB", (3, 4)).save(source / "k/..x.png")
    Image.new("RGB", (5, 4)).save(source / "k/.x.png")
    (tmp_path / "kept.png").write_text("kept")
    folder = tmp_path / "out/0_k"
    folder.mkdir(parents=True)
    (folder / "x.png").symlink_to(tmp_path / "kept.png")
    items = [Item("k/..x.png", 0), Item("k/.x.png", 0)]
    assert export_images(ImageSet(source, ["k"], items), items, folder) == 2
    assert [Image.open(folder / name).size for name in ("x.png", "x-1.png")] == [(3, 4), (5, 4)]
    assert (tmp_path / "kept.png").read_text() == "kept"
    (tmp_path / "out/link").symlink_to(source)
    with pytest.raises(UserError, match="leads elsewhere"):
        export_images(ImageSet(source, ["k"], items), items, tmp_path / "out/link")


def test_a_file_that_is_no_image_is_not_copied(tmp_path):
    (tmp_path / "k").mkdir()
    (tmp_path / "k/a.png").write_text("secret")
    items = [Item("k/a.png", 0)]
    with pytest.raises(UserError, match="cannot be read"):
        export_images(ImageSet(tmp_path, ["k"], items), items, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_arrays_become_png(tmp_path):
    arrays = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    items = [Item("3", 1), Item("2", 1)]
    assert export_images(ImageSet(tmp_path, ["cat", "dog"], items, arrays), items, tmp_path / "out") == 2
    for item in items:
        assert (np.asarray(Image.open(tmp_path / f"out/{item.image}.png")) == arrays[int(item.image)]).all()
