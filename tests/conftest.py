import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import COUNTS, Command, EditCommand, Result, random_model, run_file, tiny_config
from made import random_paths, write_classes
from PIL import Image

from neuronpath.models.checkpoint import save
from neuronpath.runs.extraction import TopKAttribution
from neuronpath.runs.pruning import TopKEdit

torch.set_num_threads(1)  # the models are tiny: threads would cost more than they give


#: The files that take longest come first, so that no process is left alone with one at the end.
SLOWEST = ("test_reproduce.py", "test_digits.py", "test_wheel.py", "test_exits.py", "test_processes.py")


#: Of slow tests with many parameters those that are left to --all: others try the same.
LONG = re.compile(
    r"test_search.*scores_equal_the_oracle\[.*-([25]|(left|midpoint|gauss-legendre)-3)-probability"
    r"|test_search.*scores_equal_the_oracle\[.*-(left|right|midpoint|gauss-legendre)-\d-(logit|sigmoid)"
    r"|test_baselines.*oracle\[(cls|mean)-(gradient_activation|conductance)-(left|midpoint|gauss-legendre)"
    r"|test_influence.*equal_the_oracle\[mean-[12]-(left|midpoint|gauss-legendre)"
    r"|test_cost.*(beam_costs.*shortlist-mean|count_of_a_beam.*legendre)"
    r"|test_beam.*literal_beam\[(mean-1|.*(logit|sigmoid))"
    r"|test_heads.*(definitions\[((cls|mean)-(both-1|neurons)|mean-1|one))"
    r"|test_candidates.*(literal_algorithm_1\[config\d-1-|candidates_are_batched\[cls)"
    r"|test_unramped.*literal_algorithm_1.*steps=3"
    r"|test_adaptive.*rule_that_it_needs\[((cls|mean-1)-options[12]|mean-options3)"
    r"|test_store.*every_byte_of_the_last_file\[overwrite"
    r"|test_exits.*ends_the_run_in_good_order\[2\]"
    r"|test_digits.*every_script_runs"
    r"|test_wheel.*(other_head|public_functions)"
    r"|test_processes.*more_processes"
    r"|test_shortlists.*all_settings"
    r"|studies/test_methods.*((two_nodes|batches).*beam_16|the_means\[(cls-random|mean-uniform)|oracle\[mean-(conduct|layer_ig))"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if LONG.search(item.nodeid):
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny ViT in the public `.npz` layout."""
    file = tmp_path_factory.mktemp("ckpt") / "tiny.npz"
    save(random_model(tiny_config(), dtype=torch.float32), file)
    return file


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """NUM_CLASSES class folders of COUNTS random PNG images of odd sizes."""
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for label, count in enumerate(COUNTS):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (7 + i, 11 - label, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture
def run(checkpoint, image_folder, tmp_path) -> Command:
    """The search command."""
    return Command(checkpoint, image_folder, tmp_path / "out")


@pytest.fixture
def edits(checkpoint, image_folder, tmp_path) -> EditCommand:
    """The edit command."""
    return EditCommand(checkpoint, image_folder, tmp_path)


@pytest.fixture(params=["cls", "mean"])
def wide(request, image_folder, tmp_path) -> EditCommand:
    """The edit command of both heads, with layers of 90 units, so that 20 are few."""
    file = tmp_path / {"cls": "wide.npz", "mean": "wide.pth"}[request.param]
    save(random_model(tiny_config(request.param, mlp_dim=90), seed=5, scale=0.25, dtype=torch.float32), file)
    found = EditCommand(file, image_folder, tmp_path)
    found.pool = request.param
    return found


@pytest.fixture(scope="session")
def topk(tmp_path_factory) -> EditCommand:
    """The command that edits top-K paths: on 6, 1, 2, 11 images a class, whose paths of K = 5 are in `ja`."""
    root, rng = tmp_path_factory.mktemp("topk"), np.random.default_rng(0)
    for label, count in enumerate((6, 1, 2, 11)):
        (root / f"images/class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/class{label}/{i:02d}.png")
    save(random_model(tiny_config(), dtype=torch.float32), root / "tiny.npz")
    found = EditCommand(root / "tiny.npz", root / "images", root, more=("--precision", "fp64"))
    found.kind = TopKEdit
    found("--topK", 5, kind=TopKAttribution, out=found.ja)
    return found


@pytest.fixture
def pruned(topk, tmp_path) -> Path:
    """Pruning by two methods, of two shares."""
    for method in ("ja", "random"):
        for p in (0.5, 1):
            out = tmp_path / f"runs/{method}{p}/tiny"
            topk("--topK", 2, "--method", method, "--mask_proportion", p, out=out)
    return tmp_path / "runs"


@pytest.fixture
def class_records(tmp_path) -> Path:
    """Random paths of all images of `image_folder`."""
    return write_classes(tmp_path / "ja", {i: random_paths(count, seed=i) for i, count in enumerate(COUNTS)})


@pytest.fixture
def similar(tmp_path):
    """Run a script of experiments/similarity in this process, with `tmp_path`/out for its output."""

    def start(script: str, *words) -> Result:
        output = () if "--help" in words else ("--output_dir", tmp_path / "out")
        return run_file(f"experiments/similarity/{script}.py", *output, *words)

    return start
