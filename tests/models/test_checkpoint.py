"""`.npz`: what is read is what was saved; whatever is wrong with a file is one UserError and runs nothing."""

import hashlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from helpers import SMALLEST, Payload, random_model, tiny_config

import neuronpath
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save, sha256
from neuronpath.models.configs import CONFIGS
from neuronpath.models.layouts import flax_views
from neuronpath.models.vit import VisionTransformer

BLOCK, POSITIONS = "Transformer/encoderblock_0", "Transformer/posembed_input/pos_embedding"
QUERY = f"{BLOCK}/MultiHeadDotProductAttention_1/query/kernel"


@pytest.fixture
def arrays(checkpoint) -> dict[str, np.ndarray]:
    with np.load(checkpoint) as file:
        return dict(file)


@pytest.fixture
def refused(tmp_path):
    """Write a file, load it, and return the one line that refuses it."""

    def refuse(content: bytes | dict[str, np.ndarray], **options) -> str:
        file = tmp_path / "bad.npz"
        file.write_bytes(content) if isinstance(content, bytes) else np.savez(file, **content)
        with pytest.raises(UserError) as caught:
            neuronpath.load(file, **options)
        message = str(caught.value)
        assert "bad.npz" in message
        assert message.isprintable()
        return message

    return refuse


class TestRoundTrip:
    @pytest.mark.parametrize("changes", [{}, SMALLEST, {"num_heads": 1, "depth": 11, "num_classes": 1}])
    def test_save_and_load_keep_every_bit_and_dimension(self, changes, tmp_path):
        model = random_model(tiny_config(**changes), dtype=torch.float32)
        save(model, tmp_path / "folder" / "vit.npz")
        loaded = neuronpath.load(tmp_path / "folder" / "vit.npz")
        assert loaded.config == model.config
        expected = model.state_dict()
        assert loaded.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())

    def test_every_element_of_every_parameter_is_in_the_file_once(self, tmp_path):
        model, count = VisionTransformer(tiny_config()), 0
        for parameter in model.parameters():
            values = torch.arange(count, count + parameter.numel(), dtype=torch.float32)
            parameter.data, count = values.view(parameter.shape), count + parameter.numel()
        save(model, tmp_path / "vit.npz")
        with np.load(tmp_path / "vit.npz") as file:
            found = np.concatenate([file[name].ravel() for name in file.files])
        assert np.array_equal(np.sort(found), np.arange(count))

    def test_names_and_shapes_are_those_of_the_public_files(self, arrays):
        D, H, heads, C = 20, 28, 5, 4
        expected = {
            "cls": (1, 1, D),
            "embedding/kernel": (3, 3, 3, D),
            "embedding/bias": (D,),
            POSITIONS: (1, 10, D),
            "Transformer/encoder_norm/scale": (D,),
            "Transformer/encoder_norm/bias": (D,),
            "head/kernel": (D, C),
            "head/bias": (C,),
        }
        for i in range(6):
            block = f"Transformer/encoderblock_{i}"
            attention = f"{block}/MultiHeadDotProductAttention_1"
            expected |= {f"{block}/LayerNorm_{n}/{part}": (D,) for n in (0, 2) for part in ("scale", "bias")}
            for part in ("query", "key", "value"):
                expected |= {f"{attention}/{part}/kernel": (D, heads, 4), f"{attention}/{part}/bias": (heads, 4)}
            expected |= {f"{attention}/out/kernel": (heads, 4, D), f"{attention}/out/bias": (D,)}
            expected |= {f"{block}/MlpBlock_3/Dense_0/kernel": (D, H), f"{block}/MlpBlock_3/Dense_0/bias": (H,)}
            expected |= {f"{block}/MlpBlock_3/Dense_1/kernel": (H, D), f"{block}/MlpBlock_3/Dense_1/bias": (D,)}
        assert {name: array.shape for name, array in arrays.items()} == expected
        assert all(array.dtype == np.float32 for array in arrays.values())

    @pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
    def test_other_floating_point_types_are_read(self, arrays, dtype, checkpoint, tmp_path):
        file = tmp_path / "vit.npz"
        np.savez(file, **{name: array.astype(dtype) for name, array in arrays.items()})
        for img_size in (9, 12):
            loaded, expected = neuronpath.load(file, img_size=img_size), neuronpath.load(checkpoint, img_size=img_size)
            for a, b in zip(loaded.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


class TestShapes:
    @pytest.mark.parametrize(
        ("name", "img_size", "count"),
        [("ViT-B_16", 224, 86_567_656), ("ViT-B_32", 384, 88_297_192), ("ViT-L_32", 384, 306_632_680)],
    )
    def test_parameter_counts_of_the_public_files(self, name, img_size, count):
        config = CONFIGS[name].with_(img_size=img_size)
        with torch.device("meta"):
            assert sum(parameter.numel() for parameter in VisionTransformer(config).parameters()) == count

    @pytest.mark.parametrize("name", CONFIGS)
    def test_parameter_counts_of_all_named_models(self, name):
        c = CONFIGS[name]
        D, H, tokens = c.width, c.mlp_dim, 1 + (c.img_size // c.patch_size) ** 2
        block = 2 * 2 * D + (3 * D * D + 3 * D) + (D * D + D) + (D * H + H) + (H * D + D)
        rest = D + tokens * D + (3 * c.patch_size**2 * D + D) + 2 * D + (D * c.num_classes + c.num_classes)
        with torch.device("meta"):
            model = VisionTransformer(c)
        assert sum(parameter.numel() for parameter in model.parameters()) == c.depth * block + rest
        if c.pool == "cls":
            assert sum(view.numel() for view in flax_views(model).values()) == c.depth * block + rest

    def test_named_type_takes_its_classes_from_the_head(self, tmp_path):
        config = CONFIGS["ViT-digits"].with_(num_classes=7)
        save(random_model(config, dtype=torch.float32), tmp_path / "vit.npz")
        assert neuronpath.load(tmp_path / "vit.npz", "ViT-digits").config == config

    def test_named_type_of_other_shapes_is_refused(self, arrays, refused):
        message = refused(arrays, model_type="ViT-B_32")
        assert "ViT-B_32" in message
        assert "(1, 1, 20), not (1, 1, 768)" in message

    def test_unknown_type_is_refused(self, checkpoint):
        with pytest.raises(UserError, match="ViT-B_17"):
            neuronpath.load(checkpoint, "ViT-B_17")

    def test_image_size_must_be_a_multiple_of_the_patch(self, checkpoint):
        with pytest.raises(UserError, match=r"tiny\.npz.* 10 .*patch size 3"):
            neuronpath.load(checkpoint, img_size=10)


class TestContents:
    def test_all_faults_are_in_one_error(self, arrays, refused):
        del arrays["embedding/bias"], arrays["Transformer/encoderblock_3/LayerNorm_2/scale"]
        arrays |= {"pre_logits/kernel": np.zeros((20, 20)), "Transformer/encoder_norm/scale": np.ones(21)}
        message = refused(arrays)
        for fault in (
            "embedding/bias",
            "encoderblock_3/LayerNorm_2/scale",
            "pre_logits/kernel",
            "encoder_norm/scale is (21,), not (20,)",
        ):
            assert fault in message

    @pytest.mark.parametrize("name", ["head", POSITIONS, "cls", "embedding", "Transformer/encoderblock_2"])
    def test_missing_parts_are_named(self, name, arrays, refused):
        assert name in refused({key: array for key, array in arrays.items() if not key.startswith(name)})

    def test_file_without_blocks_is_refused(self, arrays, refused):
        refused({name: array for name, array in arrays.items() if "encoderblock" not in name})

    @pytest.mark.parametrize("name", [POSITIONS, QUERY, "head/bias"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_refused(self, name, value, arrays, refused):
        arrays[name].flat[-1] = value
        message = refused(arrays)
        assert name in message
        assert "finite" in message

    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, complex, "U3"])
    def test_arrays_of_anything_but_floats_are_refused(self, dtype, arrays, refused):
        arrays["head/bias"] = arrays["head/bias"].astype(dtype)
        refused(arrays)

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            (POSITIONS, (1, 12, 20)),  # no square grid beside the CLS position
            (POSITIONS, (1, 1, 20)),
            (POSITIONS, (10, 20)),
            ("embedding/kernel", (3, 4, 3, 20)),
            ("embedding/kernel", (3, 3, 1, 20)),
            ("cls", ()),
            ("cls", (1, 1, 0)),
            ("head/kernel", (20, 0)),
            (QUERY, (20, 0, 4)),
            (QUERY, (20, 3, 4)),
        ],
    )
    def test_wrong_shapes_are_named(self, name, shape, arrays, refused):
        arrays[name] = np.zeros(shape, np.float32)
        assert f"{name} is {shape}" in refused(arrays)

    def test_hostile_names_stay_on_one_line(self, arrays, refused):
        refused(arrays | {"evil\nname\x1b[2J": np.zeros(3)})


class TestBrokenFiles:
    def test_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"nothing\.npz"):
            neuronpath.load(tmp_path / "nothing.npz")

    @pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>404</html>\n", b"PK\x03\x04", b"\x00" * 5000])
    def test_file_that_is_no_archive(self, content, refused):
        refused(content)

    def test_archive_of_something_else(self, tmp_path, refused):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("readme.txt", "weights")
        refused((tmp_path / "a.zip").read_bytes())

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99, 1.0])
    def test_cut_file(self, part, checkpoint, refused):
        data = checkpoint.read_bytes()
        refused(data[: min(int(part * len(data)), len(data) - 1)])

    @pytest.mark.parametrize("compression", ["ZIP_STORED", "ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
    def test_flipped_bits_are_refused_or_harmless(self, compression, tmp_path):
        good, file, bad = tmp_path / "good.npz", tmp_path / "vit.npz", tmp_path / "bad.npz"
        save(random_model(tiny_config(**SMALLEST), dtype=torch.float32), good)
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(file, "w", getattr(zipfile, compression)) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
        data, expected, refusals = file.read_bytes(), neuronpath.load(file), 0
        positions = sorted({*range(0, len(data), 97), *range(50), *range(len(data) - 50, len(data))})
        for i in positions:
            bad.write_bytes(data[:i] + bytes([data[i] ^ 0xFF]) + data[i + 1 :])
            try:
                found = neuronpath.load(bad)
            except UserError:
                refusals += 1
            else:
                pairs = zip(found.parameters(), expected.parameters(), strict=True)
                assert all(torch.equal(a, b) for a, b in pairs), f"byte {i} changed the weights"
        assert refusals > len(positions) / 2

    @pytest.mark.parametrize("shape", [(10**15,), (-1,), (2**62, 4), (10**400,)])
    def test_array_header_that_claims_too_much(self, shape, tmp_path, refused):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("cls.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        refused((tmp_path / "a.zip").read_bytes())

    @pytest.mark.parametrize("name", ["head/kernel", "something/else"])
    def test_object_array_runs_nothing(self, name, arrays, tmp_path, refused):
        canary, live = tmp_path / "canary", tmp_path / "live.npz"
        hostile = arrays | {name: np.array([Payload(canary)], dtype=object)}
        np.savez(live, **hostile)
        with np.load(live, allow_pickle=True) as file:
            file[name]
        canary.unlink()  # it was there: the payload is live
        refused(hostile)
        assert not canary.exists()

    def test_pickle_under_the_name_of_an_archive_runs_nothing(self, tmp_path, refused):
        canary = tmp_path / "canary"
        hostile = pickle.dumps(Payload(canary))
        pickle.loads(hostile)
        canary.unlink()  # it was there: the payload is live
        refused(hostile)
        assert not canary.exists()


def test_the_digest_is_of_every_byte(tmp_path):
    """Fine-tuned files may begin alike; their heads come last."""
    content = np.random.default_rng(0).bytes(3 * 2**20 + 5)
    for i, place in enumerate((0, 2**20, len(content) - 1)):
        changed = bytearray(content)
        changed[place] ^= 1
        for name, data in (("a", content), ("b", bytes(changed))):
            (tmp_path / f"{name}{i}").write_bytes(data)
            assert sha256(tmp_path / f"{name}{i}") == hashlib.sha256(data).hexdigest()
