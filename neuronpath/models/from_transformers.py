"""Models of `transformers`: a local folder as `save_pretrained` lays it out."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..pixels import FILTERS, Preprocessing
from .foreign import Foreign, check_depth, check_faults, foreign_code, library, positive, read_json, triple

#: Families of Vision Transformers by how `transformers` calls them; others could ask for more than their settings say.
FAMILIES = (
    *("ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "Beit", "Data2VecVision", "IJepa", "ViTMSN"),
    *("CLIP", "MetaClip2", "Siglip", "Siglip2"),
)
CLASSIFIERS = ("ForImageClassification", "ForImageClassificationWithTeacher")
TOWERS = ("CLIP", "MetaClip2", "Siglip")  # whose whole model has an image and a text tower

#: Settings that say how to run a model, where else to look for parts, or what code to load; none makes the model.
IGNORED = r"_.*|auto_map|.*attn_implementation|quantization_config|fusion_config|transformers_weights|(torch_)?dtype"

#: Which prepare images in the way that `preprocessing` follows: resized, cropped, normalised.
PROCESSORS = ("ViT", "DeiT", "Bit", "Beit", "CLIP", "Siglip", "DINOv3ViT")


class Embedding(nn.Module):
    """Images (B, 3, height, width) to what the image tower of a CLIP or SigLIP says of them, (B, D)."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module):
        super().__init__()
        self.vision_model, self.projection = vision_model, projection

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=x).pooler_output)


class ClsFeatures(nn.Module):
    """Images to the first token of a backbone after its last norm, (B, D)."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(pixel_values=x).last_hidden_state[:, 0]


def is_folder(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("architectures"), list)


def open_folder(file: Path, config: dict[str, Any], tensors: dict[str, Tensor], img_size: int | None) -> Foreign:
    """`config`: of the folder's config.json, `file`. UserError for what is not a Vision Transformer of these."""
    whole, name = open_whole(file, config, tensors)
    family = _family(name)
    classifier = name.endswith(CLASSIFIERS)
    module = whole
    if not classifier and family in TOWERS:
        module = image_tower(whole)
    elif not classifier:
        module = ClsFeatures(whole)
    settings = whole.config
    vision = getattr(settings, "vision_config", settings)
    with foreign_code(file, "transformers"):
        native = preprocessing(file.parent, family)
        size = img_size or (native.img_size if native else None) or positive(vision.image_size)
        names = _names(settings.id2label, settings.num_labels) if classifier else ()
    return Foreign(module, f"transformers {name}", size, classifier, native, names)


def open_whole(file: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[Any, str]:
    """The model with all its towers, and the name of its class."""
    transformers = library("transformers", file.parent)
    name = next(iter(config["architectures"]), None)
    if not isinstance(name, str) or not _family(name) or not hasattr(transformers, name):
        known = ", ".join(FAMILIES)
        raise UserError(f"{file}: {name!r} is no Vision Transformer of these families: {known}; give it to adapt()")
    check_depth(file, config, tensors)
    with foreign_code(file, "transformers"), quiet(transformers):
        kind = getattr(transformers, name)
        settings = kind.config_class.from_dict(_cleaned(config))
        with torch.device("meta"):
            wanted = sum(p.numel() for p in kind(settings).parameters())
        if wanted > 2 * (there := sum(t.numel() for t in tensors.values())):
            raise UserError(f"{file}: it asks for {wanted} weights, but the file beside it has {there}")
        model, info = kind.from_pretrained(
            None,
            config=settings,
            state_dict=tensors,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told like the others
            attn_implementation="sdpa",
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
        )
    faults = {
        "missing": sorted(info["missing_keys"]),
        "left over": sorted(info["unexpected_keys"]),
        "wrong": sorted(
            f"{key} is {tuple(found)}, not {tuple(wanted)}" for key, found, wanted in info["mismatched_keys"]
        ),
    }
    check_faults(file.parent, faults)
    return model.eval(), name


def image_tower(model: Any) -> Embedding:
    """The image tower of a whole CLIP or SigLIP, or of one without its text tower."""
    return Embedding(model.vision_model, getattr(model, "visual_projection", nn.Identity()))


def text_features(folder: Path, model: Any) -> Callable[[list[str]], Tensor]:
    """Texts to what the text tower says of them, (n, D), by the folder's own tokenizer."""
    import transformers

    with foreign_code(folder, "transformers"), quiet(transformers):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    length = model.config.text_config.max_position_embeddings
    padding = "max_length" if model.config.model_type.startswith("siglip") else True  # as it was trained

    @torch.no_grad()
    def features(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=padding, max_length=length, truncation=True, return_tensors="pt")
        kept = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        return model.get_text_features(**kept).pooler_output

    return features


def _family(name: str) -> str:
    """Of the name of a class that is taken, "" of others."""
    match = re.fullmatch(rf"({'|'.join(FAMILIES)})({'|'.join(CLASSIFIERS)}|Model|VisionModel(WithProjection)?)", name)
    return match[1] if match else ""


def _cleaned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are IGNORED, on all levels."""
    return {
        key: _cleaned(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not re.fullmatch(IGNORED, key)
    }


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without the library's bars and advice: what matters is told by an error here."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def preprocessing(folder: Path, family: str) -> Preprocessing | None:
    """As the folder's own image processor prepares images; None where it has none, or one that is not built here.

    ValueError and the like for values that are none.
    """
    import transformers

    file = folder / "preprocessor_config.json"
    config = read_json(file) if file.is_file() else {}
    if not config and (folder / "processor_config.json").is_file():
        config = read_json(folder / "processor_config.json").get("image_processor") or {}
    if not config:
        return None
    told = config.get("image_processor_type") or config.get("feature_extractor_type") or family
    kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(told))
    if kind not in PROCESSORS:
        return None
    p = getattr(transformers, f"{kind}ImageProcessor")(**{k: v for k, v in config.items() if k != "auto_map"})
    if not p.do_rescale or abs(p.rescale_factor * 255 - 1) > 1e-6 or getattr(p, "do_pad", None):
        return None
    size, crop = None, None
    if p.do_resize:
        size = p.size.shortest_edge or (p.size.height, p.size.width)
        if p.size.longest_edge or None in (size if isinstance(size, tuple) else (size,)):
            return None
        size = positive(size) if isinstance(size, int) else (positive(size[0]), positive(size[1]))
    if getattr(p, "do_center_crop", None):
        if p.crop_size.height != p.crop_size.width:
            return None
        crop = positive(p.crop_size.height)
    mean, std = (0.0,) * 3, (1.0,) * 3
    if p.do_normalize:
        mean, std = triple(p.image_mean, mean), triple(p.image_std, std)
    if min(std) <= 0:
        raise ValueError(f"image_std {std}")
    return Preprocessing(size, crop, mean, std, FILTERS[int(p.resample)], "down")


def _names(id2label: object, classes: int) -> tuple[str, ...]:
    """By label; () where a class has none: LABEL_0 is none."""
    found = id2label if isinstance(id2label, dict) else {}
    names = [found.get(i) for i in range(classes)]
    if not all(isinstance(name, str) for name in names) or "LABEL_0" in names:
        return ()
    return tuple(map(str, names))
