"""Reading record files: ours, one JSON object per image, and the authors' released layout.

A label file `{prefix}-{label}.rlt.jsonl` has one line per image. Ours are joined by the image's relative path; the
released ones carry none and are joined by position, only where the counts match exactly.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import UserError, one_line
from .schema import PATHS

UNFINISHED = ".partial"  # the ending of a label file that replaces an older one and is not yet complete


def label_file(directory: Path, prefix: str, label: int) -> Path:
    return directory / f"{prefix}-{label}.rlt.jsonl"


def label_files(directory: Path, prefix: str) -> dict[int, Path]:
    """The label files that are there, by ascending label."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)\.rlt\.jsonl")
    found = {int(m[1]): p for p in directory.glob("*.rlt.jsonl") if (m := pattern.fullmatch(p.name))}
    return dict(sorted(found.items()))


def read_label(file: Path) -> list[dict]:
    """The records of one label file. UserError naming file and line where one is broken or its image had one before."""
    return [record for _, record in _numbered(file)]


def read_class(
    file: Path, label: int, images: Sequence[str], check: Callable[[dict], str], *, others: bool = False
) -> dict[str, dict]:
    """The records of one label file by image; `images`: all of this class in the data set, in order.

    `others`: the file may hold records of more images, which are left out. UserError naming file and line for a second
    record of an image, one of another class or of no image, and one that `check` finds fault with.
    """
    numbered, known = list(_numbered(file)), set(images)
    lines, records = [number for number, _ in numbered], [record for _, record in numbered]
    joined = join(records, images, str(file), lines)
    for number, (image, record) in zip(lines, joined.items(), strict=True):
        if image not in known and not others:
            fault = f"no image of label {label} in this data set; give the data set of the records, or remove the line"
        elif record.get("label", label) != label:
            fault = f"its label is not {label}; mend or remove the line"
        else:
            fault = check(record)
        if fault:
            raise UserError(f"{file}, line {number}: {image}: {fault}")
    return {image: record for image, record in joined.items() if image in known}


def _numbered(file: Path) -> Iterator[tuple[int, dict]]:
    """(line number, record) of one label file."""
    if file.with_name(file.name + UNFINISHED).exists():
        raise UserError(f"{file}: an --overwrite run of it is unfinished; repeat that command without --overwrite")
    seen = set()
    for number, _, value in parse_lines(file):
        for record in _normalised(value, f"{file}, line {number}"):
            if "image" in record:
                image = record["image"]
                if not isinstance(image, str) or image in seen:
                    text = isinstance(image, str)
                    fault = f"a second record of {image}" if text else "an image whose name is no text"
                    raise UserError(f"{file}, line {number}: {fault}; mend or remove the line")
                seen.add(image)
            yield number, record


def read_results(directory: str | Path, prefix: str = "imgnet_all") -> dict[int, list[dict]]:
    """All records of a results folder by label. UserError where there are none or one is broken."""
    files = label_files(Path(directory), prefix)
    if not files:
        raise UserError(f"{directory}: no records named {prefix}-<label>.rlt.jsonl there; check folder and prefix")
    return {label: read_label(file) for label, file in files.items()}


def join(records: list[dict], images: Sequence[str], where: str, lines: Sequence[int] | None = None) -> dict[str, dict]:
    """A class's records by image. Records without an image, the authors', are joined by position to `images`.

    `where` they are from, and on which `lines`, is for the UserError where two are of one image, only some name an
    image, or they are not as many as `images`.
    """
    if not records or any("image" in record for record in records):
        joined = {}
        for i, record in enumerate(records):
            image = record.get("image")
            if not isinstance(image, str) or image in joined:
                place = where if lines is None else f"{where}, line {lines[i]}"
                fault = f"a second record of {image}" if isinstance(image, str) else "a record that names no image"
                raise UserError(f"{place}: {fault}; mend or remove the line")
            joined[image] = record
        return joined
    if len(records) != len(images):
        raise UserError(
            f"{where}: its {len(records)} records name no images and cannot be joined by position to the "
            f"{len(images)} images of this class; give the same images"
        )
    warnings.warn(f"{where}: its records name no images; they are joined by position", stacklevel=2)
    return dict(zip(images, records, strict=True))


def parse_lines(file: Path, tear: bool = False) -> Iterator[tuple[int, int, object]]:
    """(line number, offset of the line's end in bytes, JSON value) of every line.

    A broken line is a UserError; with `tear`, a broken or unended last line is left out instead: a run was killed
    while it wrote it.
    """
    try:
        lines, end = file.read_bytes().splitlines(keepends=True), 0
    except OSError as e:
        raise UserError(f"{file}: cannot be read ({one_line(e)})") from e
    for number, line in enumerate(lines, 1):
        end += len(line)
        try:
            if tear and number == len(lines) and not line.endswith(b"\n"):
                return
            value = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as e:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
            if tear and number == len(lines):
                return
            raise UserError(
                f"{file}, line {number}: not a record ({one_line(e)}); mend or remove the line, or start anew with "
                f"--overwrite"
            ) from e
        yield number, end, value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _normalised(value: object, where: str) -> list[dict]:
    values = value if isinstance(value, list) else [value]
    records = [record for record in values if isinstance(record, dict)]
    if len(records) < len(values):
        raise UserError(f"{where}: neither a record nor a list of records")
    return [ours for r in records for ours in ([r] if "image" in r else map(_released, _of_images(r)))]


def _of_images(record: dict) -> list[dict]:
    """One record per image, where a released influence_pattern script put the paths of a batch, in floats, in one."""
    paths = _as_list(record.get("path"))
    lists = all(isinstance(path, list) and path for path in paths)
    if not lists or not any(isinstance(unit, float) for path in paths for unit in path):
        return [record]
    return [
        {key: value[i : i + 1] for key, value in record.items() if _as_list(value) is value} for i in range(len(paths))
    ]


def _released(record: dict) -> dict:
    """A record of the authors' released layout in ours: values unwrapped, paths as L lists, `original` for `base`.

    Numbers of units may be floats, 3.0 for 3.
    """
    ours = {}
    for key, value in record.items():
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        is_path = key in PATHS and (isinstance(value, list) or _unit(value) is not None)
        ours[key] = [[_unit(x)] if _unit(x) is not None else x for x in _as_list(value)] if is_path else value
    if "remove" in ours and "original" not in ours and "base" in ours:
        ours["original"] = ours.pop("base")
        if "base_label" in ours:
            ours["original_label"] = ours.pop("base_label")
    return ours


def _unit(value: object) -> int | None:
    """The index that a number, 3 or 3.0, stands for; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]
