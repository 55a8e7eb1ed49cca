"""The Python scripts: what each asks the package for, by default and as told, and what it prints.

In this process, with stand-ins for what the package does.
"""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ROOT, fault

from neuronpath import Quadrature, __main__ as package
from neuronpath.cli.exits import Report
from neuronpath.figures import common
from neuronpath.models.configs import CONFIGS
from neuronpath.studies.parts import PARTS

MANIPULATION = "experiments/quantitative-comparison/manipulation"
JOBS = {
    "path/joint_attr.py": ("JointAttribution", "cls", "joint-attr"),
    "path/joint_attr_mae.py": ("JointAttribution", "mean", "joint-attr-mae"),
    "path/influence_pattern.py": ("InfluencePattern", "cls", "influence-pattern"),
    "path/influence_pattern_mae.py": ("InfluencePattern", "mean", "influence-pattern-mae"),
    "path/baseline.py": ("Baseline", None, "baseline"),
    "path/joint_attr_heads.py": ("HeadAttribution", None, "joint-attr-heads"),
    f"{MANIPULATION}/ViT/edit.py": ("Edit", "cls", "edit"),
    f"{MANIPULATION}/MAE/edit.py": ("Edit", "mean", "edit-mae"),
    "topK/path/joint_attr.py": ("TopKAttribution", "cls", "topk-joint-attr"),
    f"topK/{MANIPULATION}/ViT/edit.py": ("TopKEdit", "cls", "topk-edit"),
    "scripts/top_images.py": ("TopImages", None, "top-images"),
}


class TestJobs:
    @pytest.mark.parametrize("script", JOBS)
    def test_every_script_is_one_job_for_one_kind_of_head(self, script, monkeypatch, capsys):
        asked = []
        monkeypatch.setattr("neuronpath.runs.job.main", lambda *given: asked.append(given) or Report("done", 3))
        monkeypatch.setattr(sys, "argv", [script])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        ((job, description),) = asked
        assert (type(job).__name__, job.pool) == JOBS[script][:2]
        assert f"python {script} " in description
        assert (ended.value.code, capsys.readouterr().out) == (3, "done\n")

    def test_the_same_jobs_without_a_checkout(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", [""])
        assert [(type(job()).__name__, job().pool, name) for name, job in package.JOBS.items()] == [
            JOBS[script]
            for script in sorted(JOBS, key=lambda script: [name for *_, name in JOBS.values()].index(JOBS[script][2]))
        ]
        asked = []
        monkeypatch.setattr(package, "main", lambda *given: asked.append(given) or Report("done"))
        assert package.run(["edit-mae", "--gain", "3"]) == Report("done")
        ((job, description, options),) = asked
        assert (type(job).__name__, job.pool, options) == ("Edit", "mean", ["--gain", "3"])
        assert description == type(job).__doc__
        assert sys.argv[0] == "neuronpath edit-mae"

    @pytest.mark.parametrize("words", [[], ["-h"], ["--help", "more"]])
    def test_help_lists_the_jobs(self, words):
        text = package.run(words).text
        names = ", ".join(name for *_, name in JOBS.values())
        assert f"\nJobs: {names}. Each lists its options with --help." in text
        assert text.startswith("The scripts' jobs where the package is installed without a checkout: ")

    def test_a_job_that_is_none(self):
        names = ", ".join(name for *_, name in JOBS.values())
        assert fault(package.run, ["joint_attr"]) == f"'joint_attr' is no job; choose from {names}"


class TestBenchmark:
    def run(self, script, *words, **more) -> list:
        asked = []

        def table(name):
            return lambda model, *given: (name, model, given)

        def compare(runs, model, images, repeats):
            name, measured, given = runs
            assert measured is model
            asked.append((name, model, given, images, repeats))
            return f"the table of {name}"

        self.threads = []
        stand_ins = {f"studies.{name}_table": table(name) for name in ("searches", "influences", "sizes", "rules")}
        stand_ins |= {"studies.compare": compare, "settle_threads": lambda: self.threads.append("settled")}
        self.printed = script("scripts/benchmark.py", *words, **stand_ins, **more)
        assert self.threads == ["settled"]
        return asked

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        for name in ("ViT-B_32", "ViT-B_16", "MAE-B_16"):
            monkeypatch.setitem(CONFIGS, name, CONFIGS[f"{name[:3]}-digits"].with_(depth=1))
        yield
        torch.set_float32_matmul_precision("highest")

    def test_by_default_searches_and_influences_of_four_images(self, script):
        rows = {"attribution.default_rows": lambda model, device: f"rows on {device}"}
        found = self.run(script, "--device", "cpu", **rows)
        assert [(name, given[2:], images, repeats) for name, _, given, images, repeats in found] == [
            ("searches", (20, "rows on cpu"), 4, 5),
            ("influences", (4, "rows on cpu"), 4, 5),
        ]
        (_, model, (x, labels, *_), *_), _ = found
        assert x.shape == (4, 3, 32, 32)
        assert labels.tolist() == [0, 1, 2, 3]
        assert not any(p.requires_grad for p in model.parameters())
        first, *_, last = self.printed.splitlines()
        assert first == f"ViT-B_32 sizes, fp32, cpu, 4 images, torch {torch.__version__}"
        assert last == "the table of influences"

    def test_as_told(self, script):
        options = "--batch_size 12 --internal_batch_size 7 --ig_total_step 9 --repeats 2 --precision fp64 --no_cuda"
        tables = ("--tables", "rules", "sizes", "searches", "--model_types", "MAE-B_16", "ViT-B_16")
        found = self.run(script, *options.split(), *tables)
        assert [(name, *given[2:], images, repeats) for name, _, given, images, repeats in found] == [
            ("rules", 7, 12, 2),
            ("sizes", found[1][2][2], 7, 12, 2),
            ("rules", 7, 12, 2),
            ("sizes", found[3][2][2], 7, 12, 2),
            ("searches", 9, 7, 12, 2),  # of the CLS head only
        ]
        assert [m.config.pool for _, m, *_ in found] == ["mean", "mean", "cls", "cls", "cls"]
        assert str(found[1][2][2]) == str(Quadrature("right", 9))
        assert found[0][2][0].dtype == torch.float64
        assert found[0][2][1].tolist() == [*range(10), 0, 1]

    def test_random_weights_are_the_same_every_time(self, script):
        a, b = (self.run(script, "--no_cuda", "--tables", "rules")[0] for _ in range(2))
        assert torch.equal(a[1].head.weight, b[1].head.weight)
        assert torch.equal(a[2][0], b[2][0])


class TestPictures:
    def results(
        self, folder: Path, job: str = "joint_attr", labels=(3, 5, 7), prefix: str = "imgnet_all", **settings
    ) -> Path:
        folder.mkdir()
        for label in labels:
            lines = [json.dumps({"image": f"{label}/{i}.png", "label": label}) + "\n" for i in range(2)]
            (folder / f"{prefix}-{label}.rlt.jsonl").write_text("".join(lines))
        given = {"dataset": "digits", "model_num_classes": 10, "model_mlp_dim": 384, "quadrature": "left", **settings}
        text = json.dumps({"job": job, "settings": given, "versions": {}})
        (folder / f"{prefix}.args.json").write_text(text)
        return folder

    def draw(self, script, *words) -> list:
        asked = []

        def noting(name, answer):
            return lambda *given: asked.append((name, *given)) or answer

        stand_ins = {
            "data.open_chosen": noting("open", "the images"),
            "figures.plot_paths": noting("plot", "the figure"),
            "figures.save": noting("save", [Path("/x/a.png"), Path("/x/a.pdf")]),
        }
        assert script("scripts/plot_paths.py", *words, **stand_ins) == "picture     /x/a.png\npicture     /x/a.pdf\n"
        return asked

    def test_the_first_image_of_the_first_classes(self, script, tmp_path):
        results = self.results(tmp_path / "ja", labels=(2, 10, 3, 4, 5, 6), ig_total_step=20)
        opened, (_, records, *drawn), saved = self.draw(script, "--results", results)
        (_, options, count) = opened
        assert (options.dataset, options.dataset_path, count) == ("digits", ROOT / "dataset/digits/val", 10)
        assert [record["image"] for record in records] == [f"{label}/0.png" for label in (2, 3, 4, 5, 6)]
        assert drawn == ["the images", 384, "quadrature left, m = 20", "probability"]
        assert saved == ("save", "the figure", ROOT / "results/demo/paths")

    def test_as_told(self, script, tmp_path):
        results = self.results(tmp_path / "ja", job="joint_attr_mae", prefix="x")
        words = (
            "--results",
            results,
            "--input_prefix",
            "x",
            "--dataset_path",
            "here",
            "--count",
            2,
            "--output",
            "out/a",
        )
        (_, options, _), (_, records, *_), (*_, out) = self.draw(script, *words)
        assert [record["label"] for record in records] == [3, 5]
        assert (options.dataset_path, out) == (Path("here"), Path("out/a"))

    def test_records_of_another_job_or_none(self, script, tmp_path):
        other = self.results(tmp_path / "edit", job="edit")
        said = f"{other}: 3 records of edit; give those of a joint_attr script"
        assert fault(script, "scripts/plot_paths.py", "--results", other) == said
        empty = self.results(tmp_path / "ja")
        for file in empty.glob("*.jsonl"):
            file.write_text("")
        said = f"{empty}: 0 records of joint_attr; give those of a joint_attr script"
        assert fault(script, "scripts/plot_paths.py", "--results", empty) == said

    def test_pruning(self, script, tmp_path):
        drawn = []
        runs = {type("Run", (), {"model": model}): None for model in "bbaa"}
        stand_ins = {
            "read_runs": lambda *given: drawn.append(given) or runs,
            "markdown": lambda found: "the table",
            "plot_runs": lambda found, model, measure: drawn.append((model, measure)) or "figure",
            "save": lambda figure, file: drawn.append(file.name) or [file.with_name(file.name + ".png")],
            "arrays": lambda found: {"prob": np.arange(2)},
        }
        name = f"topK/{MANIPULATION}/analysis/plot_probability_deviation.py"
        for words, out in (((), tmp_path), (("--output_dir", tmp_path / "out"), tmp_path / "out")):
            out.mkdir(exist_ok=True)
            drawn.clear()
            printed = script(name, "--results", tmp_path, "--input_prefix", "x", *words, **stand_ins).splitlines()
            pictures = [f"pruning-{model}-{measure}" for model in "ba" for measure in ("prob", "top1")]
            assert drawn[0] == (tmp_path, "x")
            assert drawn[1::2] == [(model, measure) for model in "ba" for measure in ("prob", "top1")]
            assert drawn[2::2] == pictures
            saved = [f"picture     {out}/{picture}.png" for picture in pictures]
            assert printed == ["the table", *saved, f"arrays      {out}/pruning.npz"]
            assert np.load(out / "pruning.npz")["prob"].tolist() == [0, 1]


class TestTable:
    def test_of_all_models_and_measures_or_those_named(self, script, tmp_path):
        asked = []

        class Results:
            def __init__(self, *given):
                asked.append(given)

            def models(self):
                return ["a", "b"]

        def table(results, models, measures):
            asked.append((models, tuple(measures)))
            return {"é": 1.5}

        stand_ins = {"Results": Results, "table": table, "markdown": lambda found: f"table of {found}"}
        printed = script("scripts/table.py", **stand_ins)
        groups = ("score", "accuracy", "probability", "paired")
        assert asked == [(ROOT / "results", "imgnet_all"), (["a", "b"], groups)]
        assert printed == "table of {'é': 1.5}\n"
        words = ["--results", "r", "--input_prefix", "x", "--models", "b", "--measures", "paired", "score", "--json"]
        file = tmp_path / "new/table.json"
        assert script("scripts/table.py", *words, file, **stand_ins) == f"table of {{'é': 1.5}}\n\n{file}\n"
        assert asked[2:] == [(Path("r"), "x"), (["b"], ("paired", "score"))]
        assert file.read_text() == '{\n  "\\u00e9": 1.5\n}\n'


class TestTraining:
    def test_both_models_and_what_is_there_is_kept(self, script, tmp_path):
        (tmp_path / "ckpt").mkdir()
        asked, found = [], {"images": "", "checkpoint": ""}

        def train(config, images, labels, epochs, seed):
            asked.append(("train", config, images, epochs, seed))
            return "a model"

        stand_ins = {
            "ROOT": tmp_path,
            "settle_threads": lambda: asked.append("threads"),
            "data.write_images": lambda root, noise: asked.append(("images", root, noise)) or found["images"],
            "data.load_images": lambda folder, model: (folder, "labels"),
            "models.train": train,
            "models.save": lambda model, file: asked.append(("save", file)) or file.touch(),
            "models.accuracy": lambda model, images, labels: 0.98765,
            "outdated": lambda file, images: found["checkpoint"] if images == digits else "?",
            "sign": lambda file, images, **settings: asked.append(("sign", file, images, settings)),
        }
        digits, vit, mae = (
            tmp_path / "dataset/digits",
            tmp_path / "ckpt/ViT-digits.npz",
            tmp_path / "ckpt/MAE-digits.pth",
        )
        printed = script("scripts/train_digits.py", **stand_ins).splitlines()

        def anew(file, epochs=12, seed=0):
            settings = {"epochs": epochs, "seed": seed}
            made = ("train", CONFIGS[file.stem], digits / "train", epochs, seed), ("save", file)
            return ["threads", *made, ("sign", file, digits, settings)]

        assert asked == [("images", digits, 0.35), *anew(vit), *anew(mae)]
        assert [line.rsplit(",", 1)[0] for line in printed] == [
            f"{file}: 98.77 % top-1 on held-out digits" for file in (vit, mae)
        ]
        asked.clear()
        assert script("scripts/train_digits.py", **stand_ins).splitlines() == [
            f"{file} is there; --overwrite trains anew" for file in (vit, mae)
        ]
        assert asked == [("images", digits, 0.35)]
        asked.clear()
        found |= {"images": "made with other noise", "checkpoint": "trained on other images"}
        first, *lines = script("scripts/train_digits.py", "--noise", 0.5, **stand_ins).splitlines()
        assert first == f"{digits}: made with other noise; made anew with noise 0.5"
        assert [lines[0], lines[2]] == [f"{file}: trained on other images; trained anew" for file in (vit, mae)]
        assert asked == [("images", digits, 0.5), *anew(vit), *anew(mae)]
        asked.clear()
        chosen = ("--models", "MAE-digits", "--overwrite", "--epochs", 2, "--seed", 7)
        script("scripts/train_digits.py", *chosen, **stand_ins)
        assert asked == [("images", digits, 0.35), *anew(mae, 2, 7)]


class TestStudy:
    @pytest.fixture
    def study(self, script, tmp_path):
        asked = []

        def run(file, digits, **more):
            asked.append((file, digits, more))
            return dict.fromkeys(more["parts"], len(asked))

        def start(*words):
            stand_ins = {
                "settle_threads": lambda: start.settled.append("threads"),
                "studies.run": run,
                "studies.markdown": lambda found: f"of {', '.join(found)}",
                "figures.plot_study": lambda found: "figure",
                "figures.save": lambda figure, file: [
                    file.with_name(file.name + ending) for ending in (".png", ".pdf")
                ],
            }
            return script(
                "scripts/study_search.py", "--device", "cpu", "--output", tmp_path / "new/a", *words, **stand_ins
            )

        start.asked, start.file, start.settled = asked, tmp_path / "new/a.json", []
        return start

    def test_both_models_and_all_parts(self, study):
        printed = study().splitlines()
        pictures = [f"picture     {study.file.with_suffix(ending)}" for ending in (".png", ".pdf")]
        assert printed == ["of ViT-digits, MAE-digits", *pictures]
        assert study.settled == ["threads"]
        (file, digits, more), (other, *_) = study.asked
        assert (file, other) == (ROOT / "ckpt/ViT-digits.npz", ROOT / "ckpt/MAE-digits.pth")
        assert digits == ROOT / "dataset/digits"
        parts = tuple(more.pop("parts"))
        assert parts == PARTS
        sizes = {"per_class": 10, "train_per_class": 3, "kept": ROOT / "results/search", "device": torch.device("cpu")}
        assert more == sizes
        found = json.loads(study.file.read_text())
        assert found == {"ViT-digits": dict.fromkeys(parts, 1), "MAE-digits": dict.fromkeys(parts, 2)}

    def test_some_parts_keep_the_rest(self, study):
        study("--models", "x/one.npz")
        first, *rest = parts = study.asked[0][2]["parts"]
        study("--models", "x/one.npz", "--parts", first, "--images_per_class", 4, "--training_per_class", 1)
        *_, more = study.asked[1]
        assert (more["parts"], more["per_class"], more["train_per_class"]) == ([first], 4, 1)
        assert json.loads(study.file.read_text()) == {"one": {first: 2, **dict.fromkeys(rest, 1)}}
        said = fault(study, "--models", "x/two.npz", "--parts", first)
        assert said == f"{study.file}: two lacks {', '.join(rest)}; add them to --parts"
        assert len(parts) > 2


class TestTables:
    @pytest.fixture
    def docs(self, tmp_path) -> Path:
        (tmp_path / "docs").mkdir()
        text = "before\n<!-- table: topK -->\n| old |\n| older |\nafter\n<!-- table: records -->\n"
        (tmp_path / "docs/options.md").write_text(text)
        (tmp_path / "docs/records.md").write_text("nothing\n")
        return tmp_path

    def test_old_tables_are_found_and_replaced(self, script, docs):
        file, stand_ins = (
            docs / "docs/options.md",
            {"ROOT": docs, "tables": lambda: {"topK": "| new |", "records": "| r |"}},
        )
        before, checked = file.read_text(), ("scripts/write_tables.py", "--check")
        said = f"{file}: its tables are not up to date; run python scripts/write_tables.py"
        assert fault(lambda: script(*checked, **stand_ins)) == said
        assert file.read_text() == before
        script("scripts/write_tables.py", **stand_ins)
        new = "before\n<!-- table: topK -->\n| new |\nafter\n<!-- table: records -->\n| r |\n"
        assert file.read_text() == new
        script(*checked, **stand_ins)


def test_pictures_come_as_png_and_pdf(tmp_path):
    files = common.save(SimpleNamespace(savefig=lambda file, dpi: file.write_text(str(dpi))), tmp_path / "new/a.b")
    assert [(file.name, file.read_text()) for file in files] == [("a.b.png", "150"), ("a.b.pdf", "150")]
