"""args.json: its very text, what of it is compared, and how differences are said."""

import json

import pytest

from neuronpath.errors import UserError
from neuronpath.records.args import CIRCUMSTANCES, Args, args_file, describe_rule, differences, shared_differences

TEXT = """\
{
  "job": "edit/ä",
  "settings": {
    "m": 20,
    "rule": null
  },
  "options": {},
  "versions": {
    "torch": "2"
  },
  "paths": {
    "m": 4
  }
}
"""


class TestFile:
    def test_its_text_and_its_name(self, tmp_path):
        args = Args("edit/ä", {"m": 20, "rule": None}, versions={"torch": "2"}, paths={"m": 4})
        assert args.text() == TEXT
        assert args_file(tmp_path, "all") == tmp_path / "all.args.json"
        without = json.loads(Args("ja", {}).text())
        assert without == {"job": "ja", "settings": {}, "options": {}, "versions": {}}

    def test_all_of_it_is_read_back(self, tmp_path):
        args = Args("edit", {"m": 20}, {"seed": 7}, {"torch": "2"}, {"m": 4}, ["12 heads"])
        (tmp_path / "a").write_text(args.text())
        assert Args.read(tmp_path / "a") == args

    def test_earlier_files_without_options_and_paths_are_read(self, tmp_path):
        (tmp_path / "a").write_text('{"job": "ja", "settings": {"m": 1}, "versions": {}, "options": null, "more": 1}')
        assert Args.read(tmp_path / "a") == Args("ja", {"m": 1})

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_it_is_strict_json(self, number):
        with pytest.raises(ValueError, match="JSON"):
            Args("ja", {"factor": number}).text()

    @pytest.mark.parametrize(
        "content",
        [
            '{"job": "ja", "settings": {}}',
            '{"settings": {}, "versions": {}}',
            '{"job": "ja", "versions": {}}',
            "3",
            "{",
        ],
    )
    def test_what_is_none_says_what_to_do(self, tmp_path, content):
        (tmp_path / "a").write_text(content)
        with pytest.raises(UserError) as caught:
            Args.read(tmp_path / "a")
        assert str(caught.value).startswith(f"{tmp_path / 'a'}: not a settings file (")
        assert str(caught.value).endswith("); remove it, or choose another folder")

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"a: not a settings file \(.*No such file"):
            Args.read(tmp_path / "a")

    def test_settings_that_a_command_needs(self):
        args = Args("ja", {"a": 1, "b": None, "c": 3})
        assert args.require("c", "b") == [3, None]
        with pytest.raises(UserError) as caught:
            args.require("x", "a", "y")
        assert str(caught.value) == "the records' settings lack x, y; give records of this project's scripts"


class TestDifferences:
    OLD = {"a": 1, "b": 2, "c": None, "d": [1]}  # noqa: RUF012
    NEW = {"e": 0, "d": [2], "b": 3, "a": 1}  # noqa: RUF012

    def test_they_are_said_in_order_the_old_value_first(self):
        assert differences(self.OLD, self.NEW) == "b 2 → 3, d [1] → [2], e None → 0"
        assert differences(self.OLD, self.NEW, ["d", "a"]) == "d [1] → [2]"
        assert differences(self.OLD, self.OLD) == differences({}, {}) == differences(self.OLD, self.NEW, []) == ""

    def test_records_of_before_have_the_papers_objective(self):
        assert differences({"a": 1}, {"a": 1, "objective": "probability"}) == ""
        assert differences({"a": 1}, {"a": 1, "objective": "logit"}) == "objective probability → logit"
        assert differences({"objective": "logit"}, {}) == "objective logit → probability"

    def test_what_only_one_of_both_has_is_none_where_it_is_not_asked_for(self):
        assert shared_differences(self.OLD, self.NEW) == "b 2 → 3, d [1] → [2]"
        assert shared_differences(self.NEW, self.OLD) == "d [2] → [1], b 3 → 2"

    @pytest.mark.parametrize(("length", "shown"), [(63, "a" * 63), (64, "a" * 12 + "…"), (99, "a" * 12 + "…")])
    def test_digests_are_shortened(self, length, shown):
        assert differences({"x": "a" * length}, {"x": 1}) == f"x {shown} → 1"

    def test_circumstances_are_what_decides_a_record_and_the_models_sizes(self):
        assert CIRCUMSTANCES == (
            "checkpoint_sha256",
            "classifier_sha256",
            "dataset",
            "label_table",
            "preprocess",
            "preprocess_mean",
            "preprocess_std",
            "preprocess_size",
            "preprocess_crop",
            "preprocess_rounding",
            "preprocess_interpolation",
            "target",
            "objective",
            "quadrature",
            "ig_total_step",
            "search",
            "beam_width",
            "beam_over",
            "precision",
        )
        settings = dict.fromkeys([*CIRCUMSTANCES, "model_depth", "method", "seed", "the_model_name"], 1)
        assert Args("ja", settings).circumstances() == dict.fromkeys([*CIRCUMSTANCES, "model_depth"], 1)

    @pytest.mark.parametrize(
        ("first", "other", "said"),
        [
            (Args("ja", {"target": 1}), Args("ja", {"target": 1}), ""),
            (Args("ja", {"target": 1, "search": 1}), Args("ja", {"target": 2}), "target 1 → 2"),
            (Args("ja", {"seed": 1}), Args("ja", {"seed": 2}), ""),
            (Args("ja", {}), Args("ja", {"objective": "logit"}), "objective probability → logit"),
            (Args("ja", {"objective": "probability"}), Args("ja", {}), ""),
            (
                Args("ja", {"precision": "fp32"}),
                Args("edit", {"precision": "bf16"}, paths={"precision": "fp64", "search": "layer"}),
                "precision fp32 → bf16; its paths: precision fp64 → bf16",
            ),
            (Args("ja", {}), Args("edit", {"seed": 2}, paths={"seed": 1}), "its paths: seed 1 → 2"),
        ],
    )
    def test_in_what_two_runs_differ(self, first, other, said):
        assert other.unlike(first) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quadrature": "left", "ig_total_step": 20}, "quadrature left, m = 20"),
        ({"quadrature": "auto", "ig_total_step": None}, "quadrature auto"),
        ({"quadrature": "auto"}, "quadrature auto"),
        ({"quadrature": "left", "ig_total_step": 4, "objective": "logit"}, "quadrature left, m = 4, F = logit"),
        ({"quadrature": "auto", "objective": "sigmoid"}, "quadrature auto, F = sigmoid"),
        ({"quadrature": "auto", "objective": "probability"}, "quadrature auto"),
        ({"quadrature": "auto", "objective": None}, "quadrature auto"),
        ({"ig_total_step": 20}, "quadrature unknown"),
        ({"quadrature": None, "ig_total_step": 20}, "quadrature unknown"),
    ],
)
def test_headings_name_the_rule(settings, said):
    assert describe_rule(settings) == said
