"""The notebooks: what they hold, and that they run."""

import ast
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers import ROOT
from made import edit_of, write_folder, write_results
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted([*ROOT.glob("experiments/**/*.ipynb"), *ROOT.glob("topK/**/*.ipynb")])
SCORES = ROOT / "experiments/quantitative-comparison/score/analysis/joint_attribution_score.ipynb"
METHODS = ROOT / "experiments/quantitative-comparison/analysis/methods.ipynb"
DEMO = ROOT / "results/demo"


def execute(file: Path, results: Path, **environment: str) -> nbformat.NotebookNode:
    """The notebook run from its own folder in a fresh kernel, its results read from `results`."""
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(file.parent)}}
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("RESULTS", "PREFIX", "MODELS")}
    client.execute(env={**kept, "OMP_NUM_THREADS": "1", "RESULTS": str(results), **environment})
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def count_of(kind: str, notebook: nbformat.NotebookNode) -> int:
    return sum(kind in output.get("data", {}) for output in outputs(notebook))


def check_outputs(notebook: nbformat.NotebookNode) -> None:
    assert count_of("image/png", notebook) >= 1
    assert [o for o in outputs(notebook) if o.output_type in ("error", "stream")] == []


def test_scores_notebook_shows_the_records_it_is_given(tmp_path):
    write_results(write_results(tmp_path, "ViT-a"), "ViT-b", (1, 2))
    notebook = execute(SCORES, tmp_path, MODELS="ViT-b")
    check_outputs(notebook)
    assert count_of("image/png", notebook) == 2
    shown = [o.data["text/markdown"] for o in outputs(notebook) if "text/markdown" in o.get("data", {})]
    assert "ViT-b: quadrature right, m = 20" in shown[0]
    assert "n = 3" in shown[0]
    assert "ViT-a" not in shown[0]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """All that is shown but pictures."""
    data = [output.data for output in outputs(notebook)]
    return "\n".join(found.get("text/markdown") or found["text/plain"] for found in data)


def test_methods_notebook_shows_what_there_is_and_says_what_is_missing(tmp_path):
    write_results(tmp_path, "ViT-a|<b>", methods=())
    notebook = execute(METHODS, tmp_path)
    assert [o for o in outputs(notebook) if o.output_type in ("error", "stream")] == []
    text = text_of(notebook)
    assert re.search(r"\| Joint Attribution Score \| Activation \| -?0\.0\d\d\d \[", text)
    assert "| Removal Accuracy Deviation, points | Activation | missing |" in text
    assert f"{tmp_path}: no edit records of ViT-a|<b> in edit/remove_enhance/<method>/<model>" in text
    assert f"{tmp_path}: no records of edit.py below it; run that first, with several --topK" in text
    assert r"| Spearman of JAS and what removal takes [95 % interval] | ViT-a\|\<b\> |" in text
    assert "| Neuron Path | missing |" in text
    assert (ROOT / "docs/methods.json").exists() or "python scripts/study_methods.py … --output docs/methods" in text


@pytest.mark.long
def test_methods_notebook_draws_curves_and_the_validity(tmp_path):
    write_results(tmp_path, "ViT-a")
    for k in (1, 2):
        folder = tmp_path / f"k{k}/ViT-a"
        edits = {0: [{"path": [[*range(k)]], **edit_of(np.random.default_rng(k), 0, 0.6)} for _ in range(3)]}
        write_folder(folder, edits, operation="remove_enhance", method="ja")
    notebook = execute(METHODS, tmp_path)
    assert count_of("image/png", notebook) >= 3
    assert "| ViT-a | remove | zero | Neuron Path | 1, 2 |" in text_of(notebook)
    assert re.search(r"\| Neuron Path \| -?\d\.\d\d \[.*\], n = 12 \|", text_of(notebook))


@pytest.mark.long
def test_missing_results_are_one_message(tmp_path):
    with pytest.raises(CellExecutionError) as error:
        execute(SCORES, tmp_path / "none")
    assert error.value.ename == "UserError"
    assert error.value.evalue.startswith(f"{tmp_path}/none: no imgnet_all records in <job>/<model>")


@pytest.mark.long
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_notebook_runs(file, tmp_path, request):
    results = DEMO
    if not (DEMO / "edit").exists():
        results = write_results(write_results(tmp_path, "ViT-a"), "MAE-a", pool="mean")
        request.getfixturevalue("pruned")  # below `tmp_path`
    check_outputs(execute(file, results))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
class TestAsCommitted:
    def test_is_valid_and_has_run_from_top_to_bottom(self, file):
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert notebook.cells[0].cell_type == "markdown"
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        check_outputs(notebook)
        assert file.stat().st_size < 400_000

    def test_has_no_logic_of_its_own(self, file):
        logic = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.For, ast.AsyncFor, ast.While)
        for cell in nbformat.read(file, as_version=4).cells:
            if cell.cell_type == "code":
                source = re.sub(r"(?m)^%.*$", "", cell.source)
                assert [node for node in ast.walk(ast.parse(source)) if isinstance(node, logic)] == []

    def test_holds_no_absolute_paths(self, file):
        notebook = nbformat.read(file, as_version=4)
        texts = [cell.source for cell in notebook.cells]
        for output in outputs(notebook):
            texts += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
        assert re.findall(r"(?<![\w.>$}])/(?:work|root|home|Users|tmp|mnt|data)\b.*", "\n".join(texts)) == []
