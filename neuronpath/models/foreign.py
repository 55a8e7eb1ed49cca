"""What reading models of other libraries has in common: their files, untrusted, and what is made of them.

Nothing is downloaded and no code of a file or folder runs: weights are safetensors, settings JSON, and a library's own
classes are called by name, of those that are known to take a Vision Transformer's settings.
"""

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import UserError, one_line, out_of_memory
from ..pixels import Preprocessing
from .reading import listed

INSTALL = {"open_clip": "open_clip_torch"}  # where the package is called otherwise than the module
MOST = 2**24  # bytes of a JSON file; ImageNet-21k's class names are 2 MB
DEPTHS = ("depth", "layers", "num_hidden_layers", "num_layers")  # what settings call it
NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


@dataclass(frozen=True)
class Foreign:
    """A live module of another library, from images to logits or, where it has no `classifier`, to features (B, D).

    `native`: of images of `img_size`. `names`: of the classes, () where they have none.
    """

    module: nn.Module
    architecture: str
    img_size: int
    classifier: bool = True
    native: Preprocessing | None = None
    names: tuple[str, ...] = ()


def library(name: str, what: str | Path) -> ModuleType:
    """A library that only models of its own need. UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        package = INSTALL.get(name, name)
        advice = f"pip install {package}" + ("" if name in INSTALL else ", or pip install -e '.[models]' for both")
        raise UserError(f"{what}: a model of {package}, which is not installed; {advice}") from e


def read_json(file: Path) -> dict[str, Any]:
    """UserError for a file that is not there or not one JSON object."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; a model's folder has one")
    try:
        if file.stat().st_size > MOST:
            raise ValueError(f"it is larger than {MOST // 2**20} MiB")
        content = json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{file}: not a sound JSON file ({one_line(e, 100)}); download or copy it again") from e
    if not isinstance(content, dict):
        raise UserError(f"{file}: a {type(content).__name__}, not an object of settings; download or copy it again")
    return content


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The arrays of a safetensors file. UserError for one that is not there, broken, or of other than plain numbers."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; weights are read from safetensors alone")
    try:
        with safe_open(file, framework="pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as e:
        raise UserError(f"{file}: not sound safetensors ({one_line(e, 120)}); download or copy it again") from e
    for name, tensor in tensors.items():
        if tensor.dtype not in NUMBERS:
            raise UserError(f"{file}: {name} is {tensor.dtype}, quantised; get the weights as floating-point numbers")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{file}: {name} holds values that are not finite; download or copy it again")
    return tensors


def check_depth(where: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """UserError where settings name more blocks than the file could have weights for: building them takes for ever."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            check_depth(where, value, tensors)
        elif name in DEPTHS and isinstance(value, int) and value > len(tensors):
            raise UserError(f"{where}: {name} is {value}, but the weights have {len(tensors)} arrays in all")


@contextmanager
def foreign_code(where: str | Path, library: str) -> Iterator[None]:
    """Whatever a library raises over untrusted settings is one UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:  # settings reach any line of the library
        if out_of_memory(e):
            raise
        raise UserError(f"{where}: {library} makes no model of it ({type(e).__name__}: {one_line(e, 120)})") from e


def fill(where: str | Path, make: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The module that `make` returns with all its parameters and buffers from `tensors`, which must fit exactly.

    Shapes are compared before memory is taken. UserError with what is missing, left over or of the wrong shape.
    """
    with torch.device("meta"):
        expected = make().state_dict()
    faults = {
        "missing": [name for name in expected if name not in tensors],
        "left over": [name for name in tensors if name not in expected],
        "wrong": [
            f"{name} is {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
            for name, value in expected.items()
            if name in tensors and tensors[name].shape != value.shape
        ],
    }
    check_faults(where, faults)
    module = make()
    module.load_state_dict(dict(tensors))
    return module


def check_faults(where: str | Path, faults: Mapping[str, list[str]]) -> None:
    """UserError where there are any."""
    if any(faults.values()):
        texts = (f"{kind}: {listed(names, 6, 400)}" for kind, names in faults.items() if names)
        raise UserError(f"{where}: the weights do not fit the architecture: {'; '.join(texts)}")


def triple(value: Any, otherwise: tuple[float, float, float]) -> tuple[float, float, float]:
    """A number per channel; ValueError for anything else than three finite numbers, or one for all."""
    if value is None:
        return otherwise
    numbers = list(value) if isinstance(value, list | tuple) else [value] * 3
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    r, g, b = (float(number) for number in numbers)
    if not all(abs(number) < 1e6 for number in (r, g, b)):
        raise ValueError(f"{value} are not three numbers")
    return r, g, b


def positive(value: Any) -> int:
    """A number of pixels; ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 2**14:
        raise ValueError(f"{value!r} is no number of pixels")
    return value
