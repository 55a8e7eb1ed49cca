"""What a run says at its end, word for word."""

import pytest

from neuronpath.records.schema import NEAR_TIES
from neuronpath.runs.summary import EditSummary, ScoreSummary


def test_near_ties_by_precision():
    assert NEAR_TIES == {"fp32": 1e-4, "fp64": 1e-4, "tf32": 5e-4, "bf16": 3e-3}


def record(image: str, label: int, pred: int, ja: float, base: float, margin: list, **more) -> dict:
    found = {"image": image, "label": label, "pred": pred, "ja_score": ja, "base_score": base, "margin": margin}
    return found | more


RECORDS = [
    record("a.png", 0, 0, 0.5, 0.01, [0.5, 0.25, 0.125]),
    record("b.png", 0, 1, 0.25, 0.02, [0.002, 0.5, 0.001]),
    record("c\n.png", 1, 1, 0.125, 0.0, [0.25, 0.0005, 0.5]),
    record("d.png", 2, 2, 0.125, 0.01, [0.0009, 0.5, 0.5]),
]


def scores(records=RECORDS, near_tie: float = 0.001, **more) -> ScoreSummary:
    summary = ScoreSummary({"ja_score": "neuron path", "base_score": "activation path"}, near_tie, "logits", **more)
    for found in records:
        summary.add(found)
    return summary


def test_scores_margins_and_files(tmp_path):
    for name in ("x-0.rlt.jsonl", "x-12.rlt.jsonl", "y-1.rlt.jsonl", "x-a.rlt.jsonl"):
        (tmp_path / name).touch()
    assert scores().text(1, 6.06, tmp_path, "x").splitlines() == [
        "images      4 (3 new, 1 from earlier runs)",
        "top-1       75.00 %",
        "mean JAS    neuron path 0.2500 · activation path 0.0100, in units of logits",
        "margins     smallest 5.0e-04 (layer 1 of c\\n.png), 9.0e-04 (layer 0 of d.png), 1.0e-03 (layer 2 of b.png); "
        "2 images below 0.001",
        "time        6.1 s, 2.020 s per new image",
        f"files       {tmp_path}/x-<label>.rlt.jsonl (2 labels)",
    ]


def test_a_run_without_images_or_without_new_ones_says_less(tmp_path):
    files = f"files       {tmp_path}/x-<label>.rlt.jsonl (0 labels)"
    assert scores([]).text(0, 1, tmp_path, "x").splitlines() == ["images      0 (0 new, 0 from earlier runs)", files]
    lines = scores().text(4, 1, tmp_path, "x").splitlines()
    assert [line.split()[0] for line in lines] == ["images", "top-1", "mean", "margins", "files"]


def test_on_the_progress_bar():
    assert scores([]).running() == "mean JAS nan"
    assert scores(RECORDS[:2]).running() == "mean JAS 0.3750"
    assert EditSummary(("remove",)).running() == "top-1 0.0 → 0.0 %"


def test_shortlists_say_how_often_their_rule_was_met():
    short = {
        "search_stopped": ["rule", "cap", "all"],
        "search_scored": [8, 64, 28],
        "search_rank": [1, 5, 2],
    }
    other = {"search_stopped": ["rule", "rule", "cap"], "search_scored": [8, 8, 64], "search_rank": [1, 1, 4]}
    lines = dict(scores([RECORDS[0] | short, RECORDS[1] | other]).lines())
    assert lines["shortlist"] == (
        "rule met in 66.7 % of 6 layers, 30.0 candidates scored on average, chosen ones ranked 5 at the lowest"
    )
    assert "shortlist" not in dict(scores().lines())


def test_auto_says_what_it_took_in_all():
    """Of 4, 5 and 9 nodes 3, 4 and 8 are below α = 1: 3, 3 + 4, and twice 3 + 4 + 8 of four images."""
    nodes = [(4, None), (5, True), (9, False), (9, True)]
    records = [r | {"nodes": n, "converged": c} for r, (n, c) in zip(RECORDS, nodes, strict=True)]
    words = "10.00 below α = 1 per image, repeats included; 1 images found another path even with 9"
    assert dict(scores(records, ladder=(4, 5, 9)).lines())["nodes"] == words
    few = [r | {"nodes": n, "converged": c} for r, (n, c) in zip(RECORDS, [(2, None), (3, True)] * 2, strict=True)]
    words = "2.00 below α = 1 per image, repeats included; 0 images found another path even with 5"
    assert dict(scores(few, ladder=(2, 3, 5)).lines())["nodes"] == words
    assert "nodes" not in dict(scores().lines())


@pytest.mark.parametrize("operations", [("remove", "enhance"), ("prune",)])
def test_edits_before_and_after(operations, tmp_path):
    summary = EditSummary(operations)
    for i in range(4):
        found = {"label": 1, "pred": i % 2, "original": 0.5, "original_label": 1 if i else 0}
        for j, operation in enumerate(operations):
            found |= {operation: 0.1 * (j + 1), f"{operation}_label": 1 if i > j + 1 else 2}
        summary.add(found)
    expected = [
        "images      4 (4 new, 0 from earlier runs)",
        "original    top-1 75.00 %, p of the label 0.5000",
        f"{operations[0]:<11} top-1 50.00 %, p of the label 0.1000",
        *["enhance     top-1 25.00 %, p of the label 0.2000"] * (len(operations) - 1),
    ]
    assert summary.text(0, 1, tmp_path, "x").splitlines()[:-2] == expected
    assert summary.running() == "top-1 " + " → ".join(["75.0", "50.0", "25.0"][: len(operations) + 1]) + " %"


def test_of_the_control_how_well_it_matches():
    summary = EditSummary(("remove",))
    found = {"label": 1, "pred": 1, "original": 0.5, "original_label": 1, "remove": 0.5, "remove_label": 1}
    summary.add(found)
    assert "control" not in dict(summary.lines())
    for ratios in ([[1.0, 1.05], []], [[0.95], [1.4]]):
        summary.add(found | {"control_ratio": ratios})
    words = "its units write 1.10 times what the path's do, 75 % of them within 10 %"
    assert summary.lines()[-1] == ("control", words)
