"""The tables of what paths of heads are worth, from records made up."""

from argparse import Namespace

import pytest
from helpers import NO_SOURCES, caption
from made import random_paths, write_classes, write_folder

from neuronpath.analysis.classes import open_classes, resolve
from neuronpath.analysis.heads import tables
from neuronpath.analysis.results import Results
from neuronpath.analysis.similarity import cosines, frequencies
from neuronpath.analysis.table import markdown, table
from neuronpath.errors import UserError
from neuronpath.figures.classes import plot_classes
from neuronpath.records.schema import METHODS


def scored(root, units: str, **values) -> None:
    record = {f"{key}_{what}": value for key, value in values.items() for what in ("score", "drop")}
    write_folder(root / f"heads/{units}/m", {0: [record] * 3})


def removed(root, ablation: str, method: str, *after: float) -> None:
    records = [{"original": 0.5, "remove": p, "original_label": 0, "remove_label": int(p < 0.2)} for p in after]
    write_folder(root / f"edit/{ablation}/{method}/m", {0: records})


def test_scores_losses_and_paired_differences(tmp_path):
    scored(tmp_path, "heads", ja=2.0, base=1.0, gate=1.5)
    scored(tmp_path, "both", ja=4.0)
    removed(tmp_path, "zero", "heads", 0.1, 0.2, 0.3)
    removed(tmp_path, "zero", "neurons", 0.4, 0.4, 0.4)
    removed(tmp_path, "mean", "heads", 0.5, 0.5, 0.5)
    text = tables(tmp_path, "imgnet_all")
    assert "| Joint Attribution Score | Head Path | 2.0000 [2.0000, 2.0000] |" in text
    assert "| F(1) - F(0), clamped | Mixed Path | 4.0000 [4.0000, 4.0000] |" in text
    assert "Neuron Path (--units) |  |" not in text, "rows without a value are left out"
    assert "| 0 | Head Path | +0.3000 [" in text
    assert "| -33.33 [" in text
    assert "| 0 | Head Path minus Neuron Path (--units) | +0.2000 [" in text
    assert "| their means over the run's images | Head Path | +0.0000 [0.0000, 0.0000] | +0.00" in text
    assert "Matched" not in text


def test_the_table_has_them_where_they_have_records(tmp_path):
    scored(tmp_path, "heads", ja=2.0, base=1.0, gate=1.5)
    write_folder(tmp_path / "ja/m", {0: [{"ja_score": 0.5, "base_score": 0.25}] * 3})
    edits = [{"original": 0.5, "original_label": 0, **dict.fromkeys(("remove", "enhance"), 0.25)}] * 3
    edits = [{**edit, "remove_label": 0, "enhance_label": 0} for edit in edits]
    for method in ("ja", "heads"):
        write_folder(tmp_path / f"edit/remove_enhance/{method}/m", {0: edits})
    found = table(Results(tmp_path, "imgnet_all"), ["m"])
    values = {
        key: {method: row["m"]["value"] for method, row in found["measures"][key].items()}
        for key in ("joint_attribution_score", "drop")
    }
    heads = {"heads": 2.0, "heads_norm": 1.0, "heads_gate": 1.5}
    assert values["drop"] == heads
    assert values["joint_attribution_score"] == {"base": 0.25, "influence_pattern": None, "ja": 0.5, **heads}
    assert "heads" in found["measures"]["removal_paired_probability"]
    assert "heads" not in found["measures"]["paired_joint_attribution_score"], "of another unit"
    assert "| F(1) - F(0) of the clamped path | Head Path | 2.0000 [2.0000, 2.0000] |" in markdown(found)


def test_other_records_are_refused(tmp_path):
    with pytest.raises(UserError, match="no imgnet_all records"):
        tables(tmp_path, "imgnet_all")
    scored(tmp_path, "heads", ja=2.0, base=1.0, gate=1.5)
    write_folder(tmp_path / "edit/zero/heads/m", {0: [{"path": [[0]]}]})
    with pytest.raises(UserError, match="without numbers of removal"):
        tables(tmp_path, "imgnet_all")


@pytest.mark.parametrize(
    ("method", "key", "units"), [("heads", "ja", 4), ("heads_gate", "gate", 4), ("mixed", "ja", 28)]
)
def test_class_figures_and_similarity_take_their_records(method, key, units, tmp_path):
    """As many units per layer as the records' settings say, not as the model has neurons."""
    depth = 12 if method == "mixed" else 6
    paths = {label: random_paths(5, 2, label, depth, 4) for label in range(3)}
    write_classes(tmp_path, paths, key, units_per_layer=units)
    given = {"results": tmp_path, "input_prefix": "imgnet_all", "method": method, "mlp_dim": None}
    options = Namespace(**given, dataset=None, dataset_path=None, **NO_SOURCES)
    settings = resolve(options)
    with pytest.warns(UserWarning, match="labels stand for the names"):
        classes = open_classes(options, settings)
    assert classes.num_neurons == units
    assert frequencies(classes).shape == (3, depth * units)
    assert cosines(frequencies(classes)).shape == (3, 3)
    assert METHODS[method].name in caption(plot_classes(classes, [0, 2]))
