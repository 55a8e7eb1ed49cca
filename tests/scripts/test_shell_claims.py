"""The shell scripts: which commands they run, with which options, in which order, and what stops them.

In a copy of the checkout, with a `python` that notes what it is asked for instead of doing it.
"""

import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from helpers import ROOT

MANIPULATION = "experiments/quantitative-comparison/manipulation"
PYTHON = """#!/bin/sh
printf '%s' "${0##*/}" >> "$LOG"
for word; do case $word in *' '*) word="<$word>";; esac; printf ' %s' "$word" >> "$LOG"; done
echo >> "$LOG"
case "$*" in *"${FAILS:-no such thing}"*) exit ${CODE:-1};; esac
"""


class Checkout:
    """A copy of the shell scripts alone; `ran` tells the commands, with @ for the root of the copy."""

    def __init__(self, root: Path):
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        for folder in ("scripts", MANIPULATION, f"topK/{MANIPULATION}"):
            for file in [*(ROOT / folder).rglob("*.sh"), *(ROOT / folder).rglob("*.sbatch")]:
                copy = root / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        self.bin.mkdir()
        self.command("python", PYTHON)

    def command(self, name: str, text: str = PYTHON) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def touch(self, *files: str) -> None:
        for file in files:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).touch()

    def run(self, script: str, *arguments: str, code: int = 0, cwd: Path | None = None, **environment) -> list[str]:
        """The commands of one script."""
        self.log.write_text("")
        path = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), "HOME": str(self.root)}
        environment = path | {"VIRTUAL_ENV": "/another"} | environment
        command = [shutil.which("bash"), str(self.root / script), *arguments]
        self.found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd or self.root)
        assert self.found.returncode == code, self.found.stderr
        return self.log.read_text().replace(str(self.root), "@").splitlines()


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path.resolve())


def fault(checkout: Checkout) -> str:
    (line,) = checkout.found.stderr.splitlines()
    return line


class TestReproduce:
    def extraction(self, script: str, job: str, model: str, file: str, common: str, rule: str) -> str:
        given = f"{common} --model_type {model} --pretrain_weight {file} --output_dir @/r/{job}/{model}"
        return f"python @/{script}.py {given}{rule}"

    def of(self, model: str, file: str, common: str, rule: str, classes: str, where: str, shares) -> list[str]:
        """The commands of one model, as the script's head and the README say."""
        kind, suffix = ("MAE", "_mae") if model.startswith("MAE") else ("ViT", "")
        common_of = (model, file, common)
        out = [
            self.extraction(f"path/joint_attr{suffix}", "ja", *common_of, rule),
            self.extraction(f"path/influence_pattern{suffix}", "influence_pattern", *common_of, rule),
        ]
        paths = f" --ja_path @/r/ja/{model} --influence_pattern_path @/r/influence_pattern/{model}"
        for method in ("base", "influence_pattern", "ja", "random"):
            job = f"edit/remove_enhance/{method}"
            more = f" --method {method}{paths}"
            out.append(self.extraction(f"{MANIPULATION}/{kind}/edit", job, *common_of, more))
        if kind == "ViT":
            out.append(self.extraction("topK/path/joint_attr", "ja_top5", *common_of, f" --topK 5{rule}"))
            for method, tokens, p in product(("ja", "base", "random"), ("cls", "all"), shares):
                job, how = f"pruning/{method}/k5-p{p}-all-{tokens}", f" --topK 5 --mask_proportion {p}"
                more = f" --edit_operation prune{how} --prune_tokens {tokens} --method {method}"
                more += f" --ja_path @/r/ja_top5/{model}"
                out.append(self.extraction(f"topK/{MANIPULATION}/ViT/edit", job, *common_of, more))
        similar = f"--results @/r/ja/{model} --dataset_path {where} --output_dir @/r/similarity/{model}"
        out.append(
            f"python @/experiments/similarity/pair-sim.py {similar} --model_type {model} --pretrain_weight {file}"
        )
        return [*out, f"python @/experiments/similarity/paper-plot.py {similar}{classes}"]

    def test_the_papers_models_by_default(self, checkout):
        files = {
            "ViT-B_16": "@/ckpt/ViT-B_16-224.npz",
            "ViT-B_32": "@/ckpt/ViT-B_32.npz",
            "ViT-L_32": "@/ckpt/ViT-L_32.npz",
            "MAE-B_16": "@/ckpt/mae_finetuned_vit_base.pth",
        }
        checkout.touch(*(file[2:] for file in files.values()))
        where, rule = "@/dataset/imagenet2012/val", " --quadrature left --ig_total_step 20"
        common = f"--dataset imagenet1k --dataset_path {where} --labels 0-99"
        found = checkout.run("scripts/reproduce.sh", "--labels", "0-99", RESULTS=str(checkout.root / "r"))
        weights, shares = " ".join(files.values()), ("0.25", "0.5", "0.75", "1")
        assert found == [
            f"python @/scripts/check.py --checks weights data cost --pretrain_weight {weights} --img_size 224{rule} "
            f"{common}",
            *(line for name, file in files.items() for line in self.of(name, file, common, rule, "", where, shares)),
            f"python @/topK/{MANIPULATION}/analysis/plot_probability_deviation.py --results @/r/pruning",
            f"python @/scripts/table.py --results @/r --models {' '.join(files)} --json @/r/table.json",
        ]

    def test_smoke(self, checkout):
        files = {"ViT-digits": "@/ckpt/ViT-digits.npz", "MAE-digits": "@/ckpt/MAE-digits.pth"}
        checkout.touch(*(file[2:] for file in files.values()))
        where, rule = "@/dataset/digits/val", " --quadrature gauss-legendre --ig_total_step 4"
        common = f"--dataset digits --dataset_path {where} --images_per_class 6"
        found = checkout.run("scripts/reproduce.sh", "--smoke", RESULTS=str(checkout.root / "r"))
        anew, classes = f"--overwrite {common}", " --classes 3 5 8 9"
        weights = " ".join(files.values())
        assert found == [
            "python @/scripts/train_digits.py",
            f"python @/scripts/check.py --checks weights data cost --pretrain_weight {weights}{rule} {common}",
            *(line for name, file in files.items() for line in self.of(name, file, anew, rule, classes, where, ["1"])),
            f"python @/topK/{MANIPULATION}/analysis/plot_probability_deviation.py --results @/r/pruning",
            f"python @/scripts/table.py --results @/r --models {' '.join(files)} --json @/r/table.json",
        ]

    @pytest.mark.parametrize(("smoke", "folder"), [((), "paper"), (("--smoke",), "smoke")])
    def test_results_and_checkpoints_are_in_the_checkout_unless_said_otherwise(self, checkout, smoke, folder, tmp_path):
        checkout.touch("ckpt/MAE-digits.pth", "elsewhere/MAE-digits.pth")
        *_, table = checkout.run("scripts/reproduce.sh", *smoke, MODELS="MAE-digits", cwd=tmp_path)
        assert f"--results @/results/{folder} " in table
        given = {"CKPT": "@/elsewhere", "DATASET_PATH": "@/images", "IMAGES_PER_CLASS": "2", "QUADRATURE": "right"}
        given = {key: value.replace("@", str(checkout.root)) for key, value in given.items()}
        found = checkout.run(
            "scripts/reproduce.sh", *smoke, MODELS="MAE-digits", STEPS="7", LAUNCH="python -u", **given
        )
        check, search = (next(line for line in found if name in line) for name in ("check.py", "joint_attr_mae.py"))
        assert search.startswith("python -u @/path/joint_attr_mae.py ")
        for line in (check, search):
            assert "--dataset_path @/images --images_per_class 2" in line
            assert "--quadrature right --ig_total_step 7" in line
            assert "@/elsewhere/MAE-digits.pth" in line

    def test_only_newer_digits_models_overwrite(self, checkout):
        checkout.touch("ckpt/ViT-digits.npz", "results/x/ja/ViT-digits/imgnet_all.args.json")
        given = {"MODELS": "ViT-digits", "RESULTS": str(checkout.root / "results/x")}
        search, influence = checkout.run("scripts/reproduce.sh", "--smoke", **given)[2:4]
        assert "--overwrite" not in search, "the records are newer than the model"
        assert "--overwrite" in influence
        assert not [line for line in checkout.run("scripts/reproduce.sh", **given) if "--overwrite" in line]

    @pytest.mark.parametrize(("code", "ends"), [(3, 0), (4, 4), (2, 2), (130, 130)])
    def test_skipped_images_do_not_stop_it_and_other_codes_do(self, checkout, code, ends):
        checkout.touch("ckpt/MAE-B_16.pth", "ckpt/mae_finetuned_vit_base.pth")
        fails = {"FAILS": "/path/joint_attr", "CODE": str(code)}
        found = checkout.run("scripts/reproduce.sh", MODELS="MAE-B_16", code=ends, **fails)
        assert ("joint_attr_mae" in found[-1]) == bool(ends)

    def test_without_a_vit_there_is_no_pruning(self, checkout):
        checkout.touch("ckpt/MAE-L_16.pth")
        found = checkout.run("scripts/reproduce.sh", MODELS="MAE-L_16")
        assert not [line for line in found if "prun" in line]
        assert "--pretrain_weight @/ckpt/MAE-L_16.pth" in found[1]

    def test_a_missing_checkpoint_stops_it(self, checkout):
        assert checkout.run("scripts/reproduce.sh", MODELS="ViT-H_14", code=2) == []
        said = f"reproduce.sh: {checkout.root}/ckpt/ViT-H_14.npz: no such file; fetch it with "
        assert fault(checkout) == f"{said}scripts/download_weights.sh or give CKPT"


class TestEdits:
    @pytest.mark.parametrize(
        ("script", "kind", "ending", "measures"),
        [
            ("ViT/scripts/edit_accuracy", "ViT", "npz", "accuracy"),
            ("ViT/scripts/edit_logits", "ViT", "npz", "probability paired"),
            ("MAE/scripts/edit", "MAE", "pth", "accuracy probability paired"),
        ],
    )
    def test_every_method_and_the_table(self, checkout, script, kind, ending, measures, tmp_path):
        model, demo = f"{kind}-digits", "@/results/demo"
        found = checkout.run(f"{MANIPULATION}/{script}.sh", "--gain", "3", cwd=tmp_path)
        given = f"--images_per_class 10 --dataset digits --pretrain_weight @/ckpt/{model}.{ending} --model_type auto"
        given += f" --influence_pattern_path {demo}/influence_pattern/{model} --ja_path {demo}/ja/{model}"
        assert found == [
            *(
                f"python @/{MANIPULATION}/{kind}/edit.py --method {method} {given} "
                f"--output_dir {demo}/edit/remove_enhance/{method}/{model} --gain 3"
                for method in ("base", "influence_pattern", "ja", "random")
            ),
            f"python @/scripts/table.py --results {demo} --models {model} --measures {measures}",
        ]

    def test_the_environment_decides(self, checkout):
        given = {"DATASET": "imagenet1k", "DATASET_PATH": "/images", "PRETRAIN_WEIGHT": "/w/a.b.npz", "RESULTS": "/r"}
        paths = {"JA_PATH": "/ja", "INFLUENCE_PATTERN_PATH": "/ip"}
        first, *_, table = checkout.run(f"{MANIPULATION}/ViT/scripts/edit_logits.sh", **given, **paths)
        assert first.endswith(
            "--method base --dataset imagenet1k --dataset_path /images --pretrain_weight /w/a.b.npz --model_type auto "
            "--influence_pattern_path /ip --ja_path /ja --output_dir /r/edit/remove_enhance/base/a.b"
        )
        assert "--results /r --models a.b " in table
        first, *_ = checkout.run(f"{MANIPULATION}/ViT/scripts/edit_logits.sh", MODEL_TYPE="ViT-B_32", **given)
        assert (
            "--model_type ViT-B_32 --influence_pattern_path /r/influence_pattern/ViT-B_32 --ja_path /r/ja/ViT-B_32"
            in first
        )
        first, *_ = checkout.run(f"{MANIPULATION}/ViT/scripts/edit_logits.sh", IMAGES_PER_CLASS="3")
        assert "--images_per_class 3 --dataset digits" in first

    def test_a_failure_stops_them(self, checkout):
        fails = {"FAILS": "--method influence_pattern", "CODE": "4"}
        assert len(checkout.run(f"{MANIPULATION}/MAE/scripts/edit.sh", code=4, **fails)) == 2

    def test_pruning_sweeps_over_all_by_default(self, checkout, tmp_path):
        found = checkout.run(f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh", "--seed", "1", cwd=tmp_path)
        demo, edit = "@/results/demo", f"python @/topK/{MANIPULATION}/ViT/edit.py --edit_operation prune"
        given = "--images_per_class 10 --dataset digits --pretrain_weight @/ckpt/ViT-digits.npz --model_type auto"
        given += f" --influence_pattern_path {demo}/influence_pattern/ViT-digits --ja_path {demo}/ja_top5/ViT-digits"
        sweep = product(("cls", "all"), ("1", "5"), ("0.5", "1"), ("ja", "base", "random"))
        assert found == [
            *(
                f"{edit} --method {method} --topK {k} --mask_proportion {p} --prune_tokens {tokens} {given} "
                f"--output_dir {demo}/pruning/{method}/k{k}-p{p}-all-{tokens}/ViT-digits --seed 1"
                for tokens, k, p, method in sweep
            ),
            f"python @/topK/{MANIPULATION}/analysis/plot_probability_deviation.py --results {demo}/pruning",
        ]

    def test_pruning_of_some_layers_and_by_a_newer_model(self, checkout):
        chosen = {"DEPTHS": "all 3", "TOKENS": "cls", "TOPKS": "2", "PROPORTIONS": "1", "METHODS": "ja"}
        out = "results/demo/pruning/ja/k2-p1-3-cls/ViT-digits"
        checkout.touch("ckpt/ViT-digits.npz", f"{out}/imgnet_all.args.json")
        whole, three, _ = checkout.run(f"topK/{MANIPULATION}/ViT/scripts/edit_logits.sh", JA_PATH="/ja", **chosen)
        assert "edit.py --overwrite --edit_operation prune" in whole
        assert "--depth_prune" not in whole
        assert "edit.py --edit_operation prune" in three
        assert "--depth_prune 3 --images_per_class 10 --dataset digits" in three
        assert three.endswith(f"--ja_path /ja --output_dir @/{out}")


class TestSetup:
    """Of a checkout with stubs for Python and pip."""

    @pytest.fixture
    def setup(self, checkout) -> Checkout:
        real = f"""#!/bin/sh
printf '%s\\n' "${{0##*/}} $*" >> "$LOG"
case "$1 $2" in
"-c "*) exec "{sys.executable}" -c "import sys; sys.version_info = ${{VERSION:-(3, 12)}}; $2" ;;
"-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo 'PATH=$PWD/.venv/bin:$PATH' > .venv/bin/activate ;;
"-m pip") case "$*" in *"${{FAILS:-nothing}}"*) exit 1 ;; esac ;;
esac
"""
        for name in ("python3", "python"):
            checkout.command(name, real)
        checkout.touch("requirements.txt", "pyproject.toml")
        (checkout.root / "use.sh").write_text('source scripts/setup.sh "$@"; echo "$PWD"; command -v python\n')
        return checkout

    CHECK = "python3 -c import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))"
    INSTALL = "python -m pip install --quiet --disable-pip-version-check"

    def test_it_installs_once_and_again_when_the_requirements_or_the_extra_change(self, setup):
        new = [self.CHECK, "python3 -m venv --clear .venv", f"{self.INSTALL} -r requirements.txt"]
        assert setup.run("use.sh", "") == new
        assert setup.found.stdout.split() == [str(setup.root), f"{setup.root}/.venv/bin/python"]
        assert setup.run("use.sh", "") == []
        again = [self.CHECK, "python -m pip --version", f"{self.INSTALL} -r requirements.txt"]
        test = f"{self.INSTALL} -e .[test]"
        assert setup.run("use.sh", "test") == [*again, test]
        assert setup.run("use.sh", "test") == []
        assert setup.run("use.sh", "") == [], "what tests need has all that the scripts need"
        for name in ("requirements.txt", "pyproject.toml"):
            (setup.root / name).write_text("changed")
            assert setup.run("use.sh", "test") == [*again, test]

    def test_a_failed_installation_is_not_taken_for_one(self, setup):
        setup.run("use.sh", "", FAILS="-r requirements.txt")
        assert not (setup.root / ".venv/.stamp").exists()

    @pytest.mark.parametrize(
        ("version", "works"),
        [("(3, 9, 18)", False), ("(3, 10, 0)", True), ("(3, 13, 9)", True), ("(3, 14, 0)", False), ("(2, 7)", False)],
    )
    def test_pythons(self, setup, version, works):
        (setup.root / "use.sh").write_text('set -e; source scripts/setup.sh ""\n')
        found = setup.run("use.sh", VERSION=version, PYTHON="python3", code=0 if works else 2)
        assert ("venv" in "".join(found)) == works
        if not works:
            said = "setup: Python 3.10 to 3.13 was not found; install one, or name it: PYTHON=/path/to/python3"
            assert fault(setup) == said

    def test_enter_takes_the_environment_that_is_active_and_else_its_own(self, setup, tmp_path):
        (setup.root / "use.sh").write_text(
            f'source {setup.root}/scripts/setup.sh --enter; echo "${{MARK:-none}} $PWD"\n'
        )
        (setup.root / ".venv/bin").mkdir(parents=True)
        (setup.root / ".venv/bin/activate").write_text("MARK=own\n")
        for active, mark in (
            ({}, "none"),
            ({"VIRTUAL_ENV": ""}, "own"),
            ({"VIRTUAL_ENV": "", "CONDA_PREFIX": "/c"}, "none"),
        ):
            assert setup.run("use.sh", cwd=tmp_path, **active) == []
            assert setup.found.stdout.split() == [mark, str(tmp_path)]
        shutil.rmtree(setup.root / ".venv")
        setup.run("use.sh", VIRTUAL_ENV="")

    def test_the_demo_is_the_smoke_run_with_more_images_and_the_papers_rule(self, setup):
        setup.run("use.sh", "")
        (setup.root / "scripts/reproduce.sh").write_text(
            'echo "reproduce $* $RESULTS $QUADRATURE $STEPS $IMAGES_PER_CLASS $PROPORTIONS" >> "$LOG"\n'
        )
        assert setup.run("scripts/demo.sh") == [
            "reproduce --smoke results/demo right 20 10 0.5 1",
            "python scripts/plot_paths.py --results results/demo/ja/ViT-digits --dataset_path dataset/digits/val "
            "--output results/demo/paths",
        ]
        assert "results/demo/paths.png" in setup.found.stdout

    @pytest.mark.parametrize(
        ("options", "marks", "more"),
        [
            ([], "not long", "-n auto --dist loadfile --no-loadscope-reorder"),
            (["--all"], "", ""),
            (
                ["--coverage"],
                "not long",
                "-n auto --dist loadfile --no-loadscope-reorder "
                "--cov=neuronpath --cov-report=term-missing:skip-covered",
            ),
            (["--coverage", "--all"], "", "--cov=neuronpath --cov-report=term-missing:skip-covered"),
        ],
    )
    def test_the_tests_follow_lint_types_and_tables(self, setup, options, marks, more):
        setup.run("use.sh", "test")
        for name in ("ruff", "lint-imports", "mypy"):
            setup.command(name)
        assert [line.split() for line in setup.run("scripts/test.sh", *options, "-k", "x")] == [
            ["ruff", "check", "."],
            ["ruff", "format", "--check", "."],
            ["lint-imports", "--no-logo"],
            ["mypy"],
            ["python", "scripts/write_tables.py", "--check"],
            ["python", "scripts/train_digits.py"],
            ["python", "-m", "pytest", "-m", *marks.split(), *more.split(), "-k", "x"],
        ]

    def test_a_fault_that_lint_finds_stops_the_tests(self, setup):
        setup.run("use.sh", "test")
        for name in ("ruff", "lint-imports", "mypy"):
            setup.command(name)
        found = setup.run("scripts/test.sh", FAILS="format --check", code=1)
        assert found == ["ruff check .", "ruff format --check ."]


class TestOthers:
    def test_the_matrix_of_pythons_and_packages(self, checkout):
        checkout.command("uv")
        folders = [
            f".venv-matrix/{v}-{kind}" for v in ("3.10", "3.11", "3.12", "3.13") for kind in ("pinned", "oldest")
        ]
        for folder in folders:
            checkout.touch(f"{folder}/bin/python")
            shutil.copy(checkout.bin / "python", checkout.root / folder / "bin/python")
        fails = {"FAILS": "lowest-direct", "CODE": "1"}
        found = checkout.run("scripts/test_matrix.sh", "--", "-k", "x", KEEP="1", code=1, **fails)
        expected = []
        for folder in folders:
            version, kind = folder.removeprefix(".venv-matrix/").split("-")
            expected.append(f"uv venv --quiet --clear --python {version} {folder}")
            install = f"uv pip install --quiet --python {folder}"
            if kind == "oldest":
                expected.append(f"{install} --resolution lowest-direct -e .[test]")
                continue
            expected.append(f"{install} -r requirements.txt -e .[test]")
            expected.append("python scripts/train_digits.py")
            expected.append("python -m pytest -m <not long> -n auto --dist loadfile -k x")
        assert found == expected
        verdicts = {"pinned": "passed", "oldest": "FAILED"}
        assert checkout.found.stdout.splitlines() == [
            f"== Python {version}, {kind} packages: {verdict}"
            for version in ("3.10", "3.11", "3.12", "3.13")
            for kind, verdict in verdicts.items()
        ]
        checkout.run("scripts/test_matrix.sh", "3.11", RESOLUTIONS="pinned")
        assert checkout.found.stdout == "== Python 3.11, pinned packages: passed\n"
        assert not (checkout.root / ".venv-matrix/3.11-pinned").exists(), "removed after use"
        assert (checkout.root / ".venv-matrix/3.12-pinned").exists()

    def test_the_matrix_needs_uv(self, checkout):
        (checkout.bin / "dirname").symlink_to(shutil.which("dirname"))
        checkout.run("scripts/test_matrix.sh", code=2, PATH=str(checkout.bin))
        assert fault(checkout) == "test_matrix.sh: uv was not found; pip install uv"

    def test_a_task_of_a_slurm_array_takes_its_shard(self, checkout):
        (checkout.root / ".venv/bin").mkdir(parents=True)
        (checkout.root / ".venv/bin/activate").touch()
        task = {"SLURM_SUBMIT_DIR": str(checkout.root), "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
        script, given = "scripts/slurm_array.sbatch", ("path/joint_attr.py", "--dataset", "a b")
        (found,) = checkout.run(script, *given, cwd=checkout.root / "scripts", **task)
        assert found == "python path/joint_attr.py --shard 3/8 --num_workers 3 --dataset <a b>"
        (found,) = checkout.run(script, *given[:1])
        assert found == "python path/joint_attr.py --shard 0/1 --num_workers 3"
        lines = (ROOT / script).read_text().splitlines()
        asked = dict(line.removeprefix("#SBATCH --").split("=") for line in lines if line.startswith("#SBATCH"))
        assert asked == {
            "job-name": "neuronpath",
            "gres": "gpu:1",
            "cpus-per-task": "4",
            "mem": "24G",
            "time": "08:00:00",
            "signal": "B:TERM@60",
            "output": "results/%x-%A_%a.log",
        }
        assert lines[-1].startswith("exec "), "the signal reaches Python"

    def test_the_help_of_the_download_is_its_head(self, checkout):
        checkout.command("curl")
        for word in ("-h", "--help"):
            checkout.run("scripts/download_weights.sh", word)
            first, *_, last = checkout.found.stdout.splitlines()
            assert first.startswith("Fetches the paper's four public checkpoints")
            assert last.startswith("Exit codes: 0 done;")
