"""The embedded default: training, the four scripts on it, the pictures, and what the README shows."""

import json
import re
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, run_script
from timm.models.vision_transformer import VisionTransformer as TimmViT

from neuronpath import load, load_images
from neuronpath.models.training import accuracy
from neuronpath.records.reading import read_results

VAL = ROOT / "dataset/digits/val"
FILES = {"ViT-digits": ROOT / "ckpt/ViT-digits.npz", "MAE-digits": ROOT / "ckpt/MAE-digits.pth"}


@pytest.fixture(scope="module", autouse=True)
def digits():
    """Images and checkpoints, made where they are not there yet (two minutes on two cores)."""
    result = run_script("scripts/train_digits.py", threads=2)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", FILES)
def test_at_least_97_percent_of_held_out_digits(name):
    model = load(FILES[name])
    assert accuracy(model, *load_images(VAL, model)) >= 0.97


def test_an_independent_vit_loads_the_digits_model():
    timm = TimmViT(img_size=32, patch_size=8, embed_dim=96, depth=12, num_heads=4, mlp_ratio=4, num_classes=10)
    timm.load_pretrained(str(FILES["ViT-digits"]))
    model = load(FILES["ViT-digits"])
    images = load_images(VAL, model)[0][:50]
    with torch.no_grad():
        torch.testing.assert_close(timm.eval()(images), model(images), rtol=1e-5, atol=1e-5)


SCRIPTS = {
    "joint_attr": ("ja", "ViT-digits"),
    "influence_pattern": ("influence_pattern", "ViT-digits"),
    "joint_attr_mae": ("ja", "MAE-digits"),
    "influence_pattern_mae": ("influence_pattern", "MAE-digits"),
}


def run_on_digits(script: str, out, *options, cwd=ROOT) -> list[dict]:
    """The records of one script, run in `cwd` with relative paths."""
    here = "" if cwd == ROOT else "../"
    result = run_script(
        f"path/{script}.py",
        *("--dataset", "digits", "--dataset_path", f"{here}dataset/digits/val", "--output_dir", out),
        *("--pretrain_weight", f"{here}{FILES[SCRIPTS[script][1]].relative_to(ROOT)}", *options),
        cwd=cwd,
    )
    assert result.returncode == 0, result.stderr
    return [record for found in read_results(out).values() for record in found]


def mean_scores(out, count: int, *options) -> list[list[float]]:
    """Run all four scripts; per method, Activation, Influence Pattern, Neuron Path, the means of both models."""
    for script, (job, model) in SCRIPTS.items():
        rule = ("--quadrature", "gauss-legendre", "--ig_total_step", 4)
        records = run_on_digits(script, out / job / model, *rule, *options)
        assert len({record["image"] for record in records}) == len(records) == count
    table = run_script("scripts/table.py", "--results", out, "--measures", "score", "--json", out / "table.json")
    assert table.returncode == 0, table.stderr
    rows = json.loads((out / "table.json").read_text())["measures"]["joint_attribution_score"]
    assert [entry["n"] for row in rows.values() for entry in row.values()] == [count] * 6
    return [[entry["value"] for entry in rows[method].values()] for method in ("base", "influence_pattern", "ja")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_from_the_root_and_from_its_folder(script, tmp_path):
    few = ("--images_per_class", 1, "--ig_total_step", 1, "--labels", "3,5")
    records = [run_on_digits(script, tmp_path / str(i), *few, cwd=cwd) for i, cwd in enumerate((ROOT, ROOT / "path"))]
    assert records[0] == records[1]
    assert [record["label"] for record in records[0]] == [3, 5]
    keys = {"ja", "ja_score", "ja_act", "base", "base_score", "base_act"} if "joint" in script else {"path", "score"}
    assert records[0][0].keys() == {"image", "label", "pred", "prob", "margin"} | keys


def test_neuron_paths_score_highest_and_are_drawn(tmp_path):
    activation, influence, neuron = mean_scores(tmp_path, 80, "--images_per_class", 8)
    assert all(n > max(others) for n, *others in zip(neuron, influence, activation, strict=True))
    picture = run_script("scripts/plot_paths.py", "--results", tmp_path / "ja/ViT-digits", "--output", tmp_path / "a")
    assert picture.returncode == 0, picture.stderr
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert (tmp_path / "a.pdf").exists()


@pytest.mark.long
def test_neuron_path_over_influence_pattern_over_activation_on_all_images(tmp_path):
    """A few images carry the mean of the activation paths, so that this takes all."""
    for activation, influence, neuron in zip(*mean_scores(tmp_path, 355), strict=True):
        assert activation < influence < neuron


@pytest.mark.parametrize("fault", ["images", "args", "records", "output"])
def test_a_picture_that_cannot_be_drawn_says_why(fault, tmp_path):
    run_on_digits("joint_attr", tmp_path, "--images_per_class", 1, "--ig_total_step", 1, "--labels", "3")
    options = {"--results": tmp_path, "--output": tmp_path / "a", "--dataset_path": VAL}
    if fault == "images":
        options["--dataset_path"] = tmp_path
    elif fault == "args":
        (tmp_path / "imgnet_all.args.json").write_text("{}")
    elif fault == "records":
        (tmp_path / "imgnet_all-3.rlt.jsonl").write_text("")
    else:
        options["--output"] = tmp_path / "imgnet_all.args.json" / "a"
    result = run_script("scripts/plot_paths.py", *(x for pair in options.items() for x in pair))
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr


def test_the_readme_is_whole():
    text = (ROOT / "README.md").read_text()
    assert "@@" not in text
    for link in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text):
        assert (ROOT / link).exists(), link


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
from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.job import main
job = JointAttribution("cls")
main(job, "", ["--dataset", "digits", "--dataset_path", {str(VAL)!r}, "--images_per_class", "{count}",
     "--pretrain_weight", {str(FILES["ViT-digits"])!r}, "--output_dir", {str(tmp_path / str(count))!r}])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.splitlines()[-1]))
    recorded = [r["image"] for found in read_results(tmp_path / "100").values() for r in found]
    assert sorted(recorded) == sorted(p.relative_to(VAL).as_posix() for p in VAL.glob("*/*.png"))
    assert peaks[1] < 1.1 * peaks[0], peaks
    assert json.loads((tmp_path / "100/imgnet_all.args.json").read_text())["job"] == "joint_attr"


@pytest.mark.long
def test_the_demo_runs():
    result = subprocess.run(["bash", "scripts/demo.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Neuron Path" in result.stdout
