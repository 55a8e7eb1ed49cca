"""Devices and precisions: what is chosen, and what is refused."""

import pytest
import torch

from neuronpath.errors import UserError
from neuronpath.models.devices import device, set_precision


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


class TestShare:
    def test_a_gpu_of_its_own(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [device("cuda", local).index for local in range(3)] == [0, 1, 0]
        assert device("cuda:0", 1).index == 0
        assert device("cpu", 1) == torch.device("cpu")
