"""Where a model runs, and in what precision."""

import argparse
import time
from collections.abc import Callable

import torch

from ..errors import UserError

# The dtype of `checkpoint.load`. tf32 is fp32 with a switch of PyTorch's: its matrix products round their factors to 11
# significant bits.
PRECISIONS = {"fp32": torch.float32, "fp64": torch.float64, "tf32": torch.float32, "bf16": torch.bfloat16}


def device(text: str) -> torch.device:
    """The type of an option that names a device that is there: auto, cpu, cuda, cuda:N or mps."""
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, index = text.partition(":")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in count or (colon and not (kind == "cuda" and index.isdecimal())):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda, cuda:N or mps, not {text!r}")
    if int(index or 0) >= count[kind]:
        raise argparse.ArgumentTypeError(f"{text!r} is not there: this machine has {count[kind]} {kind} device(s)")
    return torch.device(text)


def set_precision(name: str, device: torch.device) -> torch.dtype:
    """Switch TF32 on or off in this process; the dtype to load a model in. UserError where `device` lacks it."""
    if name == "tf32" and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise UserError(f"--precision tf32: {device} has none, only NVIDIA GPUs since Ampere have; use fp32")
    if name == "fp64" and device.type == "mps":
        raise UserError("--precision fp64: mps has none; use --device cpu")
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    return PRECISIONS[name]


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
