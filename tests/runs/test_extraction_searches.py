"""--search, --shortlist_max and --quadrature auto as users meet them: records, resuming, summary, refusals."""

import json

import pytest
import torch
from helpers import LABELS, Command, records, settings

from neuronpath import Beam, Quadrature, Shortlist, find_path
from neuronpath.attribution import adaptive, candidates
from neuronpath.attribution.searches import GREEDY
from neuronpath.runs.extraction import InfluencePattern, JointAttribution, TopKAttribution

GL3 = ("--quadrature", "gauss-legendre", "--ig_total_step", 3)
AUTO = ("--quadrature", "auto")


class Search(Command):
    """The search command in fp64, each time into another folder of `root`; the model and the images beside it."""

    def __init__(self, checkpoint, images, root):
        super().__init__(checkpoint, images, root / "out", steps=None, more=("--precision", "fp64"))
        self.root = root
        self.model, found = self.loaded()
        self.x, self.labels = torch.stack(list(found.values())), torch.tensor(list(LABELS.values()))

    def __call__(self, *more, out="out", of=JointAttribution, code=0) -> str:
        return super().__call__(*more, kind=of, out=self.root / out, code=code)

    def records(self) -> list[dict]:
        return list(records(self.out).values())


@pytest.fixture
def run(checkpoint, image_folder, tmp_path) -> Search:
    return Search(checkpoint, image_folder, tmp_path)


@pytest.mark.parametrize("search", ["shortlist", "exhaustive"])
def test_records_hold_what_the_search_finds(run, search):
    text = run(*GL3, "--search", search)
    found = find_path(run.model, run.x, run.labels, Quadrature("gauss-legendre", 3), search=search)
    for i, record in enumerate(run.records()):
        assert record["ja"] == found.path[i].tolist()
        assert record["ja_score"] == pytest.approx(found.score[i].item(), rel=1e-9)
        extra = {key for key in record if key.startswith("search") or key in ("nodes", "converged")}
        if search == "exhaustive":
            assert not extra
            continue
        assert extra == {"search_rank", "search_scored", "search_stopped"}
        assert record["search_rank"] == found.search_rank[i].tolist()
        assert record["search_scored"] == found.search_scored[i].tolist()
        assert record["search_stopped"] == [candidates.STOPPED[j] for j in found.search_stopped[i]]
        ranks = zip(record["search_rank"], record["search_scored"], strict=True)
        assert all(1 <= rank <= scored for rank, scored in ranks)
    assert ("rule met in" in text) == (search == "shortlist")
    assert "0 new, 11 from earlier" in run(*GL3, "--search", search)


@pytest.mark.parametrize("over", ["layer", "shortlist", "exhaustive"])
def test_records_of_a_beam(run, over):
    beam = (*GL3, "--search", "beam", "--beam_over", over, "--beam_width")
    more = ("--shortlist_max", 9) if over == "shortlist" else ()
    text = run(*beam, 3, *more)
    search = Beam(3, Shortlist(9) if more else GREEDY[over])
    found = find_path(run.model, run.x, run.labels, Quadrature("gauss-legendre", 3), search=search)
    for i, record in enumerate(run.records()):
        assert record["ja"] == found.path[i].tolist()
        assert record["ja_score"] == pytest.approx(found.score[i].item(), rel=1e-9)
        assert record["greedy_score"] == pytest.approx(found.greedy_score[i].item(), rel=1e-9)
        assert record["margin"] == pytest.approx(found.margin[i].tolist(), rel=1e-9, abs=1e-12)
        if over == "shortlist":
            assert record["search_scored"] == found.search_scored[i].tolist()
        assert ("search_scored" in record) == (over == "shortlist")
    assert f"greedy path {found.greedy_score.mean():.4f}, the beam's path scores higher in " in text
    assert "0 new, 11 from earlier" in run(*beam, 3, *more)
    assert "beam_width 3 → 2" in run(*beam, 2, *more, code=2)
    other = "layer" if over == "exhaustive" else "exhaustive"
    assert f"beam_over {over} → {other}" in run(*GL3, "--search", "beam", "--beam_over", other, code=2)


@pytest.mark.parametrize("over", ["layer", "shortlist"])
def test_records_of_a_beam_of_one_are_those_of_the_greedy_search(run, over):
    """Bit for bit, but for the score of the greedy path, which is its own."""
    run(*GL3, "--search", over, out="greedy")
    run(*GL3, "--search", "beam", "--beam_over", over, "--beam_width", 1, out="beam")
    greedy, beam = (list(records(run.root / name).values()) for name in ("greedy", "beam"))
    assert len(beam) == len(LABELS)
    for record, expected in zip(beam, greedy, strict=True):
        assert record.pop("greedy_score") == expected["ja_score"]
        assert json.dumps(record) == json.dumps(expected)


def test_top_k_takes_a_beam_of_single_neurons(run):
    run(*GL3, "--search", "beam", "--topK", 1, "--labels", 3, of=TopKAttribution)
    assert all("greedy_score" in record for record in run.records())


def test_layer_records_are_as_they_were(run):
    run(*GL3)
    assert all("nodes" not in record and "search_rank" not in record for record in run.records())
    made_with = settings(run.out)
    assert made_with["search"] == "layer"
    assert not {"shortlist_max", "shortlist_kappa", "shortlist_first", "auto_nodes"} & made_with.keys()


@pytest.mark.parametrize("rule", [GL3, AUTO])
def test_the_cap_of_the_shortlist(run, rule):
    run(*rule, "--search", "shortlist", "--shortlist_max", 2)
    scored = [count for record in run.records() for count in record["search_scored"]]
    assert set(scored) == {2}
    assert {word for record in run.records() for word in record["search_stopped"]} <= {"rule", "cap"}


def test_a_stricter_rule_of_the_shortlist(run):
    shortlist = (*GL3, "--search", "shortlist")
    run(*shortlist, out="two")
    run(*shortlist, "--shortlist_kappa", 4.5)
    two, strict = list(records(run.root / "two").values()), run.records()
    found = find_path(run.model, run.x, run.labels, Quadrature("gauss-legendre", 3), search=Shortlist(kappa=4.5))
    assert [record["search_scored"] for record in strict] == found.search_scored.tolist()
    assert sum(sum(r["search_scored"]) for r in strict) > sum(sum(r["search_scored"]) for r in two)
    assert settings(run.out)["shortlist_kappa"] == 4.5
    assert "shortlist_kappa 4.5 → 2.0" in run(*shortlist, code=2)


def test_what_a_resumed_run_must_agree_with(run):
    shortlist = (*GL3, "--search", "shortlist")
    run(*shortlist, "--labels", 0)
    assert "search" in run(*GL3, "--labels", 0, code=2)
    assert "shortlist_max" in run(*shortlist, "--labels", 0, "--shortlist_max", 9, code=2)
    change_setting(run.out, "shortlist_first", 8)
    assert "shortlist_first 8 → 4" in run(*shortlist, "--labels", 0, code=2)
    change_setting(run.out, "shortlist_kappa", 50.0)
    assert "shortlist_kappa 50.0 → 2.0" in run(*shortlist, "--labels", 0, code=2)
    run(*AUTO, "--labels", 0, out="auto")
    assert "quadrature" in run(*GL3, "--labels", 0, out="auto", code=2)
    change_setting(run.root / "auto", "auto_nodes", [4, 8, 16])
    assert "auto_nodes [4, 8, 16] → [4, 5, 9]" in run(*AUTO, "--labels", 0, out="auto", code=2)


def change_setting(folder, key: str, value) -> None:
    """As records of another version of this code would have it."""
    file = folder / "imgnet_all.args.json"
    args = json.loads(file.read_text())
    assert key in args["settings"]
    args["settings"][key] = value
    file.write_text(json.dumps(args))


@pytest.mark.parametrize(("key", "value"), [("search_rank", [1]), ("search_stopped", "rule"), ("search_scored", None)])
def test_a_broken_record_is_not_gone_on_from(run, key, value):
    run(*GL3, "--search", "shortlist", "--labels", 1)
    file = run.out / "imgnet_all-1.rlt.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}) + "\n")
    assert key in run(*GL3, "--search", "shortlist", "--labels", 1, code=2)


@pytest.mark.parametrize("more", [(), ("--search", "shortlist")])
def test_auto_records_its_nodes(run, more):
    text = run(*AUTO, *more)
    images, search = run.x, more[-1] if more else "layer"
    found = adaptive.find_path_auto(run.model, images, run.labels, search=search)
    for i, record in enumerate(run.records()):
        assert record["ja"] == found.path[i].tolist()
        converged = {1: True, 0: False, -1: None}[found.converged[i].item()]
        assert (record["nodes"], record["converged"]) == (found.nodes[i].item(), converged)
    tried = adaptive.NODES[search]
    spent = {nodes: sum(m - 1 for m in tried[: i + 1]) for i, nodes in enumerate(tried)}  # α = 1 is free
    mean = sum(spent[record["nodes"]] for record in run.records()) / len(run.records())
    assert f"{mean:.2f} below α = 1 per image" in text
    made_with = settings(run.out)
    assert (made_with["quadrature"], made_with["ig_total_step"]) == ("auto", None)
    assert "0 new, 11 from earlier" in run(*AUTO, *more)


def test_auto_attributes_the_predicted_class_where_asked(run):
    run(*AUTO, "--target", "pred")
    found = adaptive.find_path_auto(run.model, run.x, torch.full_like(run.labels, -1))
    own = adaptive.find_path_auto(run.model, run.x, run.labels)
    assert not torch.equal(found.path, own.path)
    for i, record in enumerate(run.records()):
        assert record["ja"] == found.path[i].tolist()
        assert record["ja_score"] == pytest.approx(found.score[i].item(), rel=1e-9)
        assert record["prob"] == pytest.approx(found.logits[i].softmax(-1).max().item(), rel=1e-9)


def test_top_k_takes_them_too(run):
    run(*AUTO, "--search", "shortlist", "--topK", 3, "--labels", 3, of=TopKAttribution)
    for record in run.records():
        assert all(len(layer) == 3 for layer in record["ja"])
        assert min(record["search_rank"]) >= 3
    assert "--topK" in run(*GL3, "--search", "shortlist", "--shortlist_max", 2, "--topK", 3, code=2, of=TopKAttribution)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ((*AUTO, "--ig_total_step", 20), "--ig_total_step"),
        (("--shortlist_max", 16), "--shortlist_max"),
        (("--search", "exhaustive", "--shortlist_max", 16), "--shortlist_max"),
        (("--search", "shortlist", "--shortlist_max", 0), "--shortlist_max"),
        (("--search", "shortlist", "--shortlist_kappa", 0), "--shortlist_kappa"),
        (("--search", "exhaustive", "--shortlist_kappa", 3), "--shortlist_kappa"),
        (("--search", "best"), "--search"),
        (("--search", "beam", "--beam_width", 0), "--beam_width"),
        (("--search", "beam", "--beam_over", "beam"), "--beam_over"),
    ],
)
def test_what_does_not_fit_together_is_refused(run, more, word):
    assert word in run(*more, code=2)
    assert not run.out.exists()


def test_the_influence_pattern_takes_neither(run):
    assert "auto" in run(*AUTO, code=2, of=InfluencePattern)
    assert "--search" in run("--search", "shortlist", code=2, of=InfluencePattern)
