"""How often paths use a unit, and the top images' file: what is taken from it and what is refused."""

import numpy as np
import pytest
from atlases import BARE, FULL, HOSTILE, MODELS, PREFIX, Records
from helpers import Payload, fault
from made import random_paths, write_classes

from neuronpath.analysis.results import Results
from neuronpath.atlas.gather import Gathered
from neuronpath.atlas.thumbnails import Thumbnails
from neuronpath.atlas.units import open_top_images, write_units


@pytest.mark.parametrize("model", [FULL, HOSTILE])
def test_uses_of_every_unit(world, tmp_path, model):
    found, lines, made = Gathered(Results(world.results, PREFIX), model), Records(world.results, model), {}
    assert len([*found.classes()]) == len(lines.everything)
    told = write_units(found, None, Thumbnails(None, tmp_path, 0), made.__setitem__)
    assert (told["topCount"], any(told["maps"])) == (0, False)
    names = {"base": "Activation", "ja": "Neuron Path", "influence_pattern": "Influence Pattern", "uniform": "Random"}
    assert [*made] == [f"unit/{layer}" for layer in range(MODELS[model].depth)]
    for layer, shard in enumerate(made.values()):
        for key in found.methods:
            uses = {unit: dict(zip(flat[::2], flat[1::2], strict=True)) for unit, flat in shard["uses"][key].items()}
            assert uses == {
                unit: {label: len(images) for label, images in of.items()}
                for unit in range(MODELS[model].units)
                if (of := lines.uses(names[key], layer, unit))
            }
            assert sorted(shard["counts"][key]) == sorted(sum(of.values()) for of in uses.values())


def test_without_top_images_their_file_is_named(world):
    found, reason = open_top_images(Gathered(Results(world.results, PREFIX), BARE))
    assert found is None
    assert f"no top_images/{BARE}/top_images.npz (scripts/top_images.py makes it)" in reason


@pytest.mark.parametrize("kind", ["text", "empty", "torn", "pickle", "without arrays"])
def test_a_broken_file_of_top_images(tmp_path, kind):
    """One line that names it; nothing in it runs."""
    file, canary = tmp_path / "top_images/m/top_images.npz", tmp_path / "canary"
    file.parent.mkdir(parents=True)
    write_classes(tmp_path / "ja/m", {0: random_paths(2)})
    if kind == "pickle":
        np.savez(file, image=np.array([Payload(canary)], object))
    elif kind in ("torn", "without arrays"):
        np.savez(file, value=np.arange(1000))
    content = {"text": b"no archive", "empty": b"", "torn": file.read_bytes()[:99] if kind == "torn" else b""}
    file.write_bytes(content[kind]) if kind in content else None
    said = fault(open_top_images, Gathered(Results(tmp_path, PREFIX), "m"))
    assert said.startswith(f"{file}: ")
    assert "\n" not in said
    assert not canary.exists()
