"""The plain search, readable as the definition (docs/method.md §2-3), slow and kept for comparison.

Whole forward per layer, nodes batched, same dtype and kernels as the engine, one autograd call per layer.
`scripts/benchmark.py` times it; the tests check it, like the engine, against a literal oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .choice import choose
from .objectives import Objective, objective_of
from .quadrature import Quadrature


def plain_search(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature,
    k: int = 1,
    *,
    objective: Objective | str = "probability",
) -> dict[str, Tensor]:
    """Paths (B, L, k) `ja` and `base`, their scores (B,) `ja_score` and `base_score`, and `margin` (B, L)."""
    ramps = PlainRamps(model, images, targets, quadrature, activations(model, images), objective_of(objective))
    path: list[Tensor] = []
    margin = []
    for h in ramps.hidden:
        g = ramps.gradients(path, whole_layer=True)
        S = g.S if path else torch.zeros_like(h[..., 0])  # (B, N)
        G = g.G if path else torch.zeros_like(S)
        chosen, m = choose(((S[..., None] + h) * (G[..., None] + g.layer)).sum(1), k)
        path.append(chosen)
        margin.append(m)
    base = [choose(h.sum(1), k)[0] for h in ramps.hidden]
    return {
        "ja": torch.stack(path, 1),
        "base": torch.stack(base, 1),
        "ja_score": ramps.score(path),
        "base_score": ramps.score(base),
        "margin": torch.stack(margin, 1),
    }


@torch.no_grad()
def activations(model: StagedModel, images: Tensor) -> list[Tensor]:
    """h̄ of every layer, (B, N, H)."""
    z, hidden = model.embed(images), list[Tensor]()
    for block in model.blocks:
        a = block.attend(z)
        h = block.hidden(a)
        hidden.append(h[:, model.neuron_tokens].to(z.dtype, copy=True))
        z = a + block.project(h)
    return hidden


@dataclass(frozen=True)
class Gradients:
    """What one backward of all nodes gives."""

    weights: list[Tensor]  # w̄ of the path's neurons, (B, N, k) per layer
    path: list[Tensor]  # Σ_k ω_k ∂F/∂w of the path's neurons, (B, N, k) per layer
    layer: Tensor  # Σ_k ω_k ∂F/∂h of the layer ramped as a whole, (B, N, H); empty without one

    @property
    def S(self) -> Tensor:
        return reduce(torch.add, self.weights).sum(-1)

    @property
    def G(self) -> Tensor:
        return reduce(torch.add, self.path).sum(-1)


@dataclass(frozen=True)
class PlainRamps:
    """B images, their targets (B,) and their h̄ per layer, (B, N, H)."""

    model: StagedModel
    images: Tensor
    targets: Tensor
    quadrature: Quadrature
    hidden: list[Tensor]
    objective: Objective

    def score(self, path: Sequence[Tensor]) -> Tensor:
        """JAS (B,) of `path`, (B, k) per layer."""
        g = self.gradients(path)
        return (g.S * g.G).mean(1)

    def gradients(self, path: Sequence[Tensor], whole_layer: bool = False) -> Gradients:
        """One whole forward and one backward of all nodes.

        Layers of `path` are clamped to h̄ with its neurons scaled by α; with `whole_layer` the next layer is α·h̄.
        """
        steps = self.quadrature.steps
        nodes, weights = (torch.as_tensor(x).to(self.images) for x in (self.quadrature.nodes, self.quadrature.weights))
        alpha = nodes.repeat(len(self.images))[:, None, None]  # rows image by image: (B·m, 1, 1)
        rows = [x.repeat_interleave(steps, 0) for x in self.hidden[: len(path) + 1]]
        index = [p.repeat_interleave(steps, 0)[:, None].expand(-1, rows[0].shape[1], -1) for p in path]
        full = [h.gather(2, i) for h, i in zip(rows, index, strict=False)]
        w = [(alpha * x).requires_grad_() for x in full]
        clamped = [h.scatter(2, i, x) for h, i, x in zip(rows, index, w, strict=False)]
        inputs = w
        if whole_layer:
            ramp = (alpha * rows[len(path)]).requires_grad_()
            clamped, inputs = [*clamped, ramp], [*w, ramp]
        logits = clamped_forward(self.model, self.images.repeat_interleave(steps, 0), clamped)
        F = self.objective(logits, self.targets.repeat_interleave(steps))
        found = [
            torch.einsum("k,bk...->b...", weights, g.unflatten(0, (-1, steps)))
            for g in torch.autograd.grad(F.sum(), inputs)
        ]
        layer = found.pop() if whole_layer else torch.empty(0)
        return Gradients([x[::steps] for x in full], found, layer)


def plain_influence(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    quadrature: Quadrature,
    *,
    objective: Objective | str = "probability",
) -> list[Tensor]:
    """Σ_k ω_k mean_t ∂F/∂h of every layer, (B, H) each (docs/method.md §4): a forward and a backward per layer."""
    steps, influences, objective = quadrature.steps, [], objective_of(objective)
    nodes, weights = (torch.as_tensor(x).to(images) for x in (quadrature.nodes, quadrature.weights))
    scaled = nodes.repeat(len(images))[:, None, None, None] * images.repeat_interleave(steps, 0)
    for layer in range(len(model.blocks)):
        z = overwritten = model.embed(scaled)
        for i, block in enumerate(model.blocks):
            a = block.attend(z)
            h = block.hidden(a)
            if i == layer:
                h = overwritten = h.detach().to(z.dtype).requires_grad_()
            z = a + block.project(h)
        F = objective(model.read(z[:, model.neuron_tokens]), targets.repeat_interleave(steps))
        gradient = torch.autograd.grad(F.sum(), overwritten)[0][:, model.neuron_tokens].mean(1)
        influences.append(torch.einsum("k,bkh->bh", weights, gradient.unflatten(0, (-1, steps))))
    return influences


def clamped_forward(model: StagedModel, images: Tensor, clamped: Sequence[Tensor]) -> Tensor:
    """Logits, with the neuron tokens' activations of the first layers overwritten by `clamped`."""
    z = model.embed(images)
    for layer, block in enumerate(model.blocks):
        a = block.attend(z)
        h = block.hidden(a)
        if layer < len(clamped):
            h = model.join(clamped[layer], h[:, model.other_tokens])
        z = a + block.project(h)
    return model.read(z[:, model.neuron_tokens])
