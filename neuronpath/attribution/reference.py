"""The plain search, readable as the definition (docs/method.md §2-3), slow and kept for comparison.

Whole forward per layer, nodes batched, same dtype and kernels as the engine, one autograd call per layer.
`scripts/benchmark.py` times it; the tests check it, like the engine, against a literal oracle.
"""

import torch
from torch import Tensor

from ..models.vit import VisionTransformer
from .quadrature import Quadrature
from .search import choose


def plain_search(
    model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature, k: int = 1
) -> dict[str, Tensor]:
    """Paths (B, L, k) `ja` and `base`, their scores (B,) `ja_score` and `base_score`, and `margin` (B, L)."""
    hidden = activations(model, images)
    path, margin = [], []
    for h in hidden:
        w, layer, gradients = ramped_gradients(model, images, targets, hidden, path, quadrature, whole_layer=True)
        S = sum(w).sum(-1) if w else torch.zeros_like(h[..., 0])  # (B, N)
        G = sum(gradients).sum(-1) if w else torch.zeros_like(S)
        chosen, m = choose(((S[..., None] + h) * (G[..., None] + layer)).sum(1), k)
        path.append(chosen)
        margin.append(m)
    base = [choose(h.sum(1), k)[0] for h in hidden]
    return {
        "ja": torch.stack(path, 1),
        "base": torch.stack(base, 1),
        "ja_score": plain_score(model, images, targets, hidden, path, quadrature),
        "base_score": plain_score(model, images, targets, hidden, base, quadrature),
        "margin": torch.stack(margin, 1),
    }


def plain_score(model, images, targets, hidden, path, quadrature) -> Tensor:
    """JAS (B,) of `path`, a list of (B, k) per layer."""
    w, _, gradients = ramped_gradients(model, images, targets, hidden, path, quadrature)
    return (sum(w).sum(-1) * sum(gradients).sum(-1)).mean(1)


@torch.no_grad()
def activations(model: VisionTransformer, images: Tensor) -> list[Tensor]:
    """h̄ of every layer, (B, N, H)."""
    z, hidden = model.embed(images), []
    for block in model.blocks:
        a = block.attend(z)
        h = block.hidden(a)
        hidden.append(h[:, model.neuron_tokens].to(z.dtype, copy=True))
        z = a + block.project(h)
    return hidden


def ramped_gradients(model, images, targets, hidden, path, quadrature, whole_layer=False):
    """One whole forward and one backward of all nodes.

    Layers of `path` are clamped to h̄ with its neurons scaled by α; with `whole_layer` the next layer is α·h̄.
    Returns w̄ of the path's neurons, (B, N, k) per layer; Σ_k ω_k ∂F/∂h of the next layer, (B, N, H), or None;
    and Σ_k ω_k ∂F/∂w of the path's neurons, (B, N, k) per layer.
    """
    steps = quadrature.steps
    nodes, weights = (torch.as_tensor(x).to(images) for x in (quadrature.nodes, quadrature.weights))
    alpha = nodes.repeat(len(images))[:, None, None]  # rows image by image: (B·m, 1, 1)
    rows = [x.repeat_interleave(steps, 0) for x in hidden[: len(path) + 1]]
    index = [p.repeat_interleave(steps, 0)[:, None].expand(-1, rows[0].shape[1], -1) for p in path]
    full = [h.gather(2, i) for h, i in zip(rows, index, strict=False)]
    w = [(alpha * x).requires_grad_() for x in full]
    clamped = [h.scatter(2, i, x) for h, i, x in zip(rows, index, w, strict=False)]
    inputs = w
    if whole_layer:
        ramp = (alpha * rows[len(path)]).requires_grad_()
        clamped, inputs = [*clamped, ramp], [*w, ramp]
    logits = clamped_forward(model, images.repeat_interleave(steps, 0), clamped)
    F = logits.softmax(-1).gather(1, targets.repeat_interleave(steps)[:, None])
    gradients = [
        torch.einsum("k,bk...->b...", weights, g.unflatten(0, (-1, steps)))
        for g in torch.autograd.grad(F.sum(), inputs)
    ]
    layer = gradients.pop() if whole_layer else None
    return [x[::steps] for x in full], layer, gradients


def plain_influence(model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature) -> list[Tensor]:
    """Σ_k ω_k mean_t ∂F/∂h of every layer, (B, H) each (docs/method.md §4): a forward and a backward per layer."""
    steps, influences = quadrature.steps, []
    nodes, weights = (torch.as_tensor(x).to(images) for x in (quadrature.nodes, quadrature.weights))
    scaled = nodes.repeat(len(images))[:, None, None, None] * images.repeat_interleave(steps, 0)
    for layer in range(len(model.blocks)):
        z = model.embed(scaled)
        for i, block in enumerate(model.blocks):
            a = block.attend(z)
            h = block.hidden(a)
            if i == layer:
                h = overwritten = h.detach().to(z.dtype).requires_grad_()
            z = a + block.project(h)
        F = model.read(z[:, model.neuron_tokens]).softmax(-1).gather(1, targets.repeat_interleave(steps)[:, None])
        gradient = torch.autograd.grad(F.sum(), overwritten)[0][:, model.neuron_tokens].mean(1)
        influences.append(torch.einsum("k,bkh->bh", weights, gradient.unflatten(0, (-1, steps))))
    return influences


def clamped_forward(model: VisionTransformer, images: Tensor, clamped: list[Tensor]) -> Tensor:
    """Logits, with the neuron tokens' activations of the first layers overwritten by `clamped`."""
    z = model.embed(images)
    for layer, block in enumerate(model.blocks):
        a = block.attend(z)
        h = block.hidden(a)
        if layer < len(clamped):
            h = model.join(clamped[layer], h[:, model.other_tokens])
        z = a + block.project(h)
    return model.read(z[:, model.neuron_tokens])
