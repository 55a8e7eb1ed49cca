"""The engine: a path found so far, ramped, its state kept from layer to layer (exact algebra).

Scoring overwrites the neuron tokens' activations in the layers of the path (docs/method.md §2, §9), so what these
layers write to the residual stream is the unperturbed fc2(h̄) plus a rank-K update, (α-1)·w̄_n times column n of
fc2.weight. Going on from layer l to l+1 changes nothing before l: every node keeps the stream of the current layer, and
only the layers behind it, the *tail*, are run again. The same holds where the units are attention's heads: a layer here
is a `Site` of the path, which says what is read, ramped and written (`sites`).

A *row* is one (image, node) pair; rows lie image by image, R = B·k for the k nodes of a ramp. There are three kinds of
`Ramp`, which differ in how they come by the gradient of the path's own neurons:

- `ForwardRamp` (one w̄ for all neuron tokens: N = 1, or heads alone) carries the forward-mode tangent of the kept
  stream along "1 at each path neuron", so that the backward pass of a search ends at the current layer.
- `ReverseRamp` (any N) goes back through the kept graph of the path's layers: the gradient per neuron token.
- `PlainRamp` is the node α = 1, whose state is the plain forward's in every layer, for every candidate (`unramped`);
  for neurons alone, elsewhere α = 1 is ramped like the others.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import reduce
from typing import ClassVar

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .forward import gather_neurons, neuron_rows, weigh, write
from .problem import Problem, carries_tangents
from .rows import node_groups
from .sites import open_next, run
from .unramped import sum_of_products


class Ramp(ABC):
    """A path that grows from layer to layer, ramped: B images × k nodes.

    for layer in range(L):
        ramp.enter(layer)                   # block `layer`, all but what its neurons write
        G, g = ramp.gradients()             # Σ_k ω_k of ∂F/∂(path neurons), ∂F/∂(neurons of `layer`)
        ramp.extend(chosen)                 # (B, K) neurons of `layer` join the path
    G = ramp.finish()                       # Σ_k ω_k Σ_{n∈P} ∂F/∂w_n of the finished path, (B, N)
    """

    kept: ClassVar[tuple[str, ...]] = ()  # what goes on from layer to layer, image by image; `branch`

    def __init__(self, problem: Problem):
        self.model, self.plain, self.objective = problem.model, problem.plain, problem.objective
        self.layer = -1  # none entered
        self.chosen: list[Tensor] = []  # per layer of the path (B, K)

    @abstractmethod
    def enter(self, layer: int) -> None:
        """Go on to `layer`, the one behind the path's last; twice is as once."""

    @abstractmethod
    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        """G (B, N) of the path so far and g (B, N, H) of the current layer, the whole of it ramped or all at h̄."""

    @abstractmethod
    def candidate_gradients(self, images: Tensor, neurons: Tensor, rows: int) -> Tensor:
        """Σ_k ω_k (Σ_{n∈P} ∂F/∂w_n[t] + ∂F/∂w_j[t]) with P and neuron j alone ramped, its layer else at h̄: (P, N).

        images, neurons (P,): the pairs (image of the batch, neuron j of the layer entered). At least one pair and at
        most `rows` rows are evaluated at once, which does not change the result.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """Σ_k ω_k Σ_{n∈P} ∂F/∂w_n[t] of the finished path, (B, N)."""

    def extend(self, chosen: Tensor) -> None:
        """Append the current layer's neurons (B, K) to the path."""
        self.chosen.append(chosen)

    def branch(self, chosen: Sequence[Tensor], kept: Mapping[str, Tensor]) -> "Ramp":
        """This ramp with another path: `chosen`, (B, K) per layer, and what is `kept` of it in the layer entered."""
        new = copy(self)
        new.chosen = [*chosen]
        vars(new).update(kept)
        return new

    def directions(self, layer: int) -> Tensor:
        """What a unit of each path neuron of `layer` writes, (B, 1 or N, K, D)."""
        return self.plain.directions(layer, self.chosen[layer])

    def write(self, z: Tensor, layer: int, out: Tensor) -> Tensor:
        """The stream `z` opened at `layer` with `out` (R, N, D), what its units write, added."""
        return write(self.model, z, self.plain.sites[layer].layer, out)

    def open_next(self, z: Tensor, layer: int) -> Tensor:
        """The stream opened at `layer` from that behind the one before."""
        return open_next(self.plain.sites[layer - 1], self.plain.sites[layer], z)

    def objective_after(self, layer: int, z: Tensor, targets: Tensor) -> Tensor:
        """F from the stream `z` behind `layer`, (R,)."""
        return self.objective(run(self.plain.sites[layer], z), targets)

    def activations(self, layer: int) -> Tensor:
        """w̄ of the path neurons of `layer`, (B, N, K)."""
        return gather_neurons(self.plain.hidden[layer], self.chosen[layer])


class StreamRamp(Ramp):
    """One that keeps the stream of every row from layer to layer."""

    z: Tensor  # (R, T, D), after the last block (R, N, D): the stream opened at the layer entered

    def __init__(self, problem: Problem, nodes: Tensor, weights: Tensor):
        super().__init__(problem)
        self.images, self.weights = len(problem.targets), weights
        self.alpha = nodes.repeat(self.images)[:, None, None]  # (R, 1, 1)
        self.targets = self.rows(problem.targets)

    @abstractmethod
    def pull(self, rows: Tensor, dz: Tensor) -> Tensor:
        """Σ_{n∈P} ∂F/∂w_n[t], (len(rows), N), from `dz`, ∂F/∂z at these `rows`; a row may come several times."""

    @abstractmethod
    def reopen(self) -> None:
        """Make the layer entered ready for `pull`, where `gradients` has used up its graph."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what `reopen` made."""

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
        bias = self.plain.sites[self.layer].last.bias
        return self.alpha * self.rows(written - bias) + bias

    def layer_gradient(self, written: Tensor) -> Tensor:
        """∂F/∂h of the current layer, (B, N, H), from ∂F/∂(what it writes), (R, N, D)."""
        return self.plain.sites[self.layer].gradients(self.plain.values[self.layer], self.integrate(written))

    def candidate_gradients(self, images: Tensor, neurons: Tensor, rows: int) -> Tensor:
        self.reopen()
        size = max(1, rows // len(self.weights))
        pairs = zip(images.split(size), neurons.split(size), strict=True)
        found = torch.cat([self._candidates(i, j) for i, j in pairs])
        self.close()
        return found

    def _candidates(self, images: Tensor, neurons: Tensor) -> Tensor:
        """Of P pairs at once: P·k rows, each a tail forward and backward from the kept stream, and `pull`."""
        k, plain = len(self.weights), self.plain
        rows = (k * images[:, None] + torch.arange(k, device=images.device)).flatten()  # (P·k,)
        u = plain.directions(self.layer, neurons[:, None], images)[:, :, 0]  # (P, 1 or N, D)
        w = plain.hidden[self.layer][images, :, neurons][..., None]  # (P, 1 or N, 1)
        update = (self.alpha[rows] - 1) * (w * u).repeat_interleave(k, 0)
        out = (plain.written[self.layer][images].repeat_interleave(k, 0) + update).requires_grad_()  # (P·k, N, D)
        z = self.z.detach()[rows].requires_grad_()
        with torch.enable_grad():
            F = self.objective_after(self.layer, self.write(z, self.layer, out), self.targets[rows])
            dz, dout = torch.autograd.grad(F.sum(), [z, out])
        total = (dout.unflatten(0, (-1, k)) * u[:, None]).sum(-1)  # (P, k, N)
        total = total.sum_to_size(*total.shape[:2], w.shape[1])  # ∂F/∂w_j
        if self.chosen:
            total = total + self.pull(rows, dz).unflatten(0, (-1, k))
        return torch.einsum("k,pkn->pn", self.weights, total)


class ForwardRamp(StreamRamp):
    """w̄ of one token: the stream z of every row with its tangent t along "1 at each path neuron".

    A layer costs one block forward for z and one for t; `gradients` the tail, forward and backward.
    """

    kept = ("z", "t")
    t: Tensor | None  # like z; None without a path

    @torch.no_grad()
    def enter(self, layer: int) -> None:
        if layer == self.layer:
            return
        self.layer = layer
        if layer == 0:
            self.z, self.t = self.rows(self.plain.entry), None
        else:
            self.z, self.t = self._push(lambda z: self.open_next(z, layer))

    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        z = self.write(self.z, self.layer, self.layer_write(whole_layer)).detach().requires_grad_()
        with torch.enable_grad():
            (dz,) = torch.autograd.grad(self.objective_after(self.layer, z, self.targets).sum(), z)  # (R, T, D)
        g = self.layer_gradient(neuron_rows(self.model, dz, self.plain.sites[self.layer].layer))
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
        last = len(self.chosen) - 1
        _, tangent = self._push(lambda z: self.objective_after(last, z, self.targets))
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
        u = self.rows(self.directions(layer))  # (R, 1 or N, K, D)
        update = weigh((self.alpha - 1) * self.rows(self.activations(layer)), u)  # (R, 1 or N, D)
        z = self.write(self.z, layer, self.rows(self.plain.written[layer]) + update)
        t = torch.zeros_like(self.z) if self.t is None else self.t
        return z, self.write(t, layer, u.sum(2))


class ReverseRamp(StreamRamp):
    """Any N: the path's activations w are leaves of a kept graph, so that ∂F/∂w_n[t] comes per neuron token.

    For N > 1 a layer of the path costs attention only: all its patch units are clamped.
    With `keep=False` the graph lives for one layer only and is recomputed for the next: where the nodes of one
    image do not fit into the rows allowed at once, and where the path is to `branch`.
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
                self.z = self.open_next(self._with_path_neurons(i - 1), i)

    @torch.enable_grad()
    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        ramp = self.layer_write(whole_layer).requires_grad_()
        F = self.objective_after(self.layer, self.write(self.z, self.layer, ramp), self.targets)
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
        F = self.objective_after(last, self._with_path_neurons(last), self.targets)
        return self._sum(torch.autograd.grad(F.sum(), self.w))

    def _with_path_neurons(self, layer: int) -> Tensor:
        full = self.rows(self.activations(layer))  # (R, N, K)
        self.w.append((self.alpha * full).requires_grad_())
        update = weigh(self.w[-1] - full, self.rows(self.directions(layer)))
        return self.write(self.z, layer, self.rows(self.plain.written[layer]) + update)

    def _sum(self, gradients: Sequence[Tensor]) -> Tensor:
        return self.integrate(reduce(torch.add, (gradient.sum(-1) for gradient in gradients)))


class PlainRamp(Ramp):
    """The node α = 1: no row of its own, nothing evaluated per candidate; `weight` is its ω.

    A layer costs, for N = 1, one block's tangent, and for N > 1 the way back through the path's layers.
    """

    kept = ("t",)

    def __init__(self, problem: Problem):
        super().__init__(problem)
        self.weight, self.unramped = problem.quadrature.unramped, problem.unramped
        self.t: Tensor | None = None  # (B, T, D): the tangent of the opened stream along "1 at each path neuron"
        self._found: tuple[Tensor, Tensor] | None = None  # what `gradients` returns in the layer entered

    def enter(self, layer: int) -> None:
        if layer == self.layer:
            return
        self.layer, self._found = layer, None
        if self.unramped.graph.tangents and layer:
            self.t = self.unramped.push(layer, self._with_path_neurons(layer - 1))

    def gradients(self, whole_layer: bool = True) -> tuple[Tensor, Tensor]:
        if self._found is None:
            dz = self.unramped.gradients[self.layer]
            g = self.model.blocks[self.layer].neuron_gradient(neuron_rows(self.model, dz, self.layer))
            self._found = self.weight * self._path_gradient(dz), self.weight * g
        return self._found

    def candidate_gradients(self, images: Tensor, neurons: Tensor, rows: int) -> Tensor:
        """All candidates share one gradient."""
        G, g = self.gradients()
        return G[images] + g[images, :, neurons]

    def finish(self) -> Tensor:
        last = len(self.chosen) - 1
        if not self.unramped.graph.tangents:
            return self.weight * self.unramped.path_gradients([self._columns(i) for i in range(last + 1)])
        t = self._with_path_neurons(last)
        return self.weight * torch.linalg.vecdot(self.unramped.gradients[last].flatten(1), t.flatten(1))[:, None]

    def _columns(self, layer: int) -> Tensor:
        """What a unit of each path neuron of `layer` writes, (B, K, D)."""
        return self.directions(layer)[:, 0]

    def _path_gradient(self, dz: Tensor) -> Tensor:
        """Σ_{n∈P} ∂F/∂w_n[t], (B, N), from ∂F/∂(stream opened at the layer entered)."""
        if not self.chosen:
            return torch.zeros_like(self.plain.hidden[0][..., 0])
        if self.t is not None:
            return torch.linalg.vecdot(dz.flatten(1), self.t.flatten(1))[:, None]
        columns = [self._columns(i) for i in range(len(self.chosen))]
        return sum_of_products(self.unramped.write_gradients(self.layer, dz), columns)

    def _with_path_neurons(self, layer: int) -> Tensor:
        """The tangent of the stream entering the next block."""
        t = torch.zeros_like(self.unramped.gradients[layer]) if self.t is None else self.t
        return write(self.model, t, layer, self._columns(layer).sum(1, keepdim=True))


def search_ramps(problem: Problem, branching: bool = False) -> Sequence[Ramp]:
    """One ramp for as many nodes as the rows admit at once, and so on: of the kind that a search needs.

    `branching`: of the kind that can `branch`.
    """
    unramped = [PlainRamp(problem)] if problem.free else []
    if carries_tangents(problem.plain.hidden[0].shape[1], problem.targets.device):
        return [*(ForwardRamp(problem, *part) for part in _node_groups(problem)), *unramped]
    keep = not branching and len(problem.targets) * len(problem.quadrature.ramped[0]) <= problem.rows
    return [*(ReverseRamp(problem, *part, keep=keep) for part in _node_groups(problem)), *unramped]


def path_gradients(problem: Problem, path: Tensor) -> Tensor:
    """Σ_k ω_k Σ_{n∈P} ∂F/∂w_n[t], (B, N), of a given path (B, l, K): forward and backward, no forward mode."""
    parts = []
    for part in _node_groups(problem):
        ramp = ReverseRamp(problem, *part)
        for layer in range(path.shape[1]):
            ramp.enter(layer)
            ramp.extend(path[:, layer])
        parts.append(ramp.finish())
    if problem.free:
        columns = [problem.model.blocks[layer].columns(path[:, layer]) for layer in range(path.shape[1])]
        parts.append(problem.quadrature.unramped * problem.unramped.path_gradients(columns))
    return reduce(torch.add, parts)


def _node_groups(problem: Problem) -> Iterable[tuple[Tensor, Tensor]]:
    size = 1 if problem.apart else problem.rows // len(problem.targets)
    return node_groups(problem.quadrature, size, problem.plain.logits, whole=not problem.free)


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
