"""Bad and odd images and folders, through the real commands: one line that says which, and no other record moved."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Command, assert_same_search, record_lines, records
from PIL import Image, features

from neuronpath.runs.editing import Edit

IMAGES = [f"class{label}/{i:02d}.png" for label, count in enumerate((2, 1, 2, 2)) for i in range(count)]
BAD = "class2/01.png"
BEFORE, REST = IMAGES[: IMAGES.index(BAD)], [image for image in IMAGES if image != BAD]
RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY, ALPHA = COLOUR[..., 0], COLOUR[..., 1]
NOISE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def command(checkpoint, image_folder, tmp_path) -> Command:
    """On IMAGES."""
    for file in image_folder.rglob("*.png"):
        if file.relative_to(image_folder).as_posix() not in IMAGES:
            file.unlink()
    return Command(checkpoint, image_folder, tmp_path / "out", steps=2, more=("--batch_size", 1))


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    return {}


@pytest.fixture
def whole(command, kept, tmp_path) -> dict[str, str]:
    """The records of the undamaged folder, computed once."""
    if not kept:
        command(out=tmp_path / "whole")
        kept.update(record_lines(tmp_path / "whole"))
    assert list(kept) == IMAGES
    return kept


def only(whole: dict[str, str], images: list[str]) -> dict[str, str]:
    return {image: whole[image] for image in images}


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any depth (bits) and colour type (0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def even() -> bytes:
    """A picture whose pixels are a few bytes when compressed."""
    return encoded(Image.new("RGB", (40, 40), (10, 200, 30)))


def squares() -> bytes:
    """A picture of 64 squares, where most changes of the compressed bytes give another picture without an error."""
    return encoded(Image.fromarray(np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), np.ones((28, 28), np.uint8))))


def of_content(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content)


def link(target: str) -> Callable[[Path], None]:
    return lambda file: file.symlink_to(target)


def no_rights(file: Path) -> None:
    file.write_bytes(even())
    file.chmod(0)


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "empty": of_content(b""),
    "text": of_content(b"just text, no image\n"),
    "html": of_content(b"<!DOCTYPE html><title>404</title>\n"),
    "only the signature": of_content(b"\x89PNG\r\n\x1a\n"),
    "cut PNG": of_content(encoded(Image.fromarray(NOISE))[:6000]),
    "cut JPEG": of_content(encoded(Image.fromarray(NOISE), "JPEG", quality=95)[:2500]),
    "cut GIF": of_content(encoded(Image.fromarray(NOISE[..., 0]), "GIF")[:900]),
    "cut BMP": of_content(encoded(Image.fromarray(NOISE), "BMP")[:900]),
    "PNG header's checksum": of_content(flipped(even(), 29)),
    "PNG that claims 50000 x 50000": of_content(png(50_000, 50_000, 8, 2, bytes(100))),
    "PNG that claims 12000 x 9000": of_content(png(12_000, 9_000, 8, 2, bytes(100))),
    "PNG that claims no pixels": of_content(png(0, 0, 8, 2, b"")),
    "bomb": of_content(png(20_000, 10_000, 1, 0, bytes(10_000 * (1 + 20_000 // 8)))),
    "floating-point TIFF": of_content(encoded(Image.new("F", (8, 8)), "TIFF")),
    "dangling link": link("nowhere.png"),
    "link to itself": link(Path(BAD).name),
}


CASES = [
    *UNREADABLE,
    "PNG data's checksum",
    "PNG data's length",
    "PNG data",
    pytest.param("no rights", marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")),
]


UNREADABLE |= {
    "PNG data's checksum": of_content(flipped(even(), len(even()) - 13)),
    "PNG data's length": of_content(flipped(even(), 36)),
    "PNG data": of_content(flipped(squares(), len(squares()) // 2)),
    "no rights": no_rights,
}


class TestUnreadableImages:
    @pytest.fixture
    def spoilt(self, command, whole) -> tuple[Path, Callable]:
        """The image's file and what spoils it."""
        file = command.images / BAD
        good = file.read_bytes()

        def change(content: Callable[[Path], None] | None) -> None:
            file.unlink()
            content(file) if content else file.write_bytes(good)

        return file, change

    @pytest.mark.parametrize("case", CASES)
    def test_fail(self, command, whole, spoilt, case):
        file, change = spoilt
        change(UNREADABLE[case])
        for _ in range(2):
            message = command(code=2)
            assert str(file) in message
            assert "replace it or use --on_bad_image skip" in message
            assert record_lines(command.out) == only(whole, BEFORE)
        assert not (command.out / "imgnet_all.skipped.jsonl").exists()
        change(None)
        assert f"{len(IMAGES) - len(BEFORE)} new, {len(BEFORE)} from earlier" in command()
        assert record_lines(command.out) == whole

    @pytest.mark.parametrize("case", CASES)
    def test_skip(self, command, whole, spoilt, case):
        _, change = spoilt
        change(UNREADABLE[case])
        listed = command.out / "imgnet_all.skipped.jsonl"
        for _ in range(2):
            assert str(listed) in command("--on_bad_image", "skip", code=3)
            assert record_lines(command.out) == only(whole, REST)
            (entry,) = (json.loads(line) for line in listed.read_text().splitlines())
            assert (entry["image"], entry["label"]) == (BAD, 2)
            assert entry["error"].strip()
        change(None)
        assert f"1 new, {len(REST)} from earlier" in command("--on_bad_image", "skip")
        assert record_lines(command.out) == whole
        assert not listed.exists()

    @pytest.mark.parametrize("batch_size", [2, 3, 100])
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_in_batches_with_others(self, command, whole, spoilt, batch_size, num_workers, tmp_path):
        """As far as the numbers of one image in fp32 do not depend on its batch."""
        (tmp_path / "expected").mkdir()
        for label in range(4):
            found = [
                line + "\n" for image, line in whole.items() if image.startswith(f"class{label}/") and image != BAD
            ]
            (tmp_path / "expected" / f"imgnet_all-{label}.rlt.jsonl").write_text("".join(found))
        spoilt[1](UNREADABLE["cut JPEG"])
        more = ("--on_bad_image", "skip", "--batch_size", batch_size, "--num_workers", num_workers)
        command(*more, code=3)
        assert_same_search(records(command.out), records(tmp_path / "expected"))

    def test_all_of_a_class_and_many(self, command, whole):
        bad = ["class0/00.png", "class1/00.png", "class3/01.png"]
        for image in bad:
            (command.images / image).write_bytes(b"")
        command("--on_bad_image", "skip", code=3)
        assert record_lines(command.out) == {image: line for image, line in whole.items() if image not in bad}
        listed = (command.out / "imgnet_all.skipped.jsonl").read_text().splitlines()
        assert [json.loads(line)["image"] for line in listed] == bad

    def test_the_edit_command(self, command, whole, spoilt, tmp_path):
        """Its image is unreadable, though it has a path."""
        command(out=tmp_path / "ja")
        file, change = spoilt
        more = ("--ja_path", tmp_path / "ja")
        command(*more, kind=Edit, out=tmp_path / "expected")
        expected = record_lines(tmp_path / "expected")
        change(UNREADABLE["cut JPEG"])
        assert str(file) in command(*more, kind=Edit, code=2)
        assert record_lines(command.out) == only(expected, BEFORE)
        command(*more, "--on_bad_image", "skip", kind=Edit, code=3)
        assert record_lines(command.out) == only(expected, REST)
        change(None)
        command(*more, kind=Edit)
        assert record_lines(command.out) == expected


def cmyk() -> tuple[bytes, np.ndarray]:
    ink = np.concatenate([COLOUR, GREY[..., None] // 3], -1)
    data = encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        found = 255 - np.asarray(image).astype(float)
    return data, np.rint(found[..., :3] * found[..., 3:] / 255).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> tuple[bytes, np.ndarray]:
    data = encoded(Image.fromarray(pixels), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as image:
        found = np.asarray(image)
    return data, found if found.ndim == 3 else three(found)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, 2)


def palette(kind: str, **options) -> tuple[bytes, np.ndarray]:
    colours = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(GREY)
    image.putpalette(colours.tobytes())
    return encoded(image, kind, **options), colours[GREY]


def rows16(values: np.ndarray) -> bytes:
    """16-bit values as the rows of a PNG, each after its filter byte."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


def animated() -> tuple[bytes, np.ndarray]:
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    return encoded(first, "GIF", save_all=True, append_images=[second]), three(GREY)


def rotated() -> tuple[bytes, np.ndarray]:
    """A camera's note of how to turn it, which neither the paper's preprocessing nor torchvision's reads."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(COLOUR, exif=exif)


H, W = GREY.shape
GREY16 = RNG.integers(0, 65536, (H, W))
COLOUR16 = RNG.integers(0, 65536, (H, W, 3))
WITH_ALPHA16 = np.concatenate([COLOUR16, GREY16[..., None]], -1)


READABLE: dict[str, Callable[[], tuple[bytes, np.ndarray]]] = {
    "GIF": lambda: (encoded(Image.fromarray(GREY), "GIF"), three(GREY)),
    "animated GIF": animated,
    "BMP": lambda: (encoded(Image.fromarray(COLOUR), "BMP"), COLOUR),
    "TIFF": lambda: (encoded(Image.fromarray(COLOUR), "TIFF"), COLOUR),
    "PPM": lambda: (encoded(Image.fromarray(COLOUR), "PPM"), COLOUR),
    "JPEG": lambda: jpeg(COLOUR),
    "grey JPEG": lambda: jpeg(GREY),
    "progressive JPEG": lambda: jpeg(COLOUR, progressive=True),
    "JPEG with a rotation": rotated,
    "CMYK JPEG": cmyk,
    "16-bit grey": lambda: (png(W, H, 16, 0, rows16(GREY16)), three((GREY16 // 257).astype(np.uint8))),
    "16-bit grey TIFF": lambda: (
        encoded(Image.fromarray(GREY16.astype(np.uint16)), "TIFF"),
        three((GREY16 // 257).astype(np.uint8)),
    ),
    "32-bit grey TIFF": lambda: (
        encoded(Image.fromarray(GREY16.astype(np.int32)), "TIFF"),
        three((GREY16 // 257).astype(np.uint8)),
    ),
    "16-bit RGB": lambda: (png(W, H, 16, 2, rows16(COLOUR16)), (COLOUR16 >> 8).astype(np.uint8)),
    "16-bit RGBA": lambda: (png(W, H, 16, 6, rows16(WITH_ALPHA16)), (COLOUR16 >> 8).astype(np.uint8)),
    "palette": lambda: palette("PNG"),
    "palette with a transparent colour": lambda: palette("PNG", transparency=int(GREY[0, 0])),
    "palette with alpha": lambda: palette("PNG", transparency=bytes(range(256))),
    "1 bit": lambda: (encoded(Image.fromarray(GREY > 99)), three(np.where(GREY > 99, 255, 0).astype(np.uint8))),
    "grey and alpha": lambda: (encoded(Image.fromarray(np.stack([GREY, ALPHA], -1), "LA")), three(GREY)),
    "RGBA": lambda: (encoded(Image.fromarray(np.concatenate([COLOUR, ALPHA[..., None]], -1))), COLOUR),
    "one pixel": lambda: (encoded(Image.fromarray(COLOUR[:1, :1])), COLOUR[:1, :1]),
    "one row": lambda: (encoded(Image.fromarray(NOISE.reshape(1, -1, 3))), NOISE.reshape(1, -1, 3)),
    "bytes after the end": lambda: (encoded(Image.fromarray(COLOUR)) + b"more", COLOUR),
}


if features.check("webp"):
    READABLE["WebP"] = lambda: (encoded(Image.fromarray(COLOUR), "WEBP", lossless=True), COLOUR)


class TestOddImages:
    """What Pillow reads, whatever it is called, counts as its 8-bit RGB picture."""

    @pytest.mark.parametrize("case", READABLE)
    def test_equals_its_rgb_picture(self, command, whole, case, tmp_path):
        data, pixels = READABLE[case]()
        assert pixels.dtype == np.uint8
        (command.images / BAD).write_bytes(data)
        command()
        Image.fromarray(pixels).save(command.images / BAD)
        command("--labels", 2, out=tmp_path / "rgb")
        found = record_lines(command.out)
        assert found[BAD] == record_lines(tmp_path / "rgb")[BAD] != whole[BAD]
        assert only(found, REST) == only(whole, REST)
        assert list(found) == IMAGES


class TestFolders:
    def test_empty_class_folders_keep_their_numbers(self, command, whole):
        for image in ("class1/00.png", "class2/00.png", BAD):
            (command.images / image).unlink()
        (command.images / "class2" / "notes.txt").write_text("no image")
        command()
        assert record_lines(command.out) == {i: line for i, line in whole.items() if i[5] in "03"}
        message = command("--labels", "1", code=2)
        assert str(command.images) in message
        assert "--labels" in message

    def test_folders_among_images(self, command, whole):
        (command.images / "class0" / "x.png").mkdir()
        (command.images / "class3" / "y.png").mkdir()
        (command.images / "stray.png").write_bytes(even())
        command()
        assert record_lines(command.out) == whole

    @pytest.mark.parametrize("name", ["class4", ".ipynb_checkpoints", "Ä 1"])
    def test_more_classes_than_the_head(self, command, name):
        (command.images / name).mkdir()
        message = command(code=2)
        assert f"{command.images}: 5 classes, but the model's head has 4" in message
        assert not command.out.exists()

    @pytest.mark.parametrize("left", [0, 1, 3])
    def test_fewer_classes_than_the_head(self, command, left):
        for label in range(left, 4):
            for file in (command.images / f"class{label}").iterdir():
                file.unlink()
            (command.images / f"class{label}").rmdir()
        message = command(code=2)
        assert str(command.images) in message
        assert (f"{left} classes" if left else "no class folders") in message
        assert not command.out.exists()

    @pytest.mark.parametrize(
        ("classes", "names"),
        [
            ([".hidden", " space", "two words", "é\u0301"], ["a b.png", "a.b.c.PNG", "quo\"te's.png"]),
            (["a\nb", "new\tline", "é", "日本"], ["new\nline.png", "tab\t.png", "\u202edrawkcab.png"]),
            (["1", "10", "2", "a'\"b"], ["é.png", "e\u0301.png", "日本語.jpeg"]),
            (["$(touch x)", "%s", "-rf", "{0}"], [" .png", "%s{0}$HOME.png", "-x.png"]),
        ],
        ids=["spaces and quotes", "control characters", "unicode", "shell"],
    )
    def test_any_names(self, command, whole, classes, names, tmp_path):
        """Every image has its record under its own name, and is found again."""
        files = sorted(file for file in command.images.rglob("*.png"))
        expected = {}
        (tmp_path / "odd").mkdir()
        for label, name in enumerate(sorted(classes)):
            (tmp_path / "odd" / name).mkdir()
            for i, file_name in enumerate(sorted(names)):
                (tmp_path / "odd" / name / file_name).write_bytes(files[(label + i) % len(files)].read_bytes())
                expected[f"{name}/{file_name}"] = label
        command.images = tmp_path / "odd"
        for new in (len(expected), 0):
            assert f"{new} new" in command()
        found = records(command.out)
        assert {image: record["label"] for image, record in found.items()} == expected
        assert list(found) == list(expected)
        command("--ja_path", command.out, kind=Edit, out=tmp_path / "edit")
        assert list(records(tmp_path / "edit")) == list(expected)
        worst = next(iter(expected))
        (command.images / worst).write_bytes(b"")
        message = command("--overwrite", code=2)
        assert message.isprintable()
        assert "replace it" in message
