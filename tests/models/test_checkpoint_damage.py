"""Damage of any kind to a checkpoint: an error of one line, or what was there before; nothing else, and no code run."""

import argparse
import io
import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import FEW_AND_MANY, Damage, assert_one_line, damaged, damages, holds
from helpers import SMALLEST, Payload, random_model, tiny_config
from hypothesis import strategies as st
from safetensors.torch import save_file

from neuronpath import load
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save

LARGE = {**SMALLEST, "width": 40, "mlp_dim": 80}  # arrays beyond the 4096 bytes that zipfile reads at once


def weights(config: dict, pool: str = "cls") -> dict[str, torch.Tensor]:
    return random_model(tiny_config(pool, **config), dtype=torch.float32).state_dict()


class TestNpz:
    """Each array has a checksum: damage is an error or changes nothing."""

    @pytest.fixture
    def assert_found(self, tmp_path):
        """Damage to the file `good` is found, or the weights are those of before."""

        def check(data: bytes, good: dict[str, torch.Tensor]) -> bool:
            file = tmp_path / "bad.npz"
            file.write_bytes(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = load(file).state_dict()
                except UserError as e:
                    assert_one_line(e, file)
                    return True
            assert found.keys() == good.keys()
            assert all(torch.equal(found[name], good[name]) for name in good)
            return False

        return check

    @pytest.fixture(params=[SMALLEST, LARGE], ids=["small arrays", "large arrays"])
    def good(self, request, tmp_path) -> tuple[bytes, dict[str, torch.Tensor]]:
        model = random_model(tiny_config(**request.param), dtype=torch.float32)
        save(model, tmp_path / "good.npz")
        return (tmp_path / "good.npz").read_bytes(), model.state_dict()

    @FEW_AND_MANY
    @pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
    def test_damage_is_found_or_harmless(self, many, compressed, good, assert_found, tmp_path):
        data, state = good
        if compressed:
            np.savez_compressed(tmp_path / "deflated.npz", **np.load(tmp_path / "good.npz"))
            data = (tmp_path / "deflated.npz").read_bytes()
        assert not assert_found(data, state)
        holds(lambda found: assert_found(damaged(data, found), state), 400, many, damages(data, b"PK", b"\x93NUMPY"))

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64, 128])
    def test_every_bit_of_an_arrays_header(self, bits, good, assert_found):
        """zipfile compares a checksum once all is read, and NumPy leaves off where it thinks that the array ends."""
        data, state = good
        start = data.index(b"\x93NUMPY", data.index(b"MlpBlock_3/Dense_0/kernel"))
        for at in range(start, start + 128):
            assert assert_found(Damage(at, 1, bytes([data[at] ^ bits]))(data), state), at

    @pytest.mark.parametrize("suffix", ["", ".npy"])
    @FEW_AND_MANY
    def test_hostile_headers_with_a_right_checksum(self, many, suffix, tmp_path):
        """What is in an archive that is sound is anything."""
        file = tmp_path / "hostile.npz"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"

        def check(found: list[Damage], version: int) -> None:
            text = damaged(header, found)
            array = b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(f"cls{suffix}", array + bytes(24))
            with pytest.raises(UserError) as caught:
                load(file)
            assert_one_line(caught.value, file)

        holds(check, 400, many, damages(header), st.integers(0, 4))


def pth(config: dict, **options) -> bytes:
    """A file like the public MAE's."""
    out = io.BytesIO()
    torch.save({"model": weights(config, "mean"), "args": argparse.Namespace(lr=0.1), "num_heads": 2}, out, **options)
    return out.getvalue()


def with_pickle(data: bytes, pickled: bytes) -> bytes:
    """The same archive, its checksums right, with another pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else source.read(name))
    return out.getvalue()


def pickle_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        (name,) = (name for name in source.namelist() if name.endswith("/data.pkl"))
        return source.read(name)


class TestStateDicts:
    """Values have no checksum here; but no other error, and nothing in the file is run."""

    @pytest.fixture
    def canary(self, tmp_path) -> Path:
        return tmp_path / "canary"

    @pytest.fixture
    def read(self, tmp_path, canary):
        """Whether a file of these bytes loads; otherwise it is refused in one line."""

        def load_it(data: bytes, suffix: str = ".pth") -> bool:
            file = tmp_path / f"bad{suffix}"
            file.write_bytes(data)
            try:
                load(file, num_heads=2)
            except UserError as e:
                assert_one_line(e, file)
                return False
            finally:
                assert not canary.exists()
            return True

        return load_it

    @FEW_AND_MANY
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_damaged_pth(self, many, zipped, read):
        data = pth(SMALLEST, _use_new_zipfile_serialization=zipped)
        assert read(data)
        holds(lambda found: read(damaged(data, found)), 300, many, damages(data, b"PK", b"\x80\x02"))

    @FEW_AND_MANY
    def test_damaged_pickle_in_a_sound_archive(self, many, read):
        data = pth(SMALLEST)
        pickled = pickle_of(data)
        assert read(with_pickle(data, pickled))
        holds(lambda found: read(with_pickle(data, damaged(pickled, found))), 400, many, damages(pickled))

    def test_parameters_that_require_grad_are_read(self, read):
        state = {name: torch.nn.Parameter(tensor) for name, tensor in weights(SMALLEST).items()}
        out = io.BytesIO()
        torch.save({"model": state}, out)
        assert read(out.getvalue())

    @FEW_AND_MANY
    def test_damaged_safetensors(self, many, read, tmp_path):
        save_file(weights(SMALLEST), tmp_path / "good.safetensors", metadata={"num_heads": "2"})
        data = (tmp_path / "good.safetensors").read_bytes()
        assert read(data, ".safetensors")
        found = damages(data, data[:8])
        holds(lambda found: read(damaged(data, found), ".safetensors"), 400, many, found)

    def program(self, canary: Path) -> bytes:
        """Opcodes that make the canary and leave the stack as it was."""
        return b"cbuiltins\nopen\n(V" + str(canary).encode() + b"\nVw\ntR0"

    @FEW_AND_MANY
    def test_a_program_between_any_two_opcodes_is_not_run(self, many, read, canary, tmp_path):
        data = pth(SMALLEST)
        pickled, program = pickle_of(data), self.program(canary)
        places = [at for _, _, at in pickletools.genops(pickled) if at > 1]
        assert len(places) > 200
        for i in range(1, len(places), 1 if many else 40):
            spliced = with_pickle(data, pickled[: places[i]] + program + pickled[places[i] :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the program leaves its file open
                torch.load(io.BytesIO(spliced), weights_only=False)
            canary.unlink()  # it was there: the program is live
            assert not read(spliced), places[i]

    @FEW_AND_MANY
    def test_pickles_put_in_anywhere_run_nothing(self, many, read, canary):
        hostile = [pickletools.optimize(pickle.dumps(Payload(canary), protocol)) for protocol in range(5)]
        hostile += [self.program(canary), hostile[2][2:-1]]
        kinds = [pth(SMALLEST), pth(SMALLEST, _use_new_zipfile_serialization=False)]

        def check(data: bytes, at: float, program: bytes, replace: bool, whole: bool) -> None:
            if not whole:  # into the pickle of a sound archive
                data = pickle_of(kinds[0])
            place = int(at * len(data))
            data = data[:place] + program + data[place + replace * len(program) :]
            read(data if whole else with_pickle(kinds[0], data))
            read(data, ".safetensors")
            read(data, ".npz")

        holds(
            check,
            150,
            many,
            st.sampled_from(kinds),
            st.floats(0, 1),
            st.sampled_from(hostile),
            st.booleans(),
            st.booleans(),
        )

    @pytest.mark.parametrize(
        "pickled",
        [
            b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00nopetR.",
            b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
            b"\x80\x02" + b"]" * 100_000 + b".",
            b"\x80\x02(" * 5000,
        ],
        ids=["unknown encoding", "wrong argument", "deep", "marks"],
    )
    def test_allowed_opcodes_used_wrongly(self, pickled, read):
        assert not read(pickled)
        assert not read(with_pickle(pth(SMALLEST), pickled))
