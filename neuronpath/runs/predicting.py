"""Labels of images that have none: the classes that the model predicts."""

from argparse import Namespace

import torch

from ..attribution.rows import default_rows
from ..data.images import ImageSet
from ..data.loading import batches
from ..data.preprocessing import preprocessing
from ..errors import UserError
from ..files import Item
from ..models.staged import StagedModel


@torch.no_grad()
def predicted(source: ImageSet, model: StagedModel, options: Namespace) -> tuple[ImageSet, dict[Item, str]]:
    """Images alone with the predicted class as label, and those that cannot be read, with the reason; one forward each.

    Other data sets as they are. UserError for an unreadable image under --on_bad_image fail, and where none is left.
    """
    if options.dataset != "images":
        return source, {}
    transform = preprocessing(options.preprocess, model.config, options.dataset, model.native)
    labels, bad = dict[str, int](), dict[Item, str]()
    at_once = min(options.batch_size, options.internal_batch_size or default_rows(model, options.device))
    for batch in batches(source, source.items, transform, at_once, num_workers=options.num_workers):
        for item, reason in batch.bad:
            if options.on_bad_image == "fail":
                advice = "replace it or use --on_bad_image skip"
                raise UserError(f"{source.root / item.image}: cannot be read ({reason}); {advice}")
            bad[item] = reason
        if batch.items:
            classes = model(batch.images.to(options.device, model.dtype)).argmax(-1).tolist()
            labels |= {item.image: label for item, label in zip(batch.items, classes, strict=True)}
    if not labels:
        raise UserError(f"--images: none of the {len(bad)} can be read; check the files")
    return source.labelled(labels), bad
