"""Checkpoints: untrusted files in, a frozen model out, or one error that says everything that is wrong.

Public ViTs as `.npz` (Flax), fine-tuned MAE and timm-style ViTs as PyTorch's files or `.safetensors`. Strict, never
random weights, and what a file does not tell is assumed aloud.
"""

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..files import sha256 as sha256_of_file
from ..pixels import Preprocessing, digits, google, mae
from . import folders
from .adapted import AdaptedModel
from .classifiers import Classifier, read_classifier, with_probe
from .configs import ACTIVATIONS, CONFIGS, HEADS_BY_WIDTH, PUBLIC_FILES, TIMM, Config
from .digits import check_default
from .layouts import FLAX, STATE_DICT, fault, resize_positions
from .origins import NO_CLASSIFIER, hint
from .reading import Contents, listed, read
from .staged import StagedModel
from .variants import PLAIN, Variant, prefixes, variant, with_prefix
from .vit import VisionTransformer

HEADS = {"cls": "the CLS token (a ViT)", "mean": "the mean patch token (a fine-tuned MAE)"}
COUNTS = {"cls": "not several", "mean": "not one"}  # of the tokens that a head reads
_ASSUMED_HEADS = {"cls": "head on CLS", "mean": "head on the mean patch"}
TELLS = "a folder with config.json, or --model_type timm:NAME, tells"


class HeadError(UserError):
    """The checkpoint's head is of the other kind; `pool` is the kind that it has."""

    def __init__(self, message: str, pool: str):
        super().__init__(message)
        self.pool = pool


@dataclass(frozen=True)
class Given:
    """What the caller tells of a file, as the keywords of `load`."""

    img_size: int | None
    num_heads: int | None
    pool: str | None
    activation: str | None

    def __post_init__(self) -> None:
        for option, word, words in (("pool", self.pool, (*HEADS,)), ("activation", self.activation, ACTIVATIONS)):
            if word not in (None, *words):
                raise UserError(f"--{option} {word} is unknown; choose from {', '.join(words)}")


@dataclass(frozen=True)
class Plan:
    """What a file is to become: `config.num_heads` is 0 where nothing tells; `prefix` positions precede the grid's."""

    config: Config
    variant: Variant
    prefix: int
    assumed: tuple[str, ...]
    native: Preprocessing | None


def load(
    checkpoint: str | Path,
    model_type: str = "auto",
    *,
    img_size: int | None = None,
    num_heads: int | None = None,
    pool: str | None = None,
    activation: str | None = None,
    classifier: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> StagedModel:
    """The model that a checkpoint holds, in evaluation mode, its parameters frozen.

    `checkpoint`: a file, or a folder of timm, `transformers` or OpenCLIP (`neuronpath.models.folders`). `classifier`: a
    file with the head of a model that has none (`neuronpath.models.classifiers`).
    `model_type`: a name of `neuronpath.models.configs.CONFIGS`, which the file must then match; "timm:NAME", an
    architecture of timm, whose weights the file holds; or "auto": every dimension is read from the arrays. `img_size`
    in pixels: a named model's own (224) and for "auto" the file's where not given; another size than the file's resizes
    the position grid. The number of classes is the head's. `dtype` as of `VisionTransformer.set_dtype`.
    State dicts tell by their arrays neither `num_heads`, nor `activation` (one of `ACTIVATIONS`), nor, with one last
    norm, whether the head reads the CLS token or the mean of the normed patches (`pool`, "cls" or "mean"). What is not
    given here, nor told by the model type or by the file's own words, is assumed: it is a warning, and `model.assumed`.
    `model.native` is how the images were prepared that it was trained on, None where that is not known.
    Raises UserError with one line naming the file and all that is missing, left over or of the wrong shape; HeadError
    where the head is of another kind than `pool` or the model type says.
    """
    path = Path(checkpoint)
    check_default(path)
    given = Given(img_size, num_heads, pool, activation)
    head = None if classifier is None else read_classifier(classifier)
    if path.is_dir() or model_type.startswith(TIMM):
        return _load_foreign(path, model_type, given, head).set_dtype(dtype).to(device)
    contents = read(path)
    if head:
        contents = replace(contents, tensors=with_probe(path, contents.tensors, head))
    plan = _plan(path, contents, model_type, given)
    model = _matching_model(path, contents, plan, model_type)
    _check_heads(path, plan.config)
    model = model.to(torch.float64 if dtype == torch.float64 else torch.float32).to_empty(device="cpu")
    _fill(model, contents, plan)
    model.assumed, model.native, model.class_names = plan.assumed, plan.native, head.names if head else ()
    if model.assumed:
        warnings.warn(f"{path}: {said(model.assumed)}", stacklevel=2)
    return model.requires_grad_(False).eval().set_dtype(dtype).to(device)


def _load_foreign(path: Path, model_type: str, given: Given, head: Classifier | None) -> AdaptedModel:
    """UserError where a folder is told what it says itself; HeadError where its head is not of the kind of `pool`."""
    told = {"--num_heads": given.num_heads, "--activation": given.activation}
    if path.is_dir() and model_type != "auto":
        told = {f"--model_type {model_type}": True}
    if superfluous := next((option for option, value in told.items() if value), ""):
        says = "a folder says itself which model it holds" if path.is_dir() else f"{model_type} says which model it is"
        raise UserError(f"{path}: {says}; leave {superfluous} out")
    if path.is_dir():
        model = folders.load_folder(path, given.img_size, head)
    else:
        model = folders.load_file(model_type, path, read(path).tensors, given.img_size, head)
    if given.pool:
        check_head(path, model, given.pool)
    return model


def said(assumed: tuple[str, ...]) -> str:
    """What was assumed, and what would tell."""
    return f"assumed: {', '.join(assumed)}; {TELLS}"


def head_kind(model: StagedModel) -> str:
    """ "cls" where the head reads one token, "mean" where it reads several."""
    return "cls" if model.num_neuron_tokens == 1 else "mean"


def check_head(checkpoint: str | Path, model: StagedModel, pool: str) -> None:
    """HeadError where a model's head is not of the kind `pool`, which says so where that was assumed."""
    found = model.config.pool if isinstance(model.config, Config) else head_kind(model)
    if found != pool and not isinstance(model.config, Config):
        count = model.num_neuron_tokens
        raise HeadError(f"{checkpoint}: its head reads {count} of {model.tokens} tokens, {COUNTS[found]}", found)
    if found != pool:
        doubt = " (assumed; --pool mean where it is not so)" if _ASSUMED_HEADS["cls"] in model.assumed else ""
        raise HeadError(f"{checkpoint}: its head reads {HEADS[found]}, not {HEADS[pool]}{doubt}", found)


def save(model: VisionTransformer, checkpoint: str | Path) -> None:
    """Write a model, float32: as Flax `.npz`, or as `.pth`, which says what the arrays do not tell.

    UserError for `.npz` where that layout has no place for the model.
    """
    path, config = Path(checkpoint), model.config
    flax = path.suffix == ".npz"
    check_place(model, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    views = (FLAX if flax else STATE_DICT).views(model)
    tensors = {name: view.detach().float().cpu().contiguous() for name, view in views.items()}
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")  # so that a cut file never has its name
    if flax:
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        np.savez(temporary, **arrays)
    else:
        own = {"num_heads": config.num_heads, "activation": config.activation, "pool": config.pool}
        torch.save({"model": tensors, **own}, temporary)
    temporary.replace(path)


def check_place(model: VisionTransformer, path: Path) -> None:
    """UserError where a file of this ending has no place for the model."""
    config = model.config
    if path.suffix == ".npz" and (config.pool, config.activation, config.registers) != ("cls", "gelu", 0):
        raise UserError(f"{path}: .npz files are for exact GELU, a head on CLS and no registers; save it as .pth")


def sha256(checkpoint: str | Path) -> str:
    """Of the file's content, hexadecimal; read once as long as the file stays as it is.

    Of a folder: of what `sha256sum` prints for its settings and its weights.
    """
    if Path(checkpoint).is_dir():
        lines = "".join(f"{sha256(file)}  {file.name}\n" for file in folders.files(Path(checkpoint)))
        return hashlib.sha256(lines.encode()).hexdigest()
    state = Path(checkpoint).stat()
    return _sha256(Path(checkpoint), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _sha256(checkpoint: Path, *_: int) -> str:
    return sha256_of_file(checkpoint)


def _plan(path: Path, contents: Contents, model_type: str, given: Given) -> Plan:
    """What the arguments, the named model and the file tell, in this order; UserError where they contradict."""
    if model_type != "auto" and model_type not in CONFIGS:
        raise UserError(f"--model_type {model_type} is unknown; choose from auto, {', '.join(CONFIGS)}")
    layout, tensors, auto = contents.layout, contents.tensors, model_type == "auto"
    found = PLAIN
    if auto and layout is STATE_DICT:
        found = variant(tensors, layout.dimensions(tensors)["depth"])
    prefix = _prefix(path, contents, found.registers) if auto else 1
    sizes = layout.dimensions(tensors, prefix)
    if auto:
        heads = sizes.get("num_heads") or contents.num_heads or HEADS_BY_WIDTH.get(sizes["width"]) or 0
        own = {"num_heads": heads, "pool": contents.pool or "cls", "activation": contents.activation or "gelu"}
        config = Config.of({**sizes, **own, "registers": found.registers})
        known = _known(path, contents, config)
    else:
        config, known = CONFIGS[model_type].with_(num_classes=sizes["num_classes"]), model_type
    assumed = [] if known or layout is FLAX else _assumed(contents, config, given)
    config = _with_head(path, contents, config, given.pool, auto)
    sized = {"img_size": given.img_size, "num_heads": given.num_heads, "activation": given.activation}
    config = config.with_(**{name: value for name, value in sized.items() if value})
    if layout is FLAX and not given.num_heads and config.width % config.num_heads:
        config = config.with_(num_heads=1)  # the arrays contradict each other; the comparison says where
    if layout is FLAX:
        _check_heads(path, config)
    if config.img_size % config.patch_size:
        sizes_differ = f"an image size of {config.img_size} is no multiple of the patch size {config.patch_size}"
        raise UserError(f"{path}: {sizes_differ}; change --img_size")
    assumed += [*found.notes, *contents.notes]
    return Plan(config, found, prefix, tuple(assumed), _native(layout is FLAX, known, config))


def _prefix(path: Path, contents: Contents, registers: int) -> int:
    """How many positions come before the grid's; where none fit, the plain number, and the comparison says so."""
    positions = contents.tensors.get(contents.layout.positions)
    if contents.layout is FLAX or positions is None or positions.ndim != 3:
        return 1
    fitting = prefixes(positions.shape[1], registers)
    if len(fitting) > 1:
        count = f"{positions.shape[1]} positions beside {registers} registers"
        raise UserError(f"{path}: {count} may be those of two grids, and nothing tells which; {TELLS}")
    return fitting[0] if fitting else 1 + registers


def _known(path: Path, contents: Contents, config: Config) -> str | None:
    """The name of the model that a file is sure to hold: one of the paper's, by name and shapes, or the digits'."""
    digits = next((n for n, c in CONFIGS.items() if n.endswith("digits") and _alike(config, c, shrunk=True)), None)
    if digits and (contents.layout is FLAX or contents.num_heads):
        return digits
    public = PUBLIC_FILES.get(path.name)
    return public if public and _alike(config, CONFIGS[public]) else None


def _alike(config: Config, named: Config, shrunk: bool = False) -> bool:
    """But for the size of images; `shrunk`: with as many units or fewer."""
    less = shrunk and config.mlp_dim <= named.mlp_dim
    return config.with_(img_size=named.img_size, mlp_dim=named.mlp_dim if less else config.mlp_dim) == named


def _assumed(contents: Contents, config: Config, given: Given) -> list[str]:
    """What neither the arguments nor a state dict tell."""
    told = {
        f"{config.num_heads} heads": given.num_heads or contents.num_heads or not config.num_heads,
        "exact GELU": given.activation or contents.activation,
        _ASSUMED_HEADS[config.pool]: given.pool or contents.told_pool,
    }
    return [text for text, tells in told.items() if not tells]


def _with_head(path: Path, contents: Contents, config: Config, pool: str | None, auto: bool) -> Config:
    """The config with the head that is wanted. HeadError where the file has another."""
    wanted, found = pool or config.pool, contents.pool
    open_norm = auto and found is not None and not contents.tells_pool  # before the mean, or of the CLS token
    if open_norm and pool:
        found = pool
    if found not in (wanted, None):
        raise HeadError(f"{path}: its head reads {HEADS[found]}, not {HEADS[wanted]}", found)
    norm_first = wanted == "mean" and found == "mean" and "fc_norm.weight" not in contents.tensors
    return config.with_(pool=wanted, norm_first=norm_first)


def _check_heads(path: Path, config: Config) -> None:
    """The shapes of a state dict do not depend on it; those of Flax arrays do."""
    if not config.num_heads:
        raise UserError(
            f"{path}: neither it nor its width of {config.width} tells the number of heads; give --num_heads"
        )
    if config.width % config.num_heads:
        raise UserError(f"{path}: a width of {config.width} has no {config.num_heads} heads; change --num_heads")


def _native(flax: bool, known: str | None, config: Config) -> Preprocessing | None:
    """How the images were prepared that such a model was trained on: the public ones' and the digits' is known."""
    if known and known.endswith("digits"):
        return digits(config.img_size)
    if known and known.startswith("MAE"):
        return mae(config.img_size)
    return google(config.img_size) if known or flax else None


def _matching_model(path: Path, contents: Contents, plan: Plan, model_type: str) -> VisionTransformer:
    """A model, without memory yet, that the arrays fill exactly; otherwise one UserError with all that differs."""
    layout, tensors, found = contents.layout, contents.tensors, plan.variant
    with torch.device("meta"):
        model = VisionTransformer(plan.config)
        scale = torch.empty(plan.config.width)
    views = {name: view for name, view in layout.views(model).items() if name not in found.zeros}
    views |= dict.fromkeys(found.scales.values(), scale)
    wrong = [fault(name, tensors[name], view, layout, plan.prefix) for name, view in views.items() if name in tensors]
    faults = {
        "missing": [name for name in views if name not in tensors],
        "left over": [name for name in tensors if name not in views],
        "wrong": [text for text in wrong if text],
    }
    if any(faults.values()):
        origin = hint(faults["missing"], faults["left over"]) if layout is STATE_DICT else ""
        if origin == NO_CLASSIFIER and not faults["wrong"] and not faults["left over"]:
            raise UserError(f"{path}: {origin}")
        listing = "; ".join(f"{kind}: {listed(names)}" for kind, names in faults.items() if names)
        doubt = "" if model_type == "auto" else f" (does --model_type {model_type} name the model of this file?)"
        raise UserError(f"{path}: not a {layout.title}: {listing}{f'; {origin}' if origin else ''}{doubt}")
    return model


def _fill(model: VisionTransformer, contents: Contents, plan: Plan) -> None:
    """The arrays' numbers into the model's own memory."""
    layout, config = contents.layout, plan.config
    for name, view in layout.views(model).items():
        if name in plan.variant.zeros:
            view.detach().zero_()
            continue
        tensor = plan.variant.scaled(name, contents.tensors[name].detach(), contents.tensors)
        if name == layout.positions:
            side = config.img_size // config.patch_size
            grid = tensor if tensor.dtype == torch.float64 else tensor.float()
            resized = torch.from_numpy(resize_positions(grid.numpy(), side, plan.prefix))
            tensor = with_prefix(resized, plan.prefix, config.tokens)
        view.detach().copy_(tensor)
