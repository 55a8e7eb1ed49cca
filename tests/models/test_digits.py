"""The notes beside the checkpoints of the embedded default, and who reads them."""

import json
from pathlib import Path

import pytest
import torch
from helpers import fault, random_model

from neuronpath import load
from neuronpath.models.checkpoint import save, sha256
from neuronpath.models.configs import CONFIGS
from neuronpath.models.digits import CHECKPOINTS, outdated, sign

SOME, OTHERS = {"noise": 0.35, "sha256": "a"}, {"noise": 0.2, "sha256": "b"}


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "dataset/digits"
    folder.mkdir(parents=True)
    (folder / "made.json").write_text(json.dumps(SOME))
    return folder


@pytest.fixture(params=CHECKPOINTS)
def file(request, tmp_path, monkeypatch) -> Path:
    """One of the default's checkpoints, without a note."""
    monkeypatch.setattr("neuronpath.models.digits.ROOT", tmp_path)
    checkpoint = tmp_path / CHECKPOINTS[request.param]
    save(random_model(CONFIGS[request.param].with_(depth=1), dtype=torch.float32), checkpoint)
    return checkpoint


def test_the_note_says_of_which_images_and_how(file, images):
    sign(file, images, epochs=3, seed=4)
    note = file.parent / f"{file.stem}.made.json"
    assert json.loads(note.read_text()) == {"sha256": sha256(file), "images": SOME, "epochs": 3, "seed": 4}
    assert sorted(file.parent.iterdir()) == sorted((file, note))
    assert (outdated(file, images), load(file).config.depth) == ("", 1)


def test_without_images_there_is_nothing_to_compare_with(file, images):
    sign(file, images)
    (images / "made.json").unlink()
    assert (outdated(file, images), load(file).config.depth) == ("", 1)


def refused(file: Path, images: Path, why: str) -> None:
    assert outdated(file, images) == why
    said = f"{file}: {why}; train it anew with: python scripts/train_digits.py"
    assert fault(load, file) == fault(load, str(file)) == said
    here = file.parent / "../ckpt" / file.name
    assert fault(load, here).startswith(f"{here}: {why};")
    copy = file.with_name(f"mine{file.suffix}")
    copy.write_bytes(file.read_bytes())
    assert load(copy).config.depth == 1, "other files need no note"


def test_other_images(file, images):
    sign(file, images)
    (images / "made.json").write_text(json.dumps(OTHERS))
    refused(file, images, "trained on other images")


@pytest.mark.parametrize("said", [None, "", "[]", "{}"])
def test_no_note(file, images, said):
    if said is not None:
        file.with_name(f"{file.stem}.made.json").write_text(said)
    refused(file, images, "made by an earlier version")


def test_the_note_of_another_file(file, images):
    """As where an earlier version trained anew, or a run was killed between the file and its note."""
    sign(file, images)
    save(random_model(CONFIGS[file.stem].with_(depth=1), seed=1, dtype=torch.float32), file)
    refused(file, images, "made by an earlier version")


def test_a_file_that_is_not_there(file):
    file.unlink()
    assert fault(load, file).startswith(f"{file}: no such checkpoint file")
