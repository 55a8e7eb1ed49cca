"""Which units a smaller model keeps: what a unit is worth, by paths and by what is usual (docs/method.md §5).

All are (L, H) in float64, larger is more important. `UnitSums` is what calibration images tell; sums of several batches
add up, so that nothing depends on how images are batched.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..models.staged import StagedModel
from .forward import resolve_targets
from .objectives import Objective, objective_of
from .rows import default_rows

GRAPH = 8  # of a whole model kept for a backward pass: as many rows less at once


@dataclass(frozen=True)
class UnitSums:
    """Sums over images, (L, H) each: of h at `tokens`, of |h|, both means over tokens, and of |Σ_t h·∂F/∂h|.

    `mean` is over all tokens whose FFN is read, whatever the others are over: it stands for a unit that is cut.
    """

    images: int
    mean: Tensor
    size: Tensor
    taylor: Tensor

    def __add__(self, other: "UnitSums") -> "UnitSums":
        return UnitSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def means(self) -> Tensor:
        return self.mean / self.images

    @property
    def sizes(self) -> Tensor:
        """The mean |h|."""
        return self.size / self.images


def unit_sums(
    model: StagedModel,
    images: Tensor,
    targets: Tensor,
    *,
    all_tokens: bool = False,
    objective: Objective | str = "probability",
    internal_batch_size: int | None = None,
) -> UnitSums:
    """Of `images` (B, 3, height, width) with `targets` (B,).

    At the neuron tokens, as paths; with `all_tokens` at all tokens, but of the last layer only at those that the head
    reads. F is the `objective` of the target. One forward and one backward per image.
    """
    rows = internal_batch_size or max(1, default_rows(model, images.device) // GRAPH)
    parts = zip(images.split(rows), targets.split(rows), strict=True)
    found = [_sums(model, x, y, all_tokens, objective_of(objective)) for x, y in parts]
    return sum(found[1:], found[0])


@torch.enable_grad()
def _sums(model: StagedModel, images: Tensor, targets: Tensor, all_tokens: bool, objective: Objective) -> UnitSums:
    z, hidden = model.embed(images), []
    for layer, block in enumerate(model.blocks):
        a = block.attend(z, model.queries(layer))
        h = block.hidden(a)
        hidden.append(h if h.requires_grad else h.requires_grad_())
        z = a + block.project(hidden[-1])
    logits = model.read(z)
    gradients = torch.autograd.grad(objective(logits, resolve_targets(targets, logits)).sum(), hidden)
    mean, size, taylor = [], [], []
    for layer, (h, g) in enumerate(zip(hidden, gradients, strict=True)):
        h, g = h.detach().double(), g.double()  # (B, T, H), of the last layer (B, N, H)
        mean.append(h.mean(1).sum(0))
        if not all_tokens and model.queries(layer) is None:
            h, g = h[:, model.neuron_tokens], g[:, model.neuron_tokens]
        size.append(h.abs().mean(1).sum(0))
        taylor.append((h * g).sum(1).abs().sum(0))
    return UnitSums(len(images), *(torch.stack(parts).cpu() for parts in (mean, size, taylor)))


def path_frequency(paths: Tensor, labels: Tensor, num_neurons: int) -> Tensor:
    """How often a unit is in the `paths` (n, L, K) of images of classes `labels` (n,): (L, H).

    The mean over classes of the share of a class's images whose paths hold the unit, so that every class counts alike;
    to 12 digits after the point, so that rounding parts no equal ones.
    """
    n, L, _ = paths.shape
    held = torch.zeros(n, L, num_neurons, dtype=torch.float64).scatter(2, paths.cpu(), 1)
    shares = [held[labels.cpu() == label].mean(0) for label in labels.cpu().unique()]
    return torch.stack(shares).mean(0).round(decimals=12)


def written(model: StagedModel, sizes: Tensor) -> Tensor:
    """The mean |h| `sizes` (L, H) times the length of what a unit writes, ‖column of fc2‖."""
    return sizes * torch.stack([block.fc2.weight.double().norm(dim=0) for block in model.blocks]).cpu()


def magnitude(model: StagedModel) -> Tensor:
    """The length of a unit's weights, its row of fc1 and its column of fc2 in one: (L, H). UserError as of `fc1`."""
    squares = [
        block.fc1.weight.double().square().sum(1) + block.fc2.weight.double().square().sum(0) for block in model.blocks
    ]
    return torch.stack(squares).sqrt().cpu()


def random_importance(seed: int, depth: int, num_neurons: int) -> Tensor:
    """Uniform in [0, 1), (L, H); each (seed, layer) has a generator of its own."""
    layers = [np.random.default_rng((seed, layer)).random(num_neurons) for layer in range(depth)]
    return torch.from_numpy(np.stack(layers))


def most_important(importance: Tensor, count: int, ties: Tensor | None = None) -> Tensor:
    """Per layer the `count` units of largest `importance` (L, H), best first: (L, count).

    Those of equal importance by larger `ties` (L, H), then by lower index.
    """
    keys = [importance.numpy(), (torch.zeros_like(importance) if ties is None else ties).numpy()]
    index = np.arange(importance.shape[1])
    order = [np.lexsort((index, -second, -first)) for first, second in zip(*keys, strict=True)]
    return torch.from_numpy(np.stack(order))[:, :count]


def best_first(
    kind: str,
    model: StagedModel,
    *,
    sums: UnitSums | None = None,
    frequency: Tensor | None = None,
    seed: int = 42,
) -> Tensor:
    """All units by the importance `kind`, best first: (L, H).

    path: by `frequency` (L, H), ties by the mean |h| of `sums`, which are of the neuron tokens then; activation and
    taylor: by `sums`; magnitude; random: by `seed`.
    """
    L, H = model.config.depth, model.config.mlp_dim
    if kind == "random":
        return most_important(random_importance(seed, L, H), H)
    if kind == "magnitude":
        return most_important(magnitude(model), H)
    assert sums
    if kind == "path":
        assert frequency is not None
        return most_important(frequency, H, sums.sizes)
    return most_important(sums.taylor if kind == "taylor" else written(model, sums.sizes), H)


def kept_count(share: float, num_neurons: int) -> int:
    """Units of a layer that a kept share makes, at least one."""
    return max(1, round(share * num_neurons))
