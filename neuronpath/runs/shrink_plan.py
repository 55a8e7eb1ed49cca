"""A smaller model from a checkpoint: what calibration images say of its units, which stay, and the file."""

import warnings
from argparse import Namespace
from dataclasses import dataclass

import torch
from tqdm import tqdm

from ..attribution.importance import UnitSums, best_first, kept_count, path_frequency, unit_sums
from ..cli.exits import Report
from ..data.loading import batches
from ..errors import UserError
from ..files import Item, model_name, writing
from ..models.checkpoint import check_place, save
from ..models.shrinking import Folder, shrink
from ..models.staged import StagedModel
from ..models.vit import VisionTransformer
from .edit_plan import read_best, read_paths
from .run import Inputs, open_inputs, open_model
from .shrinking import NEEDING


@dataclass(frozen=True)
class Calibration:
    """What the images say: the sums of those that could be read, and their paths by image, {} where none are asked."""

    sums: UnitSums
    items: list[Item]
    paths: dict[str, list[list[int]]]


def write_shrunk(options: Namespace) -> Report:
    """Write the smaller model; what was done, in a few lines."""
    o = options
    images = o.fold_mean or o.importance in NEEDING
    inputs = open_inputs(o) if images else None
    model = inputs.model if inputs else open_model(o)
    folder = _place(o, model)
    found = calibrate(inputs) if inputs else None
    L, H = model.config.depth, model.config.mlp_dim
    sums, frequency = found.sums if found else None, None
    if found and o.importance == "path":
        paths = torch.tensor([found.paths[item.image] for item in found.items])
        frequency = path_frequency(paths, torch.tensor([item.label for item in found.items]), H)
    kept = best_first(o.importance, model, sums=sums, frequency=frequency, seed=o.seed)[:, : kept_count(o.keep, H)]
    means = sums.means if sums and o.fold_mean else None
    small = shrink(_whole(o, model), kept, means)
    with writing(o.output, "; choose another --output"):
        if folder:
            folder.write(small, kept, means, o.output)
        else:
            assert isinstance(small, VisionTransformer)
            save(small, o.output)
    J, weights = kept.shape[1], [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    lines = [
        f"shrink      {model_name(o)}: {J} of {H} units in each of {L} layers, the first by {o.importance}",
        f"weights     {weights[1]:,} of {weights[0]:,}, {100 * weights[1] / weights[0]:.1f} %",
        *([f"images      {found.sums.images}, to choose by; measure the smaller model on others"] if found else []),
        f"checkpoint  {o.output.resolve()}",
    ]
    return Report("\n".join(lines))


def calibrate(inputs: Inputs) -> Calibration:
    """One forward and backward of all images. UserError where one has no path, or cannot be read, unless skipped."""
    o, model = inputs.options, inputs.model
    items, paths = inputs.items, {}
    if o.importance == "path":
        o.ja_path = o.influence_pattern_path = o.baseline_path = o.paths
        o.objective = "probability"  # of edits and of --importance taylor
        found = read_best(inputs, o.topK) if o.topK else read_paths(inputs, items)
        if found.lacking and o.on_bad_image == "fail":
            raise UserError(next(iter(found.lacking.values())))
        items, paths = [item for item in items if item.image in found.of], found.of
    all_tokens = o.score_tokens == "all" and o.importance != "path"
    sums, read, left = list[UnitSums](), list[Item](), len(inputs.items) - len(items)
    with tqdm(total=len(items), unit="img", desc="calibration", dynamic_ncols=True) as bar:
        for batch in batches(inputs.source, items, inputs.transform, o.batch_size, num_workers=o.num_workers):
            for item, reason in batch.bad:
                inputs.refuse(item, reason)
            left += len(batch.bad)
            if batch.items:
                targets = torch.tensor([item.label for item in batch.items], device=o.device)
                images, rows = inputs.on_device(batch.images), o.internal_batch_size
                sums.append(unit_sums(model, images, targets, all_tokens=all_tokens, internal_batch_size=rows))
                read += batch.items
            bar.update(len(batch.items) + len(batch.bad))
    if not read:
        raise UserError(f"{inputs.source.root}: no image has all that it takes; check --dataset_path and --paths")
    if left:
        warnings.warn(f"{left} images were left out: they cannot be read, or have no path", stacklevel=2)
    total = sum(sums[1:], sums[0])
    if not all(x.isfinite().all() for x in (total.mean, total.size, total.taylor)):
        raise UserError(f"{o.pretrain_weight}: activations or gradients are not finite; use --precision fp64")
    return Calibration(total, read, paths)


def _whole(options: Namespace, model: StagedModel) -> StagedModel:
    """What is cut: the model itself, but in bfloat16 one whose weights are not rounded."""
    if options.dtype != torch.bfloat16:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is assumed has been said
        return open_model(Namespace(**{**vars(options), "dtype": torch.float32}))


def _place(options: Namespace, model: StagedModel) -> Folder | None:
    """What the smaller model is written as: a folder, or None for a file. UserError where it has no place."""
    if isinstance(model, VisionTransformer):
        check_place(model, options.output)
        return None
    return Folder.of(options.pretrain_weight, options.model_type, options.output)
