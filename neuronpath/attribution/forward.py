"""What one plain forward leaves behind, and a block opened before its neurons write."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.staged import StagedModel


@dataclass(frozen=True)
class Plain:
    """What one unperturbed forward of B images leaves behind."""

    logits: Tensor  # (B, C)
    hidden: list[Tensor]  # per layer h̄ at the neuron tokens, (B, N, H)
    written: list[Tensor]  # per layer fc2(h̄), bias included, (B, N, D)
    entry: Tensor  # the stream after block 0 but for what its neurons write: no path changes it


@torch.no_grad()
def plain_forward(model: StagedModel, images: Tensor) -> Plain:
    """One forward of `images` (B, 3, height, width): logits, h̄ of every layer, and where all ramps start."""
    z, neuron = model.embed(images), model.neuron_tokens
    entry, hidden, written = z, [], []
    for layer, block in enumerate(model.blocks):
        a = block.attend(z)
        h = block.hidden(a)
        out = block.project(h)
        hidden.append(h[:, neuron].to(z.dtype, copy=True))
        written.append(out[:, neuron].to(z.dtype, copy=True))
        z = a + out
        if layer == 0:
            entry = model.join(a[:, neuron], z[:, model.other_tokens])
    if len(model.blocks) == 1:
        entry = entry[:, neuron]
    return Plain(model.read(z[:, neuron]), hidden, written, entry)


def open_block(model: StagedModel, z: Tensor, layer: int) -> Tensor:
    """The stream after block `layer` but for what its neurons write, from the stream entering it.

    Of the last block only the neuron tokens are returned, as nothing reads the others.
    """
    block = model.blocks[layer]
    a = block.attend(z, model.queries(layer))
    if model.queries(layer) is not None:
        return a
    other = a[:, model.other_tokens]
    return model.join(a[:, model.neuron_tokens], other + block.project(block.hidden(other)))


def neuron_rows(model: StagedModel, z: Tensor, layer: int) -> Tensor:
    """The neuron tokens, (R, N, D), of the stream `z` of `open_block`: after the last block there are no others."""
    return z if model.queries(layer) is not None else z[:, model.neuron_tokens]


def write(model: StagedModel, z: Tensor, layer: int, out: Tensor) -> Tensor:
    """The stream `z` of `open_block` with `out` (R, N, D), what the neurons of `layer` write, added."""
    if model.queries(layer) is not None:
        return z + out
    return model.join(z[:, model.neuron_tokens] + out, z[:, model.other_tokens])


def resolve_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """`targets` (B,) with the predicted class of `logits` (B, C) in the place of negative ones."""
    return targets.where(targets >= 0, logits.argmax(-1))


def gather_neurons(hidden: Tensor, neurons: Tensor) -> Tensor:
    """The activations (B, N, K) of each image's own `neurons` (B, K) out of `hidden` (B, N, H)."""
    return hidden.gather(2, neurons[:, None].expand(-1, hidden.shape[1], -1))
