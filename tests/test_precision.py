"""tf32, bf16 and devices: which products are rounded, what that does to scores, and what is refused."""

import copy

import pytest
import torch
from helpers import KINDS, random_model
from test_cli import Run, arguments, records
from test_search import CONFIGS, make

from neuronpath import Quadrature, edit, enhance, find_path, gain, influence_path, load, score_path
from neuronpath.attribution.influence import layer_influence
from neuronpath.attribution.reference import plain_influence, plain_search
from neuronpath.attribution.search import SEARCHES
from neuronpath.cli import exits as cli
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.models.devices import device, set_precision
from neuronpath.models.vit import LayerNorm, Linear
from neuronpath.runs import job
from neuronpath.runs.extraction import InfluencePattern

FOUR = Quadrature("gauss-legendre", 4)
SCORES = ("score", "base_score", "activation", "base_activation", "logits", "margin")


def halves(name: str):
    """A model in bf16, the same in float64, its weights rounded as the first's, images and labels."""
    model, images, labels = make(name, torch.float32)
    model.set_dtype(torch.bfloat16)
    return model, copy.deepcopy(model).set_dtype(torch.float64), images, labels


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the differences, in units of the expected values'."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", KINDS)
def test_only_the_products_of_the_blocks_are_rounded(name, tmp_path):
    model = random_model(CONFIGS[name], dtype=torch.float32)
    save(model, tmp_path / "m.pth")
    loaded = load(tmp_path / "m.pth", num_heads=CONFIGS[name].num_heads, dtype=torch.bfloat16)
    for path, module in loaded.named_modules():
        if isinstance(module, Linear | LayerNorm | torch.nn.Conv2d):
            halved = isinstance(module, Linear) and path != "head"
            assert module.weight.dtype == (torch.bfloat16 if halved else torch.float32), path
    logits = loaded(torch.randn(1, 3, *[model.config.img_size] * 2))
    assert loaded.dtype == loaded.pos_embed.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("name", CONFIGS)
class TestBf16:
    def test_streams_are_not_rounded(self, name):
        model, _, images, _ = halves(name)
        streams = [model.embed(images)]
        for block in model.blocks:
            streams += [block.attend(streams[-1]), block(streams[-1])]
        streams.append(model.read(streams[-1][:, model.neuron_tokens]))
        for z in streams:
            assert z.dtype == torch.float32
            assert (z != z.bfloat16()).float().mean() > 0.9
        assert model.blocks[0].hidden(streams[0]).dtype == torch.bfloat16

    def test_scores_of_given_paths(self, name):
        model, exact, images, labels = halves(name)
        path = find_path(exact, images.double(), labels, FOUR, k=2).path
        found, expected = (score_path(m, x, labels, path, FOUR) for m, x in ((model, images), (exact, images.double())))
        assert found.dtype == torch.float32
        assert 1e-6 < relative(found, expected) < 0.05

    @pytest.mark.parametrize("k", [1, 3])
    @pytest.mark.parametrize("search", SEARCHES)
    def test_search(self, name, search, k):
        """Behind the same neurons, clear choices are those in float64, and most of all."""
        model, exact, images, labels = halves(name)
        found = find_path(model, images, labels, FOUR, k, search=search)
        expected = find_path(exact, images.double(), labels, FOUR, k, search=search)
        assert all(getattr(found, key).dtype == torch.float32 for key in SCORES)
        same = (found.path.sort(-1).values == expected.path.sort(-1).values).all(-1)
        behind = torch.cat((torch.ones_like(same[:, :1]), same.long().cumprod(1).bool()[:, :-1]), 1)
        assert same[behind & (expected.margin > 0.03)].all()
        assert same[behind].float().mean() > 0.75

    def test_reference_and_influence(self, name):
        model, exact, images, labels = halves(name)
        four = plain_search(model, images, labels, FOUR)
        again = score_path(model, images, labels, four["ja"], FOUR)
        assert relative(four["ja_score"], again) < 0.05
        found = torch.stack(plain_influence(model, images, labels, FOUR))
        assert relative(found, torch.stack(plain_influence(exact, images.double(), labels, FOUR))) < 0.05
        found = torch.stack(layer_influence(model, images, labels, FOUR, 7))
        assert found.dtype == torch.float32
        assert relative(found, torch.stack(layer_influence(exact, images.double(), labels, FOUR, 7))) < 0.05
        assert influence_path(model, images, labels, FOUR).score.isfinite().all()

    def test_edits(self, name):
        model, exact, images, labels = halves(name)
        path = find_path(exact, images.double(), labels, FOUR).path
        original, same, doubled = edit(model, images, None, gain(model, path, 1.0), enhance(model, path))
        assert torch.equal(original, same)
        assert not torch.equal(original, doubled)
        (expected,) = edit(exact, images.double(), enhance(exact, path))
        assert relative(doubled, expected) < 0.05


class TestCommand:
    @pytest.fixture
    def run(self, checkpoint, image_folder, tmp_path, capsys) -> Run:
        return Run(checkpoint, image_folder, tmp_path / "out", capsys)

    def test_a_run_in_bf16(self, run, tmp_path):
        assert "images below 0.003" in run("--precision", "bf16", out=tmp_path / "half")
        run(out=tmp_path / "full")
        half, full = records(tmp_path / "half"), records(tmp_path / "full")
        assert half.keys() == full.keys()
        assert [r["prob"] for r in half.values()] == pytest.approx([r["prob"] for r in full.values()], abs=0.05)
        assert [r["prob"] for r in half.values()] != [r["prob"] for r in full.values()]
        assert "precision bf16 → fp32" in run(code=2, out=tmp_path / "half")

    def test_influence_patterns_in_bf16(self, checkpoint, image_folder, tmp_path, capsys):
        given = arguments(checkpoint, image_folder, tmp_path / "out", "--precision", "bf16")
        assert cli.command(lambda: job.main(InfluencePattern("cls"), "", given)) == 0
        assert "images below 0.003" in capsys.readouterr().out

    def test_tf32_needs_a_gpu(self, run):
        assert "--precision tf32: cpu has none" in run.refused("--precision", "tf32", "--device", "cpu")

    def test_mps_is_not_there(self, run, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert "--device mps: this machine has 0 mps device(s)" in run.refused("--device", "mps")


class TestSetPrecision:
    @pytest.fixture(autouse=True)
    def restored(self):
        yield
        torch.set_float32_matmul_precision("highest")

    def test_tf32_is_switched_on_and_off(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
        assert set_precision("tf32", torch.device("cuda", 0)) == torch.float32
        assert torch.get_float32_matmul_precision() == "high"
        assert set_precision("fp32", torch.device("cuda", 0)) == torch.float32
        assert torch.get_float32_matmul_precision() == "highest"

    def test_old_gpus_and_apples_lack_some(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        with pytest.raises(UserError, match="tf32"):
            set_precision("tf32", torch.device("cuda", 0))
        with pytest.raises(UserError, match="fp64"):
            set_precision("fp64", torch.device("mps"))
        assert set_precision("bf16", torch.device("mps")) == torch.bfloat16

    def test_mps_where_it_is(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        assert device("mps").type == "mps"
        assert device("auto").type in ("cpu", "cuda")
