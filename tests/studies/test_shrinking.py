"""What scripts/study_shrink.py measures: units by training images, effects on others; tiny models in float64."""

import io
import itertools

import numpy as np
import pytest
import torch
from helpers import random_images, random_model, tiny_config

from neuronpath import Quadrature, find_path, shrink
from neuronpath.attribution import importance as imp
from neuronpath.models.configs import CONFIGS
from neuronpath.studies.cost import block_flops
from neuronpath.studies.methods import Images
from neuronpath.studies.parts import SHARES, SHRINK_NAMES
from neuronpath.studies.shrinking import DRAWS, flops, flops_of_smaller, measure_smaller, rank_units, times_of_smaller

N, H, STD = 7, 24, (1.0, 1.0, 1.0)
SOME = (0.5, 0.25)


def images(config, n: int = N, seed: int = 1) -> Images:
    return Images(random_images(config, n, seed), torch.arange(n) % 3, [f"{seed}/{i}.png" for i in range(n)], STD)


@pytest.fixture(scope="module", params=["cls", "mean"])
def made(request, tmp_path_factory):
    """A model, training images, and what they say."""
    config = tiny_config(request.param, depth=2, mlp_dim=H)
    model, training = random_model(config), images(config)
    folder = tmp_path_factory.mktemp("kept")
    return model, training, rank_units("m", model, training, SHRINK_NAMES, folder), folder


def test_units_are_ranked_by_training_images(made):
    model, of, ranked, _ = made
    own, every = (imp.unit_sums(model, of.x, of.y, all_tokens=tokens) for tokens in (False, True))
    values = {
        "activation": imp.written(model, own.sizes),
        "activation_all": imp.written(model, every.sizes),
        "taylor": own.taylor,
        "taylor_all": every.taylor,
        "magnitude": imp.magnitude(model),
    }
    expected = {name: [imp.most_important(value, H)] for name, value in values.items()}
    for k in (1, 5, 20):
        path = find_path(model, of.x, of.y, Quadrature("gauss-legendre", 4), k).path
        frequency = imp.path_frequency(path, of.y, H)
        expected[f"path_{k}"] = [imp.most_important(frequency, H, own.sizes)]
        assert ranked.held[f"path_{k}"] == pytest.approx((frequency > 0).double().mean().item())
    expected["random"] = [imp.most_important(imp.random_importance(42 + i, 2, H), H) for i in range(DRAWS)]
    assert [*ranked.units] == [*SHRINK_NAMES]
    assert {*ranked.held} == {"path_1", "path_5", "path_20"}
    for name, draws in expected.items():
        assert len(draws) == len(ranked.units[name])
        assert all(torch.equal(a, b) for a, b in zip(ranked.units[name], draws, strict=True)), name
    torch.testing.assert_close(ranked.means, own.means, rtol=1e-12, atol=1e-14)
    if model.config.pool == "cls":
        assert not torch.equal(ranked.units["taylor"][0], ranked.units["taylor_all"][0])


def test_paths_are_kept_by_model_and_images(made, monkeypatch):
    model, of, ranked, folder = made
    monkeypatch.setattr("neuronpath.studies.shrinking.find_path", lambda *_, **__: pytest.fail("it searches again"))
    again = rank_units("m", model, of, ("path_5",), folder)
    assert torch.equal(again.units["path_5"][0], ranked.units["path_5"][0])
    for name, others in (("other", of), ("m", images(model.config, seed=5))):
        with pytest.raises(BaseException, match="searches again"):
            rank_units(name, model, others, ("path_5",), folder)
    with pytest.raises(BaseException, match="searches again"):
        rank_units("m", model, of, ("path_5",), folder, anew=True)


def test_damaged_paths_are_found_anew_and_other_rules_have_other_files(made, tmp_path, monkeypatch):
    model, of, ranked, _ = made
    rank_units("m", model, of, ("path_1",), tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    assert file.name == f"m-{of.digest()}-gauss-legendre-4-top1.npy"
    for damaged in (b"", whole[:-5], b"x" + whole[1:], saved(np.full((N, 2, 1), H)), saved(np.zeros((N, 1, 1), int))):
        file.write_bytes(damaged)
        again = rank_units("m", model, of, ("path_1",), tmp_path)
        assert torch.equal(again.units["path_1"][0], ranked.units["path_1"][0])
        assert file.read_bytes() == whole
    monkeypatch.setattr("neuronpath.studies.shrinking.RULE", Quadrature("right", 2))
    rank_units("m", model, of, ("path_1",), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir())[1] == f"m-{of.digest()}-right-2-top1.npy"


def saved(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def test_another_seed_draws_others_and_rows_change_nothing(made, tmp_path):
    model, of, ranked, _ = made
    other = rank_units("m", model, of, ("random", "path_1"), tmp_path, seed=43, internal_batch_size=3)
    assert torch.equal(other.units["random"][0], ranked.units["random"][1])
    assert torch.equal(other.units["path_1"][0], ranked.units["path_1"][0])


def test_effects_on_held_out_images(made):
    model, _, ranked, _ = made
    of = images(model.config, 4, seed=8)
    found = measure_smaller(model, of, ranked, SOME)
    assert [*found] == ["full", *SHRINK_NAMES]

    def effects(small) -> tuple[np.ndarray, np.ndarray]:
        shares = small(of.x).softmax(-1)
        return shares.gather(1, of.y[:, None])[:, 0].numpy(), (shares.argmax(-1) == of.y).numpy().astype(float)

    for part, value in zip(("p", "right"), effects(model), strict=True):
        np.testing.assert_allclose(found["full"][part], value, rtol=1e-10)
    for name, draws in ranked.units.items():
        for way, means in (("plain", None), ("folded", ranked.means)):
            for i, count in enumerate((12, 6)):
                several = [effects(shrink(model, units[:, :count], means)) for units in draws]
                for part, values in zip(("p", "right"), zip(*several, strict=True), strict=True):
                    np.testing.assert_allclose(found[name][way][part][i], np.mean(values, 0), rtol=1e-10)
    assert np.abs(found["taylor"]["plain"]["p"] - found["taylor"]["folded"]["p"]).max() > 1e-4


def test_operations_of_a_forward():
    config = tiny_config(depth=3)
    model = random_model(config)
    counted = flops(model, random_images(config, 2))
    last = block_flops(config, ffn_tokens=1, queries=1)
    patches, head = 2 * 9 * 27 * 20, 2 * 20 * 4
    assert counted == 2 * block_flops(config) + last + patches + head
    by_share = flops_of_smaller(model, random_images(config, 2), (0.5,))
    ffns = 2 * 2 * 20 * 14 * (2 * config.tokens + 1)
    assert by_share == {"1": counted, "0.5": counted - ffns}


def test_times_are_interleaved_and_told_against_the_full_model():
    threads = torch.get_num_threads()
    found = times_of_smaller(tiny_config(), SOME, 2, 3, torch.device("cpu"))
    assert torch.get_num_threads() == threads
    assert (found["images"], found["rounds"], found["device"]) == (2, 3, "cpu")
    assert [*found["shares"]] == ["1", "0.5", "0.25"]
    for entry in found["shares"].values():
        assert entry["seconds"] > 0
        assert entry["cpu"] > 0
        for ratio in (entry["ratio"], entry["cpu_ratio"]):
            assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    full, half, quarter = found["shares"].values()
    assert full["ratio"] == full["cpu_ratio"] == {"median": 1, "low": 1, "high": 1}
    assert full["weights"] - half["weights"] == 6 * 14 * (20 + 20 + 1)
    assert full["flops"] > half["flops"] > quarter["flops"]


def test_the_round_that_warms_up_is_not_counted(monkeypatch):
    """Two models, full and half: walls of 100 and 50 s to warm up, then 4 and 1, 4 and 3, 4 and 2; CPU the same."""
    walls = [100.0, 50, 4, 1, 4, 3, 4, 2]
    given = iter(walls)
    clock = itertools.chain.from_iterable((0.0, wall) for wall in walls)
    monkeypatch.setattr("neuronpath.studies.shrinking.seconds", lambda *_: next(given))
    monkeypatch.setattr("neuronpath.studies.shrinking.time.process_time", lambda: next(clock))
    half = times_of_smaller(tiny_config(), (0.5,), 2, 3, torch.device("cpu"))["shares"]["0.5"]
    assert half["seconds"] == half["cpu"] == 1
    assert half["ratio"] == half["cpu_ratio"] == {"median": 0.5, "low": 0.25, "high": 0.75}


def test_the_study_is_of_all_nine_shares_and_b_32():
    assert SHARES == (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    assert DRAWS == 5
    assert CONFIGS["ViT-B_32"].mlp_dim == 3072
