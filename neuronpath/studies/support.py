"""Which models of timm and `transformers` can be cut at their neurons, and why the others cannot: docs/models.md.

Every entry point is built with random weights, two layers and small images, and adapted. Nothing is downloaded.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import nn
from tqdm import tqdm

from ..errors import UserError, one_line
from ..models.adapted import adapt

#: timm's files of plain Vision Transformers.
TIMM = ("vision_transformer", "deit", "beit", "eva", "vision_transformer_relpos", "naflexvit", "vision_transformer_sam")
CLASSES, DEPTH, GRID = 10, 2, 4  # of what is built; GRID: patches along a side


@dataclass(frozen=True)
class Verdict:
    """Of one model: how its neurons lie, or why there are none."""

    family: str
    name: str
    neurons: int = 0  # H, 0 where it is refused
    tokens: int = 0
    neuron_tokens: int = 0
    why: str = ""


Candidate = tuple[str, str, Callable[[], tuple[nn.Module, int]]]  # a family, a name, what makes it and its image size


def timm_candidates() -> Iterator[Candidate]:
    registry = importlib.import_module("timm.models._registry")
    for family in TIMM:
        for name in sorted(registry._module_to_models[family]):
            yield f"timm, {family}", name, lambda name=name: timm_model(name)  # type: ignore[misc]


def timm_model(name: str) -> tuple[nn.Module, int]:
    timm = importlib.import_module("timm")
    with torch.device("meta"):
        whole = timm.create_model(name, num_classes=CLASSES)
    side = getattr(getattr(whole, "patch_embed", None) or whole.embeds, "patch_size", 16)
    size = GRID * (side if isinstance(side, int) else side[0])
    small = {"num_classes": CLASSES, "depth": DEPTH}
    heads = [getattr(getattr(block, "attn", None), "num_kv_heads", None) for block in whole.blocks]
    for extra in ({"img_size": size}, {}, {"img_size": size, "num_kv_heads": heads[len(heads) // 2]}):
        with suppress(TypeError, AssertionError):  # it takes images of any size; it says more of each block
            return timm.create_model(name, **small, **extra), size
    raise UserError("it cannot be built with fewer layers")


def transformers_candidates() -> Iterator[Candidate]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    for kind, classes in sorted(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.items()):
        for name in (classes,) if isinstance(classes, str) else classes:
            yield "transformers", name, lambda kind=kind, name=name: transformers_model(kind, name)  # type: ignore[misc]


def transformers_model(kind: str, name: str) -> tuple[nn.Module, int]:
    library = importlib.import_module("transformers")
    config = library.AutoConfig.for_model(kind)
    for part in (config, getattr(config, "vision_config", config), getattr(config, "text_config", config)):
        if hasattr(part, "num_hidden_layers"):
            part.num_hidden_layers = DEPTH
    config.num_labels = CLASSES
    size = getattr(getattr(config, "vision_config", config), "image_size", 224)
    return getattr(library, name)(config), size if isinstance(size, int) else size[0]


def verdicts(part: str = "") -> list[Verdict]:
    """Of all models whose names contain `part`. UserError where a library is not installed."""
    try:
        candidates = [c for c in (*timm_candidates(), *transformers_candidates()) if part in c[1]]
    except ImportError as e:
        raise UserError(f"{one_line(e)}; pip install timm transformers") from e
    found = []
    for family, name, make in tqdm(candidates, unit="model", dynamic_ncols=True):
        try:
            torch.manual_seed(0)
            module, size = make()
            shape = adapt(module, img_size=size).config
            found.append(Verdict(family, name, shape.mlp_dim, shape.tokens, shape.neuron_tokens))
        except UserError as e:
            found.append(Verdict(family, name, why=str(e).partition("neurons: ")[2]))
        except Exception as e:  # of another library, whatever it may be
            found.append(Verdict(family, name, why=f"not built: {one_line(e, 100)}"))
    return found


def library_versions() -> str:
    return " and ".join(f"{name} {version(name)}" for name in ("timm", "transformers"))


def support_page(found: list[Verdict]) -> str:
    """docs/models.md: counts by family, what is adapted, what is refused."""
    families = list(dict.fromkeys(v.family for v in found))
    lines = ["| | models | adapted | |", "|---|---|---|---|"]
    groups = {family: [v for v in found if v.family == family] for family in families}
    timm = [v for v in found if v.family.startswith("timm")]
    if timm:
        groups = {"timm, all of these files": timm, **groups}
    for family, members in groups.items():
        count = sum(v.neurons > 0 for v in members)
        lines.append(f"| {family} | {len(members)} | {count} | {100 * count / len(members):.0f} % |")
    refused: dict[tuple[str, str], list[str]] = {}
    for v in sorted(found, key=lambda v: (v.family, v.why, v.name)):
        if not v.neurons:
            refused.setdefault((v.family, v.why), []).append(f"`{v.name}`")
    lines += ["", "## Refused", "", "| | models | why |", "|---|---|---|"]
    lines += [f"| {family} | {', '.join(names)} | {why} |" for (family, why), names in refused.items()]
    lines += ["", "## Adapted", "", "| | model | neurons per layer | neuron tokens |", "|---|---|---|---|"]
    for v in sorted(found, key=lambda v: (v.family, v.name)):
        if v.neurons:
            lines.append(f"| {v.family} | `{v.name}` | {v.neurons} | {_tokens(v)} |")
    return "\n".join(lines) + "\n"


def _tokens(v: Verdict) -> str:
    if v.neuron_tokens <= 2:
        return str(v.neuron_tokens)
    return "all" if v.neuron_tokens == v.tokens else f"all but {v.tokens - v.neuron_tokens}"
