"""The reader of MATLAB's tables against SciPy's writer, and damaged files, which crash SciPy's reader."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from damage import FEW_AND_MANY, damaged, damages, holds
from scipy.io import savemat

from neuronpath.data.matlab import MOST, MatlabError, read_columns

FIELDS = ("number", "name")


def table(count: int = 5, **more) -> np.ndarray:
    """A struct array (count, 1), as MATLAB writes it."""
    found = np.empty((count, 1), [("number", object), ("words", object), ("name", object), ("wide", object)])
    for i in range(count):
        row = {"number": np.array([[i + 1]], np.uint16), "words": f"é {i}", "name": f"n{i}", "wide": np.ones((2, 3))}
        found[i, 0] = tuple((row | more).values())
    return found


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def write(request, tmp_path):
    def file(**variables) -> Path:
        savemat(tmp_path / "a.mat", variables, do_compression=request.param)
        return tmp_path / "a.mat"

    return file


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64, np.int64])
def test_numbers_and_texts(write, kind):
    file = write(other=np.ones((3, 3)), a=table(number=np.array([[100]], kind)), more="text")
    assert read_columns(file, "a", FIELDS) == [[100.0] * 5, [f"n{i}" for i in range(5)]]
    assert read_columns(file, "a", ("words",)) == [[f"é {i}" for i in range(5)]]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"b": table()}, "no a in it"),
        ({"a": np.ones((2, 2))}, "no struct array"),
        ({"a": table(name=np.ones((2, 3)))}, "neither one number nor a text"),
        ({"a": table(name=np.array([["x", 3]], object))}, "neither one number nor a text"),
    ],
)
def test_what_is_no_such_table(write, variables, says):
    with pytest.raises(MatlabError, match=says):
        read_columns(write(**variables), "a", FIELDS)


def test_a_field_that_is_not_there(write):
    with pytest.raises(MatlabError, match="no field other"):
        read_columns(write(a=table()), "a", ("number", "other"))


def test_no_such_file_and_other_formats(tmp_path):
    for content in (None, b"", b"\x89HDF\r\n\x1a\n" + bytes(200), bytes(126) + b"MI" + bytes(100)):
        if content is not None:
            (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(MatlabError):
            read_columns(tmp_path / "a.mat", "a", FIELDS)


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path):
    packed = zlib.compress(struct.pack("<II", 14, MOST) + bytes(MOST))
    head = bytes(126) + b"IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(MatlabError, match=f"more than {MOST} bytes when unpacked"):
        read_columns(tmp_path / "a.mat", "a", FIELDS)
    with (tmp_path / "a.mat").open("wb") as file:
        file.truncate(MOST + 1)
    with pytest.raises(MatlabError, match=f"more than {MOST} bytes$"):
        read_columns(tmp_path / "a.mat", "a", FIELDS)


@FEW_AND_MANY
def test_damage_is_one_error(write, tmp_path, many):
    good, file, refused = write(a=table()).read_bytes(), tmp_path / "b.mat", []

    def check(found: list) -> None:
        file.write_bytes(damaged(good, found))
        try:
            read_columns(file, "a", FIELDS)
        except MatlabError as e:
            refused.append(e)

    holds(check, 300, many, damages(good, b"IM"))
    assert len(refused) > 50
