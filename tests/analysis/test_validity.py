"""Whether scores tell effects, and whether paths stay, against loops over images, layers and units."""

import numpy as np
import pytest
from helpers import write_lines
from made import results_of, write_results
from scipy.stats import spearmanr

from neuronpath.analysis.metrics import Edited, Missing
from neuronpath.analysis.validity import markdown, overlap, spearman, stability, validities, validity


def ranks(values) -> list[float]:
    """Mean ranks, by counting."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def correlation(x, y) -> float:
    a, b = ranks(x), ranks(y)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    top = sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True))
    return top / (sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b)) ** 0.5


class TestSpearman:
    @pytest.mark.parametrize("ties", [False, True])
    def test_equals_the_loop_and_scipy(self, ties):
        x, y = np.random.default_rng(0).random((2, 6, 11))
        if ties:
            x, y = x.round(1), y.round(1)
        found = spearman(x, y)
        assert found == pytest.approx([correlation(a, b) for a, b in zip(x, y, strict=True)], rel=1e-12)
        assert found == pytest.approx([spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)], rel=1e-12)

    def test_by_hand(self):
        assert spearman(np.array([1, 2, 3.0]), np.array([1, 10, 100.0])) == 1
        assert spearman(np.array([1, 2, 3.0]), np.array([3, 2, 1.0])) == -1
        assert spearman(np.array([1, 2, 3.0]), np.ones(3)) == 0


def edited(n: int = 12, seed: int = 0) -> Edited:
    rng = np.random.default_rng(seed)
    before, after = rng.random((2, n))
    return Edited([f"i{i}" for i in range(n)], np.arange(n) % 3, before, after, np.ones(n), np.ones(n))


class TestValidity:
    def test_is_of_the_loss_of_probability(self):
        of, rng = edited(), np.random.default_rng(1)
        scores = {f"i{i}": rng.random() for i in (*range(2, 12), 99)}
        found = validity(scores, of)
        loss = [of.before[i] - of.after[i] for i in range(2, 12)]
        assert found.value == pytest.approx(correlation([scores[f"i{i}"] for i in range(2, 12)], loss))
        assert found.n == 10
        assert -1 <= found.low < found.value < found.high <= 1

    def test_a_score_that_orders_the_losses_is_valid(self):
        of = edited()
        scores = {image: 5 * (of.before[i] - of.after[i]) ** 3 for i, image in enumerate(of.images)}
        found = validity(scores, of)
        assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))

    @pytest.mark.parametrize("scores", [{}, {"i0": 1.0, "i1": 2.0}, dict.fromkeys((f"i{i}" for i in range(12)), 0.5)])
    def test_too_little_to_order(self, scores):
        with pytest.raises(Missing):
            validity(scores, edited())


class TestOfRecords:
    def test_scores_are_joined_with_edits_by_image(self, tmp_path):
        results = results_of(write_results(tmp_path, "ViT-a"))
        found = validities(results, ["ViT-a"])
        assert [*found] == ["base", "influence_pattern", "ja"]
        for method, job, key in (("ja", "ja", "ja_score"), ("base", "ja", "base_score")):
            scores = {r["image"]: r[key] for several in results.records(job, "ViT-a").values() for r in several}
            edited = results.records(f"edit/remove_enhance/{method}", "ViT-a")
            edits = [r for several in edited.values() for r in several]
            x, y = [scores[r["image"]] for r in edits], [r["original"] - r["remove"] for r in edits]
            assert found[method]["ViT-a"].value == pytest.approx(correlation(x, y))
            assert found[method]["ViT-a"].n == 12

    def test_other_paths_and_what_has_no_records_are_missing(self, tmp_path):
        write_results(write_results(tmp_path, "ViT-a", methods=("ja",)), "ViT-b|", methods=())
        for label in range(3):
            file = tmp_path / f"edit/remove_enhance/ja/ViT-a/imgnet_all-{label}.rlt.jsonl"
            edits = results_of(tmp_path).records("edit/remove_enhance/ja", "ViT-a")[label]
            paths = [[[1], [0], [3]] if i else [[1], [0], [2]] for i in range(len(edits))]
            write_lines(file, [{**r, "path": path} for r, path in zip(edits, paths, strict=True)])
        found = validities(results_of(tmp_path), ["ViT-a", "ViT-b|"])
        assert found["ja"]["ViT-a"].n == 12 - 3
        assert found["base"] == {"ViT-a": None, "ViT-b|": None}
        lines = markdown(found).splitlines()
        assert lines[0] == r"| Spearman of JAS and what removal takes [95 % interval] | ViT-a | ViT-b\| |"
        assert lines[2] == "| Activation | missing | missing |"
        assert lines[4] == f"| Neuron Path | {found['ja']['ViT-a'].shown(2)}, n = 9 | missing |"


class TestStability:
    @pytest.mark.parametrize("k", [1, 3])
    def test_overlap_equals_the_loop(self, k):
        rng = np.random.default_rng(0)
        paths, others = (
            np.array([[rng.choice(5, k, replace=False) for _ in range(4)] for _ in range(6)]) for _ in range(2)
        )
        expected = []
        for path, other in zip(paths.tolist(), others.tolist(), strict=True):
            shares = [len({*a} & {*b}) / len({*a} | {*b}) for a, b in zip(path, other, strict=True)]
            expected.append(sum(shares) / len(shares))
        assert overlap(paths, others) == pytest.approx(expected, rel=1e-12)
        assert overlap(paths, paths[..., ::-1]).tolist() == [1] * 6

    def test_mean_over_the_images_that_both_have(self):
        paths = {"a": [[1], [2]], "b": [[1], [2]], "c": [[3], [4]]}
        noisy = {"c": [[3], [5]], "d": [[3], [5]], "b": [[1], [2]]}
        found = stability(paths, noisy, {"a": 0, "b": 0, "c": 0, "d": 1})
        assert (found.value, found.n) == (0.75, 2)
        with pytest.raises(Missing):
            stability(paths, {}, {})
