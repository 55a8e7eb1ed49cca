"""A smaller model computes what the whole one does with the cut units at 0 or at their means, literally, in float64."""

import json

import pytest
import torch
from foreign import ARCHITECTURES, open_clip_folder, timm_folder, timm_vit, transformers_folder
from helpers import SHAPES, fault, random_images, random_model, tiny_config
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

import neuronpath
from neuronpath import adapt, find_path, shrink
from neuronpath.models.checkpoint import save
from neuronpath.models.configs import CONFIGS
from neuronpath.models.shrinking import Folder

#: Architectures of other libraries whose FFN is more than two linear layers.
GATED = ("timm DINOv2 with SwiGLU", "timm EVA02", "timm, SwiGLU with its own norm", "transformers Dinov2 with SwiGLU")
QUICK = ("timm, registers, LayerScale, qk-norm", "timm SAM, whose stream is a grid", "torchvision ViT", "OpenCLIP ViT")


def choice(depth: int, size: int, count: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(size, generator=generator)[:count] for _ in range(depth)])


def some_means(depth: int, size: int) -> torch.Tensor:
    return torch.randn(depth, size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def with_cut_units(module: nn.Module, lasts: list[nn.Module], images, kept, means=None):
    """What a whole model gives, every unit that is not kept set at every token before its FFN's last layer."""

    def enter(layer: int):
        def hook(_, given):
            h = given[0].clone()
            for unit in range(h.shape[-1]):
                if unit not in kept[layer].tolist():
                    h[..., unit] = 0 if means is None else means[layer, unit]
            return (h,)

        return hook

    hooks = [last.register_forward_pre_hook(enter(layer)) for layer, last in enumerate(lasts)]
    try:
        output = module(images)
        return getattr(output, "logits", output)
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("folded", [False, True], ids=["at 0", "folded"])
@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_those_with_the_cut_units_set(name, folded):
    config = SHAPES[name]
    model, x = random_model(config), random_images(config, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kept = choice(config.depth, config.mlp_dim, 11)
    means = some_means(config.depth, config.mlp_dim) if folded else None
    small = shrink(model, kept, means)
    expected = with_cut_units(model, [block.mlp.fc2 for block in model.blocks], x, kept, means)
    torch.testing.assert_close(small(x), expected, rtol=1e-10, atol=1e-10)
    assert (small(x) - model(x)).abs().max() > 1e-3, "nothing would be seen"
    assert small.config == config.with_(mlp_dim=11)
    assert {(block.mlp.fc1.out_features, block.mlp.fc2.in_features) for block in small.blocks} == {(11, 11)}
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert model.config == config


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.long) for n in ARCHITECTURES if n not in GATED],
)
def test_adapted_models_equal_the_untouched_module_with_the_cut_units_set(name):
    foreign = ARCHITECTURES[name]()
    model = adapt(foreign.module, img_size=foreign.img_size)
    H = model.config.mlp_dim
    x = torch.randn(2, 3, foreign.img_size, foreign.img_size, dtype=torch.float64)
    lasts = [foreign.module.get_submodule(last) for last in foreign.lasts]
    kept, logits = choice(2, H, H // 2 + 1), model(x)
    for means in (None, some_means(2, H)):
        small = shrink(model, kept, means)
        torch.testing.assert_close(
            small(x), with_cut_units(foreign.module, lasts, x, kept, means), rtol=1e-10, atol=1e-10
        )
        assert small.config == model.config.with_(mlp_dim=H // 2 + 1)
    assert torch.equal(model(x), logits)


@pytest.mark.parametrize("name", GATED)
def test_gated_ffns_are_refused(name):
    model = adapt(ARCHITECTURES[name]().module, img_size=8)
    said = fault(shrink, model, choice(2, model.config.mlp_dim, 2))
    assert said.startswith("AdaptedModel cannot be shrunk: block 0: its FFN")


@pytest.mark.parametrize("share", [1, 0.02])
def test_what_mixes_units_is_refused(share):
    class Mix(nn.Module):
        def forward(self, x):
            return x + self.share * x.mean(-1, keepdim=True)

    Mix.share = share
    model = adapt(timm_vit(act_layer=Mix), img_size=8)
    for dtype in (torch.float64, torch.float32):
        assert "mixes units" in fault(shrink, model.set_dtype(dtype), choice(2, model.config.mlp_dim, 2))


def test_what_is_not_a_number_is_refused():
    model = random_model(tiny_config())
    model.blocks[0].mlp.fc1.weight[3] = torch.nan
    assert "mixes units" in fault(shrink, model, [[*range(2, 7)]] * 6)


def test_the_order_of_units_does_not_matter_and_all_of_them_change_nothing():
    config = tiny_config()
    model, x = random_model(config), random_images(config, 2)
    kept = choice(config.depth, config.mlp_dim, 9)
    assert torch.equal(shrink(model, kept)(x), shrink(model, kept.flip(1).tolist())(x))
    whole = shrink(model, choice(config.depth, config.mlp_dim, config.mlp_dim), some_means(6, 28))
    assert torch.equal(whole(x), model(x))
    assert shrink(model, kept[:, :1]).blocks[5].mlp.fc1.weight.shape == (1, 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_its_dtype_and_what_is_known_of_the_model(dtype):
    model = random_model(tiny_config(), dtype=torch.float32).set_dtype(dtype)
    model.assumed, model.class_names = ("x",), ("a", "b")
    small = shrink(model, choice(6, 28, 14), some_means(6, 28))
    assert {p.dtype for p in small.blocks[0].mlp.parameters()} == {dtype}
    assert not any(p.requires_grad for p in small.parameters())
    assert (small.assumed, small.class_names) == (("x",), ("a", "b"))
    assert small(random_images(model.config, 2, dtype=torch.float32)).isfinite().all()


@pytest.mark.parametrize(
    "kept",
    [
        [[0, 1]] * 5,
        [[0, 1]] * 5 + [[0]],
        [[0, 0]] * 6,
        [[0, 28]] * 6,
        [[-1, 2]] * 6,
        [[]] * 6,
        [[0.5, 1]] * 6,
        torch.zeros(6, 2),
        torch.zeros(6, dtype=torch.int64),
    ],
)
def test_other_units_are_refused(kept):
    with pytest.raises(ValueError, match="as many distinct units, 0 to 27, in each of 6 layers"):
        shrink(random_model(tiny_config()), kept)


@pytest.mark.parametrize("means", [torch.zeros(6, 27), torch.full((6, 28), torch.nan)])
def test_other_means_are_refused(means):
    with pytest.raises(ValueError, match="6 × 28 finite numbers"):
        shrink(random_model(tiny_config()), choice(6, 28, 2), means)


@pytest.mark.parametrize(("kind", "ending"), [("cls", ".npz"), ("cls", ".pth"), ("mean", ".pth")])
def test_load_and_timm_read_the_file_and_agree(kind, ending, tmp_path):
    config = tiny_config(kind)
    small = shrink(random_model(config, dtype=torch.float32), choice(6, 28, 11), some_means(6, 28))
    save(small, tmp_path / f"small{ending}")
    found = neuronpath.load(tmp_path / f"small{ending}", dtype=torch.float64)
    assert found.config == config.with_(mlp_dim=11)
    pool = "avg" if kind == "mean" else "token"
    sizes = {"img_size": 9, "patch_size": 3, "embed_dim": 20, "depth": 6, "num_heads": 5, "num_classes": 4}
    timm = TimmViT(**sizes, mlp_ratio=11 / 20, global_pool=pool).eval()
    if ending == ".npz":
        timm.load_pretrained(str(tmp_path / "small.npz"))
    else:
        timm.load_state_dict(torch.load(tmp_path / "small.pth", weights_only=True)["model"])
    x = random_images(config, 3)
    with torch.no_grad():
        torch.testing.assert_close(found(x), timm.double()(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found(x), small.double()(x), rtol=1e-12, atol=1e-12)
    assert find_path(found, x, torch.tensor([0, 1, 2])).path.max() < 11


@pytest.mark.parametrize("name", ["ViT-digits", "MAE-digits"])
def test_a_shrunk_model_of_the_digits_is_still_known_as_one(name, tmp_path):
    config = CONFIGS[name].with_(depth=2)
    full = tmp_path / f"full.{'npz' if name.startswith('ViT') else 'pth'}"
    model = random_model(CONFIGS[name], dtype=torch.float32)
    save(model, full)
    small = full.with_name(f"small{full.suffix}")
    save(shrink(model, choice(12, 384, 24)), small)
    assert neuronpath.load(small).native == neuronpath.load(full).native is not None
    save(random_model(config, dtype=torch.float32), small)
    assert neuronpath.load(small).native != neuronpath.load(full).native


class TestFolder:
    """Of timm and of `transformers`."""

    def write(self, folder, output, means=None, count: int = 5):
        model = neuronpath.load(folder, dtype=torch.float64)
        kept = choice(2, model.config.mlp_dim, count)
        small = shrink(model, kept, means)
        Folder.of(folder, "auto", output).write(small, kept, means, output)
        return small

    @pytest.mark.parametrize("options", [{}, {"init_values": 0.5, "reg_tokens": 1, "global_pool": "avg"}])
    def test_is_read_again(self, options, tmp_path):
        timm_folder(tmp_path / "whole", config={"img_size": 8, **SIZES, **options}, **options)
        for name, means in (("plain", None), ("folded", some_means(2, 9))):
            small = self.write(tmp_path / "whole", tmp_path / name, means)
            found = neuronpath.load(tmp_path / name, dtype=torch.float64)
            assert found.config.mlp_dim == 5
            x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
            tolerance = 1e-10 if means is None else 1e-5  # the folded bias is written in float32
            torch.testing.assert_close(found(x), small(x), rtol=tolerance, atol=tolerance)

    def test_of_transformers_is_read_again_with_its_preprocessing(self, tmp_path):
        transformers_folder(tmp_path / "whole", names=("a", "b", "c"))
        small = self.write(tmp_path / "whole", tmp_path / "small", some_means(2, 9))
        found = neuronpath.load(tmp_path / "small", dtype=torch.float64)
        x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(found(x), small(x), rtol=1e-5, atol=1e-5)
        assert (found.config.mlp_dim, found.class_names) == (5, ("a", "b", "c"))
        assert found.native == neuronpath.load(tmp_path / "whole").native is not None

    @pytest.mark.long
    def test_an_architecture_that_counts_in_widths(self, tmp_path):
        transformers_folder(tmp_path / "whole", "Dinov2", "Bit", mlp_ratio=1)
        assert "no place for the smaller model" in fault(self.write, tmp_path / "whole", tmp_path / "small")
        assert [file.name for file in tmp_path.iterdir()] == ["whole"]

    @pytest.mark.parametrize("count", [1, 2, 4, 7, 8])
    def test_timm_counts_the_units_right(self, count, tmp_path):
        timm_folder(tmp_path / "whole", config={"img_size": 8, **SIZES})
        self.write(tmp_path / "whole", tmp_path / "small", count=count)
        assert neuronpath.load(tmp_path / "small").config.mlp_dim == count
        ratio = json.loads((tmp_path / "small/config.json").read_text())["model_args"]["mlp_ratio"]
        assert int(12 * ratio) == count

    def test_mistakes(self, tmp_path):
        timm_folder(tmp_path / "timm")
        open_clip_folder(tmp_path / "clip")
        (tmp_path / "x.safetensors").touch()
        assert "there is something already" in fault(Folder.of, tmp_path / "timm", "auto", tmp_path / "timm")
        said = fault(Folder.of, tmp_path / "clip", "auto", tmp_path / "new")
        assert "of classifiers of timm and transformers" in said
        assert "neuronpath.shrink" in said
        said = fault(Folder.of, tmp_path / "x.safetensors", "timm:vit_tiny_patch16_224", tmp_path / "new")
        assert "give a folder" in said

    def test_a_bias_that_the_architecture_lacks(self, tmp_path):
        timm_folder(tmp_path / "whole", config={"img_size": 8, **SIZES, "proj_bias": False}, proj_bias=False)
        self.write(tmp_path / "whole", tmp_path / "plain")
        said = fault(self.write, tmp_path / "whole", tmp_path / "folded", some_means(2, 9))
        assert "no place for the smaller model" in said
        assert not (tmp_path / "folded").exists()


SIZES = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 0.75}
