"""The node α = 1, at which nothing is ramped: gradients of the plain network, for every layer and candidate at once.

At α = 1 every overwritten activation equals the plain one, so that the state is the plain forward's whatever the path.
One backward gives ∂F/∂(stream) of all layers, with every layer free; only the way from an earlier layer's neurons to
the current one depends on the clamp (docs/method.md §9).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.staged import StagedModel
from .forward import Plain, neuron_rows, write
from .objectives import Objective
from .sites import NEURONS


class PlainGraph:
    """A plain forward of B images that can be differentiated layer by layer, its clamped layers apart from its neurons.

    `tangents`: keep what `Unramped.push` needs. Costs one forward; of the last block only the neuron tokens.
    """

    @torch.no_grad()
    def __init__(self, model: StagedModel, images: Tensor, tangents: bool):
        self.model, self.tangents = model, tangents
        self.entering: list[Tensor] = []  # per layer the stream entering the block, (B, T, D), a leaf
        self.opened: list[Tensor] = []  # and after it but for what its neurons write
        self.before: list[Tensor] = []  # the neuron tokens before their FFN, (B, N, D), a leaf
        self.hidden: list[Tensor] = []  # h̄, (B, N, H)
        self.written: list[Tensor] = []  # fc2(h̄), (B, N, D)
        z = model.embed(images)
        with self._kernels():
            for layer in range(len(model.blocks)):
                z = self._block(z, layer)
        self.last = z.requires_grad_()  # the neuron tokens after the last block
        with torch.enable_grad():
            self.logits = model.read(self.last)

    def plain(self) -> Plain:
        """What the forward leaves behind, in the dtype of the stream."""
        like = self.last.dtype
        hidden, written = ([x.detach().to(like, copy=True) for x in kept] for kept in (self.hidden, self.written))
        return Plain(self.logits.detach(), hidden, written, self.opened[0].detach(), NEURONS.sites(self.model))

    @torch.enable_grad()
    def _block(self, z: Tensor, layer: int) -> Tensor:
        model, block = self.model, self.model.blocks[layer]
        z = z.detach().requires_grad_()
        opened = a = block.attend(z, model.queries(layer))
        if model.queries(layer) is None:
            other = a[:, model.other_tokens]
            opened = model.join(a[:, model.neuron_tokens], other + block.project(block.hidden(other)))
        before = neuron_rows(model, opened, layer).detach().requires_grad_()
        h = block.hidden(before)
        out = block.project(h)
        for kept, x in zip(
            (self.entering, self.opened, self.before, self.hidden, self.written),
            (z, opened, before, h, out),
            strict=True,
        ):
            kept.append(x)
        return write(model, opened.detach(), layer, out.detach().to(z.dtype))

    def _kernels(self) -> AbstractContextManager[object]:
        """Of attention's kernels only MATH can be differentiated twice."""
        return sdpa_kernel(SDPBackend.MATH) if self.tangents else nullcontext()


class Unramped:
    """Gradients at α = 1 of F, the `objective` of the targets (B,).

    `gradients[l]`: ∂F/∂(stream opened at layer l), (B, T, D), after the last block (B, N, D), later layers free. Costs
    one backward.
    """

    def __init__(self, graph: PlainGraph, targets: Tensor, objective: Objective):
        self.graph, self.model = graph, graph.model
        with torch.enable_grad():
            (v,) = torch.autograd.grad(objective(graph.logits, targets).sum(), graph.last, retain_graph=True)
        found = [v]
        self._transposed: dict[int, tuple[Tensor, Tensor]] = {}  # by layer, for `push`
        for layer in range(len(self.model.blocks) - 1, 0, -1):
            rows = neuron_rows(self.model, v, layer).to(graph.written[layer].dtype)
            (back,) = torch.autograd.grad(graph.written[layer], graph.before[layer], rows)
            v = write(self.model, v, layer, back).detach()
            if graph.tangents:
                v.requires_grad_()
                with torch.enable_grad():
                    through = self._pull(layer, v, create_graph=True)
                self._transposed[layer] = v, through
                v = through.detach()
            else:
                v = self._pull(layer, v)
            found.append(v)
        self.gradients = found[::-1]

    def push(self, layer: int, tangent: Tensor) -> Tensor:
        """The tangent of the stream opened at `layer` from that of the stream entering it, earlier layers clamped.

        As the transpose of the transpose: differentiating a backward pass by what it was given.
        """
        given, through = self._transposed[layer]
        (pushed,) = torch.autograd.grad(through, given, tangent, retain_graph=True)
        return pushed

    def write_gradients(self, layer: int, clamped: Tensor) -> list[Tensor]:
        """∂F/∂(what the neurons of layers 0..`layer`-1 write), (B, N, D) each, all of these layers clamped.

        `clamped`: ∂F/∂(stream opened at `layer`). Costs a backward of the blocks up to `layer`, without the FFNs of the
        neuron tokens.
        """
        found = []
        for i in range(layer, 0, -1):
            clamped = self._pull(i, clamped)
            found.append(neuron_rows(self.model, clamped, i - 1))
        return found[::-1]

    def path_gradients(self, columns: Sequence[Tensor]) -> Tensor:
        """Σ_{n∈P} ∂F/∂w_n[t], (B, N), of a path that covers the first layers, `columns` (B, K, D) of each.

        Its layers are clamped, later ones free. Costs as `write_gradients`.
        """
        last = len(columns) - 1
        own = neuron_rows(self.model, self.gradients[last], last)
        written = [*self.write_gradients(last, self.gradients[last]), own]
        return sum_of_products(written, columns)

    def _pull(self, layer: int, v: Tensor, create_graph: bool = False) -> Tensor:
        """∂F/∂(stream entering block `layer`) from ∂F/∂(stream opened at it), without its neurons."""
        opened, entering = self.graph.opened[layer], self.graph.entering[layer]
        (found,) = torch.autograd.grad(opened, entering, v, retain_graph=True, create_graph=create_graph)
        return found


def sum_of_products(written: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """Σ over layers and path neurons of ⟨∂F/∂(what is written), column⟩, (B, N), from (B, N, D) and (B, K, D) each."""
    parts = [torch.einsum("bnd,bkd->bn", w, u) for w, u in zip(written, columns, strict=True)]
    return torch.stack(parts).sum(0)
