"""The study's JSON: what is read, and what is said where it is not there."""

import json

import pytest
from helpers import ROOT, fault

from neuronpath.analysis.methods import method_tables, read_study

STUDY = {
    "ViT-<b>": {
        "images": 7,
        "trainings": {"a1": {}},
        "over": {"layer": {"jas": {"mean": 0.5, "sd": None, "min": 0.5, "max": 0.5, "of": 1}}},
    }
}


def test_is_read(tmp_path):
    file = tmp_path / "methods.json"
    file.write_text(json.dumps(STUDY))
    assert read_study(file) == STUDY
    text = method_tables(read_study(file))
    assert r"### ViT-\<b\>: 1 training, 7 images each" in text
    assert "| Neuron Path, layer | 0.5000 |" in text


def test_a_missing_file_is_a_line_that_says_what_makes_it(tmp_path):
    message = "docs/none.json: no such file; python scripts/study_methods.py … --output docs/none makes it"
    assert fault(read_study, ROOT / "docs/none.json") == message
    assert fault(read_study, tmp_path / "none.json").startswith(f"{tmp_path}/none.json: no such file")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "7",
        '{"ViT": 3}',
        '{"ViT": {"over": {}}}',
        '{"ViT": {"trainings": {"a": {}}, "over": {"x": {}}}}',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    file = tmp_path / "methods.json"
    file.write_text(text)
    assert "methods.json: not of study_methods.py" in fault(read_study, file)
