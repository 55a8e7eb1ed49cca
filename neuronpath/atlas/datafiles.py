"""Data files of the page: scripts that hand one JSON value on, since browsers read nothing else from disk."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np


def write_data(root: Path, name: str, value: Any) -> None:
    """`root`/NAME.js, which the page loads as data/NAME.js. Text is ASCII with escapes."""
    file = root / f"{name}.js"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    file.write_text(f"atlas.put({json.dumps(name)},{text});\n", encoding="ascii")


def shown(value: float | None) -> float | None:
    """A number as the page shows it, with four decimals: rounded once, here."""
    return None if value is None else round(value, 4)


def small(value: float) -> float:
    """The same, but with three digits where four decimals would be few: margins near 0 tell near-ties."""
    return round(value, 4) if abs(value) >= 0.01 else float(f"{value:.3g}")


def packed(values: np.ndarray) -> str:
    """The numbers of an array as they stand in memory, little-endian, in base64."""
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def readable(name: str) -> str:
    """A name from outside as text that an address can hold: bytes that are no UTF-8 become escapes."""
    return name.encode(errors="backslashreplace").decode()


def bucket(name: str, count: int) -> int:
    """In which of `count` files the class of an image is noted: FNV-1a of its name in UTF-8, as in core.js."""
    digest = 0x811C9DC5
    for byte in name.encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return digest % count
