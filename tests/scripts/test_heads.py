"""scripts/heads.sh asks for what docs/heads.md needs, and scripts/heads.py prints its tables."""

import pytest
from helpers import run_file
from made import write_folder
from shells import Checkout

DATA = "--dataset digits --dataset_path dataset/digits/val --batch_size 50"
RULE = "--quadrature gauss-legendre --ig_total_step 4"
EDIT = "experiments/quantitative-comparison/manipulation"


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def test_searches_and_edits_of_both_models(checkout):
    few = {"METHODS": "heads mixed_random", "ABLATIONS": "mean", "RESULTS": "r"}
    found = checkout.run("scripts/heads.sh", "--images_per_class", "5", **few)
    vit = [line for line in found if "ViT" in line]
    assert len(found) == 2 * len(vit)
    weights = "--pretrain_weight ckpt/ViT-digits.npz"
    assert vit == [
        f"python {line} --images_per_class 5"
        for line in (
            f"path/joint_attr_heads.py {DATA} {RULE} --units heads {weights} --output_dir r/heads/heads/ViT-digits",
            f"path/joint_attr_heads.py {DATA} {RULE} --units neurons --search layer {weights} "
            "--output_dir r/heads/neurons/ViT-digits",
            f"path/joint_attr_heads.py {DATA} {RULE} --units both --search layer {weights} "
            "--output_dir r/heads/both/ViT-digits",
            f"{EDIT}/ViT/edit.py {DATA} --method heads --ablation mean --heads_path r/heads/heads/ViT-digits {weights} "
            "--output_dir r/edit/mean/heads/ViT-digits",
            f"{EDIT}/ViT/edit.py {DATA} --method mixed_random --ablation mean --heads_path r/heads/both/ViT-digits "
            f"{weights} --output_dir r/edit/mean/mixed_random/ViT-digits",
        )
    ]
    assert all("ckpt/MAE-digits.pth" in line for line in found if "MAE" in line)
    assert len(checkout.run("scripts/heads.sh")) == 2 * (3 + 3 * 8)


def test_the_first_failure_ends_it(checkout):
    assert len(checkout.run("scripts/heads.sh", code=3, FAILS="--units neurons", CODE="3")) == 2


def test_the_tables_are_printed(tmp_path):
    write_folder(tmp_path / "heads/heads/m", {0: [{"ja_score": 2.0, "ja_drop": 0.5}] * 2})
    found = run_file("scripts/heads.py", "--results", tmp_path)
    assert "missing" not in found.stdout
    assert "records without a number base_score" in found.stderr
    records = [{f"{key}_{what}": 0.5 for key in ("ja", "base", "gate") for what in ("score", "drop")}] * 2
    write_folder(tmp_path / "heads/heads/m", {0: records})
    assert (
        "| F(1) - F(0), clamped | Head Path | 0.5000 [0.5000, 0.5000] |"
        in run_file("scripts/heads.py", "--results", tmp_path).stdout
    )
