"""Small pictures: what they are made from, when they are made anew, and what is in them."""

import io

import numpy as np
import pytest
from atlases import FOLDERS, ODD, PLAIN, UNREADABLE
from PIL import Image

from neuronpath.atlas.thumbnails import Thumbnails
from neuronpath.data.images import open_dataset


@pytest.fixture
def source(world):
    return open_dataset("imagefolder", world.dataset, len(FOLDERS))


def test_small_images_keep_their_pixels(world, source, tmp_path):
    """Up to 64 pixels: as PNG."""
    name = world.images[0][0]
    ((file, width, height),) = Thumbnails(source, tmp_path, 160).of([name]).values()
    with Image.open(world.dataset / name) as image, Image.open(tmp_path / file) as made:
        assert (made.format, made.size, (width, height)) == ("PNG", image.size, image.size)
        assert np.array_equal(np.asarray(made), np.asarray(image))


@pytest.mark.parametrize(("size", "kind"), [(160, "JPEG"), (60, "PNG")])
def test_large_ones_are_shrunk_in_proportion(world, source, tmp_path, size, kind):
    name = world.images[0][1]  # 150 × 240
    ((file, width, height),) = Thumbnails(source, tmp_path, size).of([name]).values()
    with Image.open(tmp_path / file) as made:
        assert (made.format, made.size) == (kind, (width, height))
    assert height == size
    assert abs(width - 150 * size / 240) < 1


def test_nothing_but_pixels_is_kept(tmp_path, world):
    """Whatever a file carries beside its pixels stays there."""
    from PIL.PngImagePlugin import PngInfo

    folder, note = tmp_path / "images/a", PngInfo()
    folder.mkdir(parents=True)
    note.add_text("comment", "<script>window.pwned=1</script>")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG", pnginfo=note)
    (folder / "x.png").write_bytes(buffer.getvalue() + b"<script>")
    (made,) = (
        Thumbnails(open_dataset("imagefolder", tmp_path / "images", 1), tmp_path / "out", 160).of(["a/x.png"]).values()
    )
    content = (tmp_path / "out" / made[0]).read_bytes()
    assert b"script" not in content
    assert content.startswith(b"\x89PNG")


def test_file_names_are_digests(world, source, tmp_path):
    """Of every image, however it is called; names from outside reach no file name."""
    names = [name for found in world.images.values() for name in found]
    thumbnails = Thumbnails(source, tmp_path, 30)
    made = thumbnails.of(names)
    assert [*made] == [name for name in names if not name.endswith(UNREADABLE)]
    assert thumbnails.unreadable == 1
    assert len({file for file, *_ in made.values()}) == len(made)
    for file, *_ in made.values():
        assert set(file) <= set("0123456789abcdef/.pngj")
        assert (tmp_path / file).is_file()
    assert sum(name.endswith(f"/{odd}") for name in made for odd in ODD) == len(ODD)


def test_names_that_the_data_set_lacks_have_none(source, tmp_path):
    assert Thumbnails(source, tmp_path / "out", 160).of(["nothing.png", "../../etc/passwd", "/etc/passwd"]) == {}
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("there", "size"), [(False, 160), (True, 0)])
def test_none_are_made_without_a_data_set_or_at_size_0(world, source, tmp_path, there, size):
    thumbnails = Thumbnails(source if there else None, tmp_path / "out", size)
    assert thumbnails.of(world.images[PLAIN]) == {}
    thumbnails.clean()
    assert not (tmp_path / "out").exists()
    assert thumbnails.unreadable == 0


def test_those_that_are_there_are_not_made_again(world, source, tmp_path):
    first = Thumbnails(source, tmp_path, 160).of(world.images[0])
    marked = tmp_path / first[world.images[0][0]][0]
    Image.new("RGB", (3, 4)).save(marked)
    again = Thumbnails(source, tmp_path, 160)
    assert again.of(world.images[0])[world.images[0][0]] == (first[world.images[0][0]][0], 3, 4)
    again.of(world.images[1])
    again.clean()
    assert marked.is_file()
    less = Thumbnails(source, tmp_path, 160)
    kept = less.of(world.images[1])
    less.clean()
    assert {f"{f.parent.name}/{f.name}" for f in tmp_path.glob("*/*")} == {file for file, *_ in kept.values()}
