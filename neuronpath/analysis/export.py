"""Images of classes as files to look at."""

import shutil
from argparse import Namespace
from pathlib import Path

from tqdm import tqdm

from ..data.images import DECODING_ERRORS, ImageSet
from ..data.names import safe_name
from ..errors import UserError, one_line
from ..files import Item, writing
from .classes import Classes, open_recorded


def export_classes(options: Namespace, classes: Classes) -> list[tuple[Path, int]]:
    """Copy the first `options.count` images of each class to `options.output_dir`/<label>_<name>/; folders and counts.

    All images where the count is None, whether they have a record or not. UserError for a folder within the data set.
    """
    source = open_recorded(options, classes, len(classes.names) or max(classes.labels) + 1)
    root, written = source.root.resolve(), []
    if options.dataset != "images" and options.output_dir.resolve().is_relative_to(root):
        raise UserError(f"{options.output_dir}: within the data set, where it would become a class; choose another")
    items = source.select(classes.labels, options.count)
    names = dict(enumerate(options.class_names or source.classes))
    for label in tqdm(classes.labels, desc="images", unit="class", disable=None, leave=False):
        folder = options.output_dir / f"{label}_{safe_name(names[label])}"
        with writing(folder):
            written.append((folder, export_images(source, [item for item in items if item.label == label], folder)))
    return written


def export_images(source: ImageSet, items: list[Item], folder: Path) -> int:
    """Copy `items` to `folder` and count them: files as they are, once they decode as images; arrays as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise UserError(f"{folder}: leads elsewhere; remove it or choose another --output_dir")
    taken: set[str] = set()
    for item in items:
        path = Path(item.image)
        stem, ending, again = safe_name(path.stem), path.suffix if source.arrays is None else ".png", 0
        name = f"{stem}{ending}"
        while name in taken:
            name = f"{stem}-{(again := again + 1)}{ending}"
        taken.add(name)
        _export(source, item, folder / name)
    return len(taken)


def _export(source: ImageSet, item: Item, target: Path) -> None:
    try:
        with source.open(item) as image:
            image.load()
    except DECODING_ERRORS as e:
        raise UserError(f"{source.root / item.image}: cannot be read ({one_line(e)}); remove it or replace it") from e
    target.unlink(missing_ok=True)  # never through a link that stands there
    if source.arrays is None:
        shutil.copyfile(source.root / item.image, target)
    else:
        image.save(target)
