"""The engine: a path found so far, ramped, its state kept from layer to layer (exact algebra).

Scoring overwrites the neuron tokens' activations in the layers of the path (docs/method.md §2, §9), so what
these layers write to the residual stream is the unperturbed fc2(h̄) plus a rank-K update, (α-1)·w̄_n times
column n of fc2.weight. Going on from layer l to l+1 changes nothing before l: every node keeps the stream of the
current layer, and only the layers behind it, the *tail*, are run again.

A *row* is one (image, node) pair; rows lie image by image, R = B·k for the k nodes of a prefix. Two prefixes
have the same interface and differ in how they come by the gradient of the path's own neurons:

- `ForwardPrefix` (N = 1) carries the forward-mode tangent of the kept stream along "1 at each path neuron", so
  that the backward pass of a search ends at the current layer.
- `ReversePrefix` (any N) goes back through the kept graph of the path's layers: the gradient per neuron token.

    for layer in range(L):
        prefix.enter(layer)                   # block `layer`, all but what its neurons write
        G, g = prefix.gradients()             # Σ_k ω_k of ∂F/∂(path neurons), ∂F/∂(neurons of `layer`)
        prefix.pull(rows, dz)                 # from ∂F/∂(opened stream) to ∂F/∂(path neurons): for `candidates`
        prefix.extend(chosen)                 # (B, K) neurons of `layer` join the path
    G = prefix.finish()                       # Σ_k ω_k Σ_{n∈P} ∂F/∂w_n of the finished path, (B, N)
"""

import warnings
from dataclasses import dataclass

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.vit import VisionTransformer
from .quadrature import Quadrature
from .rows import node_groups

# PyTorch's own forward mode compiles its rules with a function that it deprecated itself.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")


@dataclass(frozen=True)
class Plain:
    """What one unperturbed forward of B images leaves behind."""

    logits: Tensor  # (B, C)
    hidden: list[Tensor]  # per layer h̄ at the neuron tokens, (B, N, H)
    written: list[Tensor]  # per layer fc2(h̄), bias included, (B, N, D)
    entry: Tensor  # the stream after block 0 but for what its neurons write: no path changes it


@torch.no_grad()
def plain_forward(model: VisionTransformer, images: Tensor) -> Plain:
    """One forward of `images` (B, 3, height, width): logits, h̄ of every layer, and where all prefixes start."""
    z, neuron = model.embed(images), model.neuron_tokens
    hidden, written, entry = [], [], None
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


def open_block(model: VisionTransformer, z: Tensor, layer: int) -> Tensor:
    """The stream after block `layer` but for what its neurons write, from the stream entering it.

    Of the last block only the neuron tokens are returned, as nothing reads the others.
    """
    block = model.blocks[layer]
    a = block.attend(z, model.queries(layer))
    if model.queries(layer) is not None:
        return a
    other = a[:, model.other_tokens]
    return model.join(a[:, model.neuron_tokens], other + block.project(block.hidden(other)))


def neuron_rows(model: VisionTransformer, z: Tensor, layer: int) -> Tensor:
    """The neuron tokens, (R, N, D), of the stream `z` of `open_block`: after the last block there are no others."""
    return z if model.queries(layer) is not None else z[:, model.neuron_tokens]


def write(model: VisionTransformer, z: Tensor, layer: int, out: Tensor) -> Tensor:
    """The stream `z` of `open_block` with `out` (R, N, D), what the neurons of `layer` write, added."""
    if model.queries(layer) is not None:
        return z + out
    return model.join(z[:, model.neuron_tokens] + out, z[:, model.other_tokens])


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """F: the softmax probability of each row's target class, (R, C) and (R,) to (R,)."""
    return logits.softmax(-1).gather(-1, targets[:, None])[:, 0]


def resolve_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """`targets` (B,) with the predicted class of `logits` (B, C) in the place of negative ones."""
    return targets.where(targets >= 0, logits.argmax(-1))


class Prefix:
    """Common to both prefixes: B images × k nodes, the chosen neurons, the layer at hand."""

    def __init__(self, model: VisionTransformer, plain: Plain, targets: Tensor, nodes: Tensor, weights: Tensor):
        self.model, self.plain = model, plain
        self.images, self.weights = len(targets), weights
        self.alpha = nodes.repeat(self.images)[:, None, None]  # (R, 1, 1)
        self.targets = self.rows(targets)
        self.layer = -1  # none entered
        self.chosen: list[Tensor] = []  # per layer of the path (B, K)

    def rows(self, x: Tensor) -> Tensor:
        """One copy per node of what each image has: (B, …) to (R, …)."""
        return x.repeat_interleave(len(self.weights), 0)

    def integrate(self, x: Tensor) -> Tensor:
        """Σ_k ω_k over an image's rows: (R, …) to (B, …)."""
        x = x.unflatten(0, (self.images, len(self.weights)))
        return torch.einsum("k,bk...->b...", self.weights, x)

    def extend(self, chosen: Tensor) -> None:
        """Append the current layer's neurons (B, K) to the path."""
        self.chosen.append(chosen)

    def whole_layer_ramp(self) -> Tensor:
        """fc2(α·h̄) of the current layer, (R, N, D), from the stored fc2(h̄): no product needed."""
        bias = self.model.blocks[self.layer].mlp.fc2.bias
        return self.alpha * self.rows(self.plain.written[self.layer] - bias) + bias

    def layer_write(self, whole_layer: bool) -> Tensor:
        """What the current layer writes, (R, N, D): the whole of it ramped, or all of it at h̄."""
        return self.whole_layer_ramp() if whole_layer else self.rows(self.plain.written[self.layer])

    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        """Σ_{n∈P} ∂F/∂w_n[t], (P·k, N), from ∂F/∂z of the opened stream at some `rows`, each as often as is wanted."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Make the layer entered ready for `pull`, where `gradients` has used up its graph."""

    def close(self) -> None:
        """Let go of what `reopen` made."""

    def layer_gradient(self, written: Tensor) -> Tensor:
        """∂F/∂h of the current layer, (B, N, H), from ∂F/∂(what it writes), (R, N, D)."""
        return self.model.blocks[self.layer].neuron_gradient(self.integrate(written))

    def columns(self, layer: int) -> Tensor:
        """What a unit of each path neuron of `layer` writes, (B, K, D)."""
        return self.model.blocks[layer].columns(self.chosen[layer])

    def activations(self, layer: int) -> Tensor:
        """w̄ of the path neurons of `layer`, (B, N, K)."""
        return gather_neurons(self.plain.hidden[layer], self.chosen[layer])


def gather_neurons(hidden: Tensor, neurons: Tensor) -> Tensor:
    """The activations (B, N, K) of each image's own `neurons` (B, K) out of `hidden` (B, N, H)."""
    return hidden.gather(2, neurons[:, None].expand(-1, hidden.shape[1], -1))


class ForwardPrefix(Prefix):
    """N = 1: the stream z of every row with its tangent t along "1 at each path neuron".

    A layer costs one block forward for z and one for t; `gradients` the tail, forward and backward.
    """

    @torch.no_grad()
    def enter(self, layer: int) -> None:
        if layer == self.layer:
            return
        self.layer = layer
        if layer == 0:
            self.z, self.t = self.rows(self.plain.entry), None
        else:
            self.z, self.t = self._push(lambda z: open_block(self.model, z, layer))

    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        """G (B, 1) of the path so far and g (B, 1, H) of the current layer, the whole of it ramped or all at h̄."""
        z = write(self.model, self.z, self.layer, self.layer_write(whole_layer)).detach().requires_grad_()
        with torch.enable_grad():
            F = probability(self.model.run(z, self.layer + 1), self.targets)
            (dz,) = torch.autograd.grad(F.sum(), z)  # (R, T, D)
        g = self.layer_gradient(neuron_rows(self.model, dz, self.layer))
        if self.t is None:
            return torch.zeros_like(g[..., 0]), g
        return self.integrate(torch.linalg.vecdot(dz.flatten(1), self.t.flatten(1)))[:, None], g

    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        return torch.linalg.vecdot(dz.flatten(1), self.t[rows].flatten(1))[:, None]

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Σ_k ω_k dF/dε along "1 at each path neuron", (B, 1)."""
        rest = len(self.chosen)
        _, tangent = self._push(lambda z: probability(self.model.run(z, rest), self.targets))
        return self.integrate(tangent)[:, None]

    def _push(self, function) -> tuple[Tensor, Tensor]:
        """`function` of the stream entering the next block, and its tangent.

        Of attention's kernels only MATH has a forward mode.
        """
        stream = self._with_path_neurons()
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            return tuple(forward_ad.unpack_dual(function(forward_ad.make_dual(*stream))))

    def _with_path_neurons(self) -> tuple[Tensor, Tensor]:
        layer = len(self.chosen) - 1
        u = self.rows(self.columns(layer))  # (R, K, D)
        update = (self.alpha - 1) * self.rows(self.activations(layer)) @ u  # (R, 1, D)
        z = write(self.model, self.z, layer, self.rows(self.plain.written[layer]) + update)
        t = torch.zeros_like(self.z) if self.t is None else self.t
        return z, write(self.model, t, layer, u.sum(1, keepdim=True))


class ReversePrefix(Prefix):
    """Any N: the path's activations w are leaves of a kept graph, so that ∂F/∂w_n[t] comes per neuron token.

    For N > 1 a layer of the path costs attention only: all its patch units are clamped.
    With `keep=False` the graph lives for one layer only and is recomputed for the next: where the nodes of one
    image do not fit into the rows allowed at once.
    """

    def __init__(self, *args, keep: bool = True):
        super().__init__(*args)
        self.keep = keep

    @torch.enable_grad()
    def enter(self, layer: int) -> None:
        if layer == self.layer and self.keep:
            return
        self.layer = layer
        for i in range(layer if self.keep else 0, layer + 1):
            if i == 0:
                self.z, self.w = self.rows(self.plain.entry), []
            else:
                self.z = open_block(self.model, self._with_path_neurons(i - 1), i)

    @torch.enable_grad()
    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        """G (B, N) of the path so far and g (B, N, H) of the current layer, the whole of it ramped or all at h̄."""
        ramp = self.layer_write(whole_layer).requires_grad_()
        z = write(self.model, self.z, self.layer, ramp)
        F = probability(self.model.run(z, self.layer + 1), self.targets)
        *path, layer = torch.autograd.grad(F.sum(), [*self.w, ramp], retain_graph=self.keep)
        g = self.layer_gradient(layer)
        return self._sum(path) if path else torch.zeros_like(g[..., 0]), g

    def reopen(self) -> None:
        if not self.keep:
            self.enter(self.layer)

    def close(self) -> None:
        if not self.keep:
            self.z, self.w = None, []

    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        """One way back through the path's layers for as many times as a row is asked for."""
        found = dz.new_empty(len(rows), self.plain.hidden[0].shape[1])
        for at in _distinct(rows):
            full = torch.zeros_like(self.z).index_copy_(0, rows[at], dz[at])
            gradients = torch.autograd.grad(self.z, self.w, full, retain_graph=True)
            found[at] = sum(g.sum(-1) for g in gradients)[rows[at]]
        return found

    @torch.enable_grad()
    def finish(self) -> Tensor:
        """Σ_k ω_k Σ_{n∈P} ∂F/∂w_n[t], (B, N)."""
        last = len(self.chosen) - 1
        if not self.keep:
            self.enter(last)
        F = probability(self.model.run(self._with_path_neurons(last), last + 1), self.targets)
        return self._sum(torch.autograd.grad(F.sum(), self.w))

    def _with_path_neurons(self, layer: int) -> Tensor:
        full = self.rows(self.activations(layer))  # (R, N, K)
        self.w.append((self.alpha * full).requires_grad_())
        update = (self.w[-1] - full) @ self.rows(self.columns(layer))
        return write(self.model, self.z, layer, self.rows(self.plain.written[layer]) + update)

    def _sum(self, gradients) -> Tensor:
        return self.integrate(sum(gradient.sum(-1) for gradient in gradients))


def _distinct(rows: Tensor) -> list[Tensor]:
    """The positions of `rows` in groups, in none of which a row comes twice; as few groups as can be."""
    seen: dict[int, int] = {}
    groups: list[list[int]] = []
    for position, row in enumerate(rows.tolist()):
        turn = seen[row] = seen.get(row, -1) + 1
        if turn == len(groups):
            groups.append([])
        groups[turn].append(position)
    return [torch.tensor(group, device=rows.device) for group in groups]


def prefixes(kind, model, plain, targets, quadrature: Quadrature, rows: int, **options) -> list[Prefix]:
    """One prefix of `kind` for as many nodes as `rows` admits at once, and so on for the rest of the nodes."""
    parts = node_groups(quadrature, rows // len(targets), plain.logits)
    return [kind(model, plain, targets, *part, **options) for part in parts]
