"""scripts/train_digits.py on real images: what it makes, keeps, and makes anew. `test_digits.py` has its models."""

import re
import runpy
import sys

import pytest
from helpers import ROOT

from neuronpath import load, load_images
from neuronpath.models.training import accuracy

FILES = ("ckpt/ViT-digits.npz", "ckpt/MAE-digits.pth")
KEPT = [f"{file} is there; --overwrite trains anew" for file in FILES]
DONE = [f"{file}: 50.00 % top-1 on held-out digits" for file in FILES]


def anew(why: str) -> list[str]:
    """What is printed where both models are trained anew."""
    return [line for file, done in zip(FILES, DONE, strict=True) for line in (f"{file}: {why}; trained anew", done)]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The script below `tmp_path`: its lines, without the seconds."""
    for folder in ("ckpt", "dataset"):
        (tmp_path / folder).mkdir()

    def start(*words) -> list[str]:
        main = runpy.run_path(str(ROOT / "scripts/train_digits.py"))["main"]
        monkeypatch.setitem(main.__globals__, "ROOT", tmp_path)
        monkeypatch.setattr(sys, "argv", ["train_digits.py", *map(str, words)])
        capsys.readouterr()
        main()
        lines = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
        return [re.sub(r", \d+ s$", "", line) for line in lines]

    return start


@pytest.fixture
def quick(run, monkeypatch):
    """Where a model is only the seed of its training, and right in half of the held-out digits."""
    stand_ins = {
        "neuronpath.data.load_images": lambda folder, model: (folder.name, "labels"),
        "neuronpath.models.train": lambda config, images, labels, epochs, seed: (images, seed),
        "neuronpath.models.save": lambda model, file: file.write_text(str(model)),
        "neuronpath.models.accuracy": lambda model, images, labels: (model[0] == "train" and images == "val") / 2,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(name, stand_in, raising=False)
    return run


def test_what_an_earlier_version_made(quick, tmp_path):
    assert quick("--noise", 0, "--seed", 3) == DONE
    for note in (*tmp_path.glob("ckpt/*.json"), tmp_path / "dataset/digits/made.json"):
        note.unlink()
    first, *more = quick()
    assert first == "dataset/digits: made by an earlier version; made anew with noise 0.35"
    assert more == anew("made by an earlier version")
    assert quick() == KEPT


def test_other_noise(quick):
    quick("--seed", 3)
    assert quick("--seed", 4, "--epochs", 2) == KEPT
    first, *more = quick("--noise", 0)
    assert first == "dataset/digits: made with other noise; made anew with noise 0"
    assert more == anew("trained on other images")
    assert quick("--noise", 0) == KEPT
    assert quick("--noise", 0, "--overwrite") == DONE


def test_one_model_at_a_time(quick):
    quick("--noise", 0)
    first, *more = quick("--models", "ViT-digits")
    assert first.startswith("dataset/digits: ")
    assert more == anew("trained on other images")[:2]
    assert quick() == [KEPT[0], *anew("trained on other images")[2:]]


def test_a_model_that_another_program_wrote(quick, tmp_path):
    quick()
    (tmp_path / FILES[1]).write_text("another")
    assert quick() == [KEPT[0], *anew("made by an earlier version")[2:]]
    (tmp_path / FILES[1]).unlink()
    assert quick() == [KEPT[0], DONE[1]]


def test_another_folder_for_the_checkpoints(quick, tmp_path):
    """A training of its own, of the same images; those of the default folder are neither looked at nor touched."""
    kept = quick() and {file.name: file.read_bytes() for file in tmp_path.glob("ckpt/*")}
    folder = tmp_path / "seed3/ckpt"
    folder.mkdir(parents=True)
    assert quick("--seed", 3, "--output_dir", folder) == [f"seed3/{line}" for line in DONE]
    assert {file.name for file in folder.iterdir()} == {*kept}
    assert "3" in (folder / "ViT-digits.npz").read_text()
    assert {file.name: file.read_bytes() for file in tmp_path.glob("ckpt/*")} == kept
    assert quick("--output_dir", folder) == [f"seed3/{line}" for line in KEPT]
    assert quick("--output_dir", folder, "--overwrite") == [f"seed3/{line}" for line in DONE]


@pytest.mark.parametrize("killed", ["save", "sign"])
def test_a_killed_training_is_done_again(killed, quick, tmp_path, monkeypatch):
    quick("--noise", 0, "--seed", 3)

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr({"save": "neuronpath.models.save", "sign": "neuronpath.models.digits.sign"}[killed], kill)
        with pytest.raises(KeyboardInterrupt):
            quick()
    why = {"save": "trained on other images", "sign": "made by an earlier version"}[killed]
    assert quick() == [anew(why)[0], DONE[0], *anew("trained on other images")[2:]]


@pytest.mark.long
def test_another_seed_reaches_the_accuracy_too(run, tmp_path):
    for line, file, least in zip(run("--seed", 1), FILES, (72, 60), strict=True):
        found = float(re.fullmatch(rf"{file}: ([\d.]+) % top-1 on held-out digits", line)[1])
        assert least <= found <= 90
        model = load(tmp_path / file)
        held_out = load_images(tmp_path / "dataset/digits/val", model)
        assert 100 * accuracy(model, *held_out) == pytest.approx(found, abs=0.01)
