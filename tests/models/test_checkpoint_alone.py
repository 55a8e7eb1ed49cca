"""The paper's kinds of files are loaded where no library of models is installed."""

import sys

import torch
from helpers import random_model, run_process, tiny_config

from neuronpath.models.checkpoint import save

ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("timm", "transformers", "open_clip", "captum"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Absent())
import torch
import neuronpath

torch.set_num_threads(1)
torch.manual_seed(0)
for file in sys.argv[1:3]:
    model = neuronpath.load(file)
    found = neuronpath.find_path(model, torch.randn(1, 3, 9, 9), torch.tensor([0]))
    print(model.config.pool, found.path.shape[1], *model.assumed)
try:
    neuronpath.load(sys.argv[3])
except neuronpath.UserError as e:
    print(e)
"""


def test_without_timm_and_transformers(tmp_path):
    files = [tmp_path / "ViT-B_32.npz", tmp_path / "mae_finetuned_vit_base.pth"]
    for file, pool in zip(files, ("cls", "mean"), strict=True):
        save(random_model(tiny_config(pool), dtype=torch.float32), file)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/config.json").write_text('{"architecture": "vit_tiny_patch16_224"}')
    (tmp_path / "folder/model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    first, second, third = (
        run_process(sys.executable, "-c", ALONE, *files, tmp_path / "folder").expect().stdout.splitlines()
    )
    assert (first, second) == ("cls 6", "mean 6")
    assert "a model of timm, which is not installed; pip install timm" in third
