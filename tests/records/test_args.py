"""Settings, and where two runs differ."""

from neuronpath.records.args import Args


def test_an_edits_own_settings_come_before_those_of_its_paths():
    paths = {"preprocess": "paper", "search": "layer"}
    native, paper = (Args("edit", {"preprocess": kind}, paths=paths) for kind in ("native", "paper"))
    expected = {"preprocess": "native", "search": "layer", "objective": "probability"}
    assert native.circumstances() == expected
    assert paper.unlike(native) == "preprocess native → paper"


def test_an_ablation_is_unlike_none():
    zero, mean = Args("edit", {"method": "ja"}), Args("edit", {"method": "ja", "ablation": "mean"})
    assert mean.unlike(zero) == "ablation zero → mean"
    assert zero.unlike(mean) == "ablation mean → zero"
    assert mean.unlike(mean) == zero.unlike(zero) == ""
