"""scripts/stages.py: one process, several scripts; each as if it had been started alone."""

import json
import os
from pathlib import Path

import pytest
from helpers import ROOT, record_lines, run_file, run_script

from neuronpath.runs.editing import Edit

STAGES = "scripts/stages.py"


@pytest.fixture
def stage(tmp_path):
    """A script that says how it was called and then runs `body`."""

    def stage(name: str, body: str = "") -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(f"import os, sys, warnings\nprint(__name__, sys.argv)\n{body}\n")
        return file

    return stage


def test_scripts_run_in_order_each_with_its_own_words(stage):
    a, b = stage("first"), stage("a second")
    words = (a, "--output_dir", "out/x y", "--n", 3, "--", b, "--", a, "--output_dir")
    assert run_file(STAGES, *words).expect().stdout.splitlines() == [
        "== first: out/x y",
        f"__main__ {[str(a), '--output_dir', 'out/x y', '--n', '3']}",
        "== a second",
        f"__main__ {[str(b)]}",
        "== first",
        f"__main__ {[str(a), '--output_dir']}",
    ]


def test_nothing_between_separators_is_no_script(stage):
    a = stage("a")
    expected = run_file(STAGES, a, "--", a).expect()
    assert run_file(STAGES, "--", a, "--", "--", a, "--").expect() == expected


def test_it_is_one_process(stage):
    a = stage("a", "print(os.getpid())")
    lines = run_script(STAGES, a, "--", a).expect().stdout.splitlines()
    assert lines[2] == lines[5]
    assert lines[0] == lines[3] == "== a"


@pytest.mark.parametrize("ends", ["", "sys.exit()", "sys.exit(0)", "sys.exit(3)"])
def test_what_is_done_goes_on_and_skipped_images_are_no_failure(stage, ends):
    a, last = stage("a", ends), stage("last", ends)
    result = run_file(STAGES, a, "--", last).expect(0)
    assert [line for line in result.stdout.splitlines() if line.startswith("==")] == ["== a", "== last"]


@pytest.mark.parametrize("code", [1, 2, 4, 130, 141])
def test_the_first_that_fails_ends_the_row_with_its_code(stage, code):
    a, b, last = stage("a"), stage("b", f"sys.exit({code})"), stage("last")
    result = run_file(STAGES, a, "--", b, "--", last).expect(code)
    assert [line for line in result.stdout.splitlines() if line.startswith("==")] == ["== a", "== b"]
    assert result.stderr == ""


def test_a_script_that_ends_with_a_message_says_it_and_ends_the_row(stage):
    result = run_file(STAGES, stage("a", "sys.exit('no such thing')"), "--", stage("last")).expect(1)
    assert result.stderr == "no such thing\n"
    assert "== last" not in result.stdout


def test_a_mistake_is_named_by_its_own_script(stage):
    body = "from neuronpath.cli.exits import command\nfrom neuronpath.errors import UserError\n"
    body += "def main(): raise UserError('--x: what is wrong')\nsys.exit(command(main))"
    assert run_file(STAGES, stage("a", body), "--", stage("last")).fault == "a.py: --x: what is wrong"


def test_an_interruption_ends_the_row(stage):
    body = "import signal\nfrom neuronpath.cli.exits import command\n"
    body += "sys.exit(command(lambda: signal.raise_signal(signal.SIGINT)))"
    result = run_script(STAGES, stage("a", body), "--", stage("last")).expect(130)
    assert result.messages == ["a.py: interrupted; the same command resumes"]
    assert "last" not in result.stdout


def test_a_fault_of_the_program_is_not_hidden(stage):
    with pytest.raises(ZeroDivisionError):
        run_file(STAGES, stage("a", "1 / 0"), "--", stage("last"))


def test_every_script_warns_as_if_it_were_alone(stage, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shared_by_stages.py").write_text("import warnings\ndef warn(): warnings.warn('something')\n")
    body = "from neuronpath.cli.exits import command\nfrom shared_by_stages import warn\nsys.exit(command(warn))"
    a, b = stage("a", body), stage("b", body)
    result = run_file(STAGES, a, "--", b, "--", a).expect()
    assert result.warnings == [f"{name}.py: warning: something" for name in "aba"]


@pytest.mark.parametrize(("rank", "named"), [("0", True), ("1", False), ("12", False)])
def test_only_the_first_process_names_the_scripts(stage, monkeypatch, rank, named):
    monkeypatch.setenv("RANK", rank)
    a = stage("a")
    words = f"__main__ {[str(a)]}"
    assert run_file(STAGES, a).expect().stdout.splitlines() == (["== a", words] if named else [words])


@pytest.mark.parametrize("place", [0, 1])
def test_a_script_that_is_not_there_is_said_before_any_runs(stage, tmp_path, place):
    words = [stage("a"), "--", stage("b")]
    words[2 * place] = tmp_path / "none.py"
    result = run_file(STAGES, *words)
    expected = f"{tmp_path}/none.py: no such script; stages.py SCRIPT [OPTION …] -- SCRIPT [OPTION …] -- …"
    assert result.fault == f"stages.py: {expected}"
    assert result.stdout == ""
    assert run_file(STAGES, tmp_path).fault.startswith(f"stages.py: {tmp_path}: no such script; ")


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help(words):
    printed = run_file(STAGES, *words).expect().stdout
    assert printed.startswith("Run several scripts one after another in one process, so that PyTorch is loaded once.")
    assert "python scripts/stages.py SCRIPT [OPTION …] -- SCRIPT [OPTION …] -- …" in printed


def test_paths_are_relative_to_the_working_folder(stage, tmp_path):
    stage("a", "print(os.getcwd())")
    printed = run_file(STAGES, "a.py", cwd=tmp_path).expect().stdout
    assert printed.splitlines() == ["== a", "__main__ ['a.py']", os.path.realpath(tmp_path)]


def test_jobs_write_what_they_write_alone(run, tmp_path):
    """A search in which an image is skipped, and edits of what it found."""
    (run.images / "class3/04.png").write_text("no image")

    def jobs(root: Path) -> list[list]:
        ja, out, skip = root / "ja", root / "edit", ("--on_bad_image", "skip")
        search = [ROOT / "path/joint_attr.py", *run.words(*skip, out=ja)]
        script = "experiments/quantitative-comparison/manipulation/ViT/edit.py"
        return [search, [ROOT / script, *run.words(*skip, "--ja_path", ja, kind=Edit, out=out)]]

    one, other = tmp_path / "one", tmp_path / "other"
    search, edit = jobs(one)
    printed = run_file(STAGES, *search, "--", *edit).expect(0).stdout
    assert printed.startswith(f"== joint_attr: {one}/ja\n")
    assert f"\n== edit: {one}/edit\n" in printed
    assert printed.count("\nskipped     1 images, listed in ") == 2
    for name, words in zip(("ja", "edit"), jobs(other), strict=True):
        run_file(*words).expect(3)
        assert record_lines(other / name) == record_lines(one / name) != {}
        a, b = (json.loads((root / name / "imgnet_all.args.json").read_text()) for root in (one, other))
        assert (a["job"], a["settings"]) == (b["job"], b["settings"])
