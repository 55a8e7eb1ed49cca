"""The command-line parser, and the types of its options: each takes a word and says in a line what is wrong with it."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import UserError
from ..files import ROOT


class Parser(argparse.ArgumentParser):
    """No abbreviations; a mistake is a UserError of one line; the help says every default."""

    def __init__(self, description: str | None):
        super().__init__(
            description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")

    def markdown(self, but_for: "Parser | None" = None) -> str:
        """A table of the options: their names with the values they take, and their help; without those of another."""
        others = but_for._actions if but_for else []
        known = {"--help", *(name for action in others for name in action.option_strings)}
        lines = ["| option | meaning |", "|---|---|"]
        for action in self._actions:
            if known & {*action.option_strings}:
                continue
            values = "|".join(map(str, action.choices)) if action.choices and not action.metavar else action.metavar
            name = " ".join([*action.option_strings, *([str(values)] if values else [])])
            meaning = (action.help or "") % {**vars(action), "prog": self.prog}
            name, meaning = name.replace("|", "\\|"), meaning.replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| `{name}` | {meaning} |")
        return "\n".join(lines).replace(f"{ROOT}/", "")


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\s*[+-]?\d{1,19}\s*", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return parse


def whole_or_all(least: int) -> Callable[[str], int | str]:
    """The type of an option that takes a whole number from `least`, or the word all."""
    number = whole(least)

    def parse(text: str) -> int | str:
        return text if text == "all" else number(text)

    return parse


def device_name(text: str) -> str:
    """The type of an option that names a device; whether it is there is seen when it is used."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", text):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda, cuda:N or mps, not {text!r}")
    return text


def file_name(text: str) -> str:
    """The type of an option that begins file names."""
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"must be a plain file name, not {text!r}")
    return text


def one_of(words: Sequence[str], prefix: str) -> Callable[[str], str]:
    """The type of an option that takes one of `words`, or a name after `prefix`."""

    def parse(text: str) -> str:
        if text not in words and not (text.startswith(prefix) and len(text) > len(prefix)):
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(words)}, {prefix}NAME)")
        return text

    return parse


def labels(text: str) -> list[int]:
    """'0,5,10-20' as ascending labels."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (is_index(first) and is_index(last)) or not 0 <= int(last) - int(first) < 10**6:
            raise argparse.ArgumentTypeError(f"must be labels such as 0,5,10-20, not {text!r}")
        found.update(range(int(first), int(last) + 1))
    return sorted(found)


def is_index(text: str) -> bool:
    """Whether it is a whole number, 0 or more, of a sensible length."""
    return text.isdecimal() and len(text) < 20  # int() refuses thousands of digits


def target(text: str) -> str | int:
    if text in ("label", "pred"):
        return text
    if is_index(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"must be label, pred or a class index, not {text!r}")


def factor(text: str) -> float:
    """The type of an option that takes a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text!r}")
    return number


def positive(text: str) -> float:
    """The type of an option that takes a finite number above 0."""
    number = factor(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text!r}")
    return number


def proportion(text: str) -> float:
    """The type of an option that takes a number from 0 to 1."""
    number = factor(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, not {text!r}")
    return number


def share_of_one(text: str) -> float:
    """The type of an option that takes a number above 0 and at most 1."""
    number = factor(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text!r}")
    return number


def triple(above: float = -math.inf) -> Callable[[str], list[float]]:
    """The type of an option that takes three finite numbers, one per channel, all larger than `above`."""

    def parse(text: str) -> list[float]:
        parts = text.split(",")
        if len(parts) != 3 or min(map(factor, parts)) <= above:
            least = "" if above == -math.inf else f" above {above:g}"
            raise argparse.ArgumentTypeError(f"must be three numbers{least} such as 0.5,0.5,0.5, not {text!r}")
        return [factor(part) for part in parts]

    return parse


def shard(text: str) -> tuple[int, int]:
    """'1/8' as (1, 8)."""
    index, slash, count = text.partition("/")
    if not (slash and is_index(index) and is_index(count) and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"must be I/N, from 0/N to N-1/N, not {text!r}")
    return int(index), int(count)
