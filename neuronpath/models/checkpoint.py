"""Checkpoints: untrusted files in, a frozen model out, or one error that says everything that is wrong.

Public ViTs as `.npz` (Flax), fine-tuned MAE and timm-style ViTs as `.pth` or `.safetensors`. Strict, never random
weights. Nothing in a file is executed: arrays are read with `allow_pickle=False`, `.pth` with `weights_only=True`,
where `argparse.Namespace`, which the public MAE file holds, is the only type allowed beside tensors and numbers.
"""

import argparse
import functools
import hashlib
import io
import lzma
import os
import pickle
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError, one_line
from .configs import CONFIGS, HEADS_BY_WIDTH, Config
from .layouts import FLAX, STATE_DICT, Layout, fault, resize_positions
from .vit import VisionTransformer

HEADS = {"cls": "the CLS token (a ViT)", "mean": "the mean patch token (a fine-tuned MAE)"}
BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    SafetensorError,
)


class HeadError(UserError):
    """The checkpoint's head is of the other kind; `pool` is the kind that it has."""

    def __init__(self, message: str, pool: str):
        super().__init__(message)
        self.pool = pool


@dataclass(frozen=True)
class Contents:
    """What a file holds: its arrays by name, in one of the layouts, and the head count where it says one."""

    layout: Layout
    tensors: dict[str, Tensor]
    num_heads: int | None = None

    @property
    def pool(self) -> str | None:
        """The kind of head, or None where no norm tells."""
        if self.layout is FLAX:
            return "cls"
        return "mean" if "fc_norm.weight" in self.tensors else "cls" if "norm.weight" in self.tensors else None


def load(
    checkpoint: str | Path,
    model_type: str = "auto",
    *,
    img_size: int | None = None,
    num_heads: int | None = None,
    pool: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VisionTransformer:
    """The model that a checkpoint holds, in evaluation mode, its parameters frozen.

    `model_type`: a name of `neuronpath.models.configs.CONFIGS`, which the file must then match, or "auto": every
    dimension is read from the arrays. `img_size` in pixels: a named model's own (224) and for "auto" the file's where
    not given; another size than the file's resizes the position grid. The number of classes is the head's.
    `num_heads` is for `.pth` and `.safetensors` files that do not tell and whose width is no public one. `dtype` as
    of `VisionTransformer.set_dtype`.
    Raises UserError with one line naming the file and all that is missing, left over or of the wrong shape; HeadError
    where `pool` ("cls" or "mean") is given and the head is of the other kind.
    """
    path = Path(checkpoint)
    contents = read(path)
    config = _config(path, contents, model_type, img_size, num_heads)
    wanted = pool or config.pool
    if contents.pool not in (wanted, None):
        raise HeadError(f"{path}: its head reads {HEADS[contents.pool]}, not {HEADS[wanted]}", contents.pool)
    model = _matching_model(path, contents, config.with_(pool=wanted), model_type).to_empty(device="cpu")
    if not config.num_heads:
        raise UserError(
            f"{path}: neither it nor its width of {config.width} tells the number of heads; give --num_heads"
        )
    for name, view in contents.layout.views(model).items():
        tensor = contents.tensors[name].detach()
        if name == contents.layout.positions:
            side = model.config.img_size // model.config.patch_size
            tensor = torch.from_numpy(resize_positions(tensor.float().numpy(), side))
        view.detach().copy_(tensor)
    return model.requires_grad_(False).eval().set_dtype(dtype).to(device)


def save(model: VisionTransformer, checkpoint: str | Path) -> None:
    """Write a model in a public layout, float32: a CLS head as Flax `.npz`; either head as `.pth` with `num_heads`."""
    path = Path(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    views = (FLAX if path.suffix == ".npz" else STATE_DICT).views(model)
    tensors = {name: view.detach().float().cpu().contiguous() for name, view in views.items()}
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp{path.suffix}")  # so that a cut file never has its name
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        np.savez(temporary, **arrays)
    else:
        torch.save({"model": tensors, "num_heads": model.config.num_heads}, temporary)
    temporary.replace(path)


def sha256(checkpoint: str | Path) -> str:
    """Of the file's content, hexadecimal; read once as long as the file stays as it is."""
    state = Path(checkpoint).stat()
    return _sha256(Path(checkpoint), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _sha256(checkpoint: Path, *_: int) -> str:
    digest = hashlib.sha256()
    with checkpoint.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read(path: Path) -> Contents:
    """The arrays of a checkpoint file; UserError for anything that is not a sound file of plain numbers."""
    readers = {".npz": _read_npz, ".pth": _read_pth, ".pt": _read_pth, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise UserError(f"{path}: unknown kind of checkpoint; it must end in .npz, .pth, .pt or .safetensors")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file; give --pretrain_weight the path of one")
    try:
        contents = readers[path.suffix](path)
    except BROKEN as e:
        if found := re.search(r"GLOBAL (\S+)", str(e)):
            fault = f"holds an object of type {found[1]}, which could run code; nothing was run. Get a file of weights"
            raise UserError(f"{path}: {fault}") from e
        torchs = re.search(r"WeightsUnpickler error:\s*(.*)", str(e))  # without its advice to load it unsafely
        why = torchs[1] if torchs else one_line(e, 120)
        raise UserError(f"{path}: not a sound {path.suffix} checkpoint ({why}); download or copy it again") from e
    wrong = [name for name, tensor in contents.tensors.items() if not _is_plain(tensor)]
    if wrong:
        raise UserError(f"{path}: not floating-point arrays: {_some(wrong)}; is this a ViT checkpoint?")
    return contents


def _is_plain(tensor: object) -> bool:
    """A dense tensor of ordinary floating-point numbers: no sparse, quantised, meta or float8 one."""
    ordinary = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    return (
        isinstance(tensor, Tensor)
        and (tensor.layout, tensor.device.type) == (torch.strided, "cpu")
        and (tensor.dtype in ordinary)
    )


def _read_npz(path: Path) -> Contents:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            member = io.BytesIO(archive.read(name))  # the whole of it: only then is its checksum compared
            arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return Contents(FLAX, {n: torch.from_numpy(a.astype(a.dtype.newbyteorder("="))) for n, a in arrays.items()})


def _read_pth(path: Path) -> Contents:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    state = content.get("model", content)
    if not isinstance(state, dict):
        raise ValueError(f"its 'model' is a {type(state).__name__}, not a state dict")
    num_heads = content.get("num_heads")
    if state is content:
        state = {name: value for name, value in state.items() if name != "num_heads"}
    return Contents(STATE_DICT, {str(n): t for n, t in state.items()}, _head_count(num_heads))


def _read_safetensors(path: Path) -> Contents:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return Contents(STATE_DICT, tensors, _head_count((file.metadata() or {}).get("num_heads")))


def _head_count(value: object) -> int | None:
    """An integer ≥ 1, maybe as text; None for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isdecimal() and 0 < len(text) < 5 and int(text) else None


def _matching_model(path: Path, contents: Contents, config: Config, model_type: str) -> VisionTransformer:
    """A model, without memory yet, that the arrays fill exactly; otherwise one UserError with all that differs."""
    layout, tensors = contents.layout, contents.tensors
    with torch.device("meta"):
        model = VisionTransformer(config)
    views = layout.views(model)
    wrong = [fault(name, tensors[name], view, layout) for name, view in views.items() if name in tensors]
    faults = {
        "missing": [name for name in views if name not in tensors],
        "left over": [name for name in tensors if name not in views],
        "wrong": [text for text in wrong if text],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in faults.items() if names)
        hint = "" if model_type == "auto" else f" (does --model_type {model_type} name the model of this file?)"
        raise UserError(f"{path}: not a {layout.title}: {listed}{hint}")
    return model


def _config(path: Path, contents: Contents, model_type: str, img_size: int | None, num_heads: int | None) -> Config:
    """The named model's dimensions with the head's classes, or under "auto" those that the arrays have.

    `num_heads` is 0 where nothing tells: the shapes of a state dict do not depend on it.
    """
    if model_type != "auto" and model_type not in CONFIGS:
        raise UserError(f"--model_type {model_type} is unknown; choose from auto, {', '.join(CONFIGS)}")
    found = contents.layout.dimensions(contents.tensors)
    if model_type == "auto":
        heads = num_heads or found.get("num_heads") or contents.num_heads or HEADS_BY_WIDTH.get(found["width"]) or 0
        config = Config.of({**found, "num_heads": heads, "pool": contents.pool or "cls"})
    else:
        config = CONFIGS[model_type]
        config = config.with_(num_classes=found["num_classes"], num_heads=num_heads or config.num_heads)
    config = config.with_(img_size=img_size or config.img_size)
    if contents.layout is FLAX and not num_heads and config.width % config.num_heads:
        config = config.with_(num_heads=1)  # the arrays contradict each other; the comparison says where
    if config.num_heads and config.width % config.num_heads:
        raise UserError(f"{path}: a width of {config.width} has no {config.num_heads} heads; change --num_heads")
    if config.img_size % config.patch_size:
        sizes = f"an image size of {config.img_size} is no multiple of the patch size {config.patch_size}"
        raise UserError(f"{path}: {sizes}; change --img_size")
    return config


def _some(names: list[str], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
