"""Names of classes, and files named after them."""

from pathlib import Path

import pytest

from neuronpath.data.names import class_names, safe_name
from neuronpath.errors import UserError


def test_imagenets_are_1000_in_label_order():
    names = class_names("imagenet1k", Path("nowhere"))
    assert len(set(names)) == len(names) == 1000
    assert [names[i] for i in (0, 146, 178, 232, 248, 999)] == [
        "tench",
        "albatross",
        "Weimaraner",
        "Border collie",
        "Eskimo dog",
        "toilet tissue",
    ]


def test_a_folders_are_its_class_folders(image_folder):
    assert class_names("imagefolder", image_folder) == [f"class{i}" for i in range(4)]
    for root in (image_folder / "class0", image_folder / "none"):
        with pytest.raises(UserError, match="--dataset_path"):
            class_names("imagefolder", root)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../x", "x"),
        ("/etc/passwd", "etc_passwd"),
        ("..", "_"),
        ("", "_"),
        ("Border collie", "Border_collie"),
        ("犬 ñ", "犬_ñ"),
        ("a\0b\n", "a_b_"),
        ("\udcff", "_"),
        ("n02099601", "n02099601"),
    ],
)
def test_names_become_safe_file_names(name, safe):
    assert safe_name(name) == safe
    assert len(safe_name(name * 500).encode()) <= 80
