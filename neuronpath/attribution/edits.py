"""Edits of neurons: what each activation is multiplied by or set to, and the forward in which that happens.

An edit (docs/method.md §5) is a tensor of factors (B, L, H), or (1, L, H) for all images alike: 1 leaves a neuron as it
is. Or it is a `Setting`, which gives units other activations. No clamp: a factor multiplies the activation that arises
in the edited forward, and what is not set is free.

    original, removed, doubled = edit(model, images, None, remove(model, path), enhance(model, path))
    means = mean_activations(model, images)
    original, removed, retained = edit(model, images, None, remove(model, path, means), retain(model, path, means))
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Setting:
    """The edit that sets units to given activations at the neuron tokens.

    `units` (B, l, J): J distinct units in each of the first l ≤ L layers; `values` (B, l, N, J), or (B, l, 1, J) where
    all neuron tokens take the same.
    """

    units: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, group: slice) -> "Setting":
        return Setting(self.units[group], self.values[group])

    def of(self, h: Tensor, layer: int) -> Tensor:
        """The activations `h` (B, N, H) of `layer` with its units set."""
        if layer >= self.units.shape[1]:
            return h
        shape = *h.shape[:2], -1
        return h.scatter(2, self.units[:, layer, None].expand(shape), self.values[:, layer].to(h.dtype).expand(shape))


Edit = Tensor | Setting | None


def remove(model: StagedModel, path: Tensor, means: Tensor | None = None) -> Tensor | Setting:
    """The edit that sets a path's neurons to 0, or to their `means` (L, H), such as `mean_activations`.

    ValueError for a path or means of another shape.
    """
    if means is None:
        return gain(model, path, 0.0)
    check_path(model, len(path), path)
    return _set_to(model, path, means)


def retain(model: StagedModel, path: Tensor, means: Tensor) -> Setting:
    """The edit that leaves a path (B, L, K) alone: all other units are set to their `means` (L, H).

    ValueError for a path or means of another shape.
    """
    check_path(model, len(path), path)
    L, H = model.config.depth, model.config.mlp_dim
    if path.shape[1] < L:
        raise ValueError(f"a path to retain has units of all {L} layers, not of {path.shape[1]}")
    free = torch.ones(len(path), L, H, dtype=torch.bool, device=model.device)
    units = free.scatter_(2, path.to(model.device), False).nonzero()[:, 2]
    return _set_to(model, units.view(len(path), L, -1), means)


def _set_to(model: StagedModel, units: Tensor, means: Tensor) -> Setting:
    shape = model.config.depth, model.config.mlp_dim
    if means.shape != shape:
        raise ValueError(f"means must be (L, H) = {shape}, not {tuple(means.shape)}")
    units, means = units.to(model.device), means.to(model.device, model.dtype)
    values = means[: units.shape[1]].expand(len(units), -1, -1).gather(2, units)
    return Setting(units, values[:, :, None])


def enhance(model: StagedModel, path: Tensor) -> Tensor:
    """The edit that doubles a path's neurons."""
    return gain(model, path, 2.0)


@torch.no_grad()
def edit(
    model: StagedModel,
    images: Tensor,
    *edits: Edit,
    all_tokens: bool = False,
    internal_batch_size: int | None = None,
) -> list[Tensor]:
    """Logits (B, C) of `images` (B, 3, height, width) under each of `edits`; None is the unedited model.

    Edits apply at the neuron tokens, factors with `all_tokens` at every token. All layers are edited in one forward,
    and what precedes the first neurons is shared. An edit whose factors are all 1 changes nothing, bit for bit.
    `internal_batch_size`: most images at once. Cost: one forward per edit. ValueError for a `Setting` at all tokens.
    """
    if all_tokens and any(isinstance(e, Setting) for e in edits):
        raise ValueError("all_tokens is for factors; a Setting has activations of the neuron tokens only")
    rows = internal_batch_size or default_rows(model, images.device)
    parts = []
    for first in range(0, len(images), rows):
        group = slice(first, first + rows)
        a = model.blocks[0].attend(model.embed(images[group]), model.queries(0))
        h = model.blocks[0].hidden(a)
        of_group = [e if e is None or len(e) == 1 else e[group] for e in edits]
        parts.append([_edited(model, a, h, e, all_tokens) for e in of_group])
    return [torch.cat(logits) for logits in zip(*parts, strict=True)]


def _edited(model: StagedModel, a: Tensor, h: Tensor, edit: Edit, all_tokens: bool) -> Tensor:
    """Logits from block 0's stream after attention `a` and its activations `h`."""
    z = a
    for layer, block in enumerate(model.blocks):
        if layer:
            a = block.attend(z, model.queries(layer))
            h = block.hidden(a)
        if edit is not None:
            if all_tokens or model.queries(layer) is not None:  # of the last block there are neuron tokens only
                h = _changed(h, edit, layer)
            else:
                h = model.join(_changed(h[:, model.neuron_tokens], edit, layer), h[:, model.other_tokens])
        z = a + block.project(h)
    return model.read(z)


def _changed(h: Tensor, edit: Tensor | Setting, layer: int) -> Tensor:
    return edit.of(h, layer) if isinstance(edit, Setting) else h * edit[:, layer, None]  # (B or 1, 1, H)
