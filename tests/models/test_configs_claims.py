"""Model shapes by name, devices and precisions, the training of the embedded default."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from helpers import random_model, tiny_config
from ml_collections import ConfigDict

from neuronpath.errors import UserError
from neuronpath.models import devices
from neuronpath.models.configs import CONFIGS, HEADS_BY_WIDTH, PRECISIONS, Config
from neuronpath.models.training import accuracy, train
from neuronpath.models.vit import VisionTransformer

NAMES = ["patch_size", "img_size", "width", "depth", "num_heads", "mlp_dim", "num_classes", "pool"]


class TestConfigs:
    def test_public_shapes(self):
        """Patch, image, D, L, heads, H, classes, head: Dosovitskiy et al. 2021, Table 1; He et al. 2022."""
        B, L, H = (768, 12, 12, 3072), (1024, 24, 16, 4096), (1280, 32, 16, 5120)
        assert {name: tuple(getattr(config, n) for n in NAMES) for name, config in CONFIGS.items()} == {
            "ViT-B_16": (16, 224, *B, 1000, "cls"),
            "ViT-B_32": (32, 224, *B, 1000, "cls"),
            "ViT-L_16": (16, 224, *L, 1000, "cls"),
            "ViT-L_32": (32, 224, *L, 1000, "cls"),
            "ViT-H_14": (14, 224, *H, 1000, "cls"),
            "MAE-B_16": (16, 224, *B, 1000, "mean"),
            "MAE-L_16": (16, 224, *L, 1000, "mean"),
            "MAE-H_14": (14, 224, *H, 1000, "mean"),
            "ViT-digits": (8, 32, 96, 12, 4, 384, 10, "cls"),
            "MAE-digits": (8, 32, 96, 12, 4, 384, 10, "mean"),
        }
        assert HEADS_BY_WIDTH == {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}

    def test_a_config_is_made_of_any_mapping_and_does_not_change(self):
        config = tiny_config()
        assert sorted(config.to_dict()) == sorted(NAMES)
        assert Config.of({**config.to_dict(), "dropout": 0.1}) == config == Config.of(ConfigDict(config.to_dict()))
        assert Config.of(config) is config
        assert config.with_(depth=2) == Config(**{**config.to_dict(), "depth": 2})
        with pytest.raises(FrozenInstanceError):
            config.depth = 2
        with pytest.raises(KeyError):
            Config.of({"width": 3})

    def test_tokens_are_the_cls_token_and_the_patches(self):
        assert [CONFIGS[name].tokens for name in ("ViT-B_16", "ViT-B_32", "ViT-H_14", "MAE-digits")] == [
            197,
            50,
            257,
            17,
        ]


@pytest.fixture
def precision():
    yield
    torch.set_float32_matmul_precision("highest")


class TestDevices:
    @pytest.fixture
    def machine(self, monkeypatch):
        def has(gpus: int, mps: bool = False, capability=(8, 0)):
            monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

        return has

    @pytest.mark.parametrize(
        ("gpus", "mps", "name", "local", "found"),
        [
            (0, True, "auto", 0, "cpu"),
            (2, False, "auto", 0, "cuda:0"),
            (2, False, "auto", 3, "cuda:1"),
            (4, False, "cuda", 2, "cuda:2"),
            (4, False, "cuda:0", 2, "cuda:0"),
            (4, False, "cuda:3", 0, "cuda:3"),
            (0, True, "mps", 1, "mps"),
            (2, False, "cpu", 1, "cpu"),
        ],
    )
    def test_names(self, machine, gpus, mps, name, local, found):
        machine(gpus, mps)
        assert devices.device(name, local) == torch.device(found)

    @pytest.mark.parametrize(
        ("gpus", "name", "said"),
        [
            (0, "cuda", "0 cuda"),
            (2, "cuda:2", "2 cuda"),
            (0, "cuda:0", "0 cuda"),
            (1, "mps", "0 mps"),
            (1, "cpu:1", "1 cpu"),
        ],
    )
    def test_what_is_not_there(self, machine, gpus, name, said):
        machine(gpus)
        with pytest.raises(UserError) as caught:
            devices.device(name)
        assert str(caught.value) == f"--device {name}: this machine has {said} device(s); choose another, such as cpu"

    @pytest.mark.parametrize("device", ["cpu", "cuda:1"])
    def test_precisions_and_the_switch_of_tf32(self, machine, device, precision):
        machine(2)
        assert PRECISIONS == ("fp32", "fp64", "tf32", "bf16")
        names = PRECISIONS if device != "cpu" else ("fp32", "fp64", "bf16")
        found = {}
        for name in names:
            torch.set_float32_matmul_precision("medium")
            found[name] = devices.set_precision(name, torch.device(device)), torch.get_float32_matmul_precision()
        expected = {
            "fp32": (torch.float32, "highest"),
            "fp64": (torch.float64, "highest"),
            "tf32": (torch.float32, "high"),
            "bf16": (torch.bfloat16, "highest"),
        }
        assert found == {name: expected[name] for name in names}

    @pytest.mark.parametrize(
        ("device", "capability", "lacks"),
        [
            ("cuda", (7, 5), True),
            ("cuda", (8, 0), False),
            ("cuda", (9, 0), False),
            ("cpu", (8, 0), True),
            ("mps", (8, 0), True),
        ],
    )
    def test_tf32_needs_ampere(self, machine, device, capability, lacks, precision):
        machine(1, capability=capability)
        if not lacks:
            assert devices.set_precision("tf32", torch.device(device)) == torch.float32
            return
        with pytest.raises(UserError) as caught:
            devices.set_precision("tf32", torch.device(device))
        said = f"--precision tf32: {device} has none, only NVIDIA GPUs since Ampere have; use fp32"
        assert str(caught.value) == said

    def test_fp64_is_not_for_mps(self):
        with pytest.raises(UserError, match=r"^--precision fp64: mps has none; use --device cpu$"):
            devices.set_precision("fp64", torch.device("mps"))

    @pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
    def test_each_kind_is_waited_for_timed_and_relieved(self, kind, monkeypatch):
        calls, device = [], torch.device(kind)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda which: calls.append(f"{which} waits"))
        monkeypatch.setattr(torch.mps, "synchronize", lambda: calls.append("mps waits"))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cuda freed"))
        monkeypatch.setattr(torch.mps, "empty_cache", lambda: calls.append("mps freed"))
        times = iter((3.0, 5.5))
        monkeypatch.setattr("time.perf_counter", lambda: calls.append("time") or next(times))
        devices.synchronize(device)
        assert devices.seconds(lambda: calls.append("run"), device) == 2.5
        devices.free(device)
        wait = [] if kind == "cpu" else [f"{kind} waits"]
        assert calls == [*wait, *wait, "time", "run", *wait, "time", *([] if kind == "cpu" else [f"{kind} freed"])]


class TestTraining:
    @pytest.fixture
    def seen(self, monkeypatch) -> dict:
        """What the optimizer, its schedule and the jitter are given."""
        seen = {"grids": []}

        class AdamW(torch.optim.AdamW):
            def __init__(self, parameters, **more):
                parameters = list(parameters)
                seen.update(start=[p.detach().clone() for p in parameters], adamw=more)
                super().__init__(parameters, **more)

        class OneCycleLR(torch.optim.lr_scheduler.OneCycleLR):
            def __init__(self, optimizer, peak, **more):
                seen.update(peak=peak, schedule=more)
                super().__init__(optimizer, peak, **more)

        def affine_grid(theta, size, **more):
            seen["grids"].append(theta)
            return grid(theta, size, **more)

        grid = F.affine_grid
        monkeypatch.setattr(torch.optim, "AdamW", AdamW)
        monkeypatch.setattr(torch.optim.lr_scheduler, "OneCycleLR", OneCycleLR)
        monkeypatch.setattr(F, "affine_grid", affine_grid)
        return seen

    def test_steps_rates_and_batches(self, seen, capsys):
        config = tiny_config(depth=1)
        model = train(config, torch.rand(130, 3, 9, 9), torch.arange(130) % 4, 2, 0)
        assert seen["adamw"] == {"lr": 2e-3, "weight_decay": 0.05}
        assert (seen["peak"], seen["schedule"]) == (2e-3, {"total_steps": 6})
        assert [len(theta) for theta in seen["grids"]] == [64, 64, 2] * 2
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
        bar = capsys.readouterr().err
        assert "training: 100%" in bar
        assert "6/6" in bar
        assert "epoch 2/2, loss " in bar

    def test_images_are_turned_scaled_and_moved_a_little_each_in_its_way(self, seen):
        train(tiny_config(depth=1), torch.rand(2000, 3, 9, 9), torch.zeros(2000, dtype=int), 1, 0)
        theta = torch.cat(seen["grids"]).double()
        angle = torch.atan2(theta[:, 1, 0], theta[:, 0, 0])
        scale = torch.hypot(theta[:, 0, 0], theta[:, 1, 0])
        for found, middle, most in (
            (angle, 0, math.radians(10)),
            (scale, 1, 0.1),
            (theta[:, 0, 2], 0, 1 / 8),
            (theta[:, 1, 2], 0, 1 / 8),
        ):
            assert (found - middle).abs().max() <= most * (1 + 1e-5)
            assert (found - middle).min() < -0.98 * most
            assert (found - middle).max() > 0.98 * most
            assert abs((found - middle).mean()) < 0.05 * most
            assert abs((found - middle).std() / most - 1 / math.sqrt(3)) < 0.02, "uniform"
        torch.testing.assert_close(theta[:, 0, 0], theta[:, 1, 1], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(theta[:, 0, 1], -theta[:, 1, 0], rtol=1e-6, atol=1e-6)

    def test_the_model_sees_the_image_where_the_grid_says(self, seen, monkeypatch):
        image, given = torch.rand(1, 3, 9, 9), []

        class Model(VisionTransformer):
            def forward(self, x):
                given.append(x)
                return super().forward(x)

        monkeypatch.setattr("neuronpath.models.training.VisionTransformer", Model)
        train(tiny_config(depth=1), image, torch.tensor([0]), 1, 0)
        (theta,), (x,) = seen["grids"], given
        grid = F.affine_grid(theta, [1, 3, 9, 9], align_corners=False)
        assert torch.equal(x, F.grid_sample(image, grid, padding_mode="border", align_corners=False))
        assert not torch.equal(x, image)

    def test_weights_at_the_start(self, seen):
        config = tiny_config(depth=2, width=60, mlp_dim=90)
        model = train(config, torch.rand(2, 3, 9, 9), torch.tensor([0, 1]), 1, 0)
        for (name, _), value in zip(model.named_parameters(), seen["start"], strict=True):
            if name.endswith("bias"):
                assert not value.any(), name
            elif "norm" in name:
                assert (value == 1).all(), name
            elif name in ("cls_token", "pos_embed"):
                std = 0.3 if name == "pos_embed" else 0.02
                assert 0.7 * std < value.std() < 1.3 * std, name
            else:
                rows, columns = value.flatten(1).shape
                most = math.sqrt(6 / (rows + columns))
                assert 0.97 * most < value.abs().max() <= most, name

    def test_the_loss_is_of_the_labels(self, monkeypatch):
        """Images of 4 even colours are told apart after few steps."""
        colours = torch.eye(4)[:, :3, None, None].expand(4, 3, 9, 9)
        images, labels = colours.repeat(32, 1, 1, 1) * 2 - 1, torch.arange(4).repeat(32)
        model = train(tiny_config(depth=1), images, labels, 40, 0)
        assert accuracy(model, images, labels) == 1
        assert accuracy(model, images[:4], torch.tensor([0, 1, 2, 0])) == 0.75


class TestPrecisionOfModules:
    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_bfloat16_is_for_the_blocks_products_alone(self, pool):
        model = random_model(tiny_config(pool))
        for dtype, rest in (
            (torch.bfloat16, torch.float32),
            (torch.float64, torch.float64),
            (torch.float32, torch.float32),
        ):
            assert model.set_dtype(dtype) is model
            assert model.dtype == rest
            for name, parameter in model.named_parameters():
                product = name.startswith("blocks.") and "norm" not in name
                assert parameter.dtype == (dtype if product else rest), name

    def test_what_reads_fc2_is_in_the_streams_dtype(self):
        block = random_model(tiny_config()).set_dtype(torch.bfloat16).blocks[0]
        weight = block.mlp.fc2.weight
        found = block.columns(torch.tensor([[3, 1]]))
        assert torch.equal(found, weight.T[[3, 1]].float()[None])
        assert found.dtype == torch.float32
        written = torch.rand(2, 20)
        assert torch.equal(block.neuron_gradient(written), written @ weight.float())
        assert torch.equal(block.project(torch.zeros(1, 28)), block.mlp.fc2.bias[None])
