"""What a run says at its end."""

from helpers import records

from neuronpath.runs.summary import ScoreSummary


def test_repeats_count_among_the_nodes_of_auto():
    """α = 1, a node of every rule, is free."""
    summary = ScoreSummary({"ja_score": "neuron path"}, 1e-4, "probability", [4, 5, 9])
    for i, (nodes, converged) in enumerate([(4, None), (4, None), (5, True), (9, True), (9, False)]):
        given = {"ja_score": 0.0, "margin": [0.5], "nodes": nodes, "converged": converged}
        summary.add({"image": str(i), "label": 0, "pred": 0, **given})
    text = dict(summary.lines())["nodes"]
    mean = (3 + 3 + 7 + 15 + 15) / 5
    assert text == f"{mean:.2f} below α = 1 per image, repeats included; 1 images found another path even with 9"


def test_near_ties_are_images_with_a_margin_under_the_threshold_in_any_layer():
    summary = ScoreSummary({"ja_score": "neuron path"}, 1e-4, "probability")
    margins = [[0.5, 0.5, 0.5], [0.5, 0.5, 9e-5], [0.5, 0.0, 0.5], [2e-4, 0.5, 0.5], [9e-5, 9e-5, 9e-5]]
    for i, margin in enumerate(margins):
        summary.add({"image": str(i), "label": 0, "pred": 0, "ja_score": 0.0, "margin": margin})
    assert summary.near_ties == 3
    (line,) = (text for name, text in summary.lines() if name == "margins")
    assert line.endswith("; 3 images below 0.0001")
    assert line.startswith("smallest 0.0e+00 (layer 1 of 2), 9.0e-05 (layer 0 of 4), 9.0e-05 (layer 2 of 1)")


def test_a_beams_near_ties_have_either_sign_and_its_greedy_paths_are_beside_it():
    summary = ScoreSummary({"ja_score": "neuron path", "base_score": "activation path"}, 1e-4, "probability")
    found = [(0.5, 0.25, [0.5, -5e-5]), (0.25, 0.25, [-0.5, 0.5]), (0.125, 0.25, [0.5, 0.5]), (1.0, 0.5, [0.5, -0.25])]
    for i, (score, greedy, margin) in enumerate(found):
        own = {"ja_score": score, "base_score": 0.0, "greedy_score": greedy, "margin": margin}
        summary.add({"image": str(i), "label": 0, "pred": 0, **own})
    lines = dict(summary.lines())
    assert lines["margins"].startswith("smallest 5.0e-05 (layer 1 of 0), 2.5e-01 (layer 1 of 3), ")
    assert lines["margins"].endswith("; 1 images below 0.0001")
    assert lines["greedy path"] == "0.3125, the beam's path scores higher in 2 images, lower in 1"


def test_top_1_is_the_share_of_images_predicted_as_their_label(run):
    stdout, found = run(), records(run.out)
    right = sum(record["pred"] == record["label"] for record in found.values())
    assert 0 < right < len(found)
    assert f"top-1       {100 * right / len(found):.2f} %" in stdout


def test_records_of_other_images_in_the_folder_are_mentioned(run):
    assert "also there" not in run()
    assert "also there  10 records of other images" in run("--labels", "3", "--images_per_class", 1)
