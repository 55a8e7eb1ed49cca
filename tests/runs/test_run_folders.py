"""All jobs on local folders of timm and `transformers`: their paths are the live model's; records say which."""

import json

import pytest
import torch
from foreign import timm_folder, transformers_folder
from helpers import EditCommand, assert_same_search, records, run_file, settings

from neuronpath import Quadrature, adapt, find_path, influence_path
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import transform
from neuronpath.models.checkpoint import sha256
from neuronpath.pixels import HALF, Preprocessing
from neuronpath.runs.extraction import InfluencePattern, JointAttribution, TopKAttribution
from neuronpath.runs.pruning import TopKEdit

NAMES = ["tench", "goldfish", "great\nwhite", "tiger"]
NATIVE = {
    "timm": Preprocessing(8, 8, *HALF, "bicubic"),  # ⌊8 / 0.9⌋
    "transformers": Preprocessing((8, 8), None, *HALF, "bilinear", "down"),
}


@pytest.fixture(params=[*NATIVE, "timm, mean"])
def command(request, image_folder, tmp_path) -> EditCommand:
    """The commands on a folder, natively in float64; `live` is its model, of one or of several neuron tokens."""
    folder = tmp_path / "model.v1"
    found = EditCommand(folder, image_folder, tmp_path, more=("--preprocess", "native", "--precision", "fp64"))
    found.library, _, several = request.param.partition(", ")
    if several:
        found.live = timm_folder(folder, config={"label_names": NAMES}, num_classes=4, global_pool="avg", fc_norm=True)
        found.pool = "mean"
    elif found.library == "timm":
        found.live = timm_folder(folder, config={"label_names": NAMES}, num_classes=4)
    else:
        found.live = transformers_folder(folder, names=NAMES, num_labels=4)
    return found


def inputs(command):
    source = open_dataset("imagefolder", command.images, 4)
    (batch,) = batches(source, source.items, transform(NATIVE[command.library]), 100)
    return batch.items, batch.images.double(), torch.tensor([item.label for item in batch.items])


def test_every_job_from_a_folder(command):
    command.search()
    items, x, y = inputs(command)
    model, rule = adapt(command.live.double(), img_size=8), Quadrature("right", 2)
    found, prob = find_path(model, x, y, rule), model(x).softmax(-1)
    expected = {
        item.image: {
            **{"image": item.image, "label": item.label, "pred": prob[i].argmax().item()},
            **{"prob": prob[i, item.label].item(), "margin": found.margin[i].tolist()},
            **{"ja": found.path[i].tolist(), "ja_score": found.score[i].item(), "ja_act": found.activation[i].tolist()},
            **{"base": found.base_path[i].tolist(), "base_score": found.base_score[i].item()},
        }
        for i, item in enumerate(items)
    }
    assert_same_search(records(command.ja), expected, 1e-9)
    command.search(InfluencePattern, command.influence)
    pattern = influence_path(model, x, y, rule)
    assert [r["path"] for r in records(command.influence).values()] == pattern.path.tolist()
    for method in ("ja", "influence_pattern", "random"):
        command("--method", method, out=command.out / method)
        assert len(records(command.out / method)) == len(items)
    if command.pool == "mean":
        return
    command.search(TopKAttribution, command.out / "top", "--topK", 3)
    for operation in ("remove", "prune"):
        words = ("--topK", 2, "--edit_operation", operation)
        command(*words, kind=TopKEdit, ja=command.out / "top", out=command.out / operation)
        assert records(command.out / operation)


def test_what_args_say(command):
    command("--labels", 1, kind=JointAttribution)
    found = settings(command.out)
    assert found["checkpoint_sha256"] == sha256(command.checkpoint)
    assert found["model_architecture"].startswith(f"{command.library} ")
    tokens = (5, 1, "0") if command.pool == "cls" else (5, 4, "1-4")
    assert (found["model_tokens"], found["model_neuron_tokens"], found["model_neuron_token_indices"]) == tokens
    assert (
        NATIVE[command.library].to_dict().items()
        <= {k[11:]: v for k, v in found.items() if k[:10] == "preprocess"}.items()
    )
    assert json.loads((command.out / "imgnet_all.args.json").read_text())["class_names"] == NAMES
    assert f"whose head reads {tokens[1]} of 5 tokens ({tokens[2]})" in command("--labels", 1, kind=JointAttribution)
    weights = command.checkpoint / "config.json"
    weights.write_text(weights.read_text() + " ")
    assert "checkpoint_sha256 " in command("--labels", 1, kind=JointAttribution, code=2)


def test_results_are_called_after_the_folder(command):
    from argparse import Namespace

    from neuronpath.files import model_name

    assert model_name(Namespace(pretrain_weight=command.checkpoint, model_type="auto")) == "model.v1"
    assert model_name(Namespace(pretrain_weight=command.checkpoint, model_type="timm:vit_b.x")) == "timm-vit_b.x"


def test_scripts_for_one_token_and_for_several(command):
    one = "its head reads 1 of 5 tokens, not several; run path/joint_attr.py"
    several = "its head reads 4 of 5 tokens, not one; run path/joint_attr_mae.py"
    command.pool, said = ("mean", one) if command.pool == "cls" else ("cls", several)
    assert said in command(kind=JointAttribution, code=2)


def test_class_scripts(command, tmp_path):
    command.search()
    words = ("--results", command.ja, "--dataset_path", command.images, "--output_dir", tmp_path / "pairs")
    result = run_file("experiments/similarity/pair-sim.py", *words, "--pretrain_weight", command.checkpoint).expect()
    assert "confusion   Spearman's r = " in result.stdout
    assert "not the weights" not in result.stderr
    words = ("--results", command.ja, "--dataset_path", command.images, "--output_dir", tmp_path / "names")
    run_file("experiments/similarity/name2img.py", *words, "--names", "goldfish").expect()
    assert [folder.name for folder in (tmp_path / "names").iterdir() if "goldfish" in folder.name]
    run_file(
        "scripts/check.py",
        "--pretrain_weight",
        command.checkpoint,
        *command.more,
        "--dataset",
        "imagefolder",
        "--dataset_path",
        command.images,
        "--num_workers",
        0,
        "--ig_total_step",
        2,
    ).expect()
