"""Damage of any kind to bytes, and properties that hold of it.

Each property is checked on a few fixed examples, and in the long run on many random ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from neuronpath.errors import UserError

FEW_AND_MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["few", "many"])
MORE = 10  # times as many examples in the long run


def holds(body: Callable, examples: int, many: bool, *strategies: st.SearchStrategy) -> None:
    """`body` raises for none of the examples; what fails is printed with the means to repeat it."""
    chosen = settings(
        max_examples=examples * (MORE if many else 1),
        derandomize=not many,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    @chosen
    @given(st.tuples(*strategies))
    def run(example: tuple) -> None:
        body(*example)

    run()


@dataclass(frozen=True)
class Damage:
    """Bytes that replace `length` others from `start` on; `start` is a place in whatever is damaged."""

    start: int
    length: int
    replacement: bytes

    def __call__(self, data: bytes) -> bytes:
        start = self.start % max(1, len(data))
        return data[:start] + self.replacement + data[start + self.length :]


def damages(data: bytes, *marks: bytes) -> st.SearchStrategy[list[Damage]]:
    """Bytes flipped, put in, left out or zeroed, or the end cut off; half of it within 150 bytes from a mark on."""
    near = [at + i for mark in marks for at in range(len(data)) if data.startswith(mark, at) for i in range(150)]
    places = st.integers(0, len(data) - 1)
    places = places | st.sampled_from([i for i in near if i < len(data)]) if near else places
    other = st.builds(lambda at, bits: Damage(at, 1, bytes([data[at] ^ bits])), places, st.integers(1, 255))
    bit = st.builds(lambda at, bit: Damage(at, 1, bytes([data[at] ^ 1 << bit])), places, st.integers(0, 7))
    put_in = st.builds(Damage, places, st.integers(0, 9), st.binary(max_size=9))
    zeroed = st.builds(lambda at, n: Damage(at, n, bytes(n)), places, st.integers(1, 300))
    cut = st.builds(lambda at: Damage(at, len(data), b""), places)
    one = st.one_of(other, bit, put_in, zeroed, cut)
    return one.map(lambda damage: [damage]) | st.lists(one, min_size=2, max_size=3)


def damaged(data: bytes, found: list[Damage]) -> bytes:
    for damage in found:
        data = damage(data)
    return data


def assert_one_line(error: UserError, file: Path) -> None:
    assert str(error).startswith(str(file)), error
    assert str(error).isprintable()
