"""Checkpoint files, untrusted: the arrays in them, and what they say of themselves; nothing in a file is executed.

Arrays are read with `allow_pickle=False`, PyTorch's files with `weights_only=True`, where `argparse.Namespace`, which
the public MAE file holds, is the only type allowed beside tensors and numbers.
"""

import argparse
import io
import lzma
import pickle
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import UserError, one_line, shortened
from .configs import ACTIVATIONS
from .layouts import FLAX, STATE_DICT, Layout
from .origins import foreign

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


WRAPPERS = ("model", "state_dict")  # under which a file may hold its state dict
PREFIXES = ("module.", "model.", "_orig_mod.")  # which wrappers of a model put before all names
OWN = ("num_heads", "activation", "pool")  # what our own files say beside the arrays


@dataclass(frozen=True)
class Contents:
    """What a file holds: its arrays by name, in one of the layouts, and what else it says.

    `num_heads`, `activation` and `told_pool`: None where it does not say. `notes`: what reading had to assume.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    num_heads: int | None = None
    activation: str | None = None
    told_pool: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def pool(self) -> str | None:
        """The kind of head that the file says it has, else that of its last norm; None where there is none."""
        if self.layout is FLAX:
            return "cls"
        if "fc_norm.weight" in self.tensors:
            return "mean"
        return self.told_pool or ("cls" if "norm.weight" in self.tensors else None)

    @property
    def tells_pool(self) -> bool:
        """Whether nothing else is possible: one norm after the last block may stand before a mean, too."""
        return self.layout is FLAX or "fc_norm.weight" in self.tensors or self.told_pool is not None


def read(path: Path) -> Contents:
    """The arrays of a checkpoint file; UserError for anything that is not a sound file of plain numbers."""
    ending = next((ending for ending in READERS if path.name.endswith(ending)), None)
    if ending is None:
        *most, last = READERS
        raise UserError(f"{path}: unknown kind of checkpoint; it must end in {', '.join(most)} or {last}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file; give --pretrain_weight the path of one")
    try:
        contents = READERS[ending](path)
    except BROKEN as e:
        if found := re.search(r"GLOBAL (\S+)", str(e)):
            fault = f"holds an object of type {found[1]}, which could run code; nothing was run. Get a file of weights"
            raise UserError(f"{path}: {fault}") from e
        torchs = re.search(r"WeightsUnpickler error:\s*(.*)", str(e))  # without its advice to load it unsafely
        why = torchs[1] if torchs else one_line(e, 120)
        raise UserError(f"{path}: not a sound {ending} checkpoint ({why}); download or copy it again") from e
    if origin := foreign(contents.tensors):
        raise UserError(f"{path}: {origin}")
    wrong = [name for name, tensor in contents.tensors.items() if not _is_plain(tensor)]
    if wrong:
        raise UserError(f"{path}: not floating-point arrays: {listed(wrong)}; is this a ViT checkpoint?")
    return contents


def listed(names: list[str], most: int = 8, limit: int | None = None) -> str:
    """The first `most` names, shortened to `limit` characters, and how many there are beside them."""
    text, rest = ", ".join(names[:most]), len(names) - most
    return (shortened(text, limit) if limit else text) + (f" and {rest} more" if rest > 0 else "")


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


def _read_torch(path: Path) -> Contents:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is an error
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a state dict")
    wrappers = [key for key in WRAPPERS if key in content]
    if len(wrappers) > 1:
        raise ValueError("it holds both a 'model' and a 'state_dict': which of them counts, nothing tells")
    state = content[wrappers[0]] if wrappers else content
    if not isinstance(state, dict):
        raise ValueError(f"its '{wrappers[0]}' is a {type(state).__name__}, not a state dict")
    if not wrappers:
        state = {name: value for name, value in state.items() if name not in OWN or isinstance(value, Tensor)}
    others = [key for key in content if wrappers and key in ("state_dict_ema", "model_ema")]
    return _state_dict(state, content, tuple(f"'{wrappers[0]}', not '{other}'" for other in others))


def _read_safetensors(path: Path) -> Contents:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _state_dict(tensors, file.metadata() or {})


def _state_dict(state: Mapping[Any, Any], said: Mapping[Any, Any], notes: tuple[str, ...] = ()) -> Contents:
    """`said`: where the file may say what is no array."""
    tensors = {str(name): tensor for name, tensor in state.items()}
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    activation, pool = (
        word if isinstance(word := said.get(key), str) and word in words else None
        for key, words in (("activation", ACTIVATIONS), ("pool", ("cls", "mean")))
    )
    return Contents(STATE_DICT, tensors, _head_count(said.get("num_heads")), activation, pool, notes)


def _head_count(value: object) -> int | None:
    """An integer ≥ 1, maybe as text; None for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isdecimal() and 0 < len(text) < 5 and int(text) else None


READERS = {
    ".npz": _read_npz,
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".pth.tar"), _read_torch),
    ".safetensors": _read_safetensors,
}
