"""Labels that folders' places do not tell: ImageNet's synsets, truth files, and class maps.

The files are untrusted text: what is not exactly as expected is a UserError, and nothing is guessed.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..errors import UserError, one_line, shortened
from .matlab import MatlabError, read_columns

SYNSET = re.compile(r"n\d{8}", re.ASCII)
ILSVRC_ID = re.compile(r"[0-9]{1,4}")
VALIDATION = 50_000  # images of ImageNet's validation set, hence lines of a truth file that names none
MOST_LABELS = 10**6
KAGGLE = ["ImageId", "PredictionString"]
MAPS = ("map_clsloc.txt", "meta.mat")  # the devkits' files that tell the synset of an ILSVRC id


@cache
def synsets() -> dict[str, int]:
    """The label of each of ImageNet-1k's 1000 synsets, in the order of the labels."""
    lines = Path(__file__).with_name("imagenet_synsets.txt").read_text().splitlines()
    return {name: label for label, name in enumerate(line for line in lines if not line.startswith("#"))}


def synset_label(name: str, where: str) -> int:
    """The label of a synset. UserError, naming `where` it stands, for another word."""
    if name not in synsets():
        raise UserError(f"{where}: {shortened(name, 40)!r} is no synset of ImageNet-1k (n01440764 to n15075141)")
    return synsets()[name]


def digest(table: dict[str, int]) -> str:
    """SHA-256 of what a table says, whatever the order and the layout of its file."""
    return hashlib.sha256(json.dumps(sorted(table.items())).encode()).hexdigest()


def read_truth(file: Path) -> dict[str, int]:
    """Labels of ImageNet's images by their names without ending.

    Kaggle's LOC_val_solution.csv; or 50000 lines, the i-th of ILSVRC2012_val_{i:08d}, that are synsets or ILSVRC ids.
    Ids follow another order than labels: UserError unless the devkit's mapping lies beside the file.
    """
    lines = _lines(file)
    if lines and lines[0].split(",") == KAGGLE:
        return _kaggle(file, lines)
    form = SYNSET if lines and SYNSET.fullmatch(lines[0]) else ILSVRC_ID
    if strange := [i for i, line in enumerate(lines, 1) if not form.fullmatch(line)]:
        raise UserError(
            f"{file}, line {strange[0]}: {shortened(lines[strange[0] - 1], 40)!r}; a truth file is Kaggle's "
            "LOC_val_solution.csv, or one synset (n01440764) or ILSVRC id a line"
        )
    if form is SYNSET:
        labels = [synset_label(line, f"{file}, line {i}") for i, line in enumerate(lines, 1)]
    else:
        labels = _of_ids(file, [int(line) for line in lines])
    if len(labels) != VALIDATION:
        raise UserError(
            f"{file}: {len(labels)} lines that name no images; line i is that of image i only in a file of all "
            f"{VALIDATION}; give the whole file, or Kaggle's LOC_val_solution.csv"
        )
    return {f"ILSVRC2012_val_{i:08d}": label for i, label in enumerate(labels, 1)}


def _kaggle(file: Path, lines: list[str]) -> dict[str, int]:
    table: dict[str, int] = {}
    for number, row in enumerate(_rows(file, lines), 1):
        if number == 1:
            continue
        where = f"{file}, line {number}"
        if len(row) != 2 or not row[1].split():
            raise UserError(f"{where}: not an image and its synset; give Kaggle's own file")
        _put(table, row[0].strip(), synset_label(row[1].split()[0], where), where)
    return table


def _of_ids(file: Path, ids: list[int]) -> list[int]:
    there = [file.with_name(name) for name in MAPS if file.with_name(name).is_file()]
    if not there:
        raise UserError(
            f"{file}: its lines are ILSVRC ids, which follow another order than labels; put {' or '.join(MAPS)} of "
            "the same devkit beside it, or give Kaggle's LOC_val_solution.csv"
        )
    maps = [_clsloc(found) if found.suffix == ".txt" else _meta(found) for found in there]
    for found, known in zip(there, maps, strict=True):
        if sorted(known.values()) != list(range(1000)) or sorted(known) != list(range(1, 1001)):
            raise UserError(f"{found}: not the ids 1 to 1000 of ImageNet-1k's synsets; give the devkit's own file")
        if known != maps[0]:
            raise UserError(
                f"{there[0]} and {found}: they contradict each other; leave only that of the truth's devkit"
            )
    if strange := [i for i, number in enumerate(ids, 1) if number not in maps[0]]:
        raise UserError(f"{file}, line {strange[0]}: {ids[strange[0] - 1]} is no ILSVRC id, which are 1 to 1000")
    return [maps[0][number] for number in ids]


def _clsloc(file: Path) -> dict[int, int]:
    """Labels by ILSVRC id of lines such as `n02119789 1 kit_fox`."""
    known: dict[int, int] = {}
    for i, line in enumerate(_lines(file), 1):
        words, where = line.split(), f"{file}, line {i}"
        if len(words) < 2 or not ILSVRC_ID.fullmatch(words[1]) or int(words[1]) in known:
            raise UserError(f"{where}: not a synset and an id of its own; give the devkit's own file")
        known[int(words[1])] = synset_label(words[0], where)
    return known


def _meta(file: Path) -> dict[int, int]:
    """The same of the devkit's MATLAB file, whose ids beyond 1000 are of synsets that have no images."""
    try:
        columns = read_columns(file, "synsets", ("ILSVRC2012_ID", "WNID"))
    except MatlabError as e:
        raise UserError(f"{file}: not the devkit's list of synsets ({one_line(e)}); give its own file") from e
    pairs = list(zip(*columns, strict=True))
    ids = [number for number, _ in pairs]
    if not all(isinstance(number, float) for number in ids) or len({*ids}) < len(ids):
        raise UserError(f"{file}: its ids are no numbers that differ; give the devkit's own file")
    return {int(number): synset_label(str(name), str(file)) for number, name in pairs if number in range(1, 1001)}


def read_class_map(file: Path) -> dict[str, int]:
    """Labels by the names of class folders: a JSON object in a .json file, else lines FOLDER,LABEL (CSV, no header)."""
    table: dict[str, int] = {}
    if file.suffix.lower() == ".json":
        for name, label in _json_pairs(file):
            if type(label) is not int or not 0 <= label < MOST_LABELS:
                what = f"a whole number from 0 to {MOST_LABELS - 1}"
                raise UserError(f"{file}: {shortened(name, 80)!r} has no label, {what}; write {{FOLDER: LABEL, …}}")
            _put(table, name, label, str(file))
    else:
        for i, row in enumerate(_rows(file, _lines(file)), 1):
            if len(row) != 2 or not re.fullmatch(r"\s*[0-9]{1,6}\s*", row[1]):
                what = f"FOLDER,LABEL with a whole number from 0 to {MOST_LABELS - 1}"
                raise UserError(f"{file}, line {i}: not {what}; mend it")
            _put(table, row[0], int(row[1]), f"{file}, line {i}")
    if not table:
        raise UserError(f"{file}: names no class folder; write FOLDER,LABEL in a line for each")
    return table


def _json_pairs(file: Path) -> list[tuple[str, object]]:
    """Those of the object, names that stand twice included."""
    try:
        value = json.loads("\n".join(_lines(file)), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{file}: not JSON ({one_line(e)}); write an object of folders and labels") from e
    if not isinstance(value, tuple):
        raise UserError(f"{file}: not a JSON object; write {{FOLDER: LABEL, …}}")
    return list(value)


def _put(table: dict[str, int], name: str, label: int, where: str) -> None:
    if table.setdefault(name, label) != label:
        raise UserError(f"{where}: {shortened(name, 80)!r} has two labels, {table[name]} and {label}; keep one")


def _rows(file: Path, lines: Iterable[str]) -> list[list[str]]:
    """Of CSV text, one for each line."""
    try:
        return [next(csv.reader([line], strict=True)) for line in lines]
    except (csv.Error, StopIteration) as e:
        raise UserError(f"{file}: not CSV ({one_line(e)}); mend it") from e


def _lines(file: Path) -> list[str]:
    """Stripped; without empty ones at the end."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as e:
        raise UserError(f"{file}: cannot be read as text ({one_line(e)}); check the path") from e
    return [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
