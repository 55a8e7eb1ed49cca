"""Labels of images that have none: the classes that the model predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..attribution.rows import default_rows
from ..data.images import ImageSet
from ..data.loading import batches
from ..errors import UserError
from ..files import Item

if TYPE_CHECKING:
    from .run import Inputs


@torch.no_grad()
def predicted(inputs: Inputs) -> tuple[ImageSet, dict[Item, str]]:
    """Images alone with the predicted class as label, and those that cannot be read, with the reason; one forward each.

    Other data sets as they are. UserError for an unreadable image under --on_bad_image fail, and where none is left.
    """
    options, model, source = inputs.options, inputs.model, inputs.source
    if options.dataset != "images":
        return source, {}
    labels, bad = dict[str, int](), dict[Item, str]()
    at_once = min(options.batch_size, options.internal_batch_size or default_rows(model, options.device))
    for batch in batches(source, source.items, inputs.transform, at_once, num_workers=options.num_workers):
        for item, reason in batch.bad:
            inputs.refuse(item, reason)
            bad[item] = reason
        if batch.items:
            classes = model(inputs.on_device(batch.images)).argmax(-1).tolist()
            labels |= {item.image: label for item, label in zip(batch.items, classes, strict=True)}
    if not labels:
        raise UserError(f"--images: none of the {len(bad)} can be read; check the files")
    return source.labelled(labels), bad
