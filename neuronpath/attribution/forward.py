"""What one plain forward leaves behind at the sites of a path, and what is added there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .sites import NEURONS, Site, Units, sublayers


@dataclass(frozen=True)
class Plain:
    """What one unperturbed forward of B images leaves behind at the neuron tokens of the sites of a path."""

    logits: Tensor  # (B, C)
    values: list[Tensor]  # per site what enters its last layer, (B, N, C): of neurons h̄, of heads their outputs
    written: list[Tensor]  # per site what that layer makes of it, bias included, (B, N, D)
    entry: Tensor  # the stream opened at the first site: no path changes it
    sites: Sequence[Site]

    @cached_property
    def hidden(self) -> list[Tensor]:
        """Per site w̄ of all its units, (B, N, units): of neurons h̄. (B, 1, units) where no site tells tokens apart."""
        found = [site.weights(values) for site, values in zip(self.sites, self.values, strict=True)]
        tokens = max(w.shape[1] for w in found)
        return [w.expand(-1, tokens, -1) for w in found]

    def directions(self, layer: int, units: Tensor, images: Tensor | None = None) -> Tensor:
        """What `units` (B, K) of activation 1 write at the site, (B, 1 or N, K, D); with `images` (B,) of these."""
        return self.sites[layer].directions(self.values[layer], units, images)

    def sizes(self, layer: int) -> Tensor:
        """By what the largest unit is told, (B, N, units): of neurons h̄."""
        return self.sites[layer].sizes(self.values[layer])


@torch.no_grad()
def plain_forward(model: StagedModel, images: Tensor, units: Units = NEURONS) -> Plain:
    """One forward of `images` (B, 3, height, width): logits, what is at every site, and where all ramps start."""
    z, neuron, sites = model.embed(images), model.neuron_tokens, units.sites(model)
    entry, kept, written = z, list[Tensor](), list[Tensor]()
    for sublayer in sublayers(model):
        if sublayer not in sites:
            z = sublayer.step(z)
            continue
        values = sublayer.values(z)
        out = sublayer.last(values)
        kept.append(values[:, neuron].to(z.dtype, copy=True))
        written.append(out[:, neuron].to(z.dtype, copy=True))
        before, z = z, z + out
        if len(kept) == 1:
            entry = model.join(before[:, neuron], z[:, model.other_tokens])
    if len(model.blocks) == 1:
        entry = entry[:, neuron]
    return Plain(model.read(z[:, neuron]), kept, written, entry, sites)


def weigh(weights: Tensor, directions: Tensor) -> Tensor:
    """What units write: Σ_k w_k·direction_k, (B, N, D), from (B, 1 or N, K) and (B, 1 or N, K, D)."""
    if directions.shape[1] == 1:
        return weights @ directions[:, 0]
    return (weights[..., None] * directions).sum(2)


def neuron_rows(model: StagedModel, z: Tensor, layer: int) -> Tensor:
    """The neuron tokens, (R, N, D), of the stream `z` opened in block `layer`: of the last there are no others."""
    return z if model.queries(layer) is not None else z[:, model.neuron_tokens]


def write(model: StagedModel, z: Tensor, layer: int, out: Tensor) -> Tensor:
    """The stream `z` opened in block `layer` with `out` (R, N, D), what units write there, added."""
    if model.queries(layer) is not None:
        return z + out
    return model.join(z[:, model.neuron_tokens] + out, z[:, model.other_tokens])


def resolve_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """`targets` (B,) with the predicted class of `logits` (B, C) in the place of negative ones."""
    return targets.where(targets >= 0, logits.argmax(-1))


def gather_neurons(hidden: Tensor, neurons: Tensor) -> Tensor:
    """The activations (B, N, K) of each image's own `neurons` (B, K) out of `hidden` (B, N, H)."""
    return hidden.gather(2, neurons[:, None].expand(-1, hidden.shape[1], -1))
