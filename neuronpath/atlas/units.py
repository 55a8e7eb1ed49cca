"""What the page of a unit shows: how often paths use it, and the images that excite it most (top_images.npz)."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import sha256
from ..records.args import Args, args_file
from ..records.top_images import TopImages, read_top_images
from ..records.unit_maps import UnitMaps, maps_file, read_unit_maps
from .datafiles import packed, readable
from .gather import Found, Gathered
from .thumbnails import Thumbnails

FILE = "top_images.npz"
BLOCK = 16  # units whose maps share a file


def top_folder(gathered: Gathered) -> Path:
    return gathered.results.root / "top_images" / gathered.name


def open_top_images(gathered: Gathered) -> tuple[TopImages | None, str]:
    """Those of the model; None and why where there are none. UserError for a file that is broken or another model's."""
    file = top_folder(gathered) / FILE
    if not file.is_file():
        return None, f"top images of units: no top_images/{gathered.name}/{FILE} (scripts/top_images.py makes it)"
    top, args = read_top_images(file), args_file(file.parent, file.stem)
    weights = Args.read(args).settings.get("checkpoint_sha256") if args.is_file() else None
    if weights and gathered.settings.get("checkpoint_sha256", weights) != weights:
        return None, f"top images of units: top_images/{gathered.name}/{FILE} is of other weights than the records"
    shape = (gathered.sizes.depth, gathered.mlp_dim)
    if top.mean.shape != shape:
        raise UserError(
            f"{file}: of {top.mean.shape} layers and units, but the records' model has {shape}; make it anew"
        )
    return top, ""


def write_units(
    gathered: Gathered, top: TopImages | None, thumbnails: Thumbnails, put: Callable[[str, Any], None]
) -> dict[str, Any]:
    """unit/LAYER of every layer; what the page of the model tells of them."""
    blocks, side, whole = [], 0, sha256(top_folder(gathered) / FILE) if top else ""
    shown = {name for names in gathered.images.values() for name in names}
    for layer in range(gathered.sizes.depth):
        uses = {key: _uses(found, layer) for key, found in gathered.found.items() if found.paths}
        counts = {key: [sum(pairs[1::2]) for pairs in of.values()] for key, of in uses.items()}
        more = _excited(top, layer, shown, thumbnails) if top else {}
        put(f"unit/{layer}", {"uses": uses, "counts": counts, **more})
        maps = read_unit_maps(maps_file(top_folder(gathered), layer)) if top else None
        maps = maps if maps and _fits(maps, whole, side, gathered) else None
        blocks.append(_write_maps(maps, layer, put) if maps else [])
        side = maps.map.shape[2] if maps else side
    words = {"cls": "gradient × input", "mean": "the activation"}.get(
        str(gathered.settings.get("model_pool")), "the map"
    )
    return {"topCount": top.count if top else 0, "maps": blocks, "block": BLOCK, "side": side, "mapWords": words}


def _fits(maps: UnitMaps, whole: str, side: int, gathered: Gathered) -> bool:
    """Whether these are of the same top images, units of the model, and on the grid of the layers before."""
    of: Any = None
    with suppress(ValueError):  # nothing of ours: of other images
        of = json.loads(maps.made_of)
    known = not len(maps.unit) or int(maps.unit.max()) < gathered.mlp_dim
    same = isinstance(of, dict) and of.get("top_images") == whole
    return same and known and side in (0, maps.map.shape[2])


def _write_maps(maps: UnitMaps, layer: int, put: Callable[[str, Any], None]) -> list[int]:
    """maps/LAYER/BLOCK of the units that have maps: per top image values from -127 to 127 and what 127 stands for."""
    blocks: dict[int, dict[int, list[dict[str, Any] | None]]] = {}
    for unit, of_images in zip(maps.unit.tolist(), maps.map, strict=True):
        blocks.setdefault(unit // BLOCK, {})[unit] = [_coded(one) for one in of_images]
    for block, units in blocks.items():
        put(f"maps/{layer}/{block}", units)
    return [*blocks]


def _coded(one: np.ndarray) -> dict[str, Any] | None:
    """None where there is no image."""
    if not np.isfinite(one).all():
        return None
    largest = float(np.abs(one).max())
    return {"scale": round(largest, 4), "values": packed((127 * one / (largest or 1)).round().astype(np.int8))}


def _uses(found: Found, layer: int) -> dict[int, list[int]]:
    """By unit of the layer the classes whose images' paths have it, each followed by how many: [label, n, …]."""
    labels = np.repeat([*found.paths], [paths[:, layer].size for paths in found.paths.values()])
    units = np.concatenate([paths[:, layer].ravel() for paths in found.paths.values()])
    pairs, counts = np.unique(np.stack([units, labels]), axis=1, return_counts=True)
    used: dict[int, list[int]] = {}
    for unit, label, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        used.setdefault(unit, []).extend((label, count))
    return used


def _excited(top: TopImages, layer: int, shown: set[str], thumbnails: Thumbnails) -> dict[str, Any]:
    """The layer's part of the file; images are numbered anew, those alone that the layer names."""
    used = np.unique(top.image[layer][top.image[layer] >= 0])
    place = np.full(len(top.images) + 1, -1)  # the last stands for -1
    place[used] = np.arange(len(used))
    names = [top.images[i] for i in used]
    made = thumbnails.of(names)
    values = np.where(top.image[layer] < 0, 0, top.value[layer])
    listed: dict[str, list] = {"image": place[top.image[layer]].tolist(), "value": _rounded(values)}
    if top.token is not None:
        listed["token"] = top.token[layer].tolist()
    return {
        "top": listed,
        "mean": _rounded(top.mean[layer, None])[0],
        "share": _rounded(top.share[layer, None])[0],
        "images": [readable(name) for name in names],
        "labels": top.labels[used].tolist(),
        "thumbs": [made.get(name) for name in names],
        "there": [int(name in shown) for name in names],
    }


def _rounded(rows: np.ndarray) -> list[list[float]]:
    """As the page shows them."""
    return [[round(x, 4) for x in row] for row in rows.tolist()]
