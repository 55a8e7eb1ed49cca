"""`.pth` and `.safetensors`: fine-tuned MAE and timm-style ViTs, head counts, wrong heads and hostile files."""

import argparse
import contextlib
import os
import pickle

import pytest
import torch
from helpers import random_model, tiny_config
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer as TimmViT

from neuronpath import load
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import HeadError, save
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import VisionTransformer


def state(pool: str = "mean", **changes) -> dict[str, torch.Tensor]:
    return random_model(tiny_config(pool, **changes), dtype=torch.float32).state_dict()


def assert_holds(model: VisionTransformer, expected: dict[str, torch.Tensor]) -> None:
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class TestFiles:
    @pytest.mark.parametrize("pool", ["cls", "mean"])
    def test_the_public_file_a_bare_state_dict_and_safetensors(self, pool, tmp_path):
        weights = state(pool)
        public = {"model": weights, "args": argparse.Namespace(lr=0.1), "epoch": 99, "optimizer": {"lr": [0.1]}}
        torch.save(public, tmp_path / "public.pth")
        torch.save(weights, tmp_path / "bare.pth")
        save_file(weights, tmp_path / "a.safetensors")
        for name in ("public.pth", "bare.pth", "a.safetensors"):
            model = load(tmp_path / name, num_heads=5)
            assert (model.config.pool, model.config.num_heads) == (pool, 5)
            assert_holds(model, weights)

    def test_what_save_writes_tells_its_heads(self, tmp_path):
        model = random_model(tiny_config("mean"), dtype=torch.float32)
        save(model, tmp_path / "a.pth")
        assert load(tmp_path / "a.pth").config.to_dict() == model.config.to_dict()
        assert_holds(load(tmp_path / "a.pth"), model.state_dict())

    @pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
    def test_mae_logits_equal_timms_average_pooling(self, dtype, precision, tmp_path):
        torch.save({"model": state()}, tmp_path / "mae.pth")
        timm = TimmViT(
            img_size=9, patch_size=3, embed_dim=20, depth=6, num_heads=5, mlp_ratio=28 / 20, num_classes=4,
            global_pool="avg",
        )  # fmt: skip
        timm.load_state_dict(torch.load(tmp_path / "mae.pth", weights_only=True)["model"], strict=True)
        images = torch.randn(3, 3, 9, 9, dtype=dtype)
        ours = load(tmp_path / "mae.pth", num_heads=5, dtype=dtype)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), timm.to(dtype).eval()(images), rtol=precision, atol=precision)

    def test_another_image_size_resizes_the_grid(self, tmp_path):
        save(random_model(tiny_config("mean"), dtype=torch.float32), tmp_path / "a.pth")
        model = load(tmp_path / "a.pth", img_size=15)
        assert model.pos_embed.shape == (1, 26, 20)
        assert model(torch.randn(1, 3, 15, 15)).isfinite().all()


class TestHeads:
    """Order of trust: the argument, a named type, the file, the public widths."""

    @staticmethod
    def save(path, width: int, **entries):
        torch.save({"model": state(depth=1, width=width, num_heads=1, mlp_dim=3), **entries}, path)

    @pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1280, 16)])
    def test_public_widths(self, width, heads, tmp_path):
        self.save(tmp_path / "a.pth", width)
        assert load(tmp_path / "a.pth").config.num_heads == heads
        self.save(tmp_path / "a.pth", width, num_heads=8)
        assert load(tmp_path / "a.pth").config.num_heads == 8
        assert load(tmp_path / "a.pth", num_heads=4).config.num_heads == 4

    def test_another_width_needs_the_file_or_the_argument(self, tmp_path):
        self.save(tmp_path / "a.pth", 96)
        with pytest.raises(UserError, match="--num_heads"):
            load(tmp_path / "a.pth")
        assert load(tmp_path / "a.pth", num_heads=4).config.num_heads == 4
        self.save(tmp_path / "a.pth", 96, num_heads=4)
        assert load(tmp_path / "a.pth").config.num_heads == 4
        with pytest.raises(UserError, match="no 7 heads"):
            load(tmp_path / "a.pth", num_heads=7)

    @pytest.mark.parametrize("value", [True, 4.0, "x", 0, -4, None, [4]])
    def test_only_a_whole_number_counts(self, value, tmp_path):
        self.save(tmp_path / "a.pth", 96, num_heads=value)
        with pytest.raises(UserError, match="--num_heads"):
            load(tmp_path / "a.pth")

    def test_safetensors_metadata(self, tmp_path):
        save_file(state(), tmp_path / "a.safetensors", metadata={"num_heads": "5"})
        assert load(tmp_path / "a.safetensors").config.num_heads == 5

    def test_a_named_type_is_trusted_over_the_file(self, tmp_path):
        config = CONFIGS["MAE-digits"]
        weights = random_model(config, dtype=torch.float32).state_dict()
        torch.save({"model": weights, "num_heads": 8}, tmp_path / "a.pth")
        assert load(tmp_path / "a.pth", "MAE-digits").config.num_heads == 4
        assert load(tmp_path / "a.pth").config.num_heads == 8

    @pytest.mark.long
    @pytest.mark.parametrize(("name", "heads"), [("MAE-B_16", 12), ("MAE-L_16", 16), ("MAE-H_14", 16)])
    def test_the_public_shapes(self, name, heads, tmp_path):
        with torch.device("meta"):
            weights = VisionTransformer(CONFIGS[name]).to_empty(device="cpu").state_dict()
        for tensor in weights.values():
            torch.nn.init.normal_(tensor, std=0.02)
        torch.save({"model": weights}, tmp_path / "a.pth")
        for model_type in (name, "auto"):
            model = load(tmp_path / "a.pth", model_type)
            assert model.config.to_dict() == {**CONFIGS[name].to_dict(), "num_heads": heads}
            assert model(torch.randn(1, 3, 224, 224)).isfinite().all()


class Custom:
    pass


class Program:
    """Unpickled, it makes the folder `canary`."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


class TestWrongHead:
    def test_in_python(self, tmp_path):
        save(random_model(tiny_config("mean"), dtype=torch.float32), tmp_path / "a.pth")
        with pytest.raises(HeadError) as e:
            load(tmp_path / "a.pth", pool="cls")
        assert e.value.pool == "mean"
        with pytest.raises(HeadError):
            load(tmp_path / "a.pth", "ViT-B_16")


class TestHostile:
    def refused(self, path) -> str:
        with pytest.raises(UserError) as e:
            load(path, num_heads=5)
        assert str(e.value).startswith(str(path))
        assert "\n" not in str(e.value)
        return str(e.value)

    @pytest.mark.parametrize("place", ["model", "args", "weight"])
    def test_a_program_is_named_and_not_run(self, place, tmp_path):
        canary = tmp_path / "canary"
        content = {"model": state(), "args": argparse.Namespace()}
        if place == "weight":
            content["model"]["cls_token"] = Program(canary)
        else:
            content[place] = Program(canary)
        torch.save(content, tmp_path / "a.pth")
        assert "mkdir" in self.refused(tmp_path / "a.pth")
        assert not canary.exists()

    def test_other_objects_are_named(self, tmp_path):
        for entry in (Custom(), argparse.Namespace(inner=Custom()), argparse.Action("a", "b")):
            torch.save({"model": state(), "x": entry}, tmp_path / "a.pth")
            assert type(vars(entry).get("inner", entry)).__name__ in self.refused(tmp_path / "a.pth")

    def test_a_bare_pickle_runs_nothing(self, tmp_path):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            (tmp_path / "a.pth").write_bytes(pickle.dumps(Program(tmp_path / "canary"), protocol))
            self.refused(tmp_path / "a.pth")
        assert not (tmp_path / "canary").exists()

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x02", b"PK\x03\x04", bytes(64)])
    def test_what_is_no_checkpoint(self, content, suffix, tmp_path):
        (tmp_path / f"a{suffix}").write_bytes(content)
        self.refused(tmp_path / f"a{suffix}")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_cut_and_flipped_files_never_raise_anything_else(self, suffix, tmp_path):
        path, expected = tmp_path / f"a{suffix}", state(depth=1)
        if suffix == ".pth":
            torch.save({"model": expected, "args": argparse.Namespace(a=1)}, path)
        else:
            save_file(expected, path)
        whole = path.read_bytes()
        for cut in range(0, len(whole), len(whole) // 40):
            path.write_bytes(whole[:cut])
            self.refused(path)
        for at in range(7, len(whole), len(whole) // 150):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            with contextlib.suppress(UserError):  # anything else fails the test
                load(path, num_heads=5)

    @pytest.mark.parametrize(
        "content",
        [[1], {"model": [1]}, {"model": {"cls_token": 3}}, {"model": {"cls_token": torch.ones(1, 1, 20).long()}}, {}],
    )
    def test_what_is_no_state_dict(self, content, tmp_path):
        torch.save(content, tmp_path / "a.pth")
        self.refused(tmp_path / "a.pth")

    @pytest.mark.parametrize("kind", ["sparse", "meta", "float8"])
    def test_tensors_that_are_no_plain_numbers(self, kind, tmp_path):
        head = torch.zeros(4)
        odd = {"sparse": head.to_sparse(), "meta": head.to("meta"), "float8": head.to(torch.float8_e4m3fn)}
        torch.save({"model": {**state(), "head.bias": odd[kind]}}, tmp_path / "a.pth")
        assert "head.bias" in self.refused(tmp_path / "a.pth")

    def test_missing_left_over_and_wrong_in_one_error(self, tmp_path):
        weights = state()
        del weights["blocks.3.norm1.bias"]
        weights["decoder_embed.weight"] = torch.ones(2, 2)
        weights["head.bias"] = torch.ones(9)
        torch.save({"model": weights}, tmp_path / "a.pth")
        message = self.refused(tmp_path / "a.pth")
        assert all(
            part in message for part in ("missing: blocks.3.norm1.bias", "decoder_embed.weight", "head.bias is (9,)")
        )

    def test_a_checkpoint_of_unknown_kind(self, tmp_path):
        (tmp_path / "a.h5").write_bytes(b"x")
        assert ".safetensors" in self.refused(tmp_path / "a.h5")
