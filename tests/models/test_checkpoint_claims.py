"""Checkpoints: which of what is told counts, what is left as it is, and the words of every refusal."""

import argparse
import hashlib
import os
import re

import numpy as np
import pytest
import torch
from helpers import fault, random_model, tiny_config
from safetensors.torch import save_file

from neuronpath import HeadError, load
from neuronpath.models.checkpoint import save, sha256
from neuronpath.models.configs import CONFIGS
from neuronpath.models.layouts import FLAX, STATE_DICT
from neuronpath.models.reading import BROKEN, read

SMALL = {"depth": 1, "num_heads": 1, "mlp_dim": 3}


def state(pool: str = "mean", **changes) -> dict[str, torch.Tensor]:
    return random_model(tiny_config(pool, **{**SMALL, **changes}), dtype=torch.float32).state_dict()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.pth"


class TestKinds:
    def test_files_that_are_not_there_or_of_no_kind(self, tmp_path):
        for name in ("a.npz", "a.pth", "a.pt", "a.bin", "a.ckpt", "a.pth.tar", "a.safetensors"):
            path = tmp_path / name
            assert fault(load, path) == f"{path}: no such checkpoint file; give --pretrain_weight the path of one"
        for name in ("a.tar", "a", "a.NPZ"):
            path = tmp_path / name
            (tmp_path / name).touch()
            endings = ".npz, .pth, .pt, .bin, .ckpt, .pth.tar or .safetensors"
            said = f"unknown kind of checkpoint; it must end in {endings}"
            assert fault(load, str(path)) == f"{path}: {said}"
        (tmp_path / "b.npz").mkdir()
        assert "b.npz/config.json: no such file; a model's folder has one" in fault(load, tmp_path / "b.npz")

    @pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_state_dicts_and_what_they_hold_beside(self, suffix, pool, tmp_path):
        path, weights = tmp_path / f"a{suffix}", state(pool)
        if suffix == ".safetensors":
            save_file(weights, path, {"num_heads": "2"})
        else:
            torch.save({**weights, "num_heads": 2} if suffix == ".pt" else {"model": weights, "num_heads": "2"}, path)
        found = read(path)
        assert (found.layout, found.pool, found.num_heads) == (STATE_DICT, pool, 2)
        assert found.tensors.keys() == weights.keys()
        model = load(path)
        assert (model.config.num_heads, model.config.pool) == (2, pool)
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    def test_flax_files_are_of_the_cls_head(self, checkpoint):
        found = read(checkpoint)
        assert (found.layout, found.pool, found.num_heads) == (FLAX, "cls", None)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ([1], "it holds a list, not a state dict"),
            ({"model": [1]}, "its 'model' is a list, not a state dict"),
        ],
    )
    def test_what_is_no_state_dict(self, content, why, file):
        torch.save(content, file)
        assert fault(load, file) == f"{file}: not a sound .pth checkpoint ({why}); download or copy it again"

    def test_arrays_of_other_numbers(self, file):
        torch.save({f"w{i}": torch.zeros(1, dtype=torch.int64) for i in range(10)}, file)
        names = ", ".join(f"w{i}" for i in range(8))
        assert fault(load, file) == f"{file}: not floating-point arrays: {names} and 2 more; is this a ViT checkpoint?"
        torch.save({f"w{i}": torch.zeros(1, dtype=torch.int64) for i in range(8)}, file)
        assert fault(load, file) == f"{file}: not floating-point arrays: {names}; is this a ViT checkpoint?"

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_every_ordinary_precision_is_read(self, dtype, file):
        weights = {name: value.to(dtype) for name, value in state().items()}
        torch.save(weights, file)
        model = load(file, num_heads=1)
        assert all(torch.equal(value, weights[name].float()) for name, value in model.state_dict().items())

    def test_an_object_is_named_and_not_run(self, file):
        torch.save({"model": state(), "x": argparse.Action("a", "b")}, file)
        assert fault(load, file) == (
            f"{file}: holds an object of type argparse.Action, which could run code; nothing was run. "
            "Get a file of weights"
        )

    @pytest.mark.parametrize("error", BROKEN, ids=lambda error: error.__name__)
    def test_whatever_a_reader_raises_is_a_line(self, error, file, monkeypatch):
        file.touch()

        def broken(*_, **__):
            raise error.__new__(error)

        monkeypatch.setattr(torch, "load", broken)
        assert fault(load, file).startswith(f"{file}: not a sound .pth checkpoint (")


class TestHeads:
    @pytest.mark.parametrize(
        ("value", "heads"),
        [
            (2, 2),
            ("2", 2),
            (0, None),
            ("0", None),
            (-2, None),
            (True, None),
            (2.0, None),
            ("x", None),
            ("", None),
            (10_000, None),
        ],
    )
    def test_what_a_file_may_tell(self, value, heads, file):
        torch.save({"model": state(), "num_heads": value}, file)
        assert read(file).num_heads == heads
        if heads is None:
            said = "neither it nor its width of 20 tells the number of heads; give --num_heads"
            assert fault(load, file) == f"{file}: {said}"

    def test_four_digits_are_a_number_of_heads(self, file):
        torch.save({"model": state(), "num_heads": 9999}, file)
        assert fault(load, file) == f"{file}: a width of 20 has no 9999 heads; change --num_heads"
        assert load(file, num_heads=4).config.num_heads == 4

    def test_the_argument_counts_before_the_named_model(self, file):
        config = CONFIGS["MAE-digits"]
        torch.save(random_model(config, dtype=torch.float32).state_dict(), file)
        assert load(file, "MAE-digits").config == config
        assert load(file, "MAE-digits", num_heads=3).config.num_heads == 3

    def test_a_flax_file_tells_its_own(self, checkpoint):
        assert load(checkpoint).config.num_heads == 5
        assert "query/kernel is (20, 5, 4), not (20, 4, 5)" in fault(load, checkpoint, num_heads=4)
        assert fault(load, checkpoint, num_heads=3).endswith("a width of 20 has no 3 heads; change --num_heads")

    @pytest.mark.parametrize(
        ("pool", "reads", "other"),
        [
            ("cls", "the CLS token (a ViT)", "the mean patch token (a fine-tuned MAE)"),
            ("mean", "the mean patch token (a fine-tuned MAE)", "the CLS token (a ViT)"),
        ],
    )
    def test_the_other_kind_of_head(self, pool, reads, other, file):
        save(random_model(tiny_config(pool, **SMALL), dtype=torch.float32), file)  # which says its head
        wanted = {"cls": "mean", "mean": "cls"}[pool]
        with pytest.raises(HeadError) as caught:
            load(file, pool=wanted, num_heads=1)
        assert str(caught.value) == f"{file}: its head reads {reads}, not {other}"
        assert caught.value.pool == pool
        assert load(file, pool=pool, num_heads=1).config.pool == pool

    def test_where_no_norm_tells_the_head_is_the_wanted_one(self, file):
        weights = {name: value for name, value in state().items() if "fc_norm" not in name}
        torch.save(weights, file)
        assert read(file).pool is None
        assert "missing: fc_norm.weight, fc_norm.bias" in fault(load, file, pool="mean", num_heads=1)
        assert "missing: norm.weight, norm.bias" in fault(load, file, num_heads=1)


class TestMatching:
    def test_all_that_differs_is_in_one_line(self, file):
        weights = state()
        del weights["blocks.0.norm1.bias"]
        weights["head.bias"], weights["more"] = torch.ones(9), torch.ones(1)
        torch.save(weights, file)
        listed = "missing: blocks.0.norm1.bias; left over: more; wrong: head.bias is (9,), not (4,)"
        assert fault(load, file, num_heads=1) == f"{file}: not a ViT state dict with timm's names: {listed}"

    def test_a_named_model_is_doubted(self, checkpoint):
        found = fault(load, checkpoint, "ViT-B_32")
        assert found.startswith(
            f"{checkpoint}: not a ViT in the Flax layout: missing: Transformer/encoderblock_6/LayerNorm_0/scale"
        )
        assert re.search(r"missing: (\S+, ){7}\S+ and \d+ more; wrong: ", found)
        assert found.endswith(" (does --model_type ViT-B_32 name the model of this file?)")

    def test_unknown_names_and_sizes(self, checkpoint):
        names = ", ".join(CONFIGS)
        assert fault(load, checkpoint, "ViT-X") == f"--model_type ViT-X is unknown; choose from auto, {names}"
        said = "an image size of 10 is no multiple of the patch size 3; change --img_size"
        assert fault(load, checkpoint, img_size=10) == f"{checkpoint}: {said}"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_values_that_are_not_finite(self, value, file):
        weights = state()
        weights["blocks.0.norm1.bias"][-1] = value
        torch.save(weights, file)
        assert fault(load, file, num_heads=1).endswith("wrong: blocks.0.norm1.bias holds values that are not finite")

    @pytest.mark.parametrize(
        ("shape", "square"),
        [
            ((1, 12, 20), (1, 10, 20)),
            ((1, 3, 20), (1, 2, 20)),
            ((10, 20), (1, 2, 20)),
            ((2, 10, 20), (1, 10, 20)),
        ],
    )
    def test_positions_must_be_a_square_beside_the_cls_position(self, shape, square, file):
        torch.save({**state(), "pos_embed": torch.zeros(shape)}, file)
        assert f"pos_embed is {shape}, not {square}" in fault(load, file, num_heads=1)

    def test_dimensions_are_read_where_any_array_tells(self, file):
        weights = state("cls", patch_size=2, img_size=6, width=6, mlp_dim=7, num_classes=5, depth=3)
        found = {"width": 6, "patch_size": 2, "mlp_dim": 7, "num_classes": 5, "depth": 3, "img_size": 6}
        assert STATE_DICT.dimensions(weights) == found
        for name in ("cls_token", "blocks.0.mlp.fc1.weight", "head.weight"):
            del weights[name]
        assert STATE_DICT.dimensions(weights) == found
        assert STATE_DICT.dimensions({}) == dict.fromkeys(found, 1)

    def test_dimensions_of_flax_arrays(self, tmp_path):
        save(random_model(tiny_config(patch_size=2, img_size=8)), tmp_path / "a.npz")
        tensors = read(tmp_path / "a.npz").tensors
        found = {
            "width": 20,
            "patch_size": 2,
            "num_heads": 5,
            "mlp_dim": 28,
            "num_classes": 4,
            "depth": 6,
            "img_size": 8,
        }
        assert FLAX.dimensions(tensors) == found
        first, kernels = "Transformer/encoderblock_0", ("MultiHeadDotProductAttention_1/query", "MlpBlock_3/Dense_0")
        fewer = {"cls", "head/kernel", *(f"{first}/{kernel}/kernel" for kernel in kernels)}
        assert FLAX.dimensions({name: x for name, x in tensors.items() if name not in fewer}) == found


class TestLoading:
    def test_image_sizes(self, checkpoint):
        assert load(checkpoint).config.img_size == 9
        larger = load(checkpoint, img_size=12)
        assert (larger.config.img_size, larger.pos_embed.shape) == (12, (1, 17, 20))

    def test_where_and_in_which_precision(self, checkpoint):
        model = load(checkpoint, device="meta", dtype=torch.bfloat16)
        assert model.pos_embed.device.type == "meta"
        assert (model.blocks[0].mlp.fc1.weight.dtype, model.head.weight.dtype) == (torch.bfloat16, torch.float32)
        assert load(checkpoint).dtype == torch.float32


class TestSaving:
    @pytest.mark.parametrize(("name", "pool"), [("x/y/a.npz", "cls"), ("a.pth", "cls"), ("a.pth", "mean")])
    def test_float32_in_a_public_layout_and_nothing_else_is_left(self, name, pool, tmp_path):
        model = random_model(tiny_config(pool))
        save(model, str(tmp_path / name))
        assert [f.name for f in (tmp_path / name).parent.iterdir()] == [(tmp_path / name).name]
        found = read(tmp_path / name)
        assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
        assert found.num_heads == (None if name.endswith("npz") else 5)
        assert load(tmp_path / name).config == model.config

    @pytest.mark.parametrize("name", ["a.npz", "a.pth"])
    def test_a_cut_file_never_has_its_name(self, name, tmp_path, monkeypatch):
        seen = []

        def stop(place, *_, **__):
            seen.append(str(place) if name == "a.npz" else str(_[0]))
            raise KeyboardInterrupt

        monkeypatch.setattr(*((np, "savez", stop) if name == "a.npz" else (torch, "save", stop)))
        (tmp_path / name).write_text("an earlier one")
        with pytest.raises(KeyboardInterrupt):
            save(random_model(tiny_config()), tmp_path / name)
        assert seen == [str(tmp_path / f"a.{os.getpid()}.tmp{name[1:]}")]
        assert (tmp_path / name).read_text() == "an earlier one"

    def test_a_digest_is_read_anew_where_the_file_has_changed(self, tmp_path):
        file = tmp_path / "a"
        for content, time in ((b"one", 1), (b"two", 2), (b"three", 2)):
            file.write_bytes(content)
            os.utime(file, ns=(0, time))
            assert sha256(str(file)) == hashlib.sha256(content).hexdigest()
