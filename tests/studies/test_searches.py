"""The parts of scripts/study_search.py on tiny models: what they count is what the searches find."""

import numpy as np
import pytest
import torch
from helpers import KINDS, problem, random_model, tiny_config

from neuronpath import Quadrature, find_path, find_path_auto, score_path
from neuronpath.attribution.adaptive import NODES
from neuronpath.models.checkpoint import load, save
from neuronpath.studies import searches as search_study

IMAGES = 4


def make(pool: str = "cls"):
    return problem(tiny_config(pool, depth=3), IMAGES)


@pytest.mark.parametrize("pool", KINDS)
def test_scores_of_all_candidates_lead_the_exhaustive_path_and_are_kept(pool, tmp_path):
    arguments, file = make(pool), tmp_path / "kept/scores.npy"
    scores = search_study.every_score(*arguments, file)
    assert torch.equal(torch.from_numpy(np.load(file)), scores)
    exact = find_path(*arguments, search_study.EIGHT, search="exhaustive")
    assert torch.equal(scores[:, 3].argmax(-1), exact.path[..., 0])
    layer = find_path(*arguments, search_study.EIGHT, search="layer")
    short = find_path(*arguments, search_study.TWO, search="shortlist")
    coarse = find_path(*arguments, search_study.TWO, search="exhaustive")
    assert torch.equal(scores[:, 2, 0].argmax(-1), coarse.path[:, 0, 0])
    assert torch.equal(scores[:, 0, 0].argmax(-1), layer.path[:, 0, 0])  # the first layer has no prefix to differ in
    found = search_study.per_layer(scores)
    same = (short.path == exact.path)[..., 0].long().cumprod(1)
    clear = torch.cat((torch.ones_like(same[:, :1]), same[:, :-1]), 1).bool()  # the prefix is the exhaustive one's
    counted = torch.tensor([[miss["image"], miss["layer"]] for miss in found["shortlist"]["misses"]]).reshape(-1, 2)
    assert (clear & ~same.bool()).nonzero().tolist() == [m for m in counted.tolist() if clear[tuple(m)]]
    kept, layer = search_study.whole_paths(*arguments, scores), find_path(*arguments, search_study.RADAU_FOUR)
    assert kept["exhaustive"]["agree"] == 1
    assert kept["layer"]["agree"] == (layer.path == exact.path).all(1).double().mean()


def test_a_shortlist_is_replayed_from_the_scores():
    estimate = torch.linspace(1, 0, 40).expand(2, 3, 40)
    exact = estimate.clone()
    exact[0, 1, 30] = 2  # not to be foreseen
    exact[1, 2, 3] = 1.05
    found = search_study.per_layer(torch.stack((estimate, estimate, exact, exact), 1))
    assert found["layers"] == 6
    assert found["layer"] == found["estimate"] == {"agree": 4 / 6, "among_first_8": 5 / 6, "lowest_rank": 31}
    assert found["shortlist"]["agree"] == 5 / 6
    assert [(m["image"], m["layer"], m["rank"]) for m in found["shortlist"]["misses"]] == [(0, 1, 31)]
    assert found["shortlist"]["stopped"] == {"rule": 6, "cap": 0, "all": 0}
    assert {row["agree"] for row in search_study.calibration(torch.stack((estimate,) * 4, 1))} == {1}


def test_only_the_best_are_scored_with_many_nodes_and_that_is_checked(tmp_path):
    arguments = make()
    whole = search_study.every_score(*arguments, tmp_path / "whole.npy")
    some = search_study.every_score(*arguments, tmp_path / "some.npy", finely=3)
    scored = some[:, 3] > -torch.inf
    assert (scored.sum(-1) == 3).all()
    assert torch.equal(
        scored.long().argsort(-1, descending=True)[..., :3].sort(-1).values,
        some[:, 2].argsort(-1, descending=True)[..., :3].sort(-1).values,
    )
    torch.testing.assert_close(some[:, 3][scored], whole[:, 3][scored], rtol=1e-9, atol=1e-12)
    error = ((whole[:, 2] - whole[:, 3]).abs().amax(-1) / whole[:, 3].abs().amax(-1)).max().item()
    assert search_study.checked(some, whole) == {"images": IMAGES, "agree": 1, "error": error}
    other = some.clone()
    other[0, 3, 0, other[0, 3, 0].argmax()] = -1
    assert search_study.checked(other, whole)["agree"] == 1 - 1 / (3 * IMAGES)


def test_scores_go_on_where_a_killed_run_left_them(tmp_path):
    """What a run has kept is taken as it is, and what it lacks is computed."""
    model, x, y = make()
    expected = search_study.every_score(model, x, y, tmp_path / "whole.npy", at_once=1)
    left = expected[:3] + 1  # so that it can be told from what is computed
    np.save(tmp_path / "cut.npy", left.numpy())
    for _ in range(2):
        found = search_study.every_score(model, x, y, tmp_path / "cut.npy", at_once=1)
        assert torch.equal(found, torch.cat((left, expected[3:])))


def test_precisions(tmp_path):
    model, images = random_model(tiny_config(depth=3), scale=0.5), 60
    save(model.float(), tmp_path / "tiny.npz")
    x, y = torch.randn(images, 3, 9, 9, generator=torch.Generator().manual_seed(2)), torch.arange(images) % 4
    found = search_study.precisions(tmp_path / "tiny.npz", x, y)
    assert found.keys() == {"fp32", "bf16"}
    exact, rounded = (load(tmp_path / "tiny.npz", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    four = Quadrature("gauss-legendre", 4)
    full, half = (find_path(m, x, y, four) for m in (exact, rounded))
    kept = compared = whole = 0
    margins = []
    for path, other, margin in zip(full.path.tolist(), half.path.tolist(), half.margin.tolist(), strict=True):
        whole += path == other
        for layer, pair in enumerate(zip(path, other, strict=True)):
            compared += 1
            if pair[0] != pair[1]:
                margins.append(margin[layer])
                break
            kept += 1
    bf16 = found["bf16"]
    assert margins, "the images are chosen so that some path differs"
    assert bf16["layers"] == pytest.approx(kept / compared)
    assert bf16["whole_paths"] == pytest.approx(whole / images)
    assert bf16["margins"] == pytest.approx(sorted(margins, reverse=True))
    assert bf16["under"] == (half.margin <= max(margins)).double().mean()
    same = sum(a == b for a, b in zip(full.base_path.tolist(), half.base_path.tolist(), strict=True))
    assert bf16["whole_activation_paths"] == pytest.approx(same / images)
    error = score_path(rounded, x, y, full.path, four) - full.score
    assert bf16["score_error"] == pytest.approx((error.norm() / full.score.norm()).item(), rel=1e-4)
    assert bf16["jas"] == pytest.approx(score_path(exact, x, y, half.path, four).mean().item(), rel=1e-4)
    assert found["fp32"]["jas"] == pytest.approx(full.score.mean().item(), rel=1e-4)


@pytest.mark.parametrize("search", ["layer", "shortlist"])
def test_auto_is_counted_by_what_it_pays_for(search):
    model, x, y = make()
    found = search_study.quadratures(model, x, y, rules={"gauss-radau": (2,)}, fine=(8, 16), search=search)
    auto = find_path_auto(model, x, y, search=search)
    spent = [sum(m - 1 for m in NODES[search] if m <= last) for last in auto.nodes.tolist()]
    assert found["auto"]["mean_nodes"] == sum(spent) / len(spent)
    assert found["auto"]["searched_again"] == sum(last > NODES[search][0] for last in auto.nodes.tolist())
    assert found["auto"]["not_converged"] == (auto.converged == 0).sum()
    finer, finest = (find_path(model, x, y, Quadrature("gauss-legendre", m), search=search).path for m in (8, 16))
    known = (finer == finest).flatten(1).all(1)
    right = (auto.path == finest).flatten(1).all(1)
    assert found["converged"] == known.sum()
    assert found["auto"]["agree"] == right[known].double().mean()
