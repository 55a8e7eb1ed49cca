"""State dicts of timm's Vision Transformer that are no plain ones: logits equal timm's own."""

import contextlib
import io
import pickle
import re

import pytest
import torch
from helpers import Payload, fault, random_model, tiny_config
from safetensors.torch import save_file
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer as TimmViT

from neuronpath import HeadError, load
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.models.reading import READERS, read
from neuronpath.models.variants import prefixes

SIZES = {"img_size": 9, "patch_size": 3, "embed_dim": 20, "depth": 3, "num_heads": 5, "mlp_ratio": 28 / 20}
TOLD = {"num_heads": 5, "activation": "gelu", "pool": "cls"}


def timm_vit(**options) -> TimmViT:
    """Random weights, float32 numbers in float64, none of them 0 or 1."""
    torch.manual_seed(0)
    model = TimmViT(**{**SIZES, "num_classes": 4, **options})
    for name, parameter in model.named_parameters():
        noise = 0.35 * torch.randn(parameter.shape)
        parameter.data = noise + 1 if "norm" in name and name.endswith("weight") else noise
    return model.double().eval()


def weights(model: TimmViT) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in model.state_dict().items()}


def difference(ours, theirs) -> float:
    """Of the logits of random images, relative to the largest."""
    side = ours.config.img_size
    images = torch.randn(3, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    assert expected.std() > 1e-2
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a.pth"


VARIANTS = {
    "plain": {},
    "LayerScale": {"init_values": 1.0},
    "registers with positions": {"reg_tokens": 2},
    "registers without positions": {"reg_tokens": 2, "no_embed_class": True},
    "CLS without a position": {"no_embed_class": True},
    "no bias of q, k and v": {"qkv_bias": False},
    "no bias of any block": {"qkv_bias": False, "proj_bias": False},
    "all at once": {"init_values": 1.0, "reg_tokens": 2, "no_embed_class": True, "qkv_bias": False, "proj_bias": False},
}
HEADS = {
    "cls": ({}, "cls"),
    "mean": ({"global_pool": "avg"}, "mean"),
    "norm first": ({"global_pool": "avg", "fc_norm": False}, "mean"),
}
ACTIVATIONS = {
    "gelu": {},
    "gelu-tanh": {"act_layer": lambda: torch.nn.GELU(approximate="tanh")},
    "quick-gelu": {"act_layer": QuickGELU},
}


class TestLogits:
    @pytest.mark.parametrize("head", HEADS)
    @pytest.mark.parametrize("name", VARIANTS)
    def test_variants_equal_timm(self, name, head, file):
        options, pool = HEADS[head]
        theirs = timm_vit(**VARIANTS[name], **options)
        torch.save(weights(theirs), file)
        ours = load(file, num_heads=5, activation="gelu", pool=pool, dtype=torch.float64)
        assert difference(ours, theirs) < 1e-9
        assert ours.assumed == ()
        assert (ours.config.pool, ours.config.norm_first) == (pool, head == "norm first")
        assert ours.config.registers == VARIANTS[name].get("reg_tokens", 0)

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_activations_equal_timm(self, activation, file):
        theirs = timm_vit(**ACTIVATIONS[activation])
        torch.save(weights(theirs), file)
        for name in ACTIVATIONS:
            ours = load(file, **TOLD | {"activation": name}, dtype=torch.float64)
            assert (difference(ours, theirs) < 1e-9) == (name == activation)

    def test_layerscale_under_the_names_of_deit3_may_be_of_a_rotary_model(self, file):
        theirs = timm_vit(init_values=1.0, no_embed_class=True)
        state = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): x for name, x in weights(theirs).items()}
        torch.save(state, file)
        with pytest.warns(UserWarning, match="assumed: no rotary positions; a folder with config.json, or "):
            ours = load(file, **TOLD, dtype=torch.float64)
        assert difference(ours, theirs) < 1e-9

    def test_registers_beside_positions_of_cls_and_patches(self, file):
        """As DINOv2 has them; timm adds the position of CLS to its token."""
        theirs = timm_vit(reg_tokens=2, no_embed_class=True)
        state = weights(theirs)
        position = torch.randn(1, 1, 20)
        torch.save({**state, "pos_embed": torch.cat((position, state["pos_embed"]), 1)}, file)
        theirs.cls_token.data += position
        assert difference(load(file, **TOLD, dtype=torch.float64), theirs) < 1e-9

    @pytest.mark.parametrize("name", ["registers with positions", "registers without positions", "plain"])
    def test_another_image_size_resizes_the_grid_alone(self, name, file):
        theirs = timm_vit(**VARIANTS[name])
        torch.save(weights(theirs), file)
        ours, larger = (load(file, **TOLD, img_size=size) for size in (9, 12))
        before = ours.config.registers + 1
        assert larger.pos_embed.shape == (1, before + 16, 20)
        assert larger.pos_embed[:, :before].equal(ours.pos_embed[:, :before])
        corners = larger.pos_embed[0, before:].view(4, 4, 20)[::3, ::3]
        torch.testing.assert_close(corners, ours.pos_embed[0, before:].view(3, 3, 20)[::2, ::2])

    def test_float64_files_keep_their_precision(self, file):
        theirs = timm_vit(init_values=1.0)
        for parameter in theirs.parameters():
            parameter.data += 1e-9 * torch.randn_like(parameter)
        torch.save(theirs.state_dict(), file)
        assert difference(load(file, **TOLD, dtype=torch.float64), theirs) < 1e-13
        assert load(file, **TOLD).blocks[0].mlp.fc2.weight.dtype == torch.float32

    def test_every_variant_is_saved_and_read_back(self, file):
        for changes in ({"registers": 2, "activation": "quick-gelu"}, {"pool": "mean", "norm_first": True}):
            model = random_model(tiny_config(**changes), dtype=torch.float32)
            save(model, file)
            found = load(file)
            assert (found.config, found.assumed) == (model.config, ())
            assert all(value.equal(model.state_dict()[name]) for name, value in found.state_dict().items())
            said = "npz: .npz files are for exact GELU, a head on CLS and no registers; save it as .pth"
            assert fault(save, model, file.with_suffix(".npz")).endswith(said)


class TestNoLongerSilent:
    """What state dicts do not tell, with what it costs to get it wrong."""

    @pytest.mark.parametrize(
        ("options", "right"),
        [
            ({"global_pool": "avg", "fc_norm": False}, {"pool": "mean"}),
            ({"num_heads": 10}, {"num_heads": 10}),
            ({"act_layer": QuickGELU}, {"activation": "quick-gelu"}),
            ({"act_layer": lambda: torch.nn.GELU(approximate="tanh")}, {"activation": "gelu-tanh"}),
        ],
    )
    def test_the_wrong_loads(self, options, right, file, monkeypatch):
        monkeypatch.setattr("neuronpath.models.checkpoint.HEADS_BY_WIDTH", {20: 5})
        theirs = timm_vit(**options)
        torch.save(weights(theirs), file)
        said = "assumed: 5 heads, exact GELU, head on CLS; a folder with config.json, or --model_type timm:NAME, tells"
        with pytest.warns(UserWarning, match="assumed") as warned:
            wrong = load(file, dtype=torch.float64)
        assert [str(w.message) for w in warned] == [f"{file}: {said}"]
        assert wrong.assumed == ("5 heads", "exact GELU", "head on CLS")
        assert difference(wrong, theirs) > 1e-4
        assert difference(load(file, **TOLD | right, dtype=torch.float64), theirs) < 1e-9

    def test_what_is_told_is_not_assumed(self, file, recwarn):
        torch.save(weights(timm_vit()), file)
        assert load(file, num_heads=5).assumed == ("exact GELU", "head on CLS")
        assert load(file, num_heads=5, activation="gelu").assumed == ("head on CLS",)
        recwarn.clear()
        assert load(file, **TOLD).assumed == ()
        torch.save({"state_dict": weights(timm_vit()), **TOLD}, file)
        assert load(file).assumed == ()
        metadata = {name: str(value) for name, value in TOLD.items()}
        save_file(weights(timm_vit()), file.with_suffix(".safetensors"), metadata)
        assert load(file.with_suffix(".safetensors")).assumed == ()
        assert not recwarn.list
        torch.save({"model": weights(timm_vit(global_pool="avg")), "num_heads": 5}, file)
        assert load(file).assumed == ("exact GELU", "head on the mean patch")

    @pytest.mark.parametrize("value", ["relu", 3, None, ["gelu"], torch.zeros(1)])
    def test_only_known_words_of_a_file_count(self, value, file):
        torch.save({"model": weights(timm_vit()), "num_heads": 5, "activation": value, "pool": value}, file)
        found = read(file)
        assert (found.activation, found.told_pool) == (None, None)
        assert load(file).assumed == ("exact GELU", "head on CLS")

    def test_what_the_caller_says_must_be_known(self, file):
        torch.save(weights(timm_vit()), file)
        known = "gelu, gelu-tanh, quick-gelu"
        assert fault(load, file, activation="relu") == f"--activation relu is unknown; choose from {known}"
        assert fault(load, file, pool="max") == "--pool max is unknown; choose from cls, mean"

    def test_a_norm_of_the_mean_is_not_of_the_cls_token(self, file):
        torch.save(weights(timm_vit(global_pool="avg")), file)
        with pytest.raises(HeadError):
            load(file, num_heads=5, pool="cls")


class TestWrappers:
    @pytest.mark.parametrize("ending", [ending for ending in READERS if ending not in (".npz", ".safetensors")])
    @pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
    @pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.model."])
    def test_names_and_endings(self, ending, wrapper, prefix, tmp_path):
        file, state = tmp_path / f"a{ending}", weights(timm_vit())
        named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
        torch.save({wrapper: named, "epoch": 3, **TOLD} if wrapper else named, file)
        assert read(file).tensors.keys() == state.keys()
        if wrapper:
            assert load(file).blocks[2].mlp.fc1.weight.equal(state["blocks.2.mlp.fc1.weight"])

    def test_a_prefix_of_some_names_only_is_no_wrapper(self, file):
        state = weights(timm_vit())
        torch.save({f"model.{name}": x for name, x in state.items()} | {"loss.weight": torch.ones(1)}, file)
        assert "left over: model.cls_token" in fault(load, file, **TOLD)
        torch.save({f"model.{name}": x for name, x in state.items()} | {"head.weight": torch.ones(1)}, file)
        assert "left over: model.cls_token" in fault(load, file, **TOLD)

    def test_of_two_state_dicts_none_is_taken(self, file):
        state = weights(timm_vit())
        torch.save({"model": state, "state_dict": state}, file)
        assert "both a 'model' and a 'state_dict'" in fault(load, file)

    def test_averaged_weights_beside_the_others_are_named(self, file):
        state = weights(timm_vit())
        torch.save({"state_dict": state, "state_dict_ema": state, **TOLD}, file)
        with pytest.warns(UserWarning, match="assumed: 'state_dict', not 'state_dict_ema'; "):
            assert load(file).assumed == ("'state_dict', not 'state_dict_ema'",)


@pytest.mark.parametrize("ending", [ending for ending in READERS if ending != ".npz"])
class TestHostile:
    """Under every ending: no program is run, and damage is one line."""

    @pytest.mark.parametrize("place", ["bare", "model", "state_dict", "activation", "weight", "pickle"])
    def test_programs_are_not_run(self, ending, place, tmp_path):
        file, canary = tmp_path / f"a{ending}", tmp_path / "canary"
        state, payload = weights(timm_vit(init_values=1.0)), Payload(canary)
        content = {
            "bare": payload,
            "model": {"model": payload},
            "state_dict": {"state_dict": payload},
            "activation": {"state_dict": state, "activation": payload},
            "weight": {"state_dict": {**state, "blocks.0.ls1.gamma": payload}},
            "pickle": payload,
        }[place]
        if place == "pickle":
            file.write_bytes(pickle.dumps(payload))
        else:
            torch.save(content, file)
            torch.load(io.BytesIO(file.read_bytes()), weights_only=False)
            canary.unlink()  # it was there: the payload is live
        message = fault(load, file, **TOLD)
        assert message.startswith(f"{file}: ")
        assert "\n" not in message
        assert not canary.exists()

    def test_damage_is_one_line(self, ending, tmp_path):
        file, state = tmp_path / f"a{ending}", weights(timm_vit(init_values=1.0, reg_tokens=2, depth=1))
        if ending == ".safetensors":
            save_file(state, file, {"activation": "quick-gelu"})
        else:
            torch.save({"state_dict": state, "activation": "quick-gelu"}, file)
        whole = file.read_bytes()
        for at in range(7, len(whole), len(whole) // 60):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            with contextlib.suppress(UserError):  # anything else fails the test
                load(file, **TOLD)
            file.write_bytes(whole[:at])
            assert fault(load, file, **TOLD).startswith(f"{file}: not a sound {ending} checkpoint (")

    @pytest.mark.parametrize("shape", [(0,), (1, 0), (2**40, 0)])
    def test_empty_arrays_anywhere(self, ending, shape, tmp_path):
        file, state = tmp_path / f"a{ending}", weights(timm_vit(init_values=1.0, reg_tokens=2, depth=1))
        for name in state:
            changed = {**state, name: torch.zeros(shape)}
            save_file(changed, file) if ending == ".safetensors" else torch.save(changed, file)
            message = fault(load, file, **TOLD)
            assert message.startswith(f"{file}: ")
            assert "\n" not in message


class TestStrict:
    """A variant is whole or it is an error; nothing is guessed, nothing left over."""

    def said(self, file, state, **more) -> str:
        torch.save(state, file)
        return fault(load, file, **TOLD, **more)

    def test_layerscale_of_some_blocks(self, file):
        state = weights(timm_vit(init_values=1.0))
        del state["blocks.1.ls2.gamma"]
        assert "missing: blocks.1.ls2.gamma" in self.said(file, state)
        state["blocks.1.gamma_2"] = torch.ones(20)
        assert "missing: blocks.1.ls2.gamma; left over: blocks.1.gamma_2" in self.said(file, state)

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (torch.ones(3), r"is \(3,\), not \(20,\)"),
            (torch.ones(20, 20), r"is \(20, 20\), not \(20,\)"),
            (torch.ones(()), r"is \(\), not \(20,\)"),
            (torch.full((20,), torch.nan), "holds values that are not finite"),
        ],
    )
    def test_layerscale_of_another_shape(self, value, why, file):
        state = weights(timm_vit(init_values=1.0)) | {"blocks.2.ls1.gamma": value}
        assert re.search(f"wrong: blocks.2.ls1.gamma {why}", self.said(file, state))

    @pytest.mark.parametrize("layer", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
    def test_a_bias_that_other_blocks_have(self, layer, file):
        state = weights(timm_vit())
        del state[f"blocks.1.{layer}.bias"]
        assert f"missing: blocks.1.{layer}.bias" in self.said(file, state)

    @pytest.mark.parametrize("name", ["norm.bias", "patch_embed.proj.bias", "blocks.0.norm1.bias", "cls_token"])
    def test_other_parts_are_never_zeros(self, name, file):
        state = {key: x for key, x in weights(timm_vit()).items() if key != name}
        assert f"missing: {name}" in self.said(file, state)
        state = {key: x for key, x in weights(timm_vit()).items() if "norm" not in key or not key.endswith("bias")}
        assert "missing: blocks.0.norm1.bias" in self.said(file, state), "RMSNorm has no bias"

    def test_files_without_positions_may_be_rotary(self, file):
        state = weights(timm_vit(pos_embed="none"))
        said = "missing: pos_embed; no positions, or rotary ones, of which a file tells nothing: give --model_type"
        assert said in self.said(file, state)

    def test_positions_that_fit_two_grids(self, file):
        state = weights(timm_vit(reg_tokens=4, no_embed_class=True))
        said = "9 positions beside 4 registers may be those of two grids, and nothing tells which; "
        assert said in self.said(file, state)

    @pytest.mark.parametrize("shape", [(1, 0, 20), (1, 2, 21), (2, 2, 20), (2, 20), ()])
    def test_registers_of_another_shape(self, shape, file):
        said = self.said(file, weights(timm_vit(reg_tokens=2)) | {"reg_token": torch.zeros(shape)})
        assert "reg_token" in said or "pos_embed" in said

    def test_a_named_model_has_none_of_it(self, file):
        config = tiny_config()
        model = timm_vit(init_values=1.0, embed_dim=96, depth=12, num_heads=4, mlp_ratio=4, patch_size=8, img_size=32)
        torch.save(weights(model), file)
        said = fault(load, file, "ViT-digits")
        assert "left over: blocks.0.ls1.gamma" in said
        assert config.registers == 0

    def test_how_many_positions_may_precede_a_grid(self):
        assert [prefixes(n, 0) for n in (0, 1, 2, 3, 9, 10, 12)] == [[], [0], [1], [], [0], [1], []]
        assert [prefixes(n, 4) for n in (9, 10, 14, 200, 201, 196)] == [[5, 0], [1], [5], [], [5], [0]]
