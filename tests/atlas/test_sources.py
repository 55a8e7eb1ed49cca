"""Where pictures and names come from: the options, else the records."""

from argparse import Namespace
from pathlib import Path

import pytest
from atlases import BARE, FOLDERS, FULL, HOSTILE, NAMED, PREFIX
from helpers import NO_SOURCES, fault
from made import write_args

from neuronpath.analysis.results import Results
from neuronpath.atlas.sources import open_sources


def options(world, **changes) -> Namespace:
    given = {"results": world.results, "dataset": None, "dataset_path": world.dataset, **NO_SOURCES}
    return Namespace(**{**given, **changes})


def opened(world, *models: str, **changes):
    return open_sources(options(world, **changes), Results(world.results, PREFIX), [*models])


def test_the_data_set_of_the_records(world):
    found = opened(world, FULL)
    assert found.images.classes == FOLDERS
    assert (found.reason, found.names) == ("", {FULL: FOLDERS})


def test_names_that_came_with_the_weights_go_first(world):
    assert opened(world, FULL, HOSTILE).names == {FULL: FOLDERS, HOSTILE: NAMED}


def test_no_data_set_is_no_fault_unless_it_was_named(world, tmp_path):
    found = opened(world, BARE, dataset_path=None)
    assert found.images is None
    assert found.reason.startswith("pictures: ")
    assert found.names == {BARE: []}
    assert str(tmp_path / "none") in fault(opened, world, BARE, dataset_path=tmp_path / "none")


def test_single_images_must_be_named(world):
    found = opened(world, BARE, dataset="images", dataset_path=None)
    assert (found.images, found.reason) == (None, "pictures: the records are of single images; name them with --images")


@pytest.mark.parametrize("changes", [{"truth": Path("x")}, {"images": ["x.png"]}])
def test_options_that_contradict_each_other(world, changes):
    assert fault(opened, world, FULL, **changes).startswith(f"--{next(iter(changes))}: ")


def test_records_of_an_unknown_data_set(world, tmp_path):
    write_args(tmp_path / "ja/m", dataset="<b>")
    given = options(world, results=tmp_path, dataset_path=None)
    said = fault(open_sources, given, Results(tmp_path, PREFIX), ["m"])
    assert said.startswith(f"{tmp_path}: records of a data set that is none of ")
    assert said.endswith("give --dataset")
