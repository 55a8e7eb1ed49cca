"""The ViT against timm's, and its stages against its own whole forward."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from helpers import KINDS, SHAPES, random_images, random_model, tiny_config
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import neuronpath
from neuronpath.models.checkpoint import save
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import LayerNorm, Linear

CONFIGURATIONS = [
    tiny_config(),
    tiny_config(patch_size=2, img_size=10, width=24, depth=3, num_heads=2, mlp_dim=36, num_classes=7),
    tiny_config(patch_size=5, img_size=5, width=6, depth=1, num_heads=3, mlp_dim=9, num_classes=2),
]


TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def timm_vit(config, **options) -> TimmViT:
    return TimmViT(
        img_size=config.img_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_dim / config.width,
        num_classes=config.num_classes,
        **options,
    ).eval()


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Relative to the largest of `b`."""
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def compare_with_timm(file, config, dtype, resized: bool = False, **load_options) -> None:
    ours = neuronpath.load(file, dtype=dtype, **load_options)
    assert ours.config == config
    theirs = timm_vit(config, weight_init="skip")
    theirs.load_pretrained(str(file))
    theirs.to(dtype)
    if resized:
        theirs.pos_embed.copy_(ours.pos_embed)
    assert torch.equal(theirs.pos_embed, ours.pos_embed)
    x = random_images(config, 2, dtype=dtype)
    expected = theirs(x)
    assert expected.std() > 1e-3
    assert largest_difference(ours(x), expected) <= TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda c: f"D{c.width}L{c.depth}")
def test_logits_equal_timm(config, dtype, tmp_path):
    save(random_model(config), tmp_path / "vit.npz")
    compare_with_timm(tmp_path / "vit.npz", config, dtype)


@DTYPES
@pytest.mark.parametrize("img_size", [6, 15])
def test_logits_equal_timm_at_a_resized_grid(img_size, dtype, tmp_path):
    save(random_model(tiny_config()), tmp_path / "vit.npz")
    config = tiny_config(img_size=img_size)
    compare_with_timm(tmp_path / "vit.npz", config, dtype, resized=True, img_size=img_size)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "file_size", "img_sizes"),
    [("ViT-B_16", 224, [224]), ("ViT-B_32", 224, [224]), ("ViT-B_32", 384, [384, 224]), ("ViT-L_32", 384, [384, 224])],
)
def test_logits_equal_timm_at_the_public_shapes(name, file_size, img_sizes, tmp_path):
    config, file = CONFIGS[name].with_(img_size=file_size), tmp_path / "vit.npz"
    save(random_model(config, scale=0.02, dtype=torch.float32), file)
    for config.img_size in img_sizes:
        for dtype in TOLERANCE:
            resized = config.img_size != file_size
            compare_with_timm(file, config, dtype, resized, model_type=name, img_size=config.img_size)
    file.unlink()


@DTYPES
@torch.no_grad()
def test_logits_equal_timm_with_mean_pooling(dtype):
    config = tiny_config("mean")
    ours = random_model(config, dtype=dtype)
    theirs = timm_vit(config, global_pool="avg").to(dtype)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = random_images(config, 2, dtype=dtype)
    assert largest_difference(ours(x), theirs(x)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("pool", ["cls", "mean"])
class TestStages:
    def test_run_from_any_block_is_the_whole_forward(self, pool):
        model = random_model(tiny_config(pool))
        x = random_images(model.config, 2)
        z, expected = model.embed(x), model(x)
        for layer, block in enumerate(model.blocks):
            assert largest_difference(model.run(z, layer), expected) < 1e-12
            z = block(z)
        assert largest_difference(model.run(z[:, model.neuron_tokens], len(model.blocks)), expected) < 1e-12

    def test_attend_of_some_tokens_is_those_rows_of_attend(self, pool):
        model = random_model(tiny_config(pool))
        z = model.embed(random_images(model.config, 2))
        for queries in (model.neuron_tokens, model.other_tokens, slice(3, 5)):
            assert largest_difference(model.blocks[1].attend(z, queries), model.blocks[1].attend(z)[:, queries]) < 1e-12

    def test_join_undoes_the_split_into_neuron_and_other_tokens(self, pool):
        model = random_model(tiny_config(pool))
        z = model.embed(random_images(model.config, 2))
        assert torch.equal(model.join(z[:, model.neuron_tokens], z[:, model.other_tokens]), z)
        assert z[:, model.neuron_tokens].shape[1] == (1 if pool == "cls" else 9)

    def test_forward_mode_tangent_is_the_finite_difference(self, pool):
        model = random_model(tiny_config(pool))
        z = model.embed(random_images(model.config, 2))
        t = torch.randn(z.shape, generator=torch.Generator().manual_seed(2), dtype=z.dtype)
        for block, queries in ((model.blocks[1], None), (model.blocks[2], model.neuron_tokens)):
            with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
                _, tangent = forward_ad.unpack_dual(block(forward_ad.make_dual(z, t), queries))
            step = 1e-5
            expected = (block(z + step * t, queries) - block(z - step * t, queries)) / (2 * step)
            assert largest_difference(tangent, expected) < 1e-8


@pytest.mark.parametrize("name", KINDS)
def test_only_the_products_of_the_blocks_are_rounded(name, tmp_path):
    model = random_model(SHAPES[name], dtype=torch.float32)
    save(model, tmp_path / "m.pth")
    loaded = neuronpath.load(tmp_path / "m.pth", num_heads=SHAPES[name].num_heads, dtype=torch.bfloat16)
    for path, module in loaded.named_modules():
        if isinstance(module, Linear | LayerNorm | torch.nn.Conv2d):
            halved = isinstance(module, Linear) and path != "head"
            assert module.weight.dtype == (torch.bfloat16 if halved else torch.float32), path
    logits = loaded(torch.randn(1, 3, *[model.config.img_size] * 2))
    assert loaded.dtype == loaded.pos_embed.dtype == logits.dtype == torch.float32
