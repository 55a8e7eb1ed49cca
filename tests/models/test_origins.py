"""Files that are not taken: one line that says where they come from and what to do."""

import numpy as np
import pytest
import torch
from helpers import fault, random_model, tiny_config

from neuronpath import load

TIMM = "give --model_type timm:NAME"
ADAPT = "load it with its own software and give the model to neuronpath.adapt"
SELF_SUPERVISED = "a file of self-supervised training: give that of a fine-tuned model"


def state(**changes) -> dict[str, torch.Tensor]:
    return random_model(tiny_config(depth=2, **changes), dtype=torch.float32).state_dict()


def without(start: str) -> dict[str, torch.Tensor]:
    return {name: x for name, x in state().items() if not name.startswith(start)}


@pytest.fixture
def said(tmp_path):
    """What is said of a file with these arrays, or with one of each of these names, after the file's name."""

    def said(given, ending: str = ".pth", **told) -> str:
        file = tmp_path / f"a{ending}"
        arrays = given if isinstance(given, dict) else {name: torch.ones(3) for name in given}
        if ending == ".npz":
            np.savez(file, **{name: array.numpy() for name, array in arrays.items()})
        else:
            torch.save(arrays, file)
        message = fault(load, file, **told)
        assert "\n" not in message
        return message.removeprefix(f"{file}: ")

    return said


@pytest.mark.parametrize(
    ("names", "origin"),
    [
        (["vit.embeddings.cls_token", "vit.encoder.layer.0.attention.attention.query.weight"], "transformers"),
        (["embeddings.patch_embeddings.projection.weight", "layer.0.norm1.weight"], "transformers"),
        (["vision_model.embeddings.class_embedding"], "transformers"),
        (["module.deit.encoder.layer.3.output.dense.bias"], "transformers"),
        (["class_token", "conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"], "torchvision"),
        (["visual.conv1.weight", "visual.transformer.resblocks.0.ln_1.weight", "logit_scale"], "clip"),
        (["transformer.resblocks.0.attn.in_proj_weight"], "clip"),
        (["student", "teacher", "epoch"], "self-supervised"),
        (["teacher.backbone.cls_token"], "self-supervised"),
        (["conv1.weight", "layer1.0.conv1.weight"], "other"),
        (["layers.0.blocks.0.attn.qkv.weight"], "other"),
    ],
)
def test_layouts_of_other_software(names, origin, said):
    assert (
        said(names)
        == {
            "transformers": "a transformers file: give its folder",
            "torchvision": f"a torchvision file: {ADAPT}",
            "clip": f"a CLIP model, a backbone without classifier: {ADAPT}",
            "self-supervised": SELF_SUPERVISED,
            "other": "no Vision Transformer of plain blocks, which is all that is taken",
        }[origin]
    )


def test_an_origin_is_named_before_arrays_of_integers(said):
    given = {"embeddings.cls_token": torch.ones(1), "embeddings.position_ids": torch.arange(3)}
    assert said(given) == "a transformers file: give its folder"


@pytest.mark.parametrize(
    "name",
    [
        "params/embedding/kernel",
        "params/img/Transformer/encoderblock_0/LayerNorm_0/scale",
        "opt/target/embedding/kernel",
        "pos_embedding",
        "MAPHead_0/probe",
        "Transformer/encoderblock/LayerNorm_0/scale",
        "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel",
    ],
)
def test_big_vision(name, said):
    assert said([name, "embedding/kernel"], ".npz") == f"big_vision's layout: {ADAPT}"


def test_a_backbone_without_classifier(said):
    assert said(without("head"), num_heads=5) == "a backbone without classifier: give --classifier"
    dinov2 = said({**without("head"), "mask_token": torch.ones(1, 20)}, num_heads=5)
    assert "missing: head.weight, head.bias; left over: mask_token" in dinov2
    assert dinov2.endswith("; a backbone without classifier: give --classifier")


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("dist_token", f"a distilled DeiT, of two heads: {TIMM}"),
        ("head_dist.weight", f"a distilled DeiT, of two heads: {TIMM}"),
        ("decoder_embed.weight", SELF_SUPERVISED),
        ("blocks.0.attn.q_bias", f"names of BEiT or EVA: {TIMM}"),
        ("rope.freqs", f"names of BEiT or EVA: {TIMM}"),
        ("blocks.1.attn.relative_position_bias_table", f"names of BEiT or EVA: {TIMM}"),
        ("blocks.1.attn.q_norm.weight", f"not a plain ViT: {TIMM}"),
        ("blocks.1.mlp.fc1_g.weight", f"not a plain ViT: {TIMM}"),
        ("norm_pre.weight", f"not a plain ViT: {TIMM}"),
        ("attn_pool.latent", f"not a plain ViT: {TIMM}"),
    ],
)
def test_parts_that_no_plain_vit_has(name, origin, said):
    title = "not a ViT state dict with timm's names"
    assert said({**state(), name: torch.ones(3)}, num_heads=5) == f"{title}: left over: {name}; {origin}"
    lacking = said({**without("head"), name: torch.ones(3)}, num_heads=5)
    assert lacking == f"{title}: missing: head.weight, head.bias; left over: {name}; {origin}"


def test_what_nobody_knows_is_listed_alone(said):
    title = "not a ViT state dict with timm's names"
    assert said({**state(), "more": torch.ones(3)}, num_heads=5) == f"{title}: left over: more"


def test_hostile_names_are_slow_for_no_pattern(said):
    """Names are text of any length."""
    assert "not a ViT" in said({"encoder." * 20_000: torch.ones(1), "layers.0" * 20_000: torch.ones(1)}, num_heads=1)
