"""README, CONTRIBUTING and docs/: what they show runs, and what they name is there."""

import re
from pathlib import Path

import pytest
from helpers import ROOT, run_here

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TESTS = ROOT / "tests"
LINK = re.compile(r"\]\(((?![a-z]+:)[^)#\s]+)(?:#[^)]*)?\)")


def test_the_readme_is_whole_and_short():
    text = (ROOT / "README.md").read_text()
    assert "@@" not in text
    assert len(text.splitlines()) <= 150


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_relative_link_leads_somewhere(file):
    assert [link for link in LINK.findall(file.read_text()) if not (file.parent / link).exists()] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_path_of_tests_is_there(file):
    named = re.findall(r"\btests/[\w./-]*\w", file.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_test_file_in_backticks_is_there(name):
    """Those of tests/attribution without a folder, others with their wing's, or from the root on."""
    named = re.findall(r"`([\w/]*\btest_\w+\.py)`", (ROOT / name).read_text())
    assert named
    places = (TESTS / "attribution", TESTS, ROOT)
    assert [path for path in named if not any((place / path).is_file() for place in places)] == []


def test_tests_mirror_the_package():
    """A folder of tests for every wing; a file of tests is named after a module or folder of it."""
    wings = {file.parent.name for file in ROOT.glob("neuronpath/*/__init__.py")}
    assert {folder.name for folder in TESTS.iterdir() if any(folder.glob("test_*.py"))} == wings | {"scripts"}
    for wing in wings:
        modules = ["precision", *(file.stem for file in (ROOT / "neuronpath" / wing).iterdir())]  # of all modules
        for file in (TESTS / wing).glob("test_*.py"):
            assert any(re.fullmatch(rf"test_{module}(_\w+)?", file.stem) for module in modules), file


def test_no_file_of_tests_is_long_or_imports_another():
    for file in TESTS.rglob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) <= 450, file
        assert not re.search(r"^(from|import) (tests|test_\w+|conftest)\b", text, re.M), file


def test_the_readmes_python_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.S)
    result = run_here(lambda: exec(compile(block, "README.md", "exec"), {}))
    assert result.expect().stdout.strip()
