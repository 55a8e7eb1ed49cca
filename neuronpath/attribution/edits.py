"""Edits of neurons: what each activation is multiplied by, and the forward in which that happens (docs/method.md §5).

An edit is a tensor of factors (B, L, H), or (1, L, H) for all images alike: 1 leaves a neuron as it is. No clamp:
a factor multiplies the activation that arises in the edited forward.

    original, removed, doubled = edit(model, images, None, remove(model, path), enhance(model, path))
"""

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .rows import default_rows
from .score import check_path


def gain(model: StagedModel, path: Tensor, factor: float) -> Tensor:
    """The edit (B, L, H) that multiplies a path's neurons by `factor`.

    path (B, l, K): K neurons in each of the first l ≤ L layers. ValueError for a path of another shape.
    """
    check_path(model, len(path), path)
    shape = len(path), model.config.depth, model.config.mlp_dim
    return torch.ones(shape, dtype=model.dtype, device=model.device).scatter(2, path.to(model.device), factor)


def remove(model: StagedModel, path: Tensor) -> Tensor:
    """The edit that sets a path's neurons to 0."""
    return gain(model, path, 0.0)


def enhance(model: StagedModel, path: Tensor) -> Tensor:
    """The edit that doubles a path's neurons."""
    return gain(model, path, 2.0)


@torch.no_grad()
def edit(
    model: StagedModel,
    images: Tensor,
    *edits: Tensor | None,
    all_tokens: bool = False,
    internal_batch_size: int | None = None,
) -> list[Tensor]:
    """Logits (B, C) of `images` (B, 3, height, width) under each of `edits`; None is the unedited model.

    Edits apply at the neuron tokens, with `all_tokens` at every token. All layers are edited in one forward, and what
    precedes the first neurons is shared. An edit whose factors are all 1 changes nothing, bit for bit.
    `internal_batch_size`: most images at once. Cost: one forward per edit.
    """
    rows = internal_batch_size or default_rows(model, images.device)
    parts = []
    for first in range(0, len(images), rows):
        group = slice(first, first + rows)
        a = model.blocks[0].attend(model.embed(images[group]), model.queries(0))
        h = model.blocks[0].hidden(a)
        factors = [f if f is None or len(f) == 1 else f[group] for f in edits]
        parts.append([_edited(model, a, h, f, all_tokens) for f in factors])
    return [torch.cat(logits) for logits in zip(*parts, strict=True)]


def _edited(model: StagedModel, a: Tensor, h: Tensor, factors: Tensor | None, all_tokens: bool) -> Tensor:
    """Logits from block 0's stream after attention `a` and its activations `h`."""
    z = a
    for layer, block in enumerate(model.blocks):
        if layer:
            a = block.attend(z, model.queries(layer))
            h = block.hidden(a)
        if factors is not None:
            f = factors[:, layer, None]  # (B or 1, 1, H)
            if all_tokens or model.queries(layer) is not None:  # of the last block there are neuron tokens only
                h = h * f
            else:
                h = model.join(h[:, model.neuron_tokens] * f, h[:, model.other_tokens])
        z = a + block.project(h)
    return model.read(z)
