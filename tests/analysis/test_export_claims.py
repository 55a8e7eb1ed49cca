"""Images of classes as files: which, where, and under which names."""

from argparse import Namespace

import numpy as np
import pytest
from helpers import NO_SOURCES
from PIL import Image

from neuronpath.analysis.classes import Classes
from neuronpath.analysis.export import export_classes, export_images
from neuronpath.data.images import ImageSet
from neuronpath.errors import UserError
from neuronpath.files import Item


def classes(*labels: int, names=("class0", "class1", "class2", "class3")) -> Classes:
    paths = dict.fromkeys(labels, np.zeros((1, 1, 1), int))
    return Classes(paths, {label: [f"class{label}/00.png"] for label in labels}, 1, "ja", dict(enumerate(names)))


@pytest.mark.parametrize(("count", "copied"), [(None, {0: 3, 3: 5}), (1, {0: 1, 3: 1}), (4, {0: 3, 3: 4})])
def test_the_first_images_of_each_class_whether_recorded_or_not(image_folder, tmp_path, count, copied):
    o = Namespace(
        dataset="imagefolder",
        dataset_path=image_folder,
        output_dir=tmp_path / "out",
        count=count,
        class_names=[],
        **NO_SOURCES,
    )
    found = export_classes(o, classes(0, 3))
    assert found == [(tmp_path / f"out/{label}_class{label}", n) for label, n in copied.items()]
    for label, n in copied.items():
        files = sorted((tmp_path / f"out/{label}_class{label}").iterdir())
        assert [file.name for file in files] == [f"{i:02d}.png" for i in range(n)]
        for file in files:
            assert file.read_bytes() == (image_folder / f"class{label}" / file.name).read_bytes()
    assert len([*(tmp_path / "out").iterdir()]) == 2


@pytest.mark.parametrize("inside", [".", "new", "class1"])
def test_no_folder_within_the_data_set(image_folder, inside):
    out = image_folder / inside
    o = Namespace(dataset="imagefolder", dataset_path=image_folder, output_dir=out, count=1, **NO_SOURCES)
    with pytest.raises(UserError) as e:
        export_classes(o, classes(0))
    assert str(e.value) == f"{out}: within the data set, where it would become a class; choose another"


def test_names_that_become_one_are_numbered_and_old_files_replaced(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    for i, name in enumerate(("a b.png", "a,b.png", "a;b.png", "a_b-1.png")):
        (source / "k").mkdir(parents=True, exist_ok=True)
        Image.new("L", (i + 1, 1)).save(source / "k" / name)
    items = [Item(f"k/{name}", 0) for name in ("a b.png", "a,b.png", "a;b.png", "a_b-1.png")]
    out.mkdir()
    (out / "a_b.png").write_text("old")
    assert export_images(ImageSet(source, ["k"], items), items, out) == 4
    widths = {file.name: Image.open(file).width for file in out.iterdir()}
    assert widths == {"a_b.png": 1, "a_b-1.png": 2, "a_b-2.png": 3, "a_b-1-1.png": 4}


def test_what_cannot_be_copied_says_what_to_do(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    items = [Item("a.png", 0)]
    with pytest.raises(UserError) as e:
        export_images(ImageSet(tmp_path, ["k"], items), items, tmp_path / "out")
    assert str(e.value).startswith(f"{tmp_path}/a.png: cannot be read (")
    assert str(e.value).endswith("); remove it or replace it")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UserError) as e:
        export_images(ImageSet(tmp_path, ["k"], items), items, tmp_path / "link")
    assert str(e.value) == f"{tmp_path}/link: leads elsewhere; remove it or choose another --output_dir"
