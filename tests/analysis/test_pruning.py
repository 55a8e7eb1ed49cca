"""What pruning does over K, share and depth: the table and the arrays."""

import numpy as np
import pytest
from helpers import records

from neuronpath.analysis.pruning import arrays, markdown, read_runs


def test_table_and_arrays(pruned):
    found = read_runs(pruned, "imgnet_all")
    assert [(run.method, run.proportion, run.depth, run.topK) for run in found] == [
        ("ja", 0.5, 6, 2),
        ("random", 0.5, 6, 2),
        ("ja", 1.0, 6, 2),
        ("random", 1.0, 6, 2),
    ]
    made = list(records(pruned / "ja1/tiny").values())
    i, columns = 2, arrays(found)
    assert columns["prob"][i] == pytest.approx(np.mean([r["prune"] for r in made]))
    assert columns["prob_before"][i] == pytest.approx(np.mean([r["original"] for r in made]))
    assert columns["top1"][i] == pytest.approx(100 * np.mean([r["prune_label"] == r["label"] for r in made]))
    assert columns["n"].tolist() == [6] * 4
    assert (columns["prob_low"] <= columns["prob"]).all()
    assert (columns["prob"] <= columns["prob_high"]).all()
    assert f"{columns['prob'][i]:.4f}" in markdown(found).splitlines()[2 + i]


def test_runs_on_one_kind_of_paths_are_no_cause_for_warnings(pruned, recwarn):
    read_runs(pruned, "imgnet_all")
    assert not recwarn.list
