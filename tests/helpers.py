"""Models, checkpoints and commands for the tests."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from neuronpath.models.configs import Config
from neuronpath.models.vit import VisionTransformer

ROOT = Path(__file__).resolve().parent.parent
NUM_CLASSES = 4
KINDS = ("cls", "mean", "mean-1")  # of `tiny_config`; the last has one patch: N = 1, the neuron token is the second


def tiny_config(kind: str = "cls", **changes) -> Config:
    """Pairwise different sizes, so that a swapped axis cannot pass: patch 3, grid 3, D 20, heads 5, H 28, L 6, C 4."""
    pool, _, one = kind.partition("-")
    sizes = {"patch_size": 3, "img_size": 3 if one else 9, "width": 20, "depth": 6, "num_heads": 5, "mlp_dim": 28}
    return Config(**{**sizes, "num_classes": NUM_CLASSES, "pool": pool, **changes})


def random_model(config: Config, seed: int = 0, scale: float = 0.35, dtype=torch.float64) -> VisionTransformer:
    """Random weights of a size that makes the Joint Attribution Scores larger than 0.01."""
    generator = torch.Generator().manual_seed(seed)
    model = VisionTransformer(config).to(dtype)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
        parameter.data = (values + 1 if "norm" in name and name.endswith("weight") else values).to(dtype)
    return model.requires_grad_(False).eval()


class Payload:
    """Pickled, it is a program that creates the file `canary` when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def run_script(script: str, *arguments, cwd: Path = ROOT, threads: int = 1) -> subprocess.CompletedProcess:
    """Run a script of the project as users do; its path is relative to the root."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=environment)
