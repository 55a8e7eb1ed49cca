"""How many rows go through the model at once by default."""

import pytest
import torch

from neuronpath.attribution.rows import default_rows
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import VisionTransformer


@pytest.mark.parametrize(("name", "rows"), [("ViT-B_32", 54), ("ViT-B_16", 13), ("MAE-B_16", 27), ("MAE-L_16", 20)])
def test_default_rows_on_a_cpu(name, rows):
    """As measured for ViT-B_32 (README, Speed); of the usual mean heads the 20 nodes of an image fit in."""
    with torch.device("meta"):
        model = VisionTransformer(CONFIGS[name])
    assert default_rows(model, torch.device("cpu")) == rows
