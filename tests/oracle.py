"""The definitions, literally: one image, one node, one clamped forward and plain autograd at a time, float64.

Independent of the package: its own ViT from the state dict, its own quadrature, nested loops. docs/method.md §1-5.
"""

import math
from types import SimpleNamespace

import numpy as np
import torch

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu-tanh": lambda x: x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick-gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
}


def nodes_and_weights(rule: str | list[tuple[float, float]], m: int) -> list[tuple[float, float]]:
    """Of a rule by its name, or `rule` itself where it is nodes and weights already."""
    if isinstance(rule, list):
        return rule
    if rule == "gauss-legendre":
        x, w = np.polynomial.legendre.leggauss(m)
        return [((a + 1) / 2, b / 2) for a, b in zip(x.tolist(), w.tolist(), strict=True)]
    if rule == "gauss-radau":
        P = np.polynomial.Legendre
        xi = sorted((P.basis(m - 1) + P.basis(m)).roots().real)
        moments = [(1 - (-1) ** (d + 1)) / (d + 1) for d in range(m)]  # ∫ ξ^d over [-1, 1]
        weights = np.linalg.solve(np.vander(xi, m, increasing=True).T, moments)
        return [(1.0 if k == 0 else 1 - (1 + x) / 2, w / 2) for k, (x, w) in enumerate(zip(xi, weights, strict=True))]
    offset = {"right": 1.0, "left": 0.0, "midpoint": 0.5}[rule]
    return [((k + offset) / m, 1 / m) for k in range(m)]


OBJECTIVES = {
    "probability": lambda x: x.exp() / x.exp().sum(),
    "logit": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
}


def forward(model, image, overwrite=(), factors=None, all_tokens=False, objective="probability", units=(), gates=None):
    """F of every class (C,) and per layer the neuron-token activations (N, H) of one image (3, S, S).

    `overwrite`: activations (N, H) for the neuron tokens, of the first layers or, as a dict, of any layers.
    `factors` (L, H): what the activations that arise are multiplied by, at the neuron tokens or at all.
    `units`: by (layer, unit) the activations (N,) that it is set to, where the rest is as it arises.
    `gates`: of a layer and what each head writes at the neuron tokens, (heads, N, D), what they write instead.
    `model`: of the package, or a `Hooked` one.
    """
    if isinstance(model, Hooked):
        return model.forward(image, overwrite, factors, all_tokens, objective, units, gates)
    overwrite = overwrite if isinstance(overwrite, dict) else dict(enumerate(overwrite))
    s, c = model.state_dict(), model.config
    heads, size = c.num_heads, c.width // c.num_heads

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * s[f"{name}.weight"] + s[f"{name}.bias"]
        )

    def affine(x, name):
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    p, side = c.patch_size, c.img_size // c.patch_size
    patches = [image[:, i * p : i * p + p, j * p : j * p + p].reshape(-1) for i in range(side) for j in range(side)]
    kernel = s["patch_embed.proj.weight"].reshape(c.width, -1)
    before = [s["cls_token"][0]] + ([s["reg_token"][0]] if c.registers else [])
    z = torch.cat([*before, torch.stack(patches) @ kernel.T + s["patch_embed.proj.bias"]]) + s["pos_embed"][0]
    first, last = (0, 1) if c.pool == "cls" else (1 + c.registers, len(z))
    hidden = []
    for layer in range(c.depth):
        name = f"blocks.{layer}"
        q, k, v = affine(norm(z, f"{name}.norm1"), f"{name}.attn.qkv").split(c.width, -1)
        out = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            attention = (q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(-1)
            out.append(attention @ v[:, part])
        written = affine(torch.cat(out, -1), f"{name}.attn.proj")
        if gates is not None:
            columns = s[f"{name}.attn.proj.weight"].split(size, 1)
            each = torch.stack([o @ w.T for o, w in zip(out, columns, strict=True)])  # (heads, T, D)
            here = gates(layer, each[:, first:last]).sum(0) + s[f"{name}.attn.proj.bias"]
            written = torch.cat([written[:first], here, written[last:]])
        a = z + written
        x = affine(norm(a, f"{name}.norm2"), f"{name}.mlp.fc1")
        h = ACTIVATIONS[c.activation](x)
        hidden.append(h[first:last])
        if layer in overwrite:
            h = torch.cat([h[:first], overwrite[layer], h[last:]])
        if factors is not None:
            h = h.clone()
            for token in range(len(h)) if all_tokens else range(first, last):
                h[token] = h[token] * factors[layer]
        for place in units:
            if place[0] == layer:
                h = h.clone()
                for token in range(first, last):
                    h[token, place[1]] = units[place][token - first]
        z = a + affine(h, f"{name}.mlp.fc2")
    if c.pool == "cls":
        pooled = norm(z[0], "norm")
    elif c.norm_first:
        pooled = norm(z[first:], "norm").mean(0)
    else:
        pooled = norm(z[first:].mean(0), "fc_norm")
    return OBJECTIVES[objective](affine(pooled, "head")), hidden


class Hooked:
    """An untouched module of another library, its neurons told and overwritten by hooks.

    `lasts`: of each layer the linear layer that the neurons enter. `tokens`: the neuron tokens' indices. `logits`: of
    what the module returns. `projections`: of each layer the linear layer that `num_heads` heads enter.
    """

    def __init__(self, module, lasts, tokens, logits=lambda output: output, projections=(), num_heads=0):
        self.module, self.lasts, self.tokens, self.logits = module, lasts, torch.as_tensor(tokens), logits
        self.projections = projections
        self.config = SimpleNamespace(depth=len(lasts), mlp_dim=lasts[0].in_features, num_heads=num_heads)

    def forward(self, image, overwrite, factors, all_tokens, objective, units, gates):
        overwrite = overwrite if isinstance(overwrite, dict) else dict(enumerate(overwrite))
        hidden = []

        def enter(layer):
            def hook(module, given):
                h = given[0]
                hidden.append(h[0, self.tokens])
                if layer in overwrite:
                    h = h.index_copy(1, self.tokens, overwrite[layer][None])
                if factors is not None:
                    h = h.clone()
                    for token in range(h.shape[1]) if all_tokens else self.tokens.tolist():
                        h[0, token] = h[0, token] * factors[layer]
                for place in units:
                    if place[0] == layer:
                        h = h.clone()
                        for i, token in enumerate(self.tokens.tolist()):
                            h[0, token, place[1]] = units[place][i]
                return (h,)

            return hook

        def leave(layer):
            """Of the last linear layer of attention; what follows it is linear and the same for all heads."""

            def hook(module, given, output):
                size = module.in_features // self.config.num_heads
                parts, columns = given[0][0, self.tokens].split(size, -1), module.weight.split(size, 1)
                each = torch.stack([o @ w.T for o, w in zip(parts, columns, strict=True)])  # (heads, N, D)
                here = gates(layer, each).sum(0) + (0 if module.bias is None else module.bias)
                return output.index_copy(1, self.tokens, here[None])

            return hook

        hooks = [last.register_forward_pre_hook(enter(layer)) for layer, last in enumerate(self.lasts)]
        if gates is not None:
            hooks += [proj.register_forward_hook(leave(layer)) for layer, proj in enumerate(self.projections)]
        try:
            logits = self.logits(self.module(image[None]))
        finally:
            for hook in hooks:
                hook.remove()
        return OBJECTIVES[objective](logits[0]), hidden


def edited(model, image, factors, all_tokens=False, objective="probability"):
    """F of every class (C,) in the forward in which the activations of layer l are multiplied by `factors` (L, H)."""
    return forward(model, image, factors=factors, all_tokens=all_tokens, objective=objective)[0]


def ablated(model, image, values, objective="probability"):
    """F of every class (C,) in the forward in which units are set: `values` by (layer, unit), one per neuron token."""
    return forward(model, image, objective=objective, units=values)[0]


def means(model, images):
    """Per layer and unit the mean activation over all images and neuron tokens, (L, H)."""
    found = torch.zeros(model.config.depth, model.config.mlp_dim, dtype=torch.float64)
    for image in images:
        for layer, h in enumerate(forward(model, image)[1]):
            for unit in range(h.shape[1]):
                found[layer, unit] += sum(h[:, unit].tolist()) / len(h) / len(images)
    return found


def at_means(path, means, tokens):
    """By (layer, unit) of the path its mean, at each of so many tokens."""
    return {(layer, n): [means[layer, n].item()] * tokens for layer, neurons in enumerate(path) for n in neurons}


def all_but(path, means, tokens):
    """By (layer, unit) of all units but the path's their means."""
    units = [[n for n in range(means.shape[1]) if n not in neurons] for neurons in path]
    return at_means(units, means, tokens)


def of_other(model, path, other):
    """By (layer, unit) of the path its activations (N,) in another image."""
    hidden = forward(model, other)[1]
    return {(layer, n): hidden[layer][:, n].tolist() for layer, neurons in enumerate(path) for n in neurons}


def path_factors(model, path, factor):
    """(L, H): `factor` at the path's neurons (lists of K, of the first layers), 1 elsewhere."""
    factors = torch.ones(model.config.depth, model.config.mlp_dim, dtype=torch.float64)
    for layer, neurons in enumerate(path):
        for neuron in neurons:
            factors[layer, neuron] = factor
    return factors


def ramp(hidden, path, alpha):
    """h̄ of the path's layers with its neurons scaled by α, as leaves."""
    clamped = []
    for h, neurons in zip(hidden, path, strict=False):
        h = h.clone()
        h[:, neurons] *= alpha
        clamped.append(h.requires_grad_())
    return clamped


def jas(model, image, target, path, *, rule, m, objective="probability", hidden=None) -> float:
    """`hidden`: of a plain forward of the image, where it is known."""
    hidden = hidden or [h.detach() for h in forward(model, image)[1]]
    N = len(hidden[0])
    S, G = torch.zeros(N).double(), torch.zeros(N).double()
    for h, neurons in zip(hidden, path, strict=False):
        for n in neurons:
            S += h[:, n]
    for alpha, weight in nodes_and_weights(rule, m):
        clamped = ramp(hidden, path, alpha)
        F = forward(model, image, clamped, objective=objective)[0][target]
        for gradient, neurons in zip(torch.autograd.grad(F, clamped), path, strict=True):
            for n in neurons:
                G += weight * gradient[:, n]
    return (S * G).sum().item() / N


def layer_scores(model, image, target, path, *, rule, m, objective="probability") -> list[float]:
    """Of each neuron of the layer after `path`, the whole layer ramped at once."""
    hidden = [h.detach() for h in forward(model, image)[1]]
    N, H = hidden[0].shape
    layer = len(path)
    S, G, g = torch.zeros(N).double(), torch.zeros(N).double(), torch.zeros(N, H).double()
    for h, neurons in zip(hidden, path, strict=False):
        for n in neurons:
            S += h[:, n]
    for alpha, weight in nodes_and_weights(rule, m):
        clamped = [*ramp(hidden, path, alpha), (alpha * hidden[layer]).requires_grad_()]
        F = forward(model, image, clamped, objective=objective)[0][target]
        *earlier, current = torch.autograd.grad(F, clamped)
        for gradient, neurons in zip(earlier, path, strict=True):
            for n in neurons:
                G += weight * gradient[:, n]
        g += weight * current
    return [((S + hidden[layer][:, j]) * (G + g[:, j])).sum().item() for j in range(H)]


def search(model, image, target, *, rule, m, K, objective="probability"):
    """Algorithm 1 as released: the path (L lists of K) and the margins."""
    path, margins = [], []
    for _ in range(model.config.depth):
        scores = layer_scores(model, image, target, path, rule=rule, m=m, objective=objective)
        H = len(scores)
        order = sorted(range(H), key=lambda j: -scores[j])  # stable: ties by lowest index
        path.append(order[:K])
        largest = max(map(abs, scores))
        gap = scores[order[K - 1]] - scores[order[K]] if K < H else largest
        margins.append(gap / largest if largest else 0.0)
    return path, margins


def exact_scores(model, image, target, path, *, rule, m, objective="probability") -> list[float]:
    """Of each neuron j of the layer after `path`: the score of both, j alone of its layer ramped with the path."""
    hidden = [h.detach() for h in forward(model, image)[1]]
    (N, H), defined = hidden[0].shape, {"rule": rule, "m": m, "objective": objective, "hidden": hidden}
    return [N * jas(model, image, target, [*path, [j]], **defined) for j in range(H)]


def exact_search(model, image, target, *, rule, m, K, objective="probability"):
    """Algorithm 1, every candidate alone: the path (L lists of K), the margins, and every layer's scores."""
    path, margins, all_scores = [], [], []
    for _ in range(model.config.depth):
        scores = exact_scores(model, image, target, path, rule=rule, m=m, objective=objective)
        order = sorted(range(len(scores)), key=lambda j: -scores[j])  # stable: ties by lowest index
        path.append(order[:K])
        largest = max(map(abs, scores))
        margins.append((scores[order[K - 1]] - scores[order[K]]) / largest if len(scores) > K else 1.0)
        all_scores.append(scores)
    return path, margins, all_scores


def beam_search(model, image, target, width, scores_of, *, rule, m, objective="probability"):
    """Per layer the `width` best pairs of path and neuron by `scores_of`, `layer_scores` or `exact_scores`.

    The best finished path by its JAS, its margins, that JAS, and the least gap on which anything depended.
    """
    defined = {"rule": rule, "m": m, "objective": objective}
    beam, least = [([], [])], math.inf  # (path, margins)
    for _ in range(model.config.depth):
        pairs = []
        for place, (path, margins) in enumerate(beam):
            scores = scores_of(model, image, target, path, **defined)
            for j, score in enumerate(scores):
                others = [other for i, other in enumerate(scores) if i != j]
                margin = (score - max(others)) / max(map(abs, scores))
                pairs.append((-score, place, j, [*path, [j]], [*margins, margin]))
        pairs.sort(key=lambda pair: pair[:3])
        if len(pairs) > width:
            least = min(least, pairs[width][0] - pairs[width - 1][0])
        beam = [pair[3:] for pair in pairs[:width]]
    finished = sorted((-jas(model, image, target, path, **defined), place) for place, (path, _) in enumerate(beam))
    if len(finished) > 1:
        least = min(least, finished[1][0] - finished[0][0])
    path, margins = beam[finished[0][1]]
    return path, margins, -finished[0][0], least


def influence(model, image, target, rule, m, objective="probability"):
    """Per layer Σ_k ω_k mean_t ∂F/∂h_j[t], (H,), by overwriting one layer at a time with its own activations."""
    influences = []
    nodes = [(alpha, weight, forward(model, alpha * image)[1]) for alpha, weight in nodes_and_weights(rule, m)]
    for layer in range(model.config.depth):
        total = 0
        for alpha, weight, hidden in nodes:
            h = hidden[layer].detach().requires_grad_()
            F = forward(model, alpha * image, {layer: h}, objective=objective)[0][target]
            total = total + weight * torch.autograd.grad(F, h)[0].mean(0)
        influences.append(total)
    return influences


def gradient_activation(model, image, target, objective="probability") -> list[list[float]]:
    """Per layer the H scores Σ_t h̄_j[t]·∂F/∂h_j[t]."""
    scores, hidden = [], forward(model, image)[1]
    for layer in range(model.config.depth):
        h = hidden[layer].detach().requires_grad_()
        F = forward(model, image, {layer: h}, objective=objective)[0][target]
        (gradient,) = torch.autograd.grad(F, h)
        N, H = h.shape
        scores.append([sum((h[t, j] * gradient[t, j]).item() for t in range(N)) for j in range(H)])
    return scores


def conductance(model, image, target, m, objective="probability") -> list[list[float]]:
    """Per layer the H scores Σ_t Σ_k ∂F/∂h_j[t](α_k·x)·(h_j[t](α_k·x) - h_j[t](α_{k-1}·x)), α_k = k/m."""
    scores, hidden = [], [forward(model, k / m * image)[1] for k in range(m + 1)]
    for layer in range(model.config.depth):
        total = [0.0] * model.config.mlp_dim
        for k in range(1, m + 1):
            before, h = hidden[k - 1][layer], hidden[k][layer].detach().requires_grad_()
            F = forward(model, k / m * image, {layer: h}, objective=objective)[0][target]
            (gradient,) = torch.autograd.grad(F, h)
            for t in range(len(h)):
                for j in range(len(total)):
                    total[j] += (gradient[t, j] * (h[t, j] - before[t, j])).item()
        scores.append(total)
    return scores


def layer_ig(model, image, target, rule, m, objective="probability") -> list[list[float]]:
    """Per layer the H scores Σ_t h̄_j[t]·Σ_k ω_k ∂F/∂h_j[t] with this layer alone at α_k·h̄."""
    scores = []
    for layer, full in enumerate(forward(model, image)[1]):
        total = [0.0] * model.config.mlp_dim
        for alpha, weight in nodes_and_weights(rule, m):
            h = (alpha * full).detach().requires_grad_()
            F = forward(model, image, {layer: h}, objective=objective)[0][target]
            (gradient,) = torch.autograd.grad(F, h)
            for t in range(len(h)):
                for j in range(len(total)):
                    total[j] += weight * (full[t, j] * gradient[t, j]).item()
        scores.append(total)
    return scores


def ablation(model, image, target, objective="probability") -> list[list[float]]:
    """Per layer the H scores F - F(h_j = 0 at the neuron tokens)."""
    F, hidden = forward(model, image, objective=objective)
    scores = []
    for layer, full in enumerate(hidden):
        drops = []
        for j in range(full.shape[1]):
            h = full.clone()
            h[:, j] = 0
            drops.append((F[target] - forward(model, image, {layer: h}, objective=objective)[0][target]).item())
        scores.append(drops)
    return scores


def best(scores: list[list[float]], K: int) -> list[list[int]]:
    """Per layer the K of highest score; ties by lowest index."""
    return [sorted(range(len(s)), key=lambda j: -s[j])[:K] for s in scores]


def activation_path(model, image, K):
    hidden = forward(model, image)[1]
    sums = [h.sum(0).tolist() for h in hidden]
    return [sorted(range(len(s)), key=lambda j: -s[j])[:K] for s in sums]


def unit_weights(model, image):
    """(L, H): the size of each unit's activation, summed over the neuron tokens, times the length of what it writes."""
    weights = []
    for layer, h in enumerate(forward(model, image)[1]):
        fc2 = model.state_dict()[f"blocks.{layer}.mlp.fc2.weight"]
        weights.append([abs(sum(h[:, j].tolist())) * math.hypot(*fc2[:, j].tolist()) for j in range(h.shape[1])])
    return torch.tensor(weights, dtype=torch.float64)


def candidates(weights: list[float], own: list[int], drawn: list[int]) -> list[int]:
    """The units to draw from for the neuron that follows `drawn`, literally."""
    weight = weights[own[len(drawn)]]
    free = [unit for unit in range(len(weights)) if unit not in own and unit not in drawn]
    near = [unit for unit in free if abs(weights[unit] - weight) <= 0.1 * weight]
    if near:
        return near
    above = sorted((weights[unit], unit) for unit in free if weights[unit] > weight)[:1]
    below = sorted((-weights[unit], unit) for unit in free if weights[unit] < weight)[:1]
    return [unit for _, unit in (*above, *below)]


def assert_matched(weights: list[list[float]], own: list[list[int]], draw: list[list[int]]) -> None:
    """One draw: every unit one of those to draw from, none of the path, none twice."""
    assert [len(layer) for layer in draw] == [len(layer) for layer in own]
    for layer, units in enumerate(draw):
        assert not set(units) & set(own[layer])
        assert len(set(units)) == len(units)
        for i, unit in enumerate(units):
            assert unit in candidates(weights[layer], own[layer], units[:i])
