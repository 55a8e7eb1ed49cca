"""The paper's table as a whole: its measures, and the text of a small one."""

from pathlib import Path

import pytest
from made import write_folder

from neuronpath.analysis.proportions import newcombe
from neuronpath.analysis.results import Results
from neuronpath.analysis.table import GROUPS, MEASURES, markdown, paper_results, table

BASELINES = ["gradient_activation", "conductance", "layer_ig", "ablation", "uniform"]
ALL = ["base", "influence_pattern", "ja", "random", *BASELINES]
OTHERS = ["base", "influence_pattern", "random", *BASELINES]
HEADS = ["heads", "heads_norm", "heads_gate", "mixed", "neurons"]
EDITED_HEADS = [*HEADS, "heads_random", "mixed_random", "neurons_random"]


def test_every_measure_in_order_with_its_name_digits_and_methods():
    found = [(key, m.name, m.group, m.digits, [*m.methods], m.signed, m.paper) for key, m in MEASURES.items()]
    jas = "joint_attribution_score"
    expected = [(jas, "Joint Attribution Score", "score", 4, ALL[:3] + BASELINES + HEADS, False, jas)]
    expected.append(("drop", "F(1) - F(0) of the clamped path", "score", 4, HEADS, False, ""))
    names = {"removal": "Removal", "enhancement": "Enhancement"}
    for key, name in names.items():
        own = f"{key}_accuracy_deviation"
        expected.append((own, f"{name} Accuracy Deviation, points", "accuracy", 2, ALL + EDITED_HEADS, True, own))
    for key, name in names.items():
        for what, words in (("mean_ratio", "mean of ratios"), ("ratio_of_means", "ratio of means")):
            title = f"{name} Probability Deviation, {words}"
            expected.append(
                (f"{key}_probability_deviation_{what}", title, "probability", 4, ALL + EDITED_HEADS, False, "")
            )
    title = "Joint Attribution Score, Neuron Path's mean minus that of"
    scored = [method for method in OTHERS if method != "random"] + ["neurons"]
    expected.append(("paired_joint_attribution_score", title, "paired", 4, scored, True, ""))
    for key, name in names.items():
        title = f"{name}, Neuron Path's mean probability minus that of"
        expected.append((f"{key}_paired_probability", title, "paired", 4, OTHERS + EDITED_HEADS, True, ""))
        title = f"{name}, Neuron Path's accuracy minus that of, points"
        expected.append((f"{key}_paired_accuracy", title, "paired", 2, OTHERS + EDITED_HEADS, True, ""))
    assert found == expected
    assert {key: m.claim for key, m in MEASURES.items() if m.claim} == {
        "paired_joint_attribution_score": 1,
        "removal_paired_probability": -1,
        "removal_paired_accuracy": -1,
        "enhancement_paired_probability": 1,
        "enhancement_paired_accuracy": 1,
    }
    assert GROUPS == ("score", "accuracy", "probability", "paired")


def test_an_entry_is_of_the_jobs_whose_records_it_takes():
    edits = "edit/remove_enhance"
    assert MEASURES["joint_attribution_score"].jobs("base") == ["ja"]
    assert MEASURES["joint_attribution_score"].jobs("influence_pattern") == ["influence_pattern"]
    for key in ("removal_accuracy_deviation", "enhancement_probability_deviation_mean_ratio"):
        assert MEASURES[key].jobs("random") == [f"{edits}/random"]
    assert MEASURES["enhancement_paired_probability"].jobs("random") == [f"{edits}/ja", f"{edits}/random"]


def test_the_papers_figures():
    """As the poster prints them; docs/results.md compares ours with them."""
    models = ["ViT-B_16", "ViT-B_32", "ViT-L_32", "MAE-B_16"]
    jas = {"base": [-0.0034, 0.0288, -0.0065, 0.0013], "influence_pattern": [0.0412, 0.0841, 0.1227, 0.0030]}
    removal = {"base": [0.07, -0.15, 0.16, -2.80], "influence_pattern": [-0.50, -1.24, -1.41, -15.67]}
    enhancement = {"base": [-0.33, -0.45, -0.86, -1.00], "influence_pattern": [0.46, 0.83, 1.12, 4.15]}
    found = paper_results()
    assert found["models"] == models
    assert found["joint_attribution_score"] == jas | {"ja": [0.4078, 0.6610, 1.0086, 0.0095]}
    assert found["removal_accuracy_deviation"] == removal | {"ja": [-2.40, -3.81, -5.28, -26.50]}
    assert found["enhancement_accuracy_deviation"] == enhancement | {"ja": [2.04, 3.06, 5.02, 7.28]}
    pruning = {key: x for key, x in found["pruning_mean_true_class_probability"].items() if key != "note"}
    assert pruning == {
        "unpruned": {"ViT-B_16": 67.55, "ViT-B_32": 51.95},
        "top5_mask100": {"ViT-B_16": 68.786, "ViT-B_32": 54.070},
        "top10_mask100": {"ViT-B_32": 51.597},
    }


def edited(label: int, original: float, remove: float, enhance: float, *right: bool) -> dict:
    found = {"original": original, "remove": remove, "enhance": enhance}
    pairs = zip(found, right, strict=True)
    return found | {f"{key}_label": label if r else label + 1 for key, r in pairs}


def points(value: str, *cells: int, p: str) -> str:
    """An accuracy's cell; `cells` are images right in both, in the first, in the second, in neither."""
    low, high = (round(100 * bound, 2) for bound in newcombe(*cells))
    return f"{value} [{low:.2f}, {high:.2f}], p = {p}"


@pytest.fixture
def root(tmp_path) -> Path:
    """Classes of one image: values without intervals, which can be told by heart."""
    scores = {label: [{"ja_score": 0.25 + label, "base_score": 0.0}] for label in (0, 1)}
    made = {"quadrature": "right", "ig_total_step": 20, "model_img_size": 224, "preprocess": "paper"}
    write_folder(tmp_path / "ja" / "ViT-B_16", scores, **made)
    write_folder(
        tmp_path / "influence_pattern" / "ViT-B_16", {0: [{"score": 0.125}]}, quadrature="left", ig_total_step=20
    )
    ja = {0: [edited(0, 0.5, 0.25, 0.75, True, False, True)], 1: [edited(1, 0.25, 0.25, 0.5, False, False, True)]}
    base = {0: [edited(0, 0.5, 0.5, 0.5, True, True, True)], 1: [edited(1, 0.0, 0.25, 0.5, False, False, False)]}
    write_folder(tmp_path / "edit/remove_enhance/ja" / "ViT-B_16", ja)
    write_folder(tmp_path / "edit/remove_enhance/base" / "ViT-B_16", base)
    write_folder(tmp_path / "ja" / "mine", {0: [{"ja_score": -0.5, "base_score": 0.0}]})
    return tmp_path


def test_the_text_of_a_whole_table(root):
    results = Results(root, "imgnet_all")
    assert markdown(table(results, results.models())) == "\n".join([
        "ViT-B_16: quadrature right, m = 20, 224 pixels, paper preprocessing, n = 1 to 2",
        "mine: quadrature unknown, image size unknown, n = 1",
        "",
        "| [95 % interval] | | ViT-B_16 | mine |",
        "|---|---|---|---|",
        "| Joint Attribution Score | Activation | 0.0000 (paper: -0.0034) | 0.0000 |",
        "|  | Influence Pattern | 0.1250 (paper: 0.0412) (1) | missing |",
        "|  | Neuron Path | 0.7500 (paper: 0.4078) | -0.5000 |",
        f"| Removal Accuracy Deviation, points | Activation | {points('+0.00', 1, 0, 0, 1, p='1')} (paper: +0.07) "
        "| missing |",
        "|  | Influence Pattern | missing (paper: -0.50) | missing |",
        f"|  | Neuron Path | {points('-50.00', 0, 0, 1, 1, p='1')} (paper: -2.40) | missing |",
        "|  | Matched control | missing | missing |",
        f"| Enhancement Accuracy Deviation, points | Activation | {points('+0.00', 1, 0, 0, 1, p='1')} (paper: -0.33) "
        "| missing |",
        "|  | Influence Pattern | missing (paper: +0.46) | missing |",
        f"|  | Neuron Path | {points('+50.00', 1, 1, 0, 0, p='1')} (paper: +2.04) | missing |",
        "|  | Matched control | missing | missing |",
        "| Removal Probability Deviation, mean of ratios | Activation | 1.0000 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Neuron Path | 0.7500 | missing |",
        "|  | Matched control | missing | missing |",
        "| Removal Probability Deviation, ratio of means | Activation | 1.0000 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Neuron Path | 0.6667 | missing |",
        "|  | Matched control | missing | missing |",
        "| Enhancement Probability Deviation, mean of ratios | Activation | 1.0000 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Neuron Path | 1.7500 | missing |",
        "|  | Matched control | missing | missing |",
        "| Enhancement Probability Deviation, ratio of means | Activation | 1.0000 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Neuron Path | 1.6667 | missing |",
        "|  | Matched control | missing | missing |",
        "| Joint Attribution Score, Neuron Path's mean minus that of | Activation | +0.7500 | -0.5000 |",
        "|  | Influence Pattern | +0.1250 (1) | missing |",
        "| Removal, Neuron Path's mean probability minus that of | Activation | -0.1250 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Matched control | missing | missing |",
        f"| Removal, Neuron Path's accuracy minus that of, points | Activation | {points('-50.00', 0, 0, 1, 1, p='1')} "
        "| missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Matched control | missing | missing |",
        "| Enhancement, Neuron Path's mean probability minus that of | Activation | +0.1250 | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Matched control | missing | missing |",
        "| Enhancement, Neuron Path's accuracy minus that of, points | Activation "
        f"| {points('+50.00', 1, 1, 0, 0, p='1')} | missing |",
        "|  | Influence Pattern | missing | missing |",
        "|  | Matched control | missing | missing |",
        "",
        "(1) ViT-B_16 in influence_pattern was made otherwise than the line above the table says: "
        "quadrature right → left.",
        "",
        "Up to 1 images, whose probability was 0 before the edit, are left out of ratios.",
    ])  # fmt: skip


def test_baselines_have_rows_where_a_model_has_their_records(root):
    """Scores of one, edits of another; no row says "missing" for all models."""
    write_folder(root / "baseline/random" / "mine", {0: [{"score": 0.5}]})
    ja = {0: [edited(0, 0.5, 0.5, 0.5, True, True, True)]}
    write_folder(root / "edit/remove_enhance/layer_ig" / "ViT-B_16", ja)
    results = Results(root, "imgnet_all")
    before, found = results.models(), table(results, results.models())
    assert before == ["ViT-B_16", "mine"]
    rows = {key: [*methods] for key, methods in found["measures"].items()}
    assert rows.pop("joint_attribution_score") == [*ALL[:3], "uniform"]
    assert rows.pop("paired_joint_attribution_score") == [*OTHERS[:2], "uniform"]
    for what in ("probability", "accuracy"):
        for key in ("removal", "enhancement"):
            assert rows.pop(f"{key}_paired_{what}") == [*OTHERS[:3], "layer_ig"]
    assert [*rows.values()] == [[*ALL[:4], "layer_ig"]] * 6
    lines = markdown(found).splitlines()
    assert "|  | Random | missing | 0.5000 |" in lines
    assert f"|  | Layer Integrated Gradients | {points('+0.00', 1, 0, 0, 0, p='1')} | missing |" in lines


def test_a_model_without_entries_of_the_chosen_groups_has_no_images(root):
    found = table(Results(root, "imgnet_all"), ["mine"], ["accuracy"])
    assert markdown(found).splitlines()[0] == "mine: quadrature unknown, image size unknown, no images"
    assert list(found["measures"]) == ["removal_accuracy_deviation", "enhancement_accuracy_deviation"]


def test_entries_hold_value_interval_counts_and_the_papers_figure(root):
    found = table(Results(root, "imgnet_all"), ["ViT-B_16"])
    entry = found["measures"]["removal_probability_deviation_mean_ratio"]["base"]["ViT-B_16"]
    assert entry == {"value": 1.0, "low": None, "high": None, "n": 1, "left_out": 1}
    entry = found["measures"]["joint_attribution_score"]["ja"]["ViT-B_16"]
    assert entry == {"value": 0.75, "low": None, "high": None, "n": 2, "left_out": 0, "paper": 0.4078}
    assert found["models"]["ViT-B_16"] == {
        "quadrature": "right",
        "steps": 20,
        "objective": "probability",
        "img_size": 224,
        "preprocess": "paper",
    }
    assert found["mixed"] == {"ViT-B_16": {"influence_pattern": "quadrature right → left"}}


def test_names_of_models_are_text(tmp_path):
    write_folder(tmp_path / "ja/a|<b>", {0: [{"ja_score": 0.5, "base_score": 0.25}]})
    results = Results(tmp_path, "imgnet_all")
    first, _, second, *_ = markdown(table(results, results.models(), ["score"])).splitlines()
    assert first.startswith(r"a\|\<b\>: ")
    assert second == r"| [95 % interval] | | a\|\<b\> |"
