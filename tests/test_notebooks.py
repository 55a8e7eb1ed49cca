"""Figures of result folders, and the notebooks: what they hold, and that they run."""

import ast
import itertools
import json
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers import ROOT
from matplotlib.axes import Axes
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from neuronpath.analysis.results import Results
from neuronpath.analysis.table import paper_results, table
from neuronpath.data.images import ImageSet
from neuronpath.errors import UserError
from neuronpath.figures.edits import accuracy_deviation, of_head, probability_deviation
from neuronpath.figures.paths import plot_paths
from neuronpath.figures.scores import class_scores, score_distributions
from neuronpath.files import Item
from neuronpath.records.schema import EDITED, METHODS

NOTEBOOKS = sorted([*ROOT.glob("experiments/**/*.ipynb"), *ROOT.glob("topK/**/*.ipynb")])
SCORES = ROOT / "experiments/quantitative-comparison/score/analysis/joint_attribution_score.ipynb"
DEMO = ROOT / "results/demo"
PNG = b"\x89PNG"


def write_label(folder: Path, label: int, records: list) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / f"imgnet_all-{label}.rlt.jsonl").write_text("".join(lines))


def write_args(folder: Path, **settings) -> None:
    args = {"job": "joint_attr", "settings": settings, "options": {}, "versions": {}}
    (folder / "imgnet_all.args.json").write_text(json.dumps(args))


def write_results(root: Path, model: str, counts=(5, 3, 4), pool: str = "cls", methods=tuple(EDITED), zero=()) -> Path:
    """Records of all jobs for `model`: counts[label] images a label; `zero`: labels whose p_original is 0."""
    rng = np.random.default_rng(len(model))
    for label, n in enumerate(counts):
        images = [{"image": f"{label}/{i}.png", "label": label, "pred": label, "prob": 0.5} for i in range(n)]
        steps = [[1], [0], [3]]
        ja = [
            {**r, "ja": steps, "base": steps, "ja_score": rng.lognormal(-3), "base_score": rng.normal(0, 0.01)}
            for r in images
        ]
        write_label(root / "ja" / model, label, ja)
        write_label(
            root / "influence_pattern" / model,
            label,
            [{**r, "path": steps, "score": rng.lognormal(-5)} for r in images],
        )
        for method in methods:
            write_label(
                root / f"edit/remove_enhance/{method}" / model,
                label,
                [{**r, **edit_of(rng, label, 0 if label in zero else 0.6)} for r in images],
            )
    write_args(root / "ja" / model, model_pool=pool, quadrature="right", ig_total_step=20)
    return root


def edit_of(rng: np.random.Generator, label: int, p: float) -> dict:
    remove, enhance = p * rng.uniform(0.8, 1), p * rng.uniform(1, 1.2)
    return {
        "original": p,
        "original_label": label,
        "remove": remove,
        "remove_label": label if remove > 0.52 else -1,
        "enhance": enhance,
        "enhance_label": label,
    }


def results_of(root: Path) -> Results:
    return Results(root, "imgnet_all")


def accuracy_of(results: Results, models: list[str]):
    return accuracy_deviation(results, table(results, models, ["accuracy"]))


FIGURES = (score_distributions, class_scores, probability_deviation, accuracy_of)


def words(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def saved(figure, folder: Path) -> bool:
    figure.savefig(folder / "figure.png", dpi=40)
    figure.savefig(folder / "figure.pdf")
    return (folder / "figure.png").read_bytes().startswith(PNG)


class TestFigures:
    def test_the_black_line_is_the_median_of_the_classes(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a", (5, 3, 4, 2, 6)))
        lines = {
            segment[:, 0].mean().round(6): segment[0, 1]
            for collection in class_scores(results, ["ViT-a"]).axes[0].collections
            if hasattr(collection, "get_segments")
            for segment in collection.get_segments()
        }
        for x, method in enumerate(METHODS.values()):
            records = results.records(method.job, "ViT-a").values()
            means = [np.mean([record[method.score] for record in found]) for found in records]
            assert lines[x] == pytest.approx(np.median(means))
            assert lines[x] != pytest.approx(np.mean(means))

    def test_scores_have_a_panel_per_model_and_all_methods(self, tmp_path):
        results = results_of(write_results(write_results(tmp_path, "ViT-a"), "MAE-a", (2, 6), "mean"))
        for draw in (score_distributions, class_scores):
            figure = draw(results, ["ViT-a", "MAE-a"])
            assert [panel.get_title().split("\n") for panel in figure.axes] == [
                ["ViT-a", "quadrature right, m = 20", "n = 12 images, 3 classes"],
                ["MAE-a", "quadrature right, m = 20", "n = 8 images, 2 classes"],
            ]
            names = [tick.get_text().replace("\n", " ") for tick in figure.axes[0].get_xticklabels()]
            assert names == [method.name for method in METHODS.values()]
            assert "JAS(P)" in words(figure)
            assert "n = 8 to 12 images per model" in words(figure)
            assert saved(figure, tmp_path)

    def test_mean_and_class_means_are_where_they_belong(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a"))
        records = results.records("ja", "ViT-a")
        scores = [record["ja_score"] for found in records.values() for record in found]
        drawn = [line.get_ydata()[0] for line in score_distributions(results, ["ViT-a"]).axes[0].lines]
        assert np.mean(scores) in drawn
        assert np.median(scores) in drawn
        points = class_scores(results, ["ViT-a"]).axes[0].collections
        of_path = [p.get_offsets()[:, 1] for p in points if len(p.get_offsets()) == 3][-1]
        np.testing.assert_allclose(of_path, [np.mean([r["ja_score"] for r in found]) for found in records.values()])

    def test_probability_deviation_has_a_box_per_model_and_method(self, tmp_path):
        results = results_of(write_results(write_results(tmp_path, "ViT-a"), "MAE-a", (2, 6), "mean"))
        figure = probability_deviation(results, ["MAE-a", "ViT-a"])
        assert [panel.get_title().split()[0] for panel in figure.axes] == ["Removal", "Enhancement"]
        names = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
        assert names == ["MAE-a\nn = 8 images\n2 classes", "ViT-a\nn = 12 images\n3 classes"]
        assert legend(figure) == [*(method.name for method in EDITED.values()), "one class"]
        for panel in figure.axes:
            boxes = [patch for patch in panel.patches if patch.get_facecolor()[3] == 0.35]
            assert len(boxes) == 2 * len(EDITED)
            assert [1, 1] in [[*line.get_ydata()] for line in panel.lines if line.get_linestyle() == "--"]
        assert "left out" not in words(figure)
        assert saved(figure, tmp_path)

    def test_accuracy_deviation_beside_the_paper_where_it_has_the_model(self, tmp_path):
        results = results_of(write_results(write_results(tmp_path, "ViT-B_16"), "ViT-a"))
        found = table(results, ["ViT-B_16", "ViT-a"], ["accuracy"])
        figure = accuracy_deviation(results, found)
        paper = paper_results()
        for panel, key in zip(
            figure.axes, ("removal_accuracy_deviation", "enhancement_accuracy_deviation"), strict=True
        ):
            ours = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "o"]
            entries = found["measures"][key]
            assert ours == [entries[method][model]["value"] for model in found["models"] for method in EDITED]
            hollow = [line.get_ydata()[0] for line in panel.lines if line.get_marker() == "s"]
            assert hollow == [paper[key][method][0] for method in METHODS]
            assert "percentage points" in panel.get_ylabel()
        names = [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
        assert names == ["ViT-B_16\nn = 12 images", "ViT-a\nn = 12 images"]
        assert legend(figure)[-1] == "the paper's"
        assert "the paper's" not in legend(accuracy_of(results, ["ViT-a"]))
        assert saved(figure, tmp_path)

    @pytest.mark.parametrize("draw", FIGURES)
    @pytest.mark.parametrize("counts", [(4,), (1, 1, 1), (1,)], ids=["one class", "one image each", "one image"])
    def test_few_images(self, draw, counts, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a", counts))
        assert saved(draw(results, ["ViT-a"]), tmp_path)

    @pytest.mark.parametrize("draw", FIGURES)
    def test_many_models_and_classes_keep_their_names_apart(self, draw, tmp_path):
        models = [f"ViT-{i}" for i in range(7)]
        for model in models:
            write_results(tmp_path, model, [1] * 120)
        figure = draw(results_of(tmp_path), models)
        assert saved(figure, tmp_path)
        for panel in [panel for panel in figure.axes if panel.axison]:
            boxes = [tick.get_window_extent() for tick in panel.get_xticklabels() if tick.get_text()]
            assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))

    def test_a_missing_method_is_said(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a", methods=("base", "ja")))
        for draw in (probability_deviation, accuracy_of):
            figure = draw(results, ["ViT-a"])
            for panel in figure.axes:
                assert [text.get_text() for text in panel.texts] == ["no records"]
            assert "Matched control" not in legend(figure)
            assert saved(figure, tmp_path)
        for file in (tmp_path / "influence_pattern/ViT-a").iterdir():
            file.unlink()
        for draw in (score_distributions, class_scores):
            figure = draw(results_of(tmp_path), ["ViT-a"])
            assert [text.get_text() for text in figure.axes[0].texts] == ["no records"]
            assert saved(figure, tmp_path)

    def test_images_of_probability_zero_are_left_out_and_counted(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a", (5, 3, 4), zero=(1,)))
        figure = probability_deviation(results, ["ViT-a"])
        assert "Up to 3 images of a model, whose p(original) is 0, are left out" in words(figure)
        assert {len(p.get_offsets()) for p in figure.axes[0].collections} == {2}
        results = results_of(write_results(tmp_path, "ViT-b", (2, 2), zero=(0, 1)))
        figure = probability_deviation(results, ["ViT-b"])
        assert [text.get_text() for text in figure.axes[0].texts] == ["no ratios"] * len(EDITED)
        assert saved(figure, tmp_path)

    def test_the_axis_of_large_ratios_is_logarithmic(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a"))
        tiny = {"image": "3/0.png", "original": 1e-4, "remove": 1e-5, "enhance": 0.9}
        tiny |= {f"{key}_label": 3 for key in ("original", "remove", "enhance")}
        write_label(tmp_path / "edit/remove_enhance/ja/ViT-a", 3, [tiny])
        assert [p.get_yscale() for p in probability_deviation(results, ["ViT-a"]).axes] == ["linear", "log"]

    @pytest.mark.parametrize("kind", ["16-bit", "cifar"])
    def test_paths_show_the_image_that_the_model_sees(self, tmp_path, monkeypatch, kind):
        """One reader: 16-bit greyscale is scaled, CIFAR comes from its arrays."""
        values = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)
        source = ImageSet(tmp_path, ["a"], [Item("a/0.png", 0)])
        if kind == "16-bit":
            (tmp_path / "a").mkdir()
            Image.fromarray(values).save(tmp_path / "a/0.png")
        else:
            arrays = np.stack([(values // 257).astype(np.uint8)] * 3, -1)[None]
            source = ImageSet(tmp_path, ["a"], [Item("0", 0)], arrays)
        path = {"ja": [[0], [1]], "ja_act": [[0.5], [0.5]], "ja_score": 0.5}
        path |= {key.replace("ja", "base"): value for key, value in path.items()}
        shown = []
        monkeypatch.setattr(Axes, "imshow", lambda self, image: shown.append(image))
        records = [{"image": source.items[0].image, "label": 0, "pred": 0, **path}]
        plot_paths(records, source, 4, "rule")
        np.testing.assert_allclose(shown[0], np.repeat(values[..., None] // 257, 3, -1), atol=1)
        with pytest.raises(UserError, match="secret"):
            plot_paths([records[0] | {"image": "../secret.png"}], source, 4, "rule")

    def test_scores_that_are_all_zero(self, tmp_path):
        for label in range(2):
            records = [{"image": str(i), "ja_score": 0.0, "base_score": 0} for i in range(3)]
            write_label(tmp_path / "ja/ViT-a", label, records)
        for draw in (score_distributions, class_scores):
            assert saved(draw(results_of(tmp_path), ["ViT-a"]), tmp_path)

    def test_the_released_layout(self, tmp_path):
        """No image, values wrapped, a line with a list, `base` for `original`; no settings."""
        for label in range(2):
            ja = [{"ja": [[1, 2]], "ja_score": [[0.3 + label]], "base": [[3, 4]], "base_score": [0.1]}] * 3
            write_label(tmp_path / "ja/MAE-x", label, [ja])
            write_label(tmp_path / "influence_pattern/MAE-x", label, [[{"path": [[1, 2]], "score": [0.2]}] * 3])
            edit = {"base": [0.5], "remove": [[0.4]], "enhance": [0.6], "path": [1, 2]}
            edit |= {f"{key}_label": label for key in ("original", "remove", "enhance")}
            for method in METHODS:
                write_label(tmp_path / f"edit/remove_enhance/{method}/MAE-x", label, [[edit] * 3])
        results = results_of(tmp_path)
        assert of_head(results, ["MAE-x", "ViT-x"], "mean") == ["MAE-x"]
        assert of_head(results, ["MAE-x", "ViT-x"], "cls") == ["ViT-x"]
        for draw in FIGURES:
            assert saved(draw(results, ["MAE-x"]), tmp_path)
        assert "Matched control" not in legend(probability_deviation(results, ["MAE-x"]))

    def test_heads_go_by_settings_before_names(self, tmp_path):
        results = results_of(write_results(write_results(tmp_path, "MAE-a", pool="cls"), "b", pool="mean"))
        assert of_head(results, ["MAE-a", "b"], "cls") == ["MAE-a"]
        assert of_head(results, ["MAE-a", "b"], "mean") == ["b"]
        with pytest.raises(UserError, match=r"no records of MAE models, only of MAE-a$"):
            of_head(results, ["MAE-a"], "mean")

    def test_faults_name_the_folder(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a", methods=()))
        for draw in (probability_deviation, accuracy_of):
            with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}: no edit records of ViT-a"):
                draw(results, ["ViT-a"])
        for draw in (score_distributions, class_scores):
            with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}: no scores of none"):
                draw(results, ["none"])
        write_label(tmp_path / "ja/ViT-b", 0, [{"image": "a", "base_score": 1}])
        with pytest.raises(UserError, match=r"ja/ViT-b: records without a number ja_score"):
            score_distributions(results, ["ViT-b"])
        write_label(tmp_path / "edit/remove_enhance/ja/ViT-b", 0, [{"image": "a", "original": 1}])
        with pytest.raises(UserError, match=r"ja/ViT-b: records without numbers for remove"):
            probability_deviation(results, ["ViT-b"])

    def test_a_name_that_looks_like_mathematics(self, tmp_path):
        name = r"$\frac_{ $"
        results = results_of(write_results(tmp_path, name))
        for draw in FIGURES:
            assert saved(draw(results, [name]), tmp_path)


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


@pytest.mark.long
def test_missing_results_are_one_message(tmp_path):
    with pytest.raises(CellExecutionError) as error:
        execute(SCORES, tmp_path / "none")
    assert error.value.ename == "UserError"
    assert error.value.evalue.startswith(f"{tmp_path}/none: no imgnet_all records in <job>/<model>")


@pytest.mark.long
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_every_notebook_runs(file, tmp_path):
    results = DEMO
    if not (DEMO / "edit").exists():
        results = write_results(write_results(tmp_path, "ViT-a"), "MAE-a", pool="mean")
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
