"""Where arrays come from that this package does not take, recognised by their names, and what to do about it."""

import re
from collections.abc import Collection, Iterable

_TIMM = "give --model_type timm:NAME"
_ADAPT = "load it with its own software and give the model to neuronpath.adapt"

#: Whole layouts of others, by what names in them look like; the first that is found counts.
FOREIGN = (
    (
        r"(^|\.)embeddings\.(cls_token|class_embedding|patch_embed|position_embedding)|(^|\.)encoder\.layer\.\d+\.",
        "a transformers file: give its folder",
    ),
    (
        r"^(opt/target/|params/)|^pos_embedding$|^MAPHead_0/|^Transformer/encoderblock(_0/MlpBlock_0)?/",
        f"big_vision's layout: {_ADAPT}",
    ),
    (r"^encoder\.layers\.encoder_layer_\d+\.|^conv_proj\.", f"a torchvision file: {_ADAPT}"),
    (r"^visual\.|(^|\.)transformer\.resblocks\.\d+\.", f"a CLIP model, a backbone without classifier: {_ADAPT}"),
    (r"^(student|teacher)(\.|$)", "a file of self-supervised training: give that of a fine-tuned model"),
    (
        r"^layers\.\d+\.blocks\.\d+\.|^(layer1|stages|features)\.\d+\.",
        "no Vision Transformer of plain blocks, which is all that is taken",
    ),
)

#: What a state dict with timm's names holds where it is no plain ViT.
PARTS = (
    (r"^(dist_token|head_dist\.)", f"a distilled DeiT, of two heads: {_TIMM}"),
    (r"^decoder_", "a file of self-supervised training: give that of a fine-tuned model"),
    (r"(^|\.)(rope|relative_position|q_bias|v_bias|freqs)", f"names of BEiT or EVA: {_TIMM}"),
    (r"\.(q_norm|k_norm)\.|\.mlp\.(w12|w3|fc1_g|fc1_x|norm)\.|^(norm_pre|attn_pool)\.", f"not a plain ViT: {_TIMM}"),
)
NO_CLASSIFIER = "a backbone without classifier: give --classifier"
NO_POSITIONS = f"no positions, or rotary ones, of which a file tells nothing: {_TIMM}"


def foreign(names: Iterable[str]) -> str:
    """What the layout of another software is, and what to do, or ""."""
    return _first(FOREIGN, names)


def hint(missing: Collection[str], extra: Collection[str]) -> str:
    """What a state dict may be that lacks `missing` and has `extra` left over, and what to do, or ""."""
    if "head.weight" in missing and "blocks.0.norm1.weight" not in missing and not _first(PARTS, extra):
        return NO_CLASSIFIER
    return _first(PARTS, extra) or (NO_POSITIONS if list(missing) == ["pos_embed"] else "")


def _first(table: Iterable[tuple[str, str]], names: Iterable[str]) -> str:
    names = list(names)
    return next((text for pattern, text in table if any(re.search(pattern, name) for name in names)), "")
