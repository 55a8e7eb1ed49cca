"""The embedded default: training, the four scripts on it, the pictures, and what the README shows."""

import json
import re
import subprocess

import pytest
import torch
from helpers import ROOT, run_script
from timm.models.vision_transformer import VisionTransformer as TimmViT

from neuronpath import load
from neuronpath.configs import CONFIGS
from neuronpath.digits import accuracy, load_images
from neuronpath.records import read_results

VAL = ROOT / "dataset/digits/val"
FILES = {"ViT-digits": ROOT / "ckpt/ViT-digits.npz", "MAE-digits": ROOT / "ckpt/MAE-digits.pth"}


@pytest.fixture(scope="module", autouse=True)
def digits():
    """Images and checkpoints, made where they are not there yet (two minutes on two cores)."""
    result = run_script("scripts/train_digits.py")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", FILES)
def test_at_least_97_percent_of_held_out_digits(name):
    assert accuracy(load(FILES[name]), *load_images(VAL, CONFIGS[name])) >= 0.97


def test_an_independent_vit_loads_the_digits_model():
    timm = TimmViT(img_size=32, patch_size=8, embed_dim=96, depth=12, num_heads=4, mlp_ratio=4, num_classes=10)
    timm.load_pretrained(str(FILES["ViT-digits"]))
    images = load_images(VAL, CONFIGS["ViT-digits"])[0][:50]
    with torch.no_grad():
        torch.testing.assert_close(timm.eval()(images), load(FILES["ViT-digits"])(images), rtol=1e-5, atol=1e-5)


def test_mean_scores_neuron_path_over_influence_pattern_over_activation(tmp_path):
    """All four scripts, from the root and from their own folder; then the table and the picture."""
    scripts = {
        "joint_attr": ("ja", "ViT-digits"),
        "influence_pattern": ("influence_pattern", "ViT-digits"),
        "joint_attr_mae": ("ja", "MAE-digits"),
        "influence_pattern_mae": ("influence_pattern", "MAE-digits"),
    }
    for i, (script, (job, model)) in enumerate(scripts.items()):
        cwd = (ROOT, ROOT / "path")[i % 2]
        up = ("", "../")[i % 2]
        result = run_script(
            f"path/{script}.py",
            *("--dataset", "digits", "--dataset_path", f"{up}dataset/digits/val", "--images_per_class", 8),
            *("--pretrain_weight", f"{up}{FILES[model].relative_to(ROOT)}", "--output_dir", tmp_path / job / model),
            cwd=cwd,
        )
        assert result.returncode == 0, result.stderr
        records = [r for found in read_results(tmp_path / job / model).values() for r in found]
        assert len({r["image"] for r in records}) == len(records) == 80
    table = run_script("scripts/table.py", "--results", tmp_path)
    means = [[float(x) for x in re.findall(r"(-?\d\.\d+) \(n = 80\)", line)] for line in table.stdout.splitlines()[2:]]
    activation, influence, neuron = means
    assert all(n > i > a for n, i, a in zip(neuron, influence, activation, strict=True)), table.stdout
    picture = run_script("scripts/plot_paths.py", "--results", tmp_path / "ja/ViT-digits", "--output", tmp_path / "a")
    assert picture.returncode == 0, picture.stderr
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert (tmp_path / "a.pdf").exists()


def test_the_readmes_python_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.long
def test_every_validation_image_is_recorded_once_and_memory_does_not_grow(tmp_path):
    peaks = []
    for count in (4, 100):
        command = f"""
import resource, sys
from neuronpath.extract import JOINT_ATTR, main
main(JOINT_ATTR, "", ["--dataset", "digits", "--dataset_path", {str(VAL)!r}, "--images_per_class", "{count}",
     "--pretrain_weight", {str(FILES["ViT-digits"])!r}, "--output_dir", {str(tmp_path / str(count))!r}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        result = subprocess.run(["python", "-c", command], capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.splitlines()[-1]))
    recorded = [r["image"] for found in read_results(tmp_path / "100").values() for r in found]
    assert sorted(recorded) == sorted(p.relative_to(VAL).as_posix() for p in VAL.glob("*/*.png"))
    assert peaks[1] < 1.1 * peaks[0], peaks
    assert json.loads((tmp_path / "100/imgnet_all.args.json").read_text())["job"] == "joint_attr"


@pytest.mark.long
def test_the_demo_runs():
    result = subprocess.run(["bash", "scripts/demo.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Neuron Path" in result.stdout
