"""scripts/unit_maps.py: maps of units over the patches of their top images, on all three kinds of model."""

import json

import numpy as np
import oracle_units
import pytest
from helpers import NUM_CLASSES, run_file, words_of
from made import write_paths

from neuronpath.records import read_top_images, read_unit_maps

EXACT = ("--precision", "fp64")


@pytest.fixture
def results(either, tmp_path):
    """A folder of results with top images and paths of the model."""
    model = either.checkpoint.stem
    either(*EXACT, out=tmp_path / "results/top_images" / model)
    write_paths(tmp_path / "results/ja" / model)
    return tmp_path / "results"


def maps(command, results, *more, code: int = 0):
    given = {
        "--dataset": "imagefolder",
        "--dataset_path": command.images,
        "--pretrain_weight": command.checkpoint,
        "--results": results,
        "--num_workers": 0,
    }
    return run_file("scripts/unit_maps.py", *words_of(given, *EXACT, *more)).expect(code)


def files_of(command, results):
    return sorted((results / "top_images" / command.checkpoint.stem).glob("maps-*.npz"))


def path_units(results, model: str, layer: int) -> list[int]:
    lines = [line for f in (results / "ja" / model).glob("*.jsonl") for line in f.read_text().splitlines()]
    return sorted({unit for line in lines for unit in json.loads(line)["ja"][layer]})


def test_equal_the_oracle_for_the_units_of_paths(either, results):
    maps(either, results, "--batch_size", 3)
    model, images = either.loaded()
    side = model.config.img_size // model.config.patch_size
    top = read_top_images(results / "top_images" / either.checkpoint.stem / "top_images.npz")
    files = files_of(either, results)
    assert len(files) == model.config.depth
    for file in files:
        layer, found = int(file.stem.removeprefix("maps-")), read_unit_maps(file)
        assert found.unit.tolist() == path_units(results, either.checkpoint.stem, layer)
        assert found.map.shape == (len(found.unit), 9, side, side)
        for unit, of_images in zip(found.unit[:3], found.map[:3], strict=True):
            for place, one in zip(top.image[layer, unit], of_images, strict=True):
                if place < 0:
                    assert np.isnan(one).all()
                    continue
                wanted = oracle_units.unit_map(model, images[top.images[place]], layer, int(unit), side)
                np.testing.assert_allclose(one, wanted, rtol=1e-6, atol=1e-9)


def test_batches_layers_and_processes_give_the_same(either, results):
    maps(either, results, "--units", "all", "--batch_size", 4)
    files = files_of(either, results)
    whole = {file: read_unit_maps(file) for file in files}
    assert all(len(found.unit) == 28 for found in whole.values())
    for file in files:
        file.unlink()
    maps(either, results, "--units", "all", "--layers", "1-2", "--internal_batch_size", 2)
    assert [file.name for file in files_of(either, results)] == ["maps-1.npz", "maps-2.npz"]
    maps(either, results, "--units", "all", "--shard", "1/2")
    assert [file.name for file in files_of(either, results)] == [f"maps-{layer}.npz" for layer in (1, 2, 3, 5)]
    maps(either, results, "--units", "all", "--shard", "0/2")
    for file, found in whole.items():
        again = read_unit_maps(file)
        assert again.made_of == found.made_of
        np.testing.assert_allclose(again.map, found.map, rtol=1e-5, atol=1e-9)


def test_only_what_is_missing_is_made(either, results):
    assert "were there" not in maps(either, results).stdout
    first, *rest = files_of(either, results)
    before = {file: file.stat().st_mtime_ns for file in rest}
    first.unlink()
    assert f"{len(rest)} of them were there" in maps(either, results).stdout
    assert {file: file.stat().st_mtime_ns for file in rest} == before
    maps(either, results, "--overwrite")
    assert all(file.stat().st_mtime_ns > time for file, time in before.items())
    write_paths(results / "ja" / either.checkpoint.stem, seed=1)  # other paths, other units
    assert "were there" not in maps(either, results).stdout


def test_refusals(either, results, tmp_path, checkpoints):
    folder = results / "top_images" / either.checkpoint.stem

    def refused(*more):
        result = maps(either, results, *more, code=2)
        assert len(result.lines) == 1
        return result.lines[0]

    assert "no paths of" in refused("--results", tmp_path, "--top_images", folder / "top_images.npz")
    other = next(file for kind, file in checkpoints.items() if file != either.checkpoint)
    said = refused("--pretrain_weight", other, "--top_images", folder / "top_images.npz")
    assert "made with other settings" in said
    assert "no such file" in refused("--top_images", tmp_path / "none.npz")
    (folder / "maps-0.npz").write_bytes(b"PK")
    assert "maps-0.npz" in refused()
    line = results / "ja" / either.checkpoint.stem / f"imgnet_all-{NUM_CLASSES - 1}.rlt.jsonl"
    line.write_text(line.read_text().replace('"ja": [[', '"ja": [[9999, '))
    assert "is no path of this model" in refused()


def test_images_that_cannot_be_read_are_told_and_tried_again(either, results):
    broken = either.images / "class0/00.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no picture")
    assert "cannot be read" in maps(either, results, code=2).lines[0]
    result = maps(either, results, "--on_bad_image", "skip", code=3)
    assert "skipped     1 images that cannot be read: class0/00.png" in result.stdout
    broken.write_bytes(whole)
    assert "were there" not in maps(either, results).stdout
    assert f"{len(files_of(either, results))} of them were there" in maps(either, results).stdout


def test_a_layer_that_is_not_there(either, results):
    assert "its layers are 0 to 5" in maps(either, results, "--layers", 6, code=2).lines[0]
