"""The shell scripts that set up, show and test the project: which commands they run, and what stops them.

In a copy of the checkout, with commands that note what they are asked for instead of doing it.
"""

import os
import shutil
import sys

import pytest
from helpers import ROOT
from shells import Checkout


class TestSetup:
    """Of a checkout with stubs for Python and pip."""

    @pytest.fixture
    def setup(self, checkout) -> Checkout:
        real = f"""#!/bin/sh
printf '%s\\n' "${{0##*/}} $*" >> "$LOG"
case "$1 $2" in
"-c "*) exec "{sys.executable}" -c "import sys; sys.version_info = ${{VERSION:-(3, 12)}}; $2" ;;
"-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo 'PATH=$PWD/.venv/bin:$PATH' > .venv/bin/activate ;;
"scripts/train_digits.py --models") [ -z "${{TRAINS:-}}" ] || touch -d @"$TRAINS" ckpt/ViT-digits.npz ;;
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
            assert setup.fault == said

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
        where = "results/demo/ja/ViT-digits"
        records, checkpoint = setup.root / where / "imgnet_all.args.json", setup.root / "ckpt/ViT-digits.npz"
        # First of all a picture of five paths; they are searched for anew where their model is another one, which this
        # very run may train.
        for age, trained, trains, again in (
            (None, None, "1", ""),
            (None, 1, "", ""),
            (2, 1, "", ""),
            (2, 3, "", "--overwrite "),
            (2, 1, "3", "--overwrite "),
        ):
            for file, time in ((records, age), (checkpoint, trained)):
                file.parent.mkdir(parents=True, exist_ok=True)
                if time:
                    file.touch()
                    os.utime(file, (time, time))
            assert setup.run("scripts/demo.sh", TRAINS=trains) == [
                "python scripts/train_digits.py --models ViT-digits",
                f"python scripts/stages.py path/joint_attr.py {again}--dataset digits "
                f"--pretrain_weight ckpt/ViT-digits.npz --labels 0-4 --images_per_class 1 --output_dir {where} "
                f"-- scripts/plot_paths.py --results {where} --dataset_path dataset/digits/val "
                "--output results/demo/paths",
                "reproduce --smoke results/demo right 20 10 0.5 1",
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

    @pytest.mark.parametrize("browser", ["chromium", "chromium-browser", "google-chrome", None])
    def test_a_missing_browser_is_said_first_and_last(self, setup, browser, tmp_path):
        """Its tests are then skipped, and nobody should believe that they passed."""
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("cat", "cksum", "dirname", "sh"):
            (tools / name).symlink_to(shutil.which(name))
        for name in ("ruff", "lint-imports", "mypy", *([browser] if browser else [])):
            setup.command(name)
        setup.run("use.sh", "test")
        for code in (0, 1):
            fails = {"FAILS": "--no-logo", "CODE": "1"} if code else {}
            setup.run("scripts/test.sh", PATH=f"{setup.bin}:{tools}", code=code, **fails)
            said = [line for line in setup.found.stderr.splitlines() if "BROWSER" in line]
            warning = "test: NO BROWSER: the atlas's tests in one are skipped; install it: apt install chromium"
            assert said == ([] if browser else [warning] * 2)
            assert browser or setup.found.stderr.splitlines()[-1] == warning

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
        assert checkout.fault == "test_matrix.sh: uv was not found; pip install uv"

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
