"""Data files are ASCII scripts that hand one JSON value on."""

import base64
import json
import math
import os

import numpy as np
import pytest
from atlases import FOLDERS, HOSTILE, NAMED, ODD

from neuronpath.atlas.datafiles import bucket, packed, readable, shown, small, write_data

NAMES = ["", "a", "ä", "😀", "\u2028", "a/b.png", "\x00", "\uffff", "x" * 999, *FOLDERS, *NAMED, *ODD, HOSTILE]


def test_a_file_is_ascii_and_holds_its_value(tmp_path):
    value = {name: [name, i, None, 0.1] for i, name in enumerate(map(readable, NAMES))}
    write_data(tmp_path, "m0/class/7", value)
    text = (tmp_path / "m0/class/7.js").read_bytes().decode("ascii")
    assert text.startswith('atlas.put("m0/class/7",{')
    assert text.endswith("});\n")
    assert text.count("\n") == 1
    assert json.loads(text.removeprefix('atlas.put("m0/class/7",').removesuffix(");\n")) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, -math.inf]])
def test_what_is_no_json_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_data(tmp_path, "x", value)


def test_numbers_are_rounded_once_as_the_page_prints_them():
    values = np.random.default_rng(0).normal(size=1000).tolist()
    assert [f"{shown(x):.4f}" for x in values] == [f"{x:.4f}" for x in values]
    assert shown(None) is None


def test_margins_keep_three_digits_near_0():
    found = [*map(small, (0.123456, -0.0123456, 0.00123456, 1.23456e-05, -9.8765e-9, 0.0))]
    assert found == [0.1235, -0.0123, 0.00123, 1.23e-05, -9.88e-09, 0.0]


@pytest.mark.parametrize("kind", [np.uint16, np.int8, np.float32])
def test_packed_numbers_are_little_endian(kind):
    values = np.array([0, 1, 100, 3], kind)
    found = np.frombuffer(
        base64.b64decode(packed(values.astype(values.dtype.newbyteorder(">")))), np.dtype(kind).newbyteorder("<")
    )
    assert found.tolist() == values.tolist()


def test_readable_names_are_unicode():
    assert readable("a/ä😀\u2028<b>") == "a/ä😀\u2028<b>"
    assert readable(os.fsdecode(b"\xff\xc3\xa9.png")) == "\\udcffé.png"
    for name in NAMES:
        readable(name).encode()


def test_buckets_are_spread_and_in_range():
    counts = np.bincount([bucket(f"class{i % 10}/{i:05d}.png", 8) for i in range(8000)], minlength=8)
    assert len(counts) == 8
    assert counts.min() > 800
    assert bucket("a", 1) == 0
    assert bucket("a", 2**32) == 0xE40C292C, "FNV-1a's published value"


def test_buckets_are_the_pages(reader):
    """The page looks an image up in the file that the build has put it into."""
    reader.open()
    names = [*map(readable, NAMES)]
    for count in (1, 2, 3, 256, 1009, 2**31):
        found = reader.page.evaluate("([names, n]) => names.map((name) => atlas.bucket(name, n))", [names, count])
        assert found == [bucket(name, count) for name in names]


def test_packed_numbers_are_read_by_the_page(reader):
    reader.open()
    for kind, name in ((np.uint16, "Uint16Array"), (np.int8, "Int8Array")):
        values = np.arange(-100, 100).astype(kind)
        found = reader.page.evaluate(f"(text) => [...atlas.decoded(text, {name})]", packed(values))
        assert found == values.tolist()


def test_addresses_and_their_parts_are_inverse_in_the_page(reader):
    reader.open()
    for name in [*map(readable, NAMES)]:
        parts = reader.page.evaluate("(n) => atlas.parts(atlas.address('m', 'image', n))", name)
        assert parts == ["m", "image", name]
