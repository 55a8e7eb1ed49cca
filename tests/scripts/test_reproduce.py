"""The whole road on the digits, scripts/reproduce.sh --smoke, and the experiments' shell scripts on its results."""

import json
import re
from pathlib import Path

import pytest
from helpers import run_bash

from neuronpath.records.reading import label_files, read_results

MANIPULATION = "experiments/quantitative-comparison/manipulation"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> tuple[Path, str]:
    """Results and what is printed."""
    root = tmp_path_factory.mktemp("smoke") / "a folder"
    return root, run_bash("scripts/reproduce.sh", "--smoke", RESULTS=str(root)).expect().stdout


def test_smoke_ends_with_the_table(smoke):
    root, printed = smoke
    end = printed[printed.index("\n== table\n") :]
    for name in ("Joint Attribution Score", "Removal Accuracy Deviation", "Enhancement Accuracy Deviation", "Matched"):
        assert name in end
    assert "missing" not in end
    assert re.search(r"ok +time +ViT-digits, 60 images on cpu: about \S+ s of computing", printed)
    found = json.loads((root / "table.json").read_text())
    scores = found["measures"]["joint_attribution_score"]
    assert found["models"]["ViT-digits"] | {"quadrature": "gauss-legendre", "steps": 4} == found["models"]["ViT-digits"]
    for model in ("ViT-digits", "MAE-digits"):
        assert scores["ja"][model]["value"] > max(scores[m][model]["value"] for m in ("base", "influence_pattern"))
        removal = found["measures"]["removal_paired_probability"]
        assert all(removal[method][model]["high"] < 0 for method in ("base", "influence_pattern", "random"))
        enhancement = found["measures"]["enhancement_paired_probability"]
        assert all(enhancement[method][model]["value"] > 0 for method in ("base", "influence_pattern", "random"))


def test_every_stage_is_named_before_it_starts(smoke):
    root, printed = smoke
    expected = ["check"]
    for model, suffix in (("ViT-digits", ""), ("MAE-digits", "_mae")):
        expected += [f"joint_attr{suffix}: {root}/ja/{model}"]
        expected += [f"influence_pattern{suffix}: {root}/influence_pattern/{model}"]
        methods = ("base", "influence_pattern", "ja", "random")
        expected += [f"edit: {root}/edit/remove_enhance/{method}/{model}" for method in methods]
        if model == "ViT-digits":
            expected += [f"joint_attr: {root}/ja_top5/{model}"]
            runs = [f"{method}/k5-p1-all-{tokens}" for method in ("ja", "base", "random") for tokens in ("cls", "all")]
            expected += [f"edit: {root}/pruning/{run}/{model}" for run in runs]
        expected += [f"top_images: {root}/top_images/{model}", "unit_maps"]
        expected += [f"{script}: {root}/similarity/{model}" for script in ("pair-sim", "paper-plot")]
    expected += ["plot_probability_deviation", "study_shrink", "table", "atlas"]
    assert re.findall(r"^== (.*)$", printed, re.M) == expected


@pytest.mark.parametrize("wrong", [("--ig_total_stepp", "3"), ("--device", "gpu"), ("--labels", "10")])
def test_a_mistyped_option_stops_it_at_once(wrong, tmp_path):
    result = run_bash("scripts/reproduce.sh", "--smoke", *wrong, RESULTS=str(tmp_path / "out")).expect(2)
    assert wrong[0] in result.stderr
    assert not (tmp_path / "out").exists()


def test_smoke_makes_every_record_and_picture(smoke):
    root, _ = smoke
    folders = [file.parent for file in root.rglob("imgnet_all.args.json")]
    assert len(folders) == 2 * 6 + 1 + 6
    for folder in folders:
        records = [record for found in read_results(folder).values() for record in found]
        assert len({record["image"] for record in records}) == len(records)
        assert len(records) == (20 if "pruning" in folder.parts else 60)
    pictures = {file.relative_to(root).as_posix() for file in root.rglob("*.png")}
    thumbs = {picture for picture in pictures if picture.startswith("atlas/thumbs/")}
    assert len(thumbs) == 60
    assert (root / "atlas/index.html").is_file()
    assert pictures - thumbs == {
        "pruning/pruning-ViT-digits-prob.png",
        "pruning/pruning-ViT-digits-top1.png",
        "shrink/study.png",
        *(f"similarity/{m}/{name}.png" for m in ("ViT-digits", "MAE-digits") for name in ("similarity", "paper-plot")),
    }


@pytest.mark.long
def test_smoke_again_computes_nothing(smoke):
    root, _ = smoke
    before = {file: file.read_bytes() for file in root.rglob("*.rlt.jsonl")}
    printed = run_bash("scripts/reproduce.sh", "--smoke", RESULTS=str(root)).expect().stdout
    assert set(re.findall(r"\((\d+) new,", printed)) == {"0"}
    assert {file: file.read_bytes() for file in root.rglob("*.rlt.jsonl")} == before


@pytest.mark.long
@pytest.mark.parametrize(
    "script", ["ViT/scripts/edit_logits.sh", "ViT/scripts/edit_accuracy.sh", "MAE/scripts/edit.sh"]
)
def test_edit_scripts_run_all_methods_from_any_folder(script, smoke, tmp_path):
    root, _ = smoke
    model = f"{script[:3]}-digits"
    environment = {
        "JA_PATH": str(root / "ja" / model),
        "INFLUENCE_PATTERN_PATH": str(root / "influence_pattern" / model),
    }
    options = ("--labels", "3,5", "--gain", "0.5")
    printed = (
        run_bash(
            f"{MANIPULATION}/{script}",
            *options,
            cwd=tmp_path,
            RESULTS=str(tmp_path),
            IMAGES_PER_CLASS="6",
            **environment,
        )
        .expect()
        .stdout
    )
    assert printed.count("images      12 (12 new") == 4
    assert {d.name for d in (tmp_path / "edit/remove_enhance").iterdir()} == {
        "base",
        "influence_pattern",
        "ja",
        "random",
    }
    assert "Matched control" in printed


@pytest.mark.long
def test_pruning_script_sweeps(smoke, tmp_path):
    root, _ = smoke
    sweep = {"TOPKS": "1 2", "PROPORTIONS": "1", "TOKENS": "cls", "DEPTHS": "all 3", "METHODS": "ja"}
    printed = (
        run_bash(
            f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh",
            *("--labels", "3,5"),
            cwd=tmp_path,
            RESULTS=str(tmp_path),
            IMAGES_PER_CLASS="6",
            JA_PATH=str(root / "ja_top5/ViT-digits"),
            **sweep,
        )
        .expect()
        .stdout
    )
    rows = [line for line in printed.splitlines() if line.startswith("| ViT-digits")]
    assert [[cell.strip() for cell in row.split("|")][3:5] for row in rows] == [
        ["3", "1"],
        ["3", "2"],
        ["12", "1"],
        ["12", "2"],
    ]


def test_a_missing_checkpoint_is_named_before_anything_runs(tmp_path):
    result = run_bash("scripts/reproduce.sh", CKPT=str(tmp_path), RESULTS=str(tmp_path / "out")).expect(2)
    assert f"{tmp_path}/ViT-B_16-224.npz" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_failing_edit_stops_the_script(tmp_path):
    nowhere = str(tmp_path / "nowhere")
    result = run_bash(
        f"{MANIPULATION}/ViT/scripts/edit_logits.sh", JA_PATH=nowhere, RESULTS=str(tmp_path / "out")
    ).expect(2)
    assert nowhere in result.stderr
    assert label_files(tmp_path / "out", "imgnet_all") == {}
    assert not (tmp_path / "out").exists()
