"""Paths of heads, and of heads and neurons in turn, literally: hooks on `oracle`'s ViT, one gate per head and token.

A path is a list of sites in the order of the sublayers, each a list of units. docs/method.md §10.
"""

import torch
from oracle import forward, nodes_and_weights

KINDS = {"heads": ("heads",), "neurons": ("neurons",), "both": ("heads", "neurons")}


def sites(model, units):
    """(layer, kind) of every site."""
    return [(layer, kind) for layer in range(model.config.depth) for kind in KINDS[units]]


def stored(model, image):
    """Of the plain forward: per layer what each head writes (heads, N, D), and h̄ (N, H)."""
    written = []

    def look(layer, each):
        written.append(each.detach())
        return each

    hidden = forward(model, image, gates=look)[1]
    return written, [h.detach() for h in hidden]


def count(model, kind):
    return {"heads": model.config.num_heads, "neurons": model.config.mlp_dim}[kind]


def clamped(model, image, target, path, alpha, kept, *, units, objective="probability"):
    """F with the path's units at α·w̄, and these w, by (site, unit), as leaves (N,); `kept` is what was `stored`."""
    written, hidden = kept
    where = sites(model, units)[: len(path)]
    N, leaves = len(hidden[0]), {}
    for site, own in enumerate(path):
        layer, kind = where[site]
        for unit in own:
            full = torch.ones(N).double() if kind == "heads" else hidden[layer][:, unit]
            leaves[site, unit] = (alpha * full).requires_grad_()

    def gate(layer, each):
        if (layer, "heads") not in where:
            return each
        site, parts = where.index((layer, "heads")), list(written[layer])
        for unit in path[site]:
            parts[unit] = leaves[site, unit][:, None] * written[layer][unit]
        return torch.stack(parts)

    overwrite = {}
    for site, (layer, kind) in enumerate(where):
        if kind == "neurons":
            columns = list(hidden[layer].unbind(1))
            for unit in path[site]:
                columns[unit] = leaves[site, unit]
            overwrite[layer] = torch.stack(columns, 1)
    F = forward(model, image, overwrite, objective=objective, gates=gate)[0][target]
    return F, leaves


def jas(model, image, target, path, *, units, rule, m, objective="probability") -> float:
    hidden = (kept := stored(model, image))[1]
    N = len(hidden[0])
    S, G = torch.zeros(N).double(), torch.zeros(N).double()
    for (layer, kind), own in zip(sites(model, units), path, strict=False):
        for unit in own:
            S += 1 if kind == "heads" else hidden[layer][:, unit]
    for alpha, weight in nodes_and_weights(rule, m):
        F, leaves = clamped(model, image, target, path, alpha, kept, units=units, objective=objective)
        for gradient in torch.autograd.grad(F, [*leaves.values()]):
            G += weight * gradient
    return (S * G).sum().item() / N


def layer_scores(model, image, target, path, *, units, rule, m, objective="probability") -> list[float]:
    """Of each neuron of the site after `path`, the whole FFN ramped at once beside it."""
    kept, last = stored(model, image), len(path)
    N, H = kept[1][0].shape
    where, S, G, g = sites(model, units), torch.zeros(N).double(), torch.zeros(N).double(), torch.zeros(H, N).double()
    for (layer, kind), own in zip(where, path, strict=False):
        for unit in own:
            S += 1 if kind == "heads" else kept[1][layer][:, unit]
    for alpha, weight in nodes_and_weights(rule, m):
        whole = [*path, list(range(H))]
        F, leaves = clamped(model, image, target, whole, alpha, kept, units=units, objective=objective)
        for (site, unit), gradient in zip(leaves, torch.autograd.grad(F, [*leaves.values()]), strict=True):
            if site < last:
                G += weight * gradient
            else:
                g[unit] += weight * gradient
    h = kept[1][where[last][0]]
    return [((S + h[:, j]) * (G + g[j])).sum().item() / N for j in range(H)]


def drop(model, image, target, path, *, units, objective="probability") -> float:
    given = model, image, target, path
    F = [clamped(*given, a, stored(model, image), units=units, objective=objective)[0].item() for a in (1.0, 0.0)]
    return F[0] - F[1]


def search(model, image, target, *, units, rule, m, K, objective="probability", layer=False):
    """Algorithm 1, every unit alone beside the path: the path and the margins. With `layer` but for the neurons."""
    path, margins, defined = [], [], {"units": units, "rule": rule, "m": m, "objective": objective}
    for _, kind in sites(model, units):
        if layer and kind == "neurons":
            scores = layer_scores(model, image, target, path, **defined)
        else:
            scores = [jas(model, image, target, [*path, [j]], **defined) for j in range(count(model, kind))]
        order = sorted(range(len(scores)), key=lambda j: -scores[j])
        path.append(order[:K])
        margins.append((scores[order[K - 1]] - scores[order[K]]) / max(map(abs, scores)) if len(scores) > K else 1.0)
    return path, margins


def largest(model, image, *, units, K):
    """Per site the K heads of largest Σ_t |what it writes|, or neurons of largest Σ_t h̄."""
    written, hidden = stored(model, image)
    path = []
    for layer, kind in sites(model, units):
        if kind == "heads":
            sizes = [sum(row.norm().item() for row in head) for head in written[layer]]
        else:
            sizes = hidden[layer].sum(0).tolist()
        path.append(sorted(range(len(sizes)), key=lambda j: -sizes[j])[:K])
    return path


def gradient(model, image, target, *, units, K, objective="probability"):
    """Per site the K units of largest Σ_t w̄·∂F/∂w, the total derivative, one site's units as leaves at a time."""
    hidden = stored(model, image)[1]
    path = []
    for layer, kind in sites(model, units):
        if kind == "heads":
            gates = torch.ones(model.config.num_heads, len(hidden[0])).double().requires_grad_()

            def gate(at, each, gates=gates, layer=layer):
                return each * gates[..., None] if at == layer else each

            F = forward(model, image, gates=gate, objective=objective)[0][target]
            scores = torch.autograd.grad(F, gates)[0].sum(1).tolist()
        else:
            h = hidden[layer].clone().requires_grad_()
            F = forward(model, image, {layer: h}, objective=objective)[0][target]
            scores = (h * torch.autograd.grad(F, h)[0]).sum(0).tolist()
        path.append(sorted(range(len(scores)), key=lambda j: -scores[j])[:K])
    return path


def edited(model, image, path, change, *, units, objective="probability"):
    """F of every class where units are changed as they arise, no clamp: `change(site, unit, its writes or h)`."""
    where = sites(model, units)[: len(path)]
    current = {}

    def gate(layer, each):
        if (layer, "heads") not in where:
            return each
        site = where.index((layer, "heads"))
        return torch.stack([change(site, u, o) if u in path[site] else o for u, o in enumerate(each)])

    for site, (layer, kind) in enumerate(where):  # in order: a changed layer changes the later activations
        if kind == "neurons":
            h = forward(model, image, current, objective=objective, gates=gate)[1][layer]
            columns = [change(site, u, c) if u in path[site] else c for u, c in enumerate(h.unbind(1))]
            current = {**current, layer: torch.stack(columns, 1)}
    return forward(model, image, current, objective=objective, gates=gate)[0]
