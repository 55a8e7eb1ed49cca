"""Reading record files: ours, one JSON object per image, and the authors' released layout.

A label file `{prefix}-{label}.rlt.jsonl` has one line per image. Ours are joined by the image's relative path; the
released ones carry none and are joined by position, only where the counts match exactly.
"""

import json
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from .errors import UserError, one_line

PATHS = ("ja", "base", "path")
PROBABILITIES = ("prob", "original", "remove", "enhance", "prune")
LABELS = tuple(f"{key}_label" for key in PROBABILITIES[1:])
PER_LAYER = ("margin", "search_rank", "search_scored")
UNFINISHED = ".partial"  # the ending of a label file that replaces an older one and is not yet complete


def label_file(directory: Path, prefix: str, label: int) -> Path:
    return directory / f"{prefix}-{label}.rlt.jsonl"


def label_files(directory: Path, prefix: str) -> dict[int, Path]:
    """The label files that are there, by ascending label."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)\.rlt\.jsonl")
    found = {int(m[1]): p for p in directory.glob("*.rlt.jsonl") if (m := pattern.fullmatch(p.name))}
    return dict(sorted(found.items()))


def read_label(file: Path) -> list[dict]:
    """The records of one label file. UserError naming file and line where one is broken."""
    if file.with_name(file.name + UNFINISHED).exists():
        raise UserError(f"{file}: an --overwrite run of it is unfinished; repeat that command without --overwrite")
    return [record for n, _, value in parse_lines(file) for record in _normalised(value, f"{file}, line {n}")]


def read_results(directory: str | Path, prefix: str = "imgnet_all") -> dict[int, list[dict]]:
    """All records of a results folder by label. UserError where there are none or one is broken."""
    files = label_files(Path(directory), prefix)
    if not files:
        raise UserError(f"{directory}: no records named {prefix}-<label>.rlt.jsonl there; check folder and prefix")
    return {label: read_label(file) for label, file in files.items()}


def join(records: list[dict], images: Sequence[str], where: str) -> dict[str, dict]:
    """A class's records by image. Records without an image, the authors', are joined by position to `images`."""
    if all("image" in record for record in records):
        return {record["image"]: record for record in records}
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
    data = file.read_bytes()
    lines, end = data.splitlines(keepends=True), 0
    for number, line in enumerate(lines, 1):
        end += len(line)
        try:
            if tear and not line.endswith(b"\n"):
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


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _normalised(value: object, where: str) -> list[dict]:
    records = value if isinstance(value, list) else [value]
    if not all(isinstance(record, dict) for record in records):
        raise UserError(f"{where}: neither a record nor a list of records")
    return [record if "image" in record else _released(record) for record in records]


def _released(record: dict) -> dict:
    """A record of the authors' released layout in ours: values unwrapped, paths as L lists, `original` for `base`."""
    ours = {}
    for key, value in record.items():
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        is_path = key in PATHS and isinstance(value, list | int)
        ours[key] = [[i] if isinstance(i, int) else i for i in _as_list(value)] if is_path else value
    if "remove" in ours and "original" not in ours and "base" in ours:
        ours["original"] = ours.pop("base")
        if "base_label" in ours:
            ours["original_label"] = ours.pop("base_label")
    return ours


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def check_record(record: dict, config: ConfigDict, keys: Collection[str]) -> str:
    """What is wrong with one of our records, which has `keys`, for a model of `config`, or ""."""
    if missing := [key for key in keys if key not in record]:
        return f"{missing[0]} is missing"
    for key in ("pred", "label", *(key for key in keys if key in LABELS)):
        if not _is_index(record.get(key), config.num_classes):
            return f"{key} is not one of {config.num_classes} classes"
    for key, value in record.items():
        if key in PATHS and not is_path(value, config):
            return f"{key} is not {config.depth} lists of distinct neurons, each 0 to {config.mlp_dim - 1}"
        if (key.endswith("score") or key in PROBABILITIES) and not isinstance(value, int | float):
            return f"{key} is not a number"
    for key in PER_LAYER:
        if key in keys and not _are_numbers(record[key], config.depth):
            return f"{key} is not {config.depth} numbers"
    if "search_stopped" in keys and not (
        isinstance(record["search_stopped"], list) and len(record["search_stopped"]) == config.depth
    ):
        return f"search_stopped is not {config.depth} words"
    if "nodes" in keys and not _is_index(record["nodes"], 2**31):
        return "nodes is not a whole number"
    return ""


def _are_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(x, int | float) for x in value)


def _is_index(value: object, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def is_path(value: object, config: ConfigDict) -> bool:
    """Whether it is L lists of distinct neurons."""
    return (
        isinstance(value, list)
        and len(value) == config.depth
        and all(isinstance(layer, list) and layer and len(set(map(str, layer))) == len(layer) for layer in value)
        and all(_is_index(neuron, config.mlp_dim) for layer in value for neuron in layer)
    )
