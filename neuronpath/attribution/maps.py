"""Where in an image a unit is active, or what of the image it reads: maps over the patches (docs/method.md §6)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError
from ..models.configs import Config
from ..models.staged import StagedModel
from .activations import activations
from .rows import default_rows

MOVED = 1e-3  # least change of a patch's token when its pixels are replaced, relative to the largest


@dataclass(frozen=True)
class PatchGrid:
    """The patches of an image, row by row from above: `side` × `side` squares of `pixels` × `pixels`."""

    side: int
    pixels: int
    tokens: Tensor  # (side²,) int64, which of the T tokens is of which patch


def patch_grid(model: StagedModel) -> PatchGrid:
    """Of a model of another library tried, not assumed: which tokens change before the first block with which squares.

    UserError where these are not a token for each square of a grid. Cost: one embedding per patch, none for the
    package's own models.
    """
    config = model.config
    if isinstance(config, Config):
        first = config.tokens - config.patches
        return PatchGrid(config.img_size // config.patch_size, config.patch_size, torch.arange(first, config.tokens))
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, config.img_size, config.img_size, generator=generator).to(model.device, model.dtype)
    with torch.no_grad():
        before = model.embed(one[None])
        change = (model.embed(other[None]) - before).abs().amax(-1)[0]  # (T,)
        moved = change > MOVED * change.max()
        side = math.isqrt(int(moved.sum()))
        if side * side != int(moved.sum()) or config.img_size % side:
            raise _no_grid(model, f"{int(moved.sum())} of its tokens are of the image, which are no square grid")
        pixels, tokens = config.img_size // side, list[int]()
        for i in range(side):
            row = one.repeat(side, 1, 1, 1)  # (side, 3, S, S), in each another square of row i is replaced
            for j, image in enumerate(row):
                square = (..., slice(i * pixels, (i + 1) * pixels), slice(j * pixels, (j + 1) * pixels))
                image[square] = other[square]
            change = (model.embed(row) - before).abs().amax(-1)  # (side, T)
            for of_patch in change > MOVED * change.max():
                if of_patch.sum() != 1:
                    raise _no_grid(model, "a square of the image is not one token of its own")
                tokens.append(int(of_patch.nonzero()))
    if len(set(tokens)) < len(tokens):
        raise _no_grid(model, "two squares of the image have one token")
    return PatchGrid(side, pixels, torch.tensor(tokens))


def unit_maps(
    model: StagedModel,
    images: Tensor,
    places: Tensor | Sequence[tuple[int, int, int]],
    *,
    grid: PatchGrid | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    """Maps (P, side, side) over the patches, one for each of `places` (P, 3): which of `images`, layer, unit.

    `images` (B, 3, height, width), normalised. Several neuron tokens: h̄_j of each patch's token; neuron tokens that are
    no patches have no place in it. One neuron token: gradient × input, of the patch's pixels and channels the sum of
    x·∂h̄_j/∂x, x the normalised image.

    ValueError for places that are not there. UserError where the patches are no grid (`patch_grid`), and where the head
    reads several tokens but not every patch's. Cost: one forward per image, as far as the last layer that is asked for;
    for one neuron token instead l + 1 blocks forward and backward per place in layer l. At most `internal_batch_size`
    images or places at once. `grid`: that of `patch_grid`, where it is at hand.
    """
    places = torch.as_tensor(places, dtype=torch.long).reshape(-1, 3).cpu()
    limits = torch.tensor([len(images), model.config.depth, model.config.mlp_dim])
    if len(bad := ((places < 0) | (places >= limits)).any(1).nonzero()):
        raise ValueError(
            f"no image, layer, unit {tuple(places[bad[0, 0]].tolist())}: there are {tuple(limits.tolist())}"
        )
    grid, rows = grid or patch_grid(model), internal_batch_size or default_rows(model, images.device)
    maps = _gradient_maps if model.num_neuron_tokens == 1 else _activation_maps
    return maps(model, images, places, grid, rows).unflatten(1, (grid.side, grid.side))


@torch.no_grad()
def _activation_maps(model: StagedModel, images: Tensor, places: Tensor, grid: PatchGrid, rows: int) -> Tensor:
    neuron = torch.arange(model.tokens, device=model.device)[model.neuron_tokens].tolist()
    where = {token: n for n, token in enumerate(neuron)}
    if not all(token in where for token in grid.tokens.tolist()):
        raise _no_grid(model, f"its head reads {len(neuron)} tokens, but not every patch's")
    order = torch.tensor([where[token] for token in grid.tokens.tolist()], device=images.device)
    found = images.new_empty(len(places), len(order), dtype=model.dtype)
    for part in places[:, 0].unique().split(rows) if len(places) else ():
        here = torch.isin(places[:, 0], part).nonzero()[:, 0]
        last = int(places[here, 1].max())
        for layer, h in enumerate(activations(model, images[part])):
            at = here[places[here, 1] == layer]
            image = torch.searchsorted(part, places[at, 0]).to(h.device)
            found[at.to(h.device)] = h[image[:, None], order, places[at, 2, None].to(h.device)].to(found.dtype)
            if layer == last:
                break
    return found


@torch.enable_grad()
def _gradient_maps(model: StagedModel, images: Tensor, places: Tensor, grid: PatchGrid, rows: int) -> Tensor:
    used = grid.side * grid.pixels  # beyond it, pixels are in no patch
    found = images.new_empty(len(places), grid.side**2, dtype=model.dtype)
    for layer in places[:, 1].unique().tolist():
        for at in (places[:, 1] == layer).nonzero()[:, 0].split(rows):
            x = images[places[at, 0]].detach().requires_grad_()  # (R, 3, S, S)
            z, block = model.embed(x), model.blocks[layer]
            for earlier in range(layer):
                z = model.blocks[earlier](z)
            h = block.hidden(block.attend(z, model.neuron_tokens))[:, 0]  # (R, H)
            chosen = h.gather(1, places[at, 2, None].to(h.device))
            (gradient,) = torch.autograd.grad(chosen.sum(), x)
            parts = (x.detach() * gradient).sum(1)[:, :used, :used]
            parts = parts.unflatten(2, (grid.side, -1)).unflatten(1, (grid.side, -1))  # (R, side, pixels, side, pixels)
            found[at.to(found.device)] = parts.sum((2, 4)).flatten(1)
    return found


def _no_grid(model: StagedModel, why: str) -> UserError:
    name = getattr(model.config, "architecture", type(model).__name__)
    return UserError(f"{name}: {why}; its units have no maps over patches")
