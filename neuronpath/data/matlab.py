"""The part of MATLAB's MAT-file format, level 5, that holds a table: a struct array of numbers and texts.

SciPy's reader of such files crashes the process on damaged ones. This one is slow and checks every length.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import one_line

MOST = 2**24  # bytes, packed or unpacked: the devkit's file is a fraction of it
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
MATRIX, COMPRESSED = 14, 15
STRUCT, CHAR = 2, 4
DENSE = range(6, 16)  # classes of plain arrays of numbers


class MatlabError(ValueError):
    """What is wrong with a file."""


def read_columns(file: Path, variable: str, fields: tuple[str, ...]) -> list[list[float | str]]:
    """By field the values of a struct array: one number or text of each struct. MatlabError for anything else."""
    try:
        content = _bounded(file)
        if content[126:128] != b"IM":
            raise MatlabError("no little-endian MAT-file of level 5")
        for kind, data in _elements(content[128:]):
            if kind == COMPRESSED:
                ((kind, data),) = _elements(_unpacked(data))
            if kind == MATRIX and _name(data) == variable:
                return _columns(data, fields)
    except (OSError, ValueError, struct.error, zlib.error) as e:
        raise e if isinstance(e, MatlabError) else MatlabError(one_line(e)) from e
    raise MatlabError(f"no {variable} in it")


def _bounded(file: Path) -> bytes:
    with file.open("rb") as source:
        content = source.read(MOST + 1)
    if len(content) > MOST:
        raise MatlabError(f"more than {MOST} bytes")
    return content


def _unpacked(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(data, MOST)
    if stream.unconsumed_tail:
        raise MatlabError(f"more than {MOST} bytes when unpacked")
    return content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of the elements that stand one after the other."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from("<II", data, place)
        if kind >> 16:  # a small one: type, size and content in 8 bytes
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            start = place + 8
            end = start + size if kind == COMPRESSED else start + -(-size // 8) * 8
        if start + size > len(data) or size > end - start:
            raise MatlabError("an element is cut off")
        yield kind, data[start : start + size]
        place = end


def _head(data: bytes) -> tuple[int, int, str, list[tuple[int, bytes]]]:
    """Class, number of entries, name, and the elements that follow, of a matrix."""
    parts = list(_elements(data))
    if len(parts) < 3:
        raise MatlabError("a matrix without flags, size and name")
    (_, flags), (_, sizes), (_, name), *rest = parts
    count = 1
    for size in struct.unpack(f"<{len(sizes) // 4}i", sizes):
        count *= size
    if not 0 <= count <= MOST:
        raise MatlabError("a matrix of impossible size")
    return struct.unpack_from("<I", flags)[0] & 0xFF, count, name.decode("ascii"), rest


def _name(data: bytes) -> str:
    return _head(data)[2]


def _columns(data: bytes, fields: tuple[str, ...]) -> list[list[float | str]]:
    kind, count, _, rest = _head(data)
    if kind != STRUCT or len(rest) < 2:
        raise MatlabError("no struct array")
    (_, length), (_, text), *values = rest
    (width,) = struct.unpack("<i", length)
    if width < 1:
        raise MatlabError("fields without names")
    names = [text[i : i + width].split(b"\0")[0].decode("ascii") for i in range(0, len(text), width)]
    if missing := [field for field in fields if field not in names]:
        raise MatlabError(f"no field {missing[0]}")
    if len(values) != count * len(names):
        raise MatlabError("another number of values than of fields")
    return [[_value(part) for part in values[names.index(field) :: len(names)]] for field in fields]


def _value(element: tuple[int, bytes]) -> float | str:
    """A single number, as float, or a text."""
    kind, count, _, rest = _head(element[1]) if element[0] == MATRIX else (0, 0, "", [])
    if len(rest) == 1:
        ((stored, data),) = rest
        if kind == CHAR and stored in TEXTS:
            return data.decode(TEXTS[stored])
        if kind in DENSE and count == 1 and stored in NUMBERS:
            return float(struct.unpack("<" + NUMBERS[stored], data)[0])
    raise MatlabError("a value that is neither one number nor a text")
