"""Models of other libraries, cut at their neurons, against plain autograd on the untouched module, in float64."""

import oracle
import pytest
import timm
import torch
from foreign import ARCHITECTURES, timm_vit
from helpers import fault
from timm.models.vision_transformer import ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from torch import nn

from neuronpath import Beam, Quadrature, edit, find_path, influence_path, remove, score_path
from neuronpath.models.adapted import adapt

RULE = ("gauss-radau", 2)
QUICK = (  # one of each kind; the others are long
    "timm, registers, LayerScale, qk-norm",
    "timm, mean beside registers",
    "timm DINOv2 with SwiGLU",
    "timm SigLIP, MAP head",
    "timm DeiT, distilled",
    "timm EVA02",
    "timm DINOv3",
    "timm SAM, whose stream is a grid",
    "transformers ViT",
    "transformers Dinov2 with registers",
    "transformers CLIP",
    "torchvision ViT",
    "OpenCLIP ViT",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in ARCHITECTURES]
)
def test_all_that_is_found_equals_plain_autograd_on_the_untouched_module(name):
    foreign = ARCHITECTURES[name]()
    expected, size = foreign.oracle(), foreign.img_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = {key: value.clone() for key, value in foreign.module.state_dict().items()}
    model, targets, rule = adapt(foreign.module, img_size=size), torch.tensor([0, 2]), Quadrature(*RULE)
    assert model.num_neuron_tokens == len(foreign.tokens)
    logits = torch.stack([oracle.forward(expected, image)[0] for image in images])
    torch.testing.assert_close(model(images).softmax(-1), logits, rtol=1e-9, atol=1e-12)
    for search in ("layer", "exhaustive"):
        found = find_path(model, images, targets, rule, search=search)
        find = oracle.search if search == "layer" else oracle.exact_search
        for i, target in enumerate(targets.tolist()):
            path, margins, *_ = find(expected, images[i], target, rule=RULE[0], m=RULE[1], K=1)
            assert found.path[i].tolist() == path
            torch.testing.assert_close(found.margin[i], torch.tensor(margins).double(), rtol=1e-7, atol=1e-9)
            jas = oracle.jas(expected, images[i], target, path, rule=RULE[0], m=RULE[1])
            assert abs(jas) > 1e-5
            assert found.score[i].item() == pytest.approx(jas, rel=1e-9)
            assert score_path(model, images[i : i + 1], targets[i : i + 1], found.path[i : i + 1], rule).item() == (
                pytest.approx(jas, rel=1e-9)
            )
    beam = find_path(model, images, targets, rule, search=Beam(2))
    for i, target in enumerate(targets.tolist()):
        defined = {"rule": RULE[0], "m": RULE[1]}
        path, margins, jas, _ = oracle.beam_search(expected, images[i], target, 2, oracle.layer_scores, **defined)
        assert beam.path[i].tolist() == path
        assert beam.score[i].item() == pytest.approx(jas, rel=1e-9)
        torch.testing.assert_close(beam.margin[i], torch.tensor(margins).double(), rtol=1e-7, atol=1e-9)
    pattern = influence_path(model, images, targets, rule)
    removed = edit(model, images, remove(model, found.path))[0].softmax(-1)
    for i, target in enumerate(targets.tolist()):
        influence = oracle.influence(expected, images[i], target, *RULE)
        assert pattern.path[i].tolist() == [[row.argmax().item()] for row in influence]
        factors = oracle.path_factors(expected, found.path[i].tolist(), 0)
        torch.testing.assert_close(removed[i], oracle.edited(expected, images[i], factors), rtol=1e-9, atol=1e-12)
    after = foreign.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


class Several(nn.Module):
    """A head on the CLS tokens of two layers."""

    def __init__(self):
        super().__init__()
        self.vit, self.head = timm_vit(), nn.Linear(24, 3)

    def forward(self, x):
        z, read = self.vit._pos_embed(self.vit.patch_embed(x)), []
        for block in self.vit.blocks:
            z = block(z)
            read.append(z[:, 0])
        return self.head(torch.cat(read, 1))


class Gated(nn.Module):
    """An FFN whose output is multiplied by its block's own gate, of each token."""

    def __init__(self, block):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp

    def forward(self, z):
        a = z + self.attn(self.norm1(z))
        return a + a.mean(-1, keepdim=True).sigmoid() * self.mlp(self.norm2(a))


def changed(change) -> nn.Module:
    module = timm_vit()
    change(module)
    return module


def gate(module: nn.Module) -> None:
    module.blocks[1] = Gated(module.blocks[1])


def widen(module: nn.Module) -> None:
    module.blocks[1].mlp = type(module.blocks[1].mlp)(12, 10).double()


class ResPost(nn.Module):
    """Another norm follows the FFN; what it adds is so little that logits alone would not tell."""

    class Block(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
            self.norm3 = nn.LayerNorm(12).double()
            nn.init.constant_(self.norm3.weight, 1e-5)

        def forward(self, z):
            a = z + self.attn(self.norm1(z))
            return a + self.norm3(self.mlp(self.norm2(a)))

    def __init__(self, vit):
        super().__init__()
        self.vit = vit
        vit.blocks = nn.Sequential(*(self.Block(block) for block in vit.blocks))

    def forward(self, x):
        return self.vit(x)


SCALED = "block 0: the output of its FFN is not added as it is, nor scaled per channel (a norm behind it?)"
LISTS = "lists of blocks with an FFN each, not one (hierarchical, parallel or class attention)"
NONE = "it has no list of transformer blocks with an FFN each (named mlp or ffn or feed_forward)"
REFUSED = {
    "a norm in the place of the one before": (
        lambda: timm_vit(block_fn=ResPostBlock),
        "block 0: no norm of its own feeds its FFN (pre-norm blocks have one)",
    ),
    "a norm behind the FFN, too": (lambda: ResPost(timm_vit()), SCALED),
    "a gate": (lambda: changed(gate), SCALED.replace("block 0", "block 1")),
    "parallel": (lambda: timm_vit(block_fn=ParallelScalingBlock), NONE),
    "parallel lists": (lambda: timm_vit(block_fn=ParallelThingsBlock), f"it has 2 {LISTS}"),
    "hierarchical": (
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=8, window_size=2, depths=(1, 1)),
        f"it has 2 {LISTS}",
    ),
    "several layers read": (
        Several,
        "cut, it gives other logits (does its head read several layers, or the image itself?)",
    ),
    "other widths": (lambda: changed(widen), "its layers have different numbers of neurons, 9, 10"),
    "no logits": (
        lambda: timm_vit(num_classes=0, global_pool=""),
        "it does not return logits (B, classes), nor an output that has them",
    ),
    "no transformer": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), NONE),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_give_wrong_paths_is_refused_and_says_why(kind):
    make, why = REFUSED[kind]
    module = make().double().eval()
    assert fault(adapt, module, img_size=8) == f"{type(module).__name__} cannot be cut at its neurons: {why}"


def test_other_sizes_are_refused():
    found = fault(adapt, timm_vit(), img_size=16)
    assert found.startswith("VisionTransformer cannot be cut at its neurons: it takes no images of 16 pixels alone (")


def test_half_precision_is_searched_in_float32_and_bfloat16_refused():
    module = timm_vit().half()
    model = adapt(module, img_size=8)
    assert model.dtype == torch.float32
    assert module.blocks[0].mlp.fc1.weight.dtype == torch.float16
    assert model.set_dtype(torch.float64).dtype == torch.float64
    assert "bf16 is for the package's own models" in fault(model.set_dtype, torch.bfloat16)


def test_own_examples_tell_the_size():
    images = torch.randn(2, 3, 8, 8)
    assert adapt(timm_vit(), images).config.img_size == 8


def test_what_blocks_are_called_with_moves_with_the_model():
    foreign = ARCHITECTURES["timm EVA02"]()
    model = adapt(foreign.module, img_size=8).to(torch.float32)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(x), foreign.module(x.double()).float(), rtol=1e-4, atol=1e-4)
    assert torch.get_default_dtype() == torch.float32
