"""What removal takes from the run's images: their means, made once beside the records, and other images."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..attribution.activations import DRAWS, Others, summed_activations
from ..attribution.sites import NEURONS, Units
from ..data.loading import batches, load_each
from ..errors import UserError, one_line
from ..files import Item, replace_file, writing
from ..records.store import Store
from .run import Inputs, Run, data_and_model

TRIES = 1000  # other images until a readable one, of which a share is unreadable


def settings_of(inputs: Inputs, ablation: str) -> dict[str, str]:
    """What a resumed run must agree with: results depend on all images of the run. Nothing for zero."""
    return {} if ablation == "zero" else {"ablation": ablation, "ablation_images": digest(inputs.chosen)}


def digest(items: Sequence[Item]) -> str:
    """How many images, and which, in words that do not depend on their order."""
    names = b"\0".join(sorted(f"{item.label} ".encode() + os.fsencode(item.image) for item in items))
    return f"{len(items)} images, {hashlib.sha256(names).hexdigest()[:16]}"


def run_means(run: Run, store: Store, units: Units) -> Tensor:
    """Each unit's mean activation over all images of the run, (L, H) in float64; of `units` as `mean_activations`.

    Read from `{prefix}.means.npz` beside the records where that is of this model and these images; else computed, by
    one of the processes that share the folder, and written there. UserError where the file is no file of means, where
    no image can be read, and for means that are not finite.
    """
    inputs = run.plan.inputs
    file = run.directory / f"{inputs.options.output_prefix}.means.npz"
    made_of = {**data_and_model(inputs), "precision": inputs.options.precision, "images": digest(inputs.chosen)}
    made_of |= {} if units is NEURONS else {"units": units.name}
    identity = json.dumps(made_of, sort_keys=True)
    with store.alone():
        means = _read(file, identity)
        if means is None:
            means, count = _compute(run, units)
            content = io.BytesIO()
            np.savez(content, means=means, count=count, made_of=identity)
            with writing(file):
                replace_file(file, content.getvalue())
    depth, width = inputs.model.config.depth, sum(units.widths(inputs.model))
    if means.shape != (depth, width) or not np.isfinite(means).all():
        raise UserError(f"{file}: not the means of this model's {depth} × {width} units; remove it")
    return torch.from_numpy(means)


def _read(file: Path, identity: str) -> np.ndarray | None:
    """None where there are none, or of others."""
    try:
        with np.load(file, allow_pickle=False) as found:
            return np.asarray(found["means"], np.float64) if str(found["made_of"]) == identity else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise UserError(f"{file}: not a file of means ({one_line(e)}); remove it") from e


def _compute(run: Run, units: Units) -> tuple[np.ndarray, int]:
    """The means, and of how many images: those that can be read."""
    inputs, options = run.plan.inputs, run.options
    sums, count = torch.zeros(inputs.model.config.depth, sum(units.widths(inputs.model)), dtype=torch.float64), 0
    with tqdm(
        total=len(inputs.chosen), unit="img", desc="means", dynamic_ncols=True, disable=not options.share.speaks
    ) as bar:
        workers, on_gpu = options.num_workers, options.device.type == "cuda"
        loaded = batches(
            inputs.source,
            inputs.chosen,
            inputs.transform,
            options.batch_size,
            num_workers=workers,
            pin_memory=on_gpu,
        )
        for batch in loaded:
            for item, reason in batch.bad:
                inputs.refuse(item, reason)
            if batch.items:
                images = inputs.on_device(batch.images)
                sums += run.fitting(partial(summed_activations, inputs.model, images, units=units))
            count += len(batch.items)
            bar.update(len(batch.items))
    if not count:
        raise UserError(f"{inputs.source.root}: none of its {len(inputs.chosen)} images can be read; check the files")
    if not sums.isfinite().all():
        raise UserError("--ablation mean: the means are not finite; check the checkpoint, or use --precision fp64")
    return (sums / count).numpy(), count


@dataclass(frozen=True)
class Draw:
    """One other image for each of B images."""

    names: list[str]
    images: Tensor  # (B, 3, S, S)


class Resampling:
    """Other images for the images of a run: DRAWS for each, of other classes.

    UserError where an image of the run has none.
    """

    def __init__(self, inputs: Inputs):
        self.inputs, self.others = inputs, Others((item.label, item.image) for item in inputs.chosen)
        for item in inputs.items:
            if not self.others.count(item.label):
                raise UserError(
                    f"--ablation resample: all images of the run are of class {item.label}, but other images are drawn "
                    "from other classes; give more --labels"
                )

    def draws(self, items: list[Item]) -> list[Draw]:
        """One `Draw` after the other. UserError for an unreadable image, which under skip is drawn anew instead."""
        seed = self.inputs.options.seed
        sequences = [self.others.draw(x.image, x.label, i, seed) for i in range(DRAWS) for x in items]
        drawn = [Item(image, label) for label, image in map(next, sequences)]
        loaded: dict[Item, Tensor | str] = {}
        for _ in range(TRIES):
            wanted = [item for item in dict.fromkeys(drawn) if item not in loaded]
            found = load_each(self.inputs.source, wanted, self.inputs.transform, self.inputs.options.num_workers)
            loaded |= zip(wanted, found, strict=True)
            bad = [i for i, item in enumerate(drawn) if isinstance(loaded[item], str)]
            if not bad:
                break
            for i in bad:
                self.inputs.refuse(drawn[i], str(loaded[drawn[i]]))
                label, image = next(sequences[i])
                drawn[i] = Item(image, label)
        else:
            raise UserError(f"{self.inputs.source.root}: hardly any of the run's images can be read; check the files")
        images = iter([x for item in drawn if isinstance(x := loaded[item], Tensor)])
        names = iter([item.image for item in drawn])
        return [
            Draw([*islice(names, len(items))], self.inputs.on_device(torch.stack([*islice(images, len(items))])))
            for _ in range(DRAWS)
        ]
