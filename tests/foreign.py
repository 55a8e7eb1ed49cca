"""Small models of other libraries, random and frozen, in float64, and how an oracle reaches their neurons.

Sizes differ pairwise, so that a swapped axis cannot pass. `ARCHITECTURES`: by name what makes one.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from oracle import Hooked
from torch import nn

CLASSES = 3


@dataclass(frozen=True)
class Foreign:
    """A live module; `lasts`: its FFNs' last layers, as names; `tokens`: those that its head reads."""

    module: nn.Module
    lasts: Sequence[str]
    tokens: Sequence[int]
    img_size: int = 8

    def oracle(self) -> Hooked:
        lasts = [self.module.get_submodule(name) for name in self.lasts]
        return Hooked(self.module, lasts, self.tokens, lambda output: getattr(output, "logits", output))

    def oracle_of_heads(self) -> Hooked:
        """Every attention's last layer called as a module, so that hooks see it; that of MultiheadAttention is not."""
        module = copy.deepcopy(self.module)
        found = [m for m in module.modules() if type(m).__name__.endswith("Attention")][: len(self.lasts)]
        for attention in found:
            if isinstance(attention, nn.MultiheadAttention):
                attention.__class__ = Spelled
        names = ("proj", "o_proj", "out_proj")
        projections = [next(getattr(m, name) for name in names if hasattr(m, name)) for m in found]
        heads = next(n for key in ("num_heads", "num_attention_heads") if (n := getattr(found[0], key, 0)))
        lasts = [module.get_submodule(name) for name in self.lasts]
        more = {"projections": projections, "num_heads": heads}
        return Hooked(module, lasts, self.tokens, lambda output: getattr(output, "logits", output), **more)


class Spelled(nn.MultiheadAttention):
    """Attention of (B, T, D) with itself, written out."""

    def forward(self, x, *_, **__):
        q, k, v = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        size, parts = x.shape[-1] // self.num_heads, []
        for one, two, three in zip(q.split(size, -1), k.split(size, -1), v.split(size, -1), strict=True):
            parts.append((one @ two.transpose(1, 2) / size**0.5).softmax(-1) @ three)
        return self.out_proj(torch.cat(parts, -1)), None


def randomise(module: nn.Module, scale: float = 0.35, seed: int = 0) -> nn.Module:
    """Weights of a size that makes scores larger than 0.01; norms' weights and LayerScales about 1."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        values = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        one = parameter.ndim == 1 and not name.endswith("bias") and "token" not in name
        parameter.copy_(values + 1 if one else values)
    return module


def timm_vit(**options) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 0.75}
    return randomise(VisionTransformer(**{**sizes, "num_classes": CLASSES, **options}))


def timm_eva(**options) -> nn.Module:
    from timm.models.eva import Eva

    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 0.75}
    return randomise(Eva(**{**sizes, "num_classes": CLASSES, **options}))


def timm_models() -> dict[str, Callable[[], Foreign]]:
    from timm.layers import SwiGLU, SwiGLUPacked
    from timm.models.beit import Beit
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.naflexvit import NaFlexVit
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    fc2 = [f"blocks.{layer}.mlp.fc2" for layer in range(2)]
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 0.75}
    sizes["num_classes"] = CLASSES
    quick = {"act_layer": "quick_gelu", "pre_norm": True}
    return {
        "timm ViT": lambda: Foreign(timm_vit(), fc2, [0]),
        "timm, QuickGELU and a norm before": lambda: Foreign(timm_vit(**quick), fc2, [0]),
        "timm, mean after the norm": lambda: Foreign(timm_vit(global_pool="avg", fc_norm=False), fc2, range(1, 5)),
        "timm, registers, LayerScale, qk-norm": lambda: Foreign(
            timm_vit(reg_tokens=2, init_values=0.5, qk_norm=True), fc2, [0]
        ),
        "timm, mean beside registers": lambda: Foreign(timm_vit(reg_tokens=2, global_pool="avg"), fc2, range(3, 7)),
        "timm DINOv2 with SwiGLU": lambda: Foreign(
            timm_vit(init_values=0.3, mlp_layer=SwiGLUPacked, mlp_ratio=1.5, no_embed_class=True, reg_tokens=1),
            fc2,
            [0],
        ),
        "timm SigLIP, MAP head": lambda: Foreign(
            timm_vit(class_token=False, global_pool="map", fc_norm=False), fc2, range(4)
        ),
        "timm DeiT, distilled": lambda: Foreign(randomise(VisionTransformerDistilled(**sizes)), fc2, [0, 1]),
        "timm BEiT": lambda: Foreign(
            randomise(Beit(**sizes, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.4, global_pool="avg")),
            fc2,
            range(1, 5),
        ),
        "timm EVA02": lambda: Foreign(
            timm_eva(swiglu_mlp=True, use_rot_pos_emb=True, scale_mlp=True, qkv_fused=False, global_pool="avg"),
            fc2,
            range(1, 5),
        ),
        "timm DINOv3": lambda: Foreign(
            timm_eva(
                use_rot_pos_emb=True,
                rope_type="dinov3",
                use_abs_pos_emb=False,
                num_reg_tokens=2,
                init_values=0.5,
                dynamic_img_size=True,
                global_pool="token",
            ),
            fc2,
            [0],
        ),
        "timm, relative positions": lambda: Foreign(
            randomise(VisionTransformerRelPos(**sizes, class_token=False)), fc2, range(4)
        ),
        "timm SAM, whose stream is a grid": lambda: Foreign(
            randomise(
                VisionTransformerSAM(**{**sizes, "img_size": 12}, neck_chans=10, window_size=2, use_rel_pos=True)
            ),
            fc2,
            range(9),
            12,
        ),
        "timm NaFlexViT": lambda: Foreign(
            randomise(NaFlexVit(**sizes, pos_embed_grid_size=None, reg_tokens=1, global_pool="avg")), fc2, range(1, 5)
        ),
        "timm, SwiGLU with its own norm": lambda: Foreign(
            timm_vit(mlp_layer=lambda **options: SwiGLU(**{**options, "norm_layer": nn.LayerNorm})), fc2, [0]
        ),
    }


HF = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 9,
}
TEXT = {"hidden_size": 8, "intermediate_size": 9, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def transformers_model(name: str, kind: str = "ForImageClassification", **options) -> nn.Module:
    """`name`: of its configuration, without "Config"."""
    import transformers

    made = getattr(transformers, f"{name}Config")
    if hasattr(transformers, f"{name}VisionConfig"):  # one with a text tower
        config = made(vision_config=HF, text_config=TEXT)
        config.num_labels = CLASSES
    else:
        config = made(**{**HF, "num_labels": CLASSES, **options})
    return randomise(getattr(transformers, f"{name}{kind}")(config))


def transformers_models() -> dict[str, Callable[[], Foreign]]:
    swiglu = {"mlp_ratio": 1, "use_swiglu_ffn": True}

    def of(name: str, lasts: str, tokens: Sequence[int], **options) -> Callable[[], Foreign]:
        names = [lasts.format(layer) for layer in range(2)]
        return lambda: Foreign(transformers_model(name, **options), names, tokens)

    teacher = {"kind": "ForImageClassificationWithTeacher"}
    return {
        "transformers ViT": of("ViT", "vit.layers.{}.mlp.fc2", [0]),
        "transformers DeiT with its teacher": of("DeiT", "deit.layers.{}.mlp.fc2", [0, 1], **teacher),
        "transformers Dinov2": of("Dinov2", "dinov2.encoder.layer.{}.mlp.fc2", range(5), mlp_ratio=1),
        "transformers Dinov2 with SwiGLU": of("Dinov2", "dinov2.encoder.layer.{}.mlp.down_proj", range(5), **swiglu),
        "transformers Dinov2 with registers": of(
            "Dinov2WithRegisters", "dinov2_with_registers.encoder.layer.{}.mlp.fc2", [0, 5, 6, 7, 8], mlp_ratio=1
        ),
        "transformers BEiT": of("Beit", "beit.layers.{}.mlp.fc2", range(1, 5)),
        "transformers SigLIP": of("Siglip", "vision_model.encoder.layers.{}.mlp.fc2", range(4)),
        "transformers CLIP": of("CLIP", "vision_model.encoder.layers.{}.mlp.fc2", range(1, 5)),
        "transformers I-JEPA": of("IJepa", "ijepa.layers.{}.mlp.fc2", range(4)),
    }


def torchvision_vit() -> Foreign:
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 2, "num_heads": 3, "hidden_dim": 12, "mlp_dim": 9, "num_classes": CLASSES}
    module = randomise(VisionTransformer(image_size=8, patch_size=4, **sizes))
    return Foreign(module, [f"encoder.layers.encoder_layer_{layer}.mlp.3" for layer in range(2)], [0])


def open_clip_vit() -> Foreign:
    """Its tower ends in an embedding; here of as many numbers as there are classes."""
    from open_clip.transformer import VisionTransformer

    sizes = {"layers": 2, "heads": 3, "width": 12, "mlp_ratio": 0.75, "output_dim": CLASSES, "ls_init_value": 0.5}
    module = randomise(VisionTransformer(image_size=8, patch_size=4, **sizes))
    return Foreign(module, [f"transformer.resblocks.{layer}.mlp.c_proj" for layer in range(2)], [0])


ARCHITECTURES: dict[str, Callable[[], Foreign]] = {
    **timm_models(),
    **transformers_models(),
    "torchvision ViT": torchvision_vit,
    "OpenCLIP ViT": open_clip_vit,
}


def timm_folder(root: Path, name: str = "vit_tiny_patch16_224", config: dict | None = None, **options) -> nn.Module:
    """A folder as timm writes it, float32; the live model."""
    import timm
    from timm.models import save_for_hf

    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 0.75}
    module = randomise(timm.create_model(name, **{**sizes, "num_classes": CLASSES, **options})).float()
    save_for_hf(module, str(root), safe_serialization=True, model_config=config)
    return module


def transformers_folder(root: Path, name: str = "ViT", processor: str = "ViT", names=(), **options) -> nn.Module:
    """A folder as `transformers` writes it, float32, of images of 8 pixels; the live model."""
    import transformers

    module = transformers_model(name, **options).float()
    if names:
        module.config.id2label = dict(enumerate(names))
    transformers.utils.logging.disable_progress_bar()
    module.save_pretrained(root)
    size = {"height": 8, "width": 8}
    crop = {"size": {"shortest_edge": 10}, "crop_size": size} if processor in ("CLIP", "Bit") else {"size": size}
    getattr(transformers, f"{processor}ImageProcessor")(**crop).save_pretrained(root)
    return module


WORDS = sorted({*"abcdefghijklmnopqrstuvwxyz.,", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz.,")})
VOCABULARY = {token: i for i, token in enumerate(["<|startoftext|>", "<|endoftext|>", *WORDS])}


def clip_folder(root: Path, name: str = "CLIP", dim: int = 10) -> nn.Module:
    """A whole CLIP or SigLIP of `transformers` with its tokenizer, whose tokens are letters; the live model."""
    import transformers

    tokenizer = transformers.CLIPTokenizer(vocab=VOCABULARY, merges=[], model_max_length=30)
    text = {**TEXT, "vocab_size": len(VOCABULARY), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text |= {"max_position_embeddings": 30, **({"projection_size": HF["hidden_size"]} if name == "Siglip" else {})}
    config = getattr(transformers, f"{name}Config")(vision_config=HF, text_config=text, projection_dim=dim)
    module = randomise(getattr(transformers, f"{name}Model")(config)).float()
    transformers.utils.logging.disable_progress_bar()
    module.save_pretrained(root)
    tokenizer.save_pretrained(root)
    size = {"height": 8, "width": 8}
    transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=size).save_pretrained(root)
    return module


def open_clip_folder(root: Path) -> nn.Module:
    """A whole CLIP of OpenCLIP; the live model."""
    import json

    import open_clip
    from safetensors.torch import save_file

    vision = {"image_size": 8, "patch_size": 4, "layers": 2, "width": 12, "head_width": 4, "mlp_ratio": 0.75}
    text = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 10, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    module = randomise(open_clip.CLIP(**config)).float()
    root.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.6, 0.7],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (root / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(module.state_dict(), root / "open_clip_model.safetensors")
    return module
