"""The table: what stands in it, what is missing, and what is refused."""

import json
from pathlib import Path

import pytest
from helpers import read_lines, run_script, write_lines

from neuronpath.analysis.proportions import newcombe
from neuronpath.analysis.results import Results
from neuronpath.analysis.table import GROUPS, MEASURES, markdown, paper_results, table
from neuronpath.errors import UserError


def record(label: int, original: float, removed: float, right=(True, True), image: str = "", **more) -> dict:
    """One of edit.py; `right` says whether the predicted class is the label before and after removal."""
    before, after = (label if r else label + 1 for r in right)
    found = {"label": label, "pred": before, "prob": original, "method": "ja", "path": [[0]], "original": original}
    found |= {"original_label": before, "remove": removed, "remove_label": after, "enhance": 2 * removed}
    return {"image": image or f"{label}/{original}", **found, "enhance_label": before, **more}


SETTINGS = {"quadrature": "right", "ig_total_step": 20, "model_img_size": 224, "preprocess": "paper"}
METHODS = ("base", "influence_pattern", "ja")


class Folders:
    """Results as the jobs leave them, below `root`."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, job: str, model: str, records: dict[int, list[dict]], settings: dict | None = SETTINGS) -> Path:
        folder = self.root / job / model
        folder.mkdir(parents=True, exist_ok=True)
        for label, found in records.items():
            lines = "".join(json.dumps(r) + "\n" for r in found)
            (folder / f"imgnet_all-{label}.rlt.jsonl").write_text(lines)
        if settings is not None:
            args = {"job": job, "settings": settings, "versions": {}}
            (folder / "imgnet_all.args.json").write_text(json.dumps(args))
        return folder

    def scores(self, model: str, shift: float = 0, n: int = 3, settings: dict | None = SETTINGS) -> None:
        ja = {
            label: [
                {"image": f"{label}/{i}", "label": label, "ja_score": 0.3 + 0.1 * i + label + shift, "base_score": -i}
                for i in range(n)
            ]
            for label in (0, 1)
        }
        self.write("ja", model, ja, settings)
        influence = {label: [{"image": r["image"], "score": 0.125} for r in found] for label, found in ja.items()}
        self.write("influence_pattern", model, influence, settings)

    def edits(self, model: str, method: str = "ja", factor: float = 0.5, n: int = 4) -> Path:
        records = {
            label: [
                record(label, 0.1 + 0.2 * i, factor * (0.1 + 0.2 * i), (True, i > 0), f"{label}/{i}") for i in range(n)
            ]
            for label in (0, 1)
        }
        return self.write(f"edit/remove_enhance/{method}", model, records)

    def table(self, *models: str, **named) -> dict:
        results = Results(self.root, "imgnet_all")
        found = table(results, models or results.models(), **named)
        return json.loads(json.dumps(found, allow_nan=False))


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path / "results")


class TestTable:
    def test_scores(self, folders):
        folders.scores("ViT-B_16")
        found = folders.table()["measures"]["joint_attribution_score"]
        assert list(found) == ["base", "influence_pattern", "ja"]
        assert found["ja"]["ViT-B_16"]["value"] == pytest.approx(0.9)
        assert found["base"]["ViT-B_16"]["value"] == pytest.approx(-1)
        entry = found["influence_pattern"]["ViT-B_16"]
        assert [entry["value"], entry["low"], entry["high"]] == pytest.approx([0.125] * 3)
        assert entry["n"] == 6
        assert found["ja"]["ViT-B_16"]["low"] < 0.9 < found["ja"]["ViT-B_16"]["high"]

    def test_edits(self, folders):
        folders.edits("tiny")
        folders.edits("tiny", "random", 0.75)
        found = folders.table("tiny")["measures"]
        assert found["removal_accuracy_deviation"]["ja"]["tiny"]["value"] == pytest.approx(-25)
        assert found["enhancement_accuracy_deviation"]["ja"]["tiny"]["value"] == pytest.approx(0)
        for what in ("mean_ratio", "ratio_of_means"):
            assert found[f"removal_probability_deviation_{what}"]["ja"]["tiny"]["value"] == pytest.approx(0.5)
            assert found[f"enhancement_probability_deviation_{what}"]["random"]["tiny"]["value"] == pytest.approx(1.5)
        removal, enhancement = found["removal_paired_probability"], found["enhancement_paired_probability"]
        assert removal["random"]["tiny"]["value"] == pytest.approx(-0.25 * 0.4)
        assert enhancement["random"]["tiny"]["value"] == pytest.approx(-0.5 * 0.4)
        assert removal["base"]["tiny"]["value"] is None
        assert "ja" not in removal

    def test_what_is_missing_is_shown_as_missing(self, folders):
        folders.scores("a")
        folders.edits("b", "base")
        found = folders.table()
        assert list(found["models"]) == ["a", "b"]
        assert found["measures"]["joint_attribution_score"]["ja"]["b"] == {"value": None}
        assert found["measures"]["removal_accuracy_deviation"]["base"]["a"] == {"value": None}
        assert found["measures"]["removal_accuracy_deviation"]["base"]["b"]["value"] == pytest.approx(-25)
        text = markdown(found)
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
        (scores,) = (row for row in rows if row[:2] == ["Joint Attribution Score", "Activation"])
        assert scores[3] == "missing"
        assert scores[2].startswith("-1.0000 [")
        missing = sum(row[2:].count("missing") for row in rows)
        entries = [e for m in found["measures"].values() for row in m.values() for e in row.values()]
        assert missing == sum(entry["value"] is None for entry in entries)
        assert missing > 20

    def test_the_papers_figures_stand_beside_ours(self, folders):
        for model in ("ViT-B_16", "ViT-L_32", "MAE-B_16", "tiny"):
            folders.scores(model)
        folders.edits("ViT-B_16")
        found = folders.table("MAE-B_16", "tiny", "ViT-B_16", "ViT-B_32", "ViT-L_32")
        measures = found["measures"]
        scores, removal, enhancement = (
            measures[name]
            for name in ("joint_attribution_score", "removal_accuracy_deviation", "enhancement_accuracy_deviation")
        )
        assert scores["ja"]["ViT-B_16"]["paper"] == 0.4078
        assert scores["ja"]["ViT-B_32"] == {"value": None, "paper": 0.6610}
        assert scores["base"]["ViT-L_32"]["paper"] == -0.0065
        assert scores["influence_pattern"]["MAE-B_16"]["paper"] == 0.0030
        assert removal["ja"]["ViT-B_16"]["paper"] == -2.40
        assert removal["influence_pattern"]["MAE-B_16"]["paper"] == -15.67
        assert removal["base"]["ViT-B_16"]["paper"] == 0.07
        assert enhancement["ja"]["ViT-L_32"]["paper"] == 5.02
        assert enhancement["base"]["ViT-B_32"]["paper"] == -0.45
        assert all("paper" not in row["tiny"] for methods in measures.values() for row in methods.values())
        assert "paper" not in removal["random"]["ViT-B_16"]
        assert all("paper" not in e for e in measures["removal_paired_probability"]["base"].values())
        text = markdown(found)
        assert "0.9000 [0.8333, 0.9667] (paper: 0.4078)" in text
        assert "missing (paper: 0.6610)" in text
        low, high = (100 * bound for bound in newcombe(6, 0, 2, 0))
        assert f"-25.00 [{low:.2f}, {high:.2f}], p = 0.5 (paper: -2.40)" in text
        assert "(paper: +5.02)" in text
        header = next(line for line in text.splitlines() if line.startswith("| ["))
        assert header == "| [95 % interval] | | MAE-B_16 | tiny | ViT-B_16 | ViT-B_32 | ViT-L_32 |"

    def test_the_papers_figures_are_complete(self):
        paper = paper_results()
        assert paper["models"] == ["ViT-B_16", "ViT-B_32", "ViT-L_32", "MAE-B_16"]
        for key in ("joint_attribution_score", "removal_accuracy_deviation", "enhancement_accuracy_deviation"):
            assert sorted(paper[key]) == sorted(METHODS)
            assert all(len(row) == 4 for row in paper[key].values())
            assert sum(measure.paper == key for measure in MEASURES.values()) == 1

    def test_rows_that_were_made_otherwise_say_so(self, folders):
        """Each row of other weights, quadrature, preprocessing or paths has a number, and a note says in what."""
        own = {**SETTINGS, "checkpoint_sha256": "a" * 64, "target": "label"}
        for model in ("a", "b"):
            folders.scores(model, settings=own)
            folders.edits(model, "ja")
            folders.edits(model, "base")
        other = own | {"checkpoint_sha256": "b" * 64, "quadrature": "left", "search": "layer"}
        folders.write("influence_pattern", "b", {0: [{"image": "0/0", "score": 1.0}]}, other)
        edits = folders.root / "edit/remove_enhance/base/b/imgnet_all.args.json"
        made = {"job": "edit", "settings": {"checkpoint_sha256": "a" * 64}, "versions": {}}
        edits.write_text(json.dumps(made | {"paths": {"checkpoint_sha256": "c" * 64, "preprocess": "native"}}))
        found = folders.table()
        assert list(found["mixed"]) == ["b"]
        text = markdown(found)
        (first,) = (line for line in text.splitlines() if line.startswith("(1)"))
        assert "b in influence_pattern" in first
        assert "checkpoint_sha256 aaaaaaaaaaaa… → bbbbbbbbbbbb…" in first
        assert "quadrature right → left" in first
        assert "search" not in first
        (second,) = (line for line in text.splitlines() if line.startswith("(2)"))
        assert "preprocess paper → native" in second
        assert "its paths: checkpoint_sha256 cccccccccccc… → aaaaaaaaaaaa…" in second
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"][2:]
        marked = [(method, cell[-3:]) for _, method, *cells in rows for cell in cells[1:] if cell.endswith(")")]
        assert ("Influence Pattern", "(1)") in marked
        assert all(mark == {"Influence Pattern": "(1)", "Activation": "(2)"}[method] for method, mark in marked)
        assert not any(cells[0].endswith((" (1)", " (2)")) for _, _, *cells in rows)
        assert sum(method == "Activation" for method, _ in marked) == len(MEASURES) - 3  # but for three of scores

    def test_paired_rows_of_scores_and_accuracies(self, folders):
        folders.scores("a")
        folders.edits("a")
        other = {
            label: [record(label, 0.5, 0.5, (True, i > 1), f"{label}/{i}") for i in range(1, 4)] for label in (0, 1)
        }
        folders.write("edit/remove_enhance/base", "a", other)
        found = folders.table()["measures"]
        scores = found["paired_joint_attribution_score"]
        assert [*scores] == ["base", "influence_pattern"]
        assert scores["base"]["a"]["value"] == pytest.approx(0.9 + 1)
        assert scores["base"]["a"]["low"] < 1.9 < scores["base"]["a"]["high"]
        assert scores["influence_pattern"]["a"]["value"] == pytest.approx(0.9 - 0.125)
        entry = found["removal_paired_accuracy"]["base"]["a"]
        assert entry["value"] == pytest.approx(100 * 2 / 6)
        assert [entry["low"], entry["high"]] == pytest.approx([100 * x for x in newcombe(4, 2, 0, 0)])
        assert (entry["p"], entry["n"]) == (pytest.approx(0.5), 6)
        assert found["enhancement_paired_accuracy"]["base"]["a"]["value"] == 0
        assert found["enhancement_paired_accuracy"]["base"]["a"]["p"] == 1
        assert found["removal_paired_accuracy"]["random"]["a"] == {"value": None}
        assert "p" not in found["removal_paired_probability"]["base"]["a"]

    def test_paired_scores_are_joined_by_image(self, folders):
        path = {0: [{"image": i, "ja_score": s, "base_score": 0} for i, s in (("a", 1), ("b", 2), ("c", 8))]}
        folders.write("ja", "m", path)
        folders.write(
            "influence_pattern", "m", {0: [{"image": i, "score": s} for i, s in (("x", 9), ("c", 4), ("a", 5))]}
        )
        entry = folders.table()["measures"]["paired_joint_attribution_score"]["influence_pattern"]["m"]
        assert (entry["value"], entry["n"]) == (pytest.approx((1 - 5 + 8 - 4) / 2), 2)

    def test_how_well_the_control_matches_is_said(self, folders):
        folders.edits("old", "random")
        ratios = [[[1.0, 1.05], []], [[0.5], [1.45]]]
        several = [record(0, 0.5, 0.5, image=str(i), control_ratio=x) for i, x in enumerate(ratios)]
        folders.write("edit/remove_enhance/random", "new", {0: several})
        folders.edits("none")
        found = folders.table()
        assert found["control"] == {"new": {"ratio": pytest.approx(1), "within": 0.5}, "old": None}
        words = "What the matched control's units write, |activation|·‖fc2 column‖: "
        words += "new: 1.00 times what the path's do, 50 % of them within 10 %; "
        words += "old: not recorded, drawn by the rank of activations alone."
        assert words in markdown(found).splitlines()
        for group, said in (("accuracy", True), ("probability", True), ("paired", True), ("score", False)):
            assert (words in markdown(folders.table(groups=[group]))) == said

    @pytest.mark.parametrize("value", [1, None, [1], [["a"]]])
    def test_a_ratio_that_is_none_names_the_folder(self, folders, value):
        several = [record(0, 0.5, 0.5, image="a", control_ratio=value)]
        folder = folders.write("edit/remove_enhance/random", "a", {0: several})
        with pytest.raises(UserError) as e:
            folders.table()
        assert str(e.value).startswith(f"{folder}: records whose control_ratio is no lists of numbers (")
        assert str(e.value).endswith("); were they made by edit.py?")

    def test_all_alike_says_nothing(self, folders):
        folders.scores("a")
        folders.edits("a")
        found = folders.table()
        assert found["mixed"] == {}
        assert "(1)" not in markdown(found)

    def test_a_record_that_stands_twice_is_refused(self, folders):
        folders.scores("a")
        file = folders.root / "ja/a/imgnet_all-1.rlt.jsonl"
        file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
        with pytest.raises(UserError, match=r"imgnet_all-1\.rlt\.jsonl, line 4: a second record of 1/0"):
            folders.table()

    def test_the_header_says_how_it_was_made(self, folders):
        folders.scores("a", settings={**SETTINGS, "quadrature": "gauss-legendre", "ig_total_step": 4})
        folders.scores("b", n=5, settings={**SETTINGS, "model_img_size": 384, "preprocess": "native"})
        folders.edits("b", n=2)
        folders.scores("c", settings=None)
        folders.scores("d", settings={**SETTINGS, "objective": "logit"})
        found = folders.table()
        assert found["models"]["a"] == {
            "quadrature": "gauss-legendre", "steps": 4, "objective": "probability", "img_size": 224,
            "preprocess": "paper",
        }  # fmt: skip
        a, b, c, d = markdown(found).splitlines()[:4]
        assert d.startswith("d: quadrature right, m = 20, F = logit, 224 pixels")
        assert "F =" not in a + b + c
        assert a.startswith("a: ")
        assert all(word in a for word in ("gauss-legendre", "m = 4", "224 pixels", "paper preprocessing", "n = 6"))
        assert all(word in b for word in ("b: ", "right", "m = 20", "384 pixels", "native", "n = 4 to 10"))
        assert c.startswith("c: ")
        assert c.count("unknown") == 2

    def test_chosen_measures(self, folders):
        folders.scores("a")
        for group in GROUPS:
            found = folders.table(groups=[group])["measures"]
            assert found.keys() == {key for key, measure in MEASURES.items() if measure.group == group} - {"drop"}
            assert found

    def test_nothing_is_minus_zero(self, folders):
        folders.write("ja", "a", {0: [{"image": f"{i}", "ja_score": -1e-9, "base_score": -0.0} for i in range(3)]})
        folders.edits("a", factor=1 - 1e-9)
        folders.edits("a", "base", factor=1)
        text = markdown(folders.table())
        assert "-0.0000" not in text
        assert "-0.00 " not in text
        assert "-0.00]" not in text
        assert "| 0.0000 [0.0000, 0.0000] |" in text
        assert "| +0.0000 [0.0000, 0.0000] |" in text

    def test_images_left_out_are_counted(self, folders):
        usable = [record(0, 0.5, 0.25 + 0.25 * (i % 2), image=f"{i}") for i in range(10)]
        folders.write("edit/remove_enhance/ja", "a", {0: [*usable, record(0, 0.0, 0.1, image="dark")]})
        found = folders.table()
        entry = found["measures"]["removal_probability_deviation_mean_ratio"]["ja"]["a"]
        assert (entry["value"], entry["n"], entry["left_out"]) == (pytest.approx(0.75), 10, 1)
        assert found["measures"]["removal_accuracy_deviation"]["ja"]["a"]["n"] == 11
        assert "Up to 1 images" in markdown(found)
        folders.write("edit/remove_enhance/ja", "a", {0: usable})
        assert "left out" not in markdown(folders.table())

    def test_every_class_with_one_image(self, folders):
        records = {label: [record(label, 0.5, 0.25 * label, image=f"{label}")] for label in (0, 1, 2)}
        folders.write("edit/remove_enhance/ja", "a", records)
        found = folders.table()
        entry = found["measures"]["removal_probability_deviation_ratio_of_means"]["ja"]["a"]
        assert (entry["value"], entry["low"], entry["high"], entry["n"]) == (0.5, None, None, 3)
        assert "| 0.5000 |" in markdown(found)

    def test_a_class_without_records(self, folders):
        folders.scores("a")
        before = folders.table()
        (folders.root / "ja" / "a" / "imgnet_all-7.rlt.jsonl").touch()
        assert folders.table() == before

    def test_matched_control_counts_the_draws(self, folders):
        draws = [{"remove": 0.2, "remove_label": label} for label in (0, 0, 0, 0, 1)]
        records = {0: [record(0, 0.4, 0.2, image=f"{i}", draws=draws) for i in range(2)]}
        for draw in draws:
            draw |= {"enhance": 0.1, "enhance_label": 1}
        folders.write("edit/remove_enhance/random", "a", records)
        found = folders.table()["measures"]
        assert found["removal_accuracy_deviation"]["random"]["a"]["value"] == pytest.approx(-20)
        assert found["enhancement_accuracy_deviation"]["random"]["a"]["value"] == pytest.approx(-100)


class TestFaults:
    def fault(self, do, *words) -> str:
        with pytest.raises(UserError) as caught:
            do()
        assert "\n" not in str(caught.value)
        assert all(str(word) in str(caught.value) for word in words), str(caught.value)

    def test_no_records_at_all(self, folders, tmp_path):
        self.fault(folders.table, folders.root, "imgnet_all")
        folders.root.mkdir()
        self.fault(folders.table, folders.root, "imgnet_all")
        folders.scores("a")
        results = Results(folders.root, "other")
        self.fault(results.models, folders.root, "other")

    @pytest.mark.parametrize(("job", "key"), [("ja", "ja_score"), ("ja", "base_score"), ("influence_pattern", "score")])
    @pytest.mark.parametrize(
        "value",
        [
            "lacking",
            None,
            "text",
            [1, 2],
        ],
    )
    def test_scores_that_are_none(self, folders, job, key, value):
        folders.scores("a")
        file = folders.root / job / "a" / "imgnet_all-1.rlt.jsonl"
        lines = read_lines(file)
        lines[1][key] = value
        if value == "lacking":
            del lines[1][key]
        write_lines(file, lines)
        self.fault(folders.table, folders.root / job / "a", key)

    @pytest.mark.parametrize("key", ["original", "remove", "enhance", "original_label", "remove_label"])
    def test_edits_that_lack_something(self, folders, key):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        lines = read_lines(file)
        del lines[2][key]
        write_lines(file, lines)
        self.fault(folders.table, folder, key)

    @pytest.mark.parametrize("value", [None, "text", [1, 2]], ids=str)
    def test_edits_that_are_no_numbers(self, folders, value):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        lines = read_lines(file)
        lines[2]["remove"] = value
        write_lines(file, lines)
        self.fault(folders.table, folder)

    def test_broken_line(self, folders):
        folder = folders.edits("a")
        file = folder / "imgnet_all-1.rlt.jsonl"
        file.write_text(file.read_text() + '{"image": "x", "remove": NaN}\n')
        self.fault(folders.table, file, "line 5")

    def test_only_label_files_without_records(self, folders):
        """Every image was skipped, or every run was killed before its first record."""
        folders.write("edit/remove_enhance/ja", "a", {0: [], 1: []})
        folders.write("ja", "a", {0: []})
        measures = folders.table("a")["measures"]
        assert all(row["a"]["value"] is None for methods in measures.values() for row in methods.values())

    def test_two_methods_without_a_common_image(self, folders):
        folders.edits("a")
        others = {0: [record(0, 0.5, 0.5, image="elsewhere"), record(0, 0.5, 0.5, image="nowhere")]}
        folders.write("edit/remove_enhance/base", "a", others)
        assert folders.table()["measures"]["removal_paired_probability"]["base"]["a"]["value"] is None

    def test_every_probability_is_0(self, folders):
        records = {0: [record(0, 0.0, 0.0, image="a"), record(0, 0.0, 0.0, image="b")]}
        folders.write("edit/remove_enhance/ja", "a", records)
        measures = folders.table()["measures"]
        for what in ("mean_ratio", "ratio_of_means"):
            assert measures[f"removal_probability_deviation_{what}"]["ja"]["a"]["value"] is None

    def test_resamples_whose_probabilities_are_all_0(self, folders):
        """Two images, one of them 0 before: a quarter of the resamples has no ratio of means."""
        records = {0: [record(0, 0.0, 0.1, image="a"), record(0, 0.5, 0.25, image="b")]}
        folders.write("edit/remove_enhance/ja", "a", records)
        folders.table()


class TestScript:
    """In a process of its own."""

    def test_table(self, folders, tmp_path):
        folders.scores("ViT-B_16")
        folders.edits("ViT-B_16")
        file = tmp_path / "new" / "table.json"
        result = run_script("scripts/table.py", "--results", "results", "--json", file, cwd=tmp_path).expect()
        expected = folders.table()
        assert json.loads(file.read_text()) == expected
        assert markdown(expected) in result.stdout
        assert str(file) in result.stdout


def test_a_paired_entry_is_of_both_jobs():
    for key in ("removal_paired_probability", "enhancement_paired_accuracy"):
        assert MEASURES[key].jobs("base") == ["edit/remove_enhance/ja", "edit/remove_enhance/base"]
    scores = MEASURES["paired_joint_attribution_score"]
    assert scores.jobs("base") == ["ja"]
    assert scores.jobs("influence_pattern") == ["ja", "influence_pattern"]
