"""scripts/curves.py, from records of edit.py itself."""

import json

from helpers import run_file
from made import write_paths

from neuronpath.analysis.curves import read_curves, table


def test_table_pictures_and_numbers(edits, tmp_path):
    write_paths(edits.ja, k=5)
    write_paths(tmp_path / "base", "base", k=5, seed=1)
    for method, ja in (("ja", edits.ja), ("base", tmp_path / "base")):
        for k in (1, 3, 5):
            for ablation in ("zero", "mean"):
                out = tmp_path / f"runs/{method}/{ablation}{k}/tiny"
                edits("--method", method, "--topK", k, "--ablation", ablation, ja=ja, out=out)
    result = run_file("scripts/curves.py", "--results", tmp_path / "runs", "--output", tmp_path / "new/curves").expect()
    assert not result.warnings
    rows = json.loads((tmp_path / "new/curves.json").read_text())
    assert rows == json.loads(json.dumps(table(read_curves(tmp_path / "runs", "imgnet_all"))))
    assert [(row["operation"], row["ablation"], row["method"]) for row in rows] == [
        (*kind, method)
        for kind in (("remove", "zero"), ("remove", "mean"), ("retain", "mean"))
        for method in ("base", "ja")
    ]
    assert all(row["ks"] == [1, 3, 5] and row["n"] == 11 for row in rows)
    assert "| tiny | retain | mean | Neuron Path | 1, 3, 5 |" in result.stdout
    for name in ("curves-tiny.png", "curves-tiny.pdf", "curves.json"):
        assert (tmp_path / "new" / name).stat().st_size > 100


def test_nothing_to_draw(tmp_path):
    message = run_file("scripts/curves.py", "--results", tmp_path, "--output", tmp_path / "curves").fault
    assert str(tmp_path) in message
    assert "--topK" in message
