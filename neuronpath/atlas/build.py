"""The atlas of result folders: static pages and their data, opened from disk (docs/atlas.md).

The folder that is written:

    index.html, *.js, *.css     the page itself, copied from `page`
    data/index.js               the models
    data/m0/…                   of the first: model, similar, class/LABEL, like/LABEL, find/N, unit/LAYER, maps/…
    thumbs/xx/….png or .jpg     small pictures of the images

File names come from numbers and digests only; names of models, classes and images are text inside the data.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..analysis.classes import Classes
from ..analysis.results import Results, objective_found
from ..analysis.similarity import cosines, frequencies
from ..data.images import ImageSet
from ..errors import UserError
from ..figures.classes import cluster
from ..files import writing
from ..records.schema import METHODS
from .datafiles import bucket, packed, readable, write_data
from .gather import Gathered
from .overview import overview
from .thumbnails import Thumbnails
from .units import open_top_images, write_units

PER_FILE = 256  # images whose classes are noted in one file
MADE, BEGINNING = "data/index.js", b'atlas.put("index",'  # what an atlas has, and how it begins


@dataclass(frozen=True)
class Built:
    """What was built: the page, by model what is missing and notes, and how many pictures could not be read."""

    page: Path
    missing: dict[str, list[str]]
    notes: dict[str, list[str]]
    unreadable: int


@dataclass(frozen=True)
class Sources:
    """Where pictures and names come from: `images`, the data set, None where it is not there, and why not."""

    images: ImageSet | None
    reason: str
    names: dict[str, list[str]] = field(default_factory=dict)  # by model, by label
    others: dict[str, str] = field(default_factory=dict)  # why models have no pictures whose data set is another


def build_atlas(
    results: Results, models: list[str], sources: Sources, output: Path, thumbnail_size: int = 160
) -> Built:
    """Write the atlas of `models` to the folder `output`, in the place of one that is there.

    `results`: their records; thumbnails have at most `thumbnail_size` pixels on either side, 0: none are made.
    Memory holds one class at a time, and of all images paths and scores. UserError where `output` is a folder of
    something else, or a record is broken.
    """
    with writing(output, "; choose another --output"):
        data = _begin(output)
        thumbnails = Thumbnails(sources.images, output / "thumbs", thumbnail_size)
        entries, missing, notes = [], {}, {}
        for i, name in enumerate(models):
            model = _Model(Gathered(results, name), f"m{i}", sources, thumbnails, data)
            missing[readable(name)] = model.write()
            notes[readable(name)] = model.notes
            entries.append({"key": model.key, "name": readable(name), "words": model.words})
        write_data(data, "index", {"models": entries})
        _finish(output, data)
        thumbnails.clean()
    return Built(output / "index.html", missing, notes, thumbnails.unreadable)


def _begin(output: Path) -> Path:
    """An empty folder for the data, beside those of an atlas that is there."""
    data, found = output / "data.new", {path.name for path in output.iterdir()} if output.is_dir() else {""}
    killed = data.is_dir() and found <= {"data", data.name, "thumbs", *_page()}
    if output.exists() and found and not _is_atlas(output) and not killed:
        raise UserError(f"{output}: there is something else than an atlas; choose another --output, or empty it")
    if links := [name for name in found & {"data", data.name, "thumbs"} if (output / name).is_symlink()]:
        raise UserError(f"{output / links[0]}: a link; an atlas has folders there; choose another --output")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    return data


def _is_atlas(output: Path) -> bool:
    try:
        with (output / MADE).open("rb") as file:
            return file.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False


def _page() -> dict[str, bytes]:
    """The page's own files by name."""
    return {file.name: file.read_bytes() for file in files(__package__).joinpath("page").iterdir()}


def _finish(output: Path, data: Path) -> None:
    """The page's own files, and the new data in the place of the old."""
    for name, content in _page().items():
        (output / name).write_bytes(content)
    shutil.rmtree(output / "data", ignore_errors=True)
    data.rename(output / "data")


class _Model:
    """Writes the files of one model below `data`/`key`."""

    def __init__(self, gathered: Gathered, key: str, sources: Sources, thumbnails: Thumbnails, data: Path):
        self.gathered, self.key, self.sources, self.thumbnails = gathered, key, sources, thumbnails
        self.put: Callable[[str, Any], None] = lambda name, value: write_data(data, f"{key}/{name}", value)
        self.words, self.notes = "", list[str]()
        self.reason = sources.others.get(gathered.name, sources.reason)
        if gathered.name in sources.others:
            self.thumbnails = thumbnails.none()

    def write(self) -> list[str]:
        """All its files; what is missing, in words."""
        gathered, bar = self.gathered, partial(tqdm, unit="class", disable=None, leave=False)
        for label, shard in bar(gathered.classes(), total=len(gathered.labels), desc=f"classes of {gathered.name}"):
            made = self.thumbnails.of(gathered.images[label])
            self.put(f"class/{label}", {**shard, "thumbs": [made.get(name) for name in gathered.images[label]]})
        files_of_images = self._notes()
        classes = self._classes()
        similar = self._similarity(classes) if classes and len(classes.labels) > 1 else None
        top, reason = open_top_images(gathered)
        shown = overview(
            gathered, self.sources.names.get(gathered.name, []), () if top is None else top.labels.tolist()
        )
        units = write_units(gathered, top, self.thumbnails, self.put)
        self.words, self.notes = shown["words"], shown.pop("faults")
        missing = [
            *gathered.missing(),
            *([reason] if reason else _no_maps(units, gathered)),
            *([self.reason] if self.reason else []),
        ]
        unit = objective_found(gathered.settings, gathered.results.root).unit
        apart = sorted({*gathered.images} - {*(classes.labels if classes else ())})  # compared with no other class
        alike = {"similar": similar, "apart": apart}
        self.put("model", {**shown, **units, **alike, "find": files_of_images, "missing": missing, "unit": unit})
        return missing

    def _notes(self) -> int:
        """The class of every image, spread over as many files as it returns."""
        named = [(readable(name), label) for label, names in self.gathered.images.items() for name in names]
        count = max(1, -(-len(named) // PER_FILE))
        spread: list[list[tuple[str, int]]] = [[] for _ in range(count)]
        for name, label in named:
            spread[bucket(name, count)].append((name, label))
        for i, notes in enumerate(spread):
            self.put(f"find/{i}", notes)
        return count

    def _classes(self) -> Classes | None:
        """The paths that classes are compared by: neuron paths, or those of the first method there is."""
        found = self.gathered.found
        method = "ja" if "ja" in found else next(iter(found), None)
        if method is None or not found[method].paths:
            return None
        return Classes(found[method].paths, {}, self.gathered.mlp_dim, method)

    def _similarity(self, classes: Classes) -> str:
        """like/LABEL: all others, most similar first; similar: all pairs. The noun of what is compared."""
        similarity, labels = cosines(frequencies(classes)), classes.labels
        exact = (similarity * 1e4).round().astype(np.uint16)
        for i, label in enumerate(labels):
            row = similarity[i]
            others = [j for j in (-row).argsort(kind="stable").tolist() if j != i]
            like = {"labels": [labels[j] for j in others], "cosines": exact[i, others].tolist()}
            self.put(f"like/{label}", like)
        order = cluster(similarity)[1]
        rows = exact[order][:, order]
        upper = rows[np.triu_indices(len(rows), 1)]  # row by row
        self.put("similar", {"order": [labels[i] for i in order], "cosines": packed(upper)})
        return f"{METHODS[classes.method].noun}s"


def _no_maps(units: dict[str, Any], gathered: Gathered) -> list[str]:
    if any(units["maps"]):
        return []
    return [f"maps of units: no top_images/{gathered.name}/maps-<layer>.npz (scripts/unit_maps.py makes them)"]
