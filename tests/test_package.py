"""The package as a whole: what it hands on."""

import neuronpath
from neuronpath.attribution.edits import edit, enhance, gain, remove


def test_the_package_offers_the_edits():
    assert (neuronpath.edit, neuronpath.gain, neuronpath.remove, neuronpath.enhance) == (edit, gain, remove, enhance)
