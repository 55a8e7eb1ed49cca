"""What lies in a folder of images: class folders, or files alone, each with the label that names or a table tell."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchvision import datasets

from ..errors import UserError
from ..files import Item
from .labels import SYNSET, digest, read_class_map, read_truth, synset_label, synsets

HELD_OUT = ("val", "validation", "valid", "test")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
TABLES = (".parquet", ".arrow")
NAMED = re.compile(r".*_(n\d{8})", re.ASCII | re.DOTALL)  # file names, without ending, that end in a synset
TRUTH = "Kaggle's LOC_val_solution.csv, or the devkit's list of ids with meta.mat or map_clsloc.txt beside it"


@dataclass(frozen=True)
class Found:
    """`classes` by label, `items` class by class; `table`: digest of the table that told the labels, "" without one."""

    classes: list[str]
    items: list[Item]
    table: str = ""


def class_folders(root: Path, mapped: Collection[str] = ()) -> Found:
    """Labels are the places of the class folders' names in alphabetical order. `mapped`: names that are meant.

    UserError for a folder above the data set's, one of archives, and one without images.
    """
    part = next((name for name in HELD_OUT if (root / name).is_dir()), None)
    if part and (root / "train").is_dir() and not {"train", part} <= {*mapped}:
        raise UserError(f"{root}: has train/ and {part}/; did you mean --dataset_path {root / part}?")
    try:
        folder = datasets.ImageFolder(str(root), allow_empty=True)
    except OSError as e:
        fault = f"{root}: no class folders in it; images belong into one folder per class"
        raise UserError(_packed(root) or fault) from e
    items = [Item(Path(p).relative_to(root).as_posix(), label) for p, label in folder.samples]
    if not items:
        fault = f"{root}: no images in its class folders ({', '.join(datasets.folder.IMG_EXTENSIONS)})"
        raise UserError(_packed(root) or fault)
    return Found(folder.classes, items)


def _packed(root: Path) -> str:
    """What to do where archives lie in `root` or its folders, or ""."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    for file in files:
        name = file.name.lower()
        if name.endswith(ARCHIVES):
            how = f"unzip {file.name} -d DIR" if name.endswith(".zip") else f"tar -xf {file.name} -C DIR"
            return f"{file}: an archive, and no images; unpack it (mkdir DIR && {how}) and give --dataset_path DIR"
        if name.endswith(TABLES):
            return (
                f"{file}: a table, and no image files; write each row's image['bytes'] (pandas.read_parquet) into a "
                "file in the folder of its class, and give the folder of these with --dataset_path"
            )
    return ""


def by_synset(root: Path) -> Found:
    """ImageNet, or some classes of it: the class folders are synsets, which tell the labels."""
    found, names = class_folders(root), list(synsets())
    try:
        labels = [synset_label(name, f"{root}: its class folder") for name in found.classes]
    except UserError as e:
        raise UserError(f"{e}; mend its name, say its label with --class_map, or use --dataset imagefolder") from e
    return Found(names, [Item(item.image, labels[item.label]) for item in found.items])


def by_map(root: Path, file: Path, count: int | None = None, names: Sequence[str] = ()) -> Found:
    """`file` tells the labels of the class folders, which are below `count`; None: as many as it takes.

    `names` of the classes by label; those of the folders, or the labels themselves, where there are none.
    """
    table = read_class_map(file)
    found = class_folders(root, table)
    if unknown := [name for name in found.classes if name not in table]:
        raise UserError(f"{file}: says no label of the class folder {unknown[0]!r} in {root}; add it")
    labels = [table[name] for name in found.classes]
    most = max(labels)
    if count is not None and most >= count:
        folder = found.classes[labels.index(most)]
        raise UserError(f"{file}: {folder!r} has label {most}, but the model's classes are 0 to {count - 1}; mend it")
    items = sorted((Item(item.image, labels[item.label]) for item in found.items), key=lambda item: item.label)
    return Found(list(names) or _named(found.classes, labels, count or most + 1), items, digest(table))


def _named(folders: list[str], labels: list[int], count: int) -> list[str]:
    """Names by label: the class folders' that have it, or the label itself."""
    by_label: dict[int, list[str]] = {}
    for name, label in zip(folders, labels, strict=True):
        by_label.setdefault(label, []).append(name)
    return [", ".join(by_label.get(label, [str(label)])) for label in range(count)]


def is_flat(root: Path) -> bool:
    """Whether image files lie in `root` itself, and no folder in it is called as a synset is."""
    names = [path.name for path in root.iterdir() if SYNSET.fullmatch(path.name)]
    return bool(_files(root)) and not any((root / name).is_dir() for name in names)


def flat(root: Path, truth: Path | None) -> Found:
    """ImageNet's images in one folder; `truth` tells their labels, or, None, the synsets that their names end in."""
    table = read_truth(truth) if truth else {}
    items = [Item(name, _flat_label(root, name, truth, table)) for name in _files(root)]
    if not items:
        raise UserError(f"{root}: no images in it; --truth is for a folder of images without class folders")
    items.sort(key=lambda item: item.label)
    return Found(list(synsets()), items, digest(table) if truth else "")


def _flat_label(root: Path, name: str, truth: Path | None, table: dict[str, int]) -> int:
    stem = name.rpartition(".")[0]
    if truth:
        if stem not in table:
            raise UserError(f"{truth}: says nothing of {name} in {root}; give the truth of these images")
        return table[stem]
    match = NAMED.fullmatch(stem)
    if not match:
        raise UserError(
            f"{root / name}: in no class folder, and its name ends in no synset; give --truth FILE: {TRUTH}"
        )
    return synset_label(match[1], str(root / name))


def _files(root: Path) -> list[str]:
    endings = datasets.folder.IMG_EXTENSIONS
    return sorted(path.name for path in root.iterdir() if path.name.lower().endswith(endings) and path.is_file())
