"""Attention of other libraries, opened at its heads, against hooks on the untouched module, in float64."""

import oracle_heads as oracle
import pytest
import torch
from foreign import ARCHITECTURES, timm_vit
from helpers import fault
from torch import nn

from neuronpath import Quadrature, edit, find_head_path, find_path, remove
from neuronpath.models.adapted import adapt

RULE, M = "gauss-legendre", 2
REFUSED = {"timm SAM, whose stream is a grid": "what enters Attention's last layer is not the heads of each token"}
QUICK = (
    "timm, registers, LayerScale, qk-norm",
    "timm EVA02",
    "timm, mean beside registers",
    "transformers CLIP",
    "transformers Dinov2 with registers",
    "torchvision ViT",
    "OpenCLIP ViT",
)


def images_of(foreign, seed: int = 1) -> torch.Tensor:
    size = foreign.img_size
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in ARCHITECTURES]
)
def test_paths_of_heads_equal_hooks_on_the_untouched_module(name):
    foreign = ARCHITECTURES[name]()
    images, target = images_of(foreign), torch.tensor([2])
    model = adapt(foreign.module, img_size=foreign.img_size)
    if name in REFUSED:
        find_path(model, images, target, Quadrature(RULE, M))  # its neurons are none the worse
        message = fault(find_head_path, model, images, target)
        assert message.endswith(f"cannot be opened at its heads: {REFUSED[name]}")
        return
    expected = foreign.oracle_of_heads()
    for units in ("heads", "both"):
        found = find_head_path(model, images, target, Quadrature(RULE, M), units=units, search="layer")
        path = found.path[0].tolist()
        jas = oracle.jas(expected, images[0], 2, path, units=units, rule=RULE, m=M)
        assert found.score.item() == pytest.approx(jas, rel=1e-8)
        assert found.drop.item() == pytest.approx(oracle.drop(expected, images[0], 2, path, units=units), rel=1e-7)
        if units == "heads":
            best, margins = oracle.search(expected, images[0], 2, units=units, rule=RULE, m=M, K=1)
            assert path == best
            torch.testing.assert_close(found.margin[0], torch.tensor(margins).double(), rtol=1e-6, atol=1e-9)
            (removed,) = edit(model, images, remove(model, found.path, units=units))
            after = oracle.edited(expected, images[0], path, lambda site, u, x: 0 * x, units=units)
            torch.testing.assert_close(removed[0].softmax(-1), after, rtol=1e-9, atol=1e-12)


class Odd(nn.Module):
    """Attention of no library."""

    def __init__(self, attention):
        super().__init__()
        self.own = attention

    def forward(self, x, *_, **__):
        return self.own.proj(x)


class OddAttention(Odd):
    pass


def change(module, part) -> nn.Module:
    for block in module.blocks:
        part(block)
    return module


def test_attention_of_an_unknown_kind_is_refused_in_one_line():
    def own(block, kind):
        block.attn = kind(block.attn)

    def normed(block):
        block.attn.norm = nn.LayerNorm(12).double()

    def unnamed(block):
        block.attn.last = block.attn.proj
        block.attn.forward = lambda x, *_, **__: block.attn.last(x)
        del block.attn.proj

    def countless(block):
        del block.attn.num_heads
        block.attn.forward = lambda x, *_, **__: block.attn.proj(x)

    for part, words in (
        (lambda block: own(block, OddAttention), "its block has 2 modules of attention, not one of a known kind"),
        (
            lambda block: setattr(block, "attn", Odd(nn.ModuleDict({"proj": nn.Linear(12, 12).double()}))),
            "has 0 modules",
        ),
        (normed, "Attention has a norm of all heads before its last layer"),
        (unnamed, "Attention has no last linear layer (named proj, o_proj, out_proj)"),
        (countless, "Attention does not tell how many heads it has"),
    ):
        model = adapt(change(timm_vit(), part), img_size=8)
        message = fault(find_head_path, model, torch.randn(1, 3, 8, 8).double(), torch.tensor([0]))
        assert "Block cannot be opened at its heads: " in message
        assert words in message, message
        assert "\n" not in message


def test_what_is_opened_moves_with_the_model():
    """Precision and copies: the last layer, LayerScale folded into it, is the model's own."""
    module = timm_vit(init_values=0.5)
    model, images = adapt(module, img_size=8), torch.randn(2, 3, 8, 8)
    z = torch.randn(2, 5, 12).double()
    block = model.blocks[1]
    torch.testing.assert_close(z + block.merge(block.mix(z)), block.attend(z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block.mix(z, slice(0, 1)), block.mix(z)[:, :1])
    found = find_head_path(model.set_dtype(torch.float32), images, torch.tensor([0, 1]))
    assert found.score.dtype == torch.float32
    assert model.blocks[0].proj.weight.dtype == torch.float32
