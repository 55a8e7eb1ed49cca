from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_model, tiny_config
from PIL import Image

from neuronpath.models.checkpoint import save

torch.set_num_threads(1)  # the models are tiny: threads would cost more than they give


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny ViT in the public `.npz` layout."""
    file = tmp_path_factory.mktemp("ckpt") / "tiny.npz"
    save(random_model(tiny_config(), dtype=torch.float32), file)
    return file


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """NUM_CLASSES class folders of 3, 1, 2, 5 random PNG images of odd sizes."""
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for label, count in enumerate((3, 1, 2, 5)):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (7 + i, 11 - label, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return root
