"""Where a model runs, and in what precision."""

import time
from collections.abc import Callable

import torch

from ..errors import UserError
from .configs import PRECISIONS

# The dtype of `checkpoint.load`. tf32 is fp32 with a switch of PyTorch's: its matrix products round their factors to 11
# significant bits.
DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.float64, torch.float32, torch.bfloat16), strict=True))


def device(name: str, local: int = 0) -> torch.device:
    """The device that --device names: auto, cpu, cuda, cuda:N or mps. UserError where it is not there.

    `local`: the number of this process on its machine; each has a GPU of its own where "cuda" has no number.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        raise UserError(f"--device {name}: this machine has {count} {kind} device(s); choose another, such as cpu")
    if kind == "cuda" and not index:
        return torch.device("cuda", local % count)
    return torch.device(name)


def set_precision(name: str, device: torch.device) -> torch.dtype:
    """Switch TF32 on or off in this process; the dtype to load a model in. UserError where `device` lacks it."""
    if name == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise UserError(f"--precision tf32: {device} has none, only NVIDIA GPUs since Ampere have; use fp32")
    if name == "fp64" and device.type == "mps":
        raise UserError("--precision fp64: mps has none; use --device cpu")
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    return DTYPES[name]


def synchronize(device: torch.device) -> None:
    """Wait until all that was asked of `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long `run` takes, from all earlier work on `device` done to its own done."""
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def free(device: torch.device) -> None:
    """Give memory that PyTorch holds in reserve back to `device`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
