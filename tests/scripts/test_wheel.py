"""The package as a user of a wheel has it: built, installed without the checkout, and run in an empty folder."""

import shutil
import sys
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, IMAGES, ROOT, Result, random_model, records, run_process, tiny_config

import neuronpath
from neuronpath.models.checkpoint import save


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where the wheel of this checkout is installed; it is built from a copy, so that no build/ is left behind."""
    root = tmp_path_factory.mktemp("wheel")
    listed = run_process("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").expect().stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a deleted one is still listed
            (root / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / "copy" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run_process(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", root / "dist", root / "copy").expect()
    (wheel,) = (root / "dist").iterdir()
    assert wheel.name.startswith("neuronpath-")
    run_process(*pip, "install", "--no-deps", "--target", root / "installed", wheel).expect()
    return root / "installed"


@pytest.fixture
def python(installed, tmp_path):
    """Run Python in an empty folder, with the wheel and without the checkout."""
    (tmp_path / "empty").mkdir()

    def run(*words) -> Result:
        environment = ENVIRONMENT | {"PYTHONPATH": str(installed)}
        return run_process(sys.executable, *words, cwd=tmp_path / "empty", environment=environment)

    return run


IMPORTS = """
import importlib, pkgutil, sys
from pathlib import Path
import neuronpath

target = Path(sys.argv[1])
names = [found.name for found in pkgutil.walk_packages(neuronpath.__path__, "neuronpath.")]
for name in ("neuronpath", *names):
    module = importlib.import_module(name)
    assert Path(module.__file__).is_relative_to(target), module.__file__
    for public in getattr(module, "__all__", []):
        getattr(module, public)
from neuronpath.analysis.table import paper_results
from neuronpath.data.names import class_names
assert paper_results()["models"]
assert len(class_names("imagenet1k", Path("nowhere"))) == 1000
from neuronpath.data.labels import synsets
assert len(synsets()) == 1000
assert (target / "neuronpath/py.typed").is_file()
print(*sorted(neuronpath.__all__), len(names))
"""


def test_every_module_and_public_name_is_in_the_wheel(python, installed):
    *names, modules = python("-c", IMPORTS, installed).expect().stdout.split()
    assert names == sorted(neuronpath.__all__)
    files = [file for file in (ROOT / "neuronpath").rglob("*.py") if file != ROOT / "neuronpath/__init__.py"]
    assert int(modules) == len(files)


API = """
import sys
from pathlib import Path
import neuronpath
from neuronpath import Quadrature, edit, find_path, load, load_images, remove, score_path

model = load(sys.argv[1])
images, labels = load_images(sys.argv[2], model)
assert images.shape == (11, 3, 9, 9)
quadrature = Quadrature("gauss-legendre", 4)
found = find_path(model, images, labels, quadrature)
assert found.path.shape == (11, 6, 1)
assert (score_path(model, images, labels, found.path, quadrature) - found.score).abs().max() < 1e-4
original, removed = edit(model, images, None, remove(model, found.path))
assert original.shape == removed.shape == (11, 4)
assert ((original - removed).abs().amax(-1) > 0).all()
print(neuronpath.__file__)
"""


def test_the_public_functions_run(python, installed, checkpoint, image_folder):
    result = python("-c", API, checkpoint, image_folder).expect()
    assert result.stdout == f"{installed}/neuronpath/__init__.py\n"


def test_a_job_writes_records_below_the_working_folder(python, checkpoint, image_folder, tmp_path):
    words = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--num_workers", 0)
    result = python("-m", "neuronpath", "joint-attr", *words, "--pretrain_weight", checkpoint, "--ig_total_step", 2)
    assert result.expect().messages == []
    assert list(records(tmp_path / "empty/results/ja/tiny")) == IMAGES
    again = python("-m", "neuronpath", "edit", *words, "--pretrain_weight", checkpoint)
    assert again.expect().messages == []
    assert list(records(tmp_path / "empty/results/edit/remove_enhance/ja/tiny")) == IMAGES


def test_a_checkpoint_of_the_other_head_names_the_other_job(python, image_folder, tmp_path):
    save(random_model(tiny_config("mean")).float(), tmp_path / "mean.pth")
    words = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--pretrain_weight", tmp_path / "mean.pth")
    message = python("-m", "neuronpath", "joint-attr", *words).fault
    assert message.startswith("neuronpath: ")
    assert message.endswith("run python -m neuronpath joint-attr-mae")


def test_help_and_a_wrong_job(python):
    jobs = ("joint-attr", "influence-pattern", "edit", "topk-edit")
    for words in (("--help",), ()):
        printed = python("-m", "neuronpath", *words).expect().stdout
        assert all(job in printed for job in jobs)
    assert "--ig_total_step" in python("-m", "neuronpath", "joint-attr", "--help").expect().stdout
    result = python("-m", "neuronpath", "joint_attr")
    assert result.fault.startswith("neuronpath: 'joint_attr' is no job; choose from joint-attr, ")
    assert result.stdout == ""
