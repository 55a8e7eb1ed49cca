"""Maps of units over the patches of their top images (docs/method.md §6), for the atlas; layer by layer, resumable."""

import hashlib
import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..attribution.maps import PatchGrid, patch_grid, unit_maps
from ..cli.exits import DONE, SKIPPED, Report
from ..data.loading import batches
from ..errors import UserError
from ..files import model_name, sha256, writing
from ..records.args import Args, args_file, differences
from ..records.reading import label_files, read_label
from ..records.schema import METHODS, is_path
from ..records.top_images import TOP, TopImages, read_top_images
from ..records.unit_maps import UnitMaps, maps_file, read_unit_maps, write_unit_maps
from .run import Inputs, data_and_model, open_inputs

PREFIX = "top_images"


def write_maps(options: Namespace) -> Report:
    """The maps of every layer that lacks them, in files beside `options.top_images`.

    UserError where the top images are of another model or other data, and where the patches are no grid.
    """
    file: Path = options.top_images or options.results / PREFIX / model_name(options) / f"{PREFIX}.npz"
    top = read_top_images(file)
    inputs = open_inputs(options)
    _check(inputs, file)
    grid = patch_grid(inputs.model)  # told before images are read
    depth = inputs.model.config.depth
    if options.layers and max(options.layers) >= depth:
        raise UserError(f"--layers: the model has no layer {max(options.layers)}; its layers are 0 to {depth - 1}")
    layers = options.share.of([*range(depth)] if options.layers is None else options.layers)
    units, whole, written, unread = _units(options, inputs, top), sha256(file), 0, set[str]()
    for layer in tqdm(
        layers, desc="maps", unit="layer", dynamic_ncols=True, disable=None if options.share.speaks else True
    ):
        target, chosen = maps_file(file.parent, layer), units[layer]
        digest = hashlib.sha256(chosen.tobytes()).hexdigest()
        made_of = json.dumps({"top_images": whole, "units": digest, "precision": options.precision})
        there = None if options.overwrite else read_unit_maps(target)
        if there is None or there.made_of != made_of:
            maps, bad = _layer(inputs, top, layer, chosen, grid)
            unread |= bad
            made = json.dumps({**json.loads(made_of), "unread": sorted(bad)}) if bad else made_of  # then made anew
            with writing(target, ""):
                write_unit_maps(target, UnitMaps(chosen, maps, made))
            written += 1
    count = sum(len(units[layer]) for layer in layers)
    resumed = f", {len(layers) - written} of them were there" if written < len(layers) else ""
    lines = [f"maps        of {count} units in {len(layers)} layers{resumed}"]
    lines.append(f"files       {maps_file(file.parent, 0)} …")
    if unread:
        lines.append(f"skipped     {len(unread)} images that cannot be read: {', '.join(sorted(unread)[:3])}")
    return Report("\n".join(lines) if options.share.speaks else "", SKIPPED if unread else DONE)


def _check(inputs: Inputs, file: Path) -> None:
    """UserError where model or data differ from those of the top images."""
    args = Args.read(args_file(file.parent, file.stem))
    own = data_and_model(inputs)
    if text := differences(args.settings, own, own):
        raise UserError(f"{file}: made with other settings ({text}); give the same model and data, or make it anew")


def _units(options: Namespace, inputs: Inputs, top: TopImages) -> list[np.ndarray]:
    """Per layer the units to map, ascending int32: all, or those of the paths in the records of the model."""
    config = inputs.model.config
    if top.mean.shape != (config.depth, config.mlp_dim):
        raise UserError(
            f"top images of {top.mean.shape} layers and units, but the model has {config.depth}, {config.mlp_dim}"
        )
    if options.units == "all":
        return [np.arange(config.mlp_dim, dtype=np.int32)] * config.depth
    found: list[set[int]] = [set() for _ in range(config.depth)]
    for folder, key in {
        (options.results / m.job / model_name(options), m.path) for m in METHODS.values() if m.units == "neurons"
    }:
        for record in _records(folder, options.input_prefix):
            if key not in record:
                continue
            path = record[key]
            if not isinstance(path, list) or not is_path(path, config):
                raise UserError(
                    f"{folder}: a record whose {key} is no path of this model; give the model of the records"
                )
            for units, layer in zip(found, path, strict=True):
                units.update(layer)
    if not found[0]:
        advice = "give --results and --input_prefix, or --units all"
        raise UserError(f"{options.results}: no paths of {model_name(options)} in <job>/<model>; {advice}")
    return [np.array(sorted(units), np.int32) for units in found]


def _records(folder: Path, prefix: str) -> Iterator[dict]:
    for file in label_files(folder, prefix).values():
        yield from read_label(file)


def _layer(
    inputs: Inputs, top: TopImages, layer: int, units: np.ndarray, grid: PatchGrid
) -> tuple[np.ndarray, set[str]]:
    """(n, TOP, side, side) float32 of `units` (n,), NaN where there is no image; and images that cannot be read."""
    options, known = inputs.options, {item.image: item for item in inputs.source.items}
    places = top.image[layer][units]  # (n, TOP)
    maps = np.full((len(units), TOP, grid.side, grid.side), np.nan, np.float32)
    names = [top.images[i] for i in np.unique(places[places >= 0])]
    if lacking := [name for name in names if name not in known]:
        raise UserError(
            f"{inputs.source.root}: no image {lacking[0]}, which is among the top images; give their data set"
        )
    index = {name: i for i, name in enumerate(top.images)}
    items, workers, bad = [known[name] for name in names], options.num_workers, set[str]()
    for batch in batches(inputs.source, items, inputs.transform, options.batch_size, num_workers=workers):
        for item, reason in batch.bad:
            inputs.refuse(item, reason)
            bad.add(item.image)
        if not batch.items:
            continue
        at = {index[item.image]: b for b, item in enumerate(batch.items)}
        where = np.argwhere(np.isin(places, [*at]))  # (P, 2): unit, rank
        asked = [(at[int(places[i, k])], layer, int(units[i])) for i, k in where]
        found = unit_maps(
            inputs.model,
            inputs.on_device(batch.images),
            asked,
            grid=grid,
            internal_batch_size=options.internal_batch_size,
        )
        maps[where[:, 0], where[:, 1]] = found.to("cpu", torch.float32).numpy()
    return maps, bad
