"""The engine: a path found so far, ramped, its state kept from layer to layer (exact algebra).

Scoring overwrites the neuron tokens' activations in the layers of the path (docs/method.md §2, §9), so what these
layers write to the residual stream is the unperturbed fc2(h̄) plus a rank-K update, (α-1)·w̄_n times column n of
fc2.weight. Going on from layer l to l+1 changes nothing before l: every node keeps the stream of the current layer, and
only the layers behind it, the *tail*, are run again.

A *row* is one (image, node) pair; rows lie image by image, R = B·k for the k nodes of a ramp. There are two kinds of
`Ramp`, which differ in how they come by the gradient of the path's own neurons:

- `ForwardRamp` (N = 1) carries the forward-mode tangent of the kept stream along "1 at each path neuron", so that the
  backward pass of a search ends at the current layer.
- `ReverseRamp` (any N) goes back through the kept graph of the path's layers: the gradient per neuron token.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.vit import VisionTransformer
from .forward import Plain, gather_neurons, neuron_rows, open_block, plain_forward, probability, resolve_targets, write
from .quadrature import Quadrature
from .rows import node_groups


@dataclass(frozen=True)
class Problem:
    """B images whose paths are to be found or scored, all with one rule; `rows`: most rows at once."""

    model: VisionTransformer
    plain: Plain
    targets: Tensor  # (B,) class indices
    quadrature: Quadrature
    rows: int

    @classmethod
    def of(
        cls, model: VisionTransformer, images: Tensor, targets: Tensor, quadrature: Quadrature, rows: int
    ) -> "Problem":
        """`images` (B, 3, height, width) after their plain forward; a negative target is the predicted class."""
        plain = plain_forward(model, images)
        return cls(model, plain, resolve_targets(targets, plain.logits), quadrature, rows)


class Ramp(ABC):
    """A path that grows from layer to layer, ramped: B images × k nodes.

    for layer in range(L):
        ramp.enter(layer)                   # block `layer`, all but what its neurons write
        G, g = ramp.gradients()             # Σ_k ω_k of ∂F/∂(path neurons), ∂F/∂(neurons of `layer`)
        ramp.extend(chosen)                 # (B, K) neurons of `layer` join the path
    G = ramp.finish()                       # Σ_k ω_k Σ_{n∈P} ∂F/∂w_n of the finished path, (B, N)
    """

    z: Tensor  # (R, T, D), after the last block (R, N, D): the stream opened at the layer entered

    def __init__(self, problem: Problem, nodes: Tensor, weights: Tensor):
        self.model, self.plain = problem.model, problem.plain
        self.images, self.weights = len(problem.targets), weights
        self.alpha = nodes.repeat(self.images)[:, None, None]  # (R, 1, 1)
        self.targets = self.rows(problem.targets)
        self.layer = -1  # none entered
        self.chosen: list[Tensor] = []  # per layer of the path (B, K)

    @abstractmethod
    def enter(self, layer: int) -> None:
        """Go on to `layer`, the one behind the path's last; twice is as once."""

    @abstractmethod
    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        """G (B, N) of the path so far and g (B, N, H) of the current layer, the whole of it ramped or all at h̄."""

    @abstractmethod
    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        """Σ_{n∈P} ∂F/∂w_n[t], (len(rows), N), from `dz`, ∂F/∂z at these `rows`; a row may come several times."""

    @abstractmethod
    def finish(self) -> Tensor:
        """Σ_k ω_k Σ_{n∈P} ∂F/∂w_n[t] of the finished path, (B, N)."""

    @abstractmethod
    def reopen(self) -> None:
        """Make the layer entered ready for `pull`, where `gradients` has used up its graph."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what `reopen` made."""

    def extend(self, chosen: Tensor) -> None:
        """Append the current layer's neurons (B, K) to the path."""
        self.chosen.append(chosen)

    def rows(self, x: Tensor) -> Tensor:
        """One copy per node of what each image has: (B, …) to (R, …)."""
        return x.repeat_interleave(len(self.weights), 0)

    def integrate(self, x: Tensor) -> Tensor:
        """Σ_k ω_k over an image's rows: (R, …) to (B, …)."""
        x = x.unflatten(0, (self.images, len(self.weights)))
        return torch.einsum("k,bk...->b...", self.weights, x)

    def layer_write(self, whole_layer: bool) -> Tensor:
        """What the current layer writes, (R, N, D): the whole of it ramped, fc2(α·h̄), or all of it at h̄.

        From the stored fc2(h̄): no product is needed.
        """
        written = self.plain.written[self.layer]
        if not whole_layer:
            return self.rows(written)
        bias = self.model.blocks[self.layer].mlp.fc2.bias
        return self.alpha * self.rows(written - bias) + bias

    def layer_gradient(self, written: Tensor) -> Tensor:
        """∂F/∂h of the current layer, (B, N, H), from ∂F/∂(what it writes), (R, N, D)."""
        return self.model.blocks[self.layer].neuron_gradient(self.integrate(written))

    def columns(self, layer: int) -> Tensor:
        """What a unit of each path neuron of `layer` writes, (B, K, D)."""
        return self.model.blocks[layer].columns(self.chosen[layer])

    def activations(self, layer: int) -> Tensor:
        """w̄ of the path neurons of `layer`, (B, N, K)."""
        return gather_neurons(self.plain.hidden[layer], self.chosen[layer])


class ForwardRamp(Ramp):
    """N = 1: the stream z of every row with its tangent t along "1 at each path neuron".

    A layer costs one block forward for z and one for t; `gradients` the tail, forward and backward.
    """

    t: Tensor | None  # like z; None without a path

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
        z = write(self.model, self.z, self.layer, self.layer_write(whole_layer)).detach().requires_grad_()
        with torch.enable_grad():
            F = probability(self.model.run(z, self.layer + 1), self.targets)
            (dz,) = torch.autograd.grad(F.sum(), z)  # (R, T, D)
        g = self.layer_gradient(neuron_rows(self.model, dz, self.layer))
        if self.t is None:
            return torch.zeros_like(g[..., 0]), g
        return self.integrate(torch.linalg.vecdot(dz.flatten(1), self.t.flatten(1)))[:, None], g

    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        assert self.t is not None, "asked for only where there is a path"
        return torch.linalg.vecdot(dz.flatten(1), self.t[rows].flatten(1))[:, None]

    def reopen(self) -> None:
        """The tangent is kept."""

    def close(self) -> None:
        """The tangent is needed in the next layer."""

    @torch.no_grad()
    def finish(self) -> Tensor:
        """From Σ_k ω_k dF/dε along "1 at each path neuron", (B, 1)."""
        rest = len(self.chosen)
        _, tangent = self._push(lambda z: probability(self.model.run(z, rest), self.targets))
        return self.integrate(tangent)[:, None]

    def _push(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """`function` of the stream entering the next block, and its tangent.

        Of attention's kernels only MATH has a forward mode.
        """
        stream = self._with_path_neurons()
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            # PyTorch's own forward mode compiles its rules with a function that it deprecated itself.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            value, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(*stream)))
        return value, torch.zeros_like(value) if tangent is None else tangent

    def _with_path_neurons(self) -> tuple[Tensor, Tensor]:
        layer = len(self.chosen) - 1
        u = self.rows(self.columns(layer))  # (R, K, D)
        update = (self.alpha - 1) * self.rows(self.activations(layer)) @ u  # (R, 1, D)
        z = write(self.model, self.z, layer, self.rows(self.plain.written[layer]) + update)
        t = torch.zeros_like(self.z) if self.t is None else self.t
        return z, write(self.model, t, layer, u.sum(1, keepdim=True))


class ReverseRamp(Ramp):
    """Any N: the path's activations w are leaves of a kept graph, so that ∂F/∂w_n[t] comes per neuron token.

    For N > 1 a layer of the path costs attention only: all its patch units are clamped.
    With `keep=False` the graph lives for one layer only and is recomputed for the next: where the nodes of one
    image do not fit into the rows allowed at once.
    """

    def __init__(self, problem: Problem, nodes: Tensor, weights: Tensor, keep: bool = True):
        super().__init__(problem, nodes, weights)
        self.keep = keep
        self.w: list[Tensor] = []  # per layer of the path (R, N, K), leaves

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
            self.z, self.w = self.z.new_empty(0), []

    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        """One way back through the path's layers for as many times as a row is asked for."""
        found = dz.new_empty(len(rows), self.plain.hidden[0].shape[1])
        for at in _distinct(rows):
            full = torch.zeros_like(self.z).index_copy_(0, rows[at], dz[at])
            gradients = torch.autograd.grad(self.z, self.w, full, retain_graph=True)
            found[at] = reduce(torch.add, (g.sum(-1) for g in gradients))[rows[at]]
        return found

    @torch.enable_grad()
    def finish(self) -> Tensor:
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

    def _sum(self, gradients: Sequence[Tensor]) -> Tensor:
        return self.integrate(reduce(torch.add, (gradient.sum(-1) for gradient in gradients)))


def search_ramps(problem: Problem) -> Sequence[Ramp]:
    """One ramp for as many nodes as the rows admit at once, and so on: of the kind that a search needs."""
    plain, images = problem.plain, len(problem.targets)
    if plain.hidden[0].shape[1] == 1 and plain.logits.device.type != "mps":  # whose attention has no forward mode
        return [ForwardRamp(problem, *part) for part in _node_groups(problem)]
    keep = images * problem.quadrature.steps <= problem.rows
    return [ReverseRamp(problem, *part, keep=keep) for part in _node_groups(problem)]


def score_ramps(problem: Problem) -> Sequence[Ramp]:
    """The same for the score of a given path: forward and backward are cheaper than forward mode."""
    return [ReverseRamp(problem, *part) for part in _node_groups(problem)]


def _node_groups(problem: Problem) -> Iterable[tuple[Tensor, Tensor]]:
    return node_groups(problem.quadrature, problem.rows // len(problem.targets), problem.plain.logits)


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
