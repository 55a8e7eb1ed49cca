"""Baselines that choose the neurons of every layer on their own: no path so far, no clamp (docs/method.md §4).

What they rank by are values (`rankings`); what they ask of images and model is here, `Layers`.
"""

import heapq
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ..models.staged import StagedModel
from .choice import Choice, best
from .engine import ForwardRamp, Problem
from .forward import neuron_rows, plain_forward, write
from .objectives import Objective, objective_of
from .quadrature import PAPER, Quadrature
from .rankings import Ablation, RandomUnits, Ranking, ranking_of
from .rows import default_rows, image_groups, node_groups
from .score import score_plain
from .search import check_finite
from .unramped import PlainGraph


@dataclass(frozen=True)
class BaselinePath:
    """What is found for B images: K neurons in each of L layers, best first."""

    path: Tensor  # (B, L, K) int64
    score: Tensor  # (B,) its JAS, in units of F
    margin: Tensor  # (B, L) as for a neuron path; of `Ablation` among the candidates scored; of `RandomUnits` 1
    logits: Tensor  # (B, C) of the unperturbed forward


def baseline_path(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    method: Ranking | str,
    quadrature: Quadrature = PAPER,
    *,
    k: int = 1,
    names: Sequence[str] | None = None,
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> BaselinePath:
    """Per layer the `k` best neurons by `method`, and the JAS of the path that these make.

    `method`: `GradientActivation()`, `Conductance()`, `LayerIG()`, `Ablation(candidates=64)` or `RandomUnits(seed=42)`,
    or the name of one with its defaults: "gradient_activation", "conductance", "layer_ig", "ablation", "random". Sums
    over the neuron tokens t; ties go to the lowest index. `quadrature` is that of the JAS and of layer integrated
    gradients; conductance has the nodes k/m, whatever the rule. `names`: what the images are called, by which
    `RandomUnits` draws.

    Other arguments as of `neuronpath.find_path`. ValueError for a bad `k`, `method` or `objective`, and for random
    units without a name for every image; NonFiniteError where a score is not finite. Cost per image beside the plain
    forward and the JAS of the path: one backward (gradient × activation); a forward and a backward per node
    (conductance); the tails of all layers, at L = 12 about 57 blocks (mean head: 66), forward and backward per node
    (layer integrated gradients) or forward per candidate (ablation); nothing (random).
    """
    ranking, objective = ranking_of(method), objective_of(objective)
    H = model.config.mlp_dim
    if not 1 <= k <= H:
        raise ValueError(f"k must be 1 to {H} (the neurons of a layer), not {k}")
    if isinstance(ranking, Ablation) and ranking.candidates is not None and ranking.candidates < k:
        raise ValueError(f"the candidates of an ablation must be at least k = {k}, not {ranking.candidates}")
    if isinstance(ranking, RandomUnits) and (names is None or len(names) != len(images)):
        raise ValueError("random neurons are drawn by the images' names: give `names`, one for each image")
    rows = internal_batch_size or default_rows(model, images.device)
    found = []
    for x, y, at in image_groups(quadrature, rows, images, targets, torch.arange(len(images))):
        problem = Problem.of(model, x, y, quadrature, rows, objective=objective, differentiable=True)
        choices = ranking.choices(Layers(problem, x, [names[i] for i in at.tolist()] if names else []), k)
        path = torch.stack([choice.chosen for choice in choices], 1)
        margin = torch.stack([choice.margin for choice in choices], 1)
        found.append((path, score_plain(problem, path), margin, problem.plain.logits))
    result = BaselinePath(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    check_finite(result.margin, result.score)
    return result


class Layers:
    """What a ranking may ask of B images, `images` (B, 3, height, width) of `problem`: scores (B, H) of every layer.

    `problem` must be differentiable. `names`: of the images, for `drawn` alone.
    """

    def __init__(self, problem: Problem, images: Tensor, names: Sequence[str] = ()):
        assert problem.graph is not None
        self.problem, self.model, self.plain = problem, problem.model, problem.plain
        self.images, self.names, self.graph = images, names, problem.graph

    def best(self, scores: Sequence[Tensor], k: int, known: Sequence[Tensor] | None = None) -> list[Choice]:
        """The k best of every layer, of those that are `known`, (B, H) each."""
        if known is None:
            return [best([s], k) for s in scores]
        return [best([s], k, which) for s, which in zip(scores, known, strict=True)]

    def gradient_activation(self) -> list[Tensor]:
        """Σ_t h̄_j[t]·∂F/∂h_j[t], the total derivative at the image itself: one backward."""
        return [(h * g).sum(1) for h, g in zip(self.plain.hidden, self._plain_gradients(), strict=True)]

    def conductance(self) -> list[Tensor]:
        """Σ_t Σ_k ∂F/∂h_j[t]·(h_j[t] at α_k·x - h_j[t] at α_{k-1}·x), α_k = k/m.

        A forward and a backward per node, where α = 1 is the plain forward; and one forward of the image 0.
        """
        B, m = len(self.images), self.problem.quadrature.steps
        steps = Quadrature("right", m)
        # The last node of the group before, (1 or B, 1, N, H) per layer.
        before = [h[:, None] for h in plain_forward(self.model, torch.zeros_like(self.images[:1])).hidden]
        totals = [torch.zeros_like(h[:, 0]) for h in self.plain.hidden]  # (B, H)
        for alpha, _ in node_groups(steps, self.problem.rows // B, self.images):
            k = len(alpha)
            scaled = alpha.repeat(B)[:, None, None, None] * self.images.repeat_interleave(k, 0)
            at_nodes = _hidden_gradients(self.problem, scaled, self.problem.targets.repeat_interleave(k))
            for layer, (h, g) in enumerate(at_nodes):
                here = h.unflatten(0, (B, k))  # (B, k, N, H)
                moved = here.diff(dim=1, prepend=before[layer].expand(B, -1, -1, -1))
                totals[layer] += (g.unflatten(0, (B, k)) * moved).sum((1, 2))
                before[layer] = here[:, -1:]
        plain = zip(self.plain.hidden, self._plain_gradients(), before, totals, strict=True)
        return [total + (g * (h - last[:, 0])).sum(1) for h, g, last, total in plain]

    def layer_ig(self) -> list[Tensor]:
        """Σ_t h̄_j[t]·Σ_k ω_k ∂F/∂h_j[t] with the layer alone at α_k·h̄: a tail forward and backward per node."""
        problem = self.problem
        groups = node_groups(problem.quadrature, problem.rows // len(self.images), self.images)
        ramps = [PathlessRamp(problem, self.graph, *group) for group in groups]
        unramped = problem.quadrature.unramped
        found = []
        for layer, h in enumerate(self.plain.hidden):
            parts = [unramped * self._plain_gradient(layer)] if unramped else []
            for ramp in ramps:
                ramp.enter(layer)
                parts.append(ramp.gradients()[1])
            found.append((h * reduce(torch.add, parts)).sum(1))
        return found

    @torch.no_grad()
    def ablation(self, candidates: int | None) -> tuple[list[Tensor], list[Tensor]]:
        """F - F(h_j = 0 at the neuron tokens), -inf where j is no candidate; and which are: a tail forward for each."""
        B, H = len(self.images), self.model.config.mlp_dim
        if candidates is None or candidates >= H:
            every = torch.arange(H, device=self.images.device).expand(B, -1)
            chosen = [every] * len(self.plain.hidden)
        else:
            order = [s.argsort(dim=-1, descending=True, stable=True) for s in self.gradient_activation()]
            chosen = [neurons[:, :candidates] for neurons in order]
        scores, known = [], []
        for layer, neurons in enumerate(chosen):
            drops = self._drops(layer, neurons)
            scores.append(torch.full((B, H), -torch.inf).to(drops).scatter(1, neurons, drops))
            known.append(torch.zeros_like(scores[-1], dtype=torch.bool).scatter(1, neurons, True))
        return scores, known

    def drawn(self, seed: int, k: int) -> list[Choice]:
        """k distinct neurons of every layer, those of the k largest of H random numbers, so that k + 1 begin with them.

        Margin 1: no score decides.
        """
        layers, H = range(len(self.plain.hidden)), self.model.config.mlp_dim
        drawn = [[_drawn(seed, name, layer, H, k) for layer in layers] for name in self.names]
        paths = torch.tensor(drawn, device=self.images.device)  # (B, L, k)
        margin = torch.ones_like(self.plain.logits[:, 0])
        return [Choice(paths[:, layer], margin) for layer in layers]

    def _plain_gradients(self) -> list[Tensor]:
        """∂F/∂h of every layer at the image itself, (B, N, H)."""
        return [self._plain_gradient(layer) for layer in range(len(self.plain.hidden))]

    def _plain_gradient(self, layer: int) -> Tensor:
        rows = neuron_rows(self.model, self.problem.unramped.gradients[layer], layer)
        return self.model.blocks[layer].neuron_gradient(rows)

    def _drops(self, layer: int, neurons: Tensor) -> Tensor:
        """F - F(h_j = 0) of each image's `neurons` (B, n) of `layer`: (B, n)."""
        problem, model, plain = self.problem, self.model, self.plain
        F = problem.objective(plain.logits, problem.targets)
        images = torch.arange(len(neurons), device=neurons.device).repeat_interleave(neurons.shape[1])
        opened, left = self.graph.opened[layer].detach(), []
        for i, j in zip(images.split(problem.rows), neurons.flatten().split(problem.rows), strict=True):
            gone = plain.hidden[layer][i, :, j][..., None] * model.blocks[layer].columns(j)[:, None]  # (rows, N, D)
            z = write(model, opened[i], layer, plain.written[layer][i] - gone)
            left.append(problem.objective(model.run(z, layer + 1), problem.targets[i]))
        return F[:, None] - torch.cat(left).view(neurons.shape)


class PathlessRamp(ForwardRamp):
    """A layer ramped without a path before it: what is kept is the plain forward's state, for any N."""

    def __init__(self, problem: Problem, graph: PlainGraph, nodes: Tensor, weights: Tensor):
        super().__init__(problem, nodes, weights)
        self.opened = graph.opened

    def enter(self, layer: int) -> None:
        self.layer, self.t = layer, None
        self.z = self.rows(self.opened[layer].detach())


@torch.enable_grad()
def _hidden_gradients(problem: Problem, images: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of every layer the neurons h and the total derivative ∂F/∂h, (R, N, H) each; a row per target."""
    model = problem.model
    z, hidden = model.embed(images), list[Tensor]()
    for layer, block in enumerate(model.blocks):
        a = block.attend(z, model.queries(layer))
        h = block.hidden(a)
        if layer == 0:
            h = h.detach().requires_grad_()  # the backward pass ends here
        hidden.append(h)
        z = a + block.project(h)
    gradients = torch.autograd.grad(problem.objective(model.read(z), targets).sum(), hidden)
    pairs = zip(hidden, gradients, strict=True)
    return [
        (neuron_rows(model, h.detach(), layer).to(z.dtype), neuron_rows(model, g, layer).to(z.dtype))
        for layer, (h, g) in enumerate(pairs)
    ]


def _drawn(seed: int, image: str, layer: int, num_neurons: int, k: int) -> list[int]:
    generator = random.Random(f"uniform/{seed}/{layer}/".encode() + os.fsencode(image))
    numbers = [generator.random() for _ in range(num_neurons)]
    return heapq.nlargest(k, range(num_neurons), key=numbers.__getitem__)
