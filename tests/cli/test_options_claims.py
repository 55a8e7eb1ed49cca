"""The options that commands share: defaults, bounds, choices, and what follows from them."""

import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from helpers import NO_SOURCES, ROOT

from neuronpath.cli import options as opt
from neuronpath.cli.parsing import Parser
from neuronpath.errors import UserError
from neuronpath.files import DATASETS
from neuronpath.models.configs import CONFIGS

MOST = 2**31 - 1
VITS = ("ViT-B_16", "ViT-B_32", "ViT-L_16", "ViT-L_32", "ViT-H_14", "ViT-digits")
MAES = ("MAE-B_16", "MAE-L_16", "MAE-H_14", "MAE-digits")


def job_parser() -> Parser:
    parser = Parser("")
    opt.add_data(parser)
    opt.add_model(parser, "cls")
    opt.add_running(parser)
    opt.add_output(parser)
    opt.add_top_k(parser)
    opt.add_input_prefix(parser)
    return parser


def records_parser() -> Parser:
    parser = Parser("")
    opt.add_records(parser, ("ja", "base"), 50)
    opt.add_weights(parser)
    return parser


def test_the_tables_of_the_documentation_are_those_of_the_parsers():
    """Names, values, defaults and help of all options, and the keys of records."""
    filled = runpy.run_path(str(ROOT / "scripts/write_tables.py"))["filled"]
    for page in ("options", "records"):
        file = ROOT / f"docs/{page}.md"
        assert filled(file) == file.read_text(), "run python scripts/write_tables.py"


class TestDefaults:
    def test_of_a_job(self):
        assert vars(job_parser().parse_args(["--pretrain_weight", "a.npz"])) == {
            "dataset": "imagenet1k",
            "dataset_path": None,
            **NO_SOURCES,
            "labels": None,
            "images_per_class": None,
            "preprocess": "paper",
            "mean": None,
            "std": None,
            "crop_pct": None,
            "interpolation": None,
            "on_bad_image": "fail",
            "num_workers": 2,
            "pretrain_weight": Path("a.npz"),
            "model_type": "auto",
            "num_heads": None,
            "pool": None,
            "activation": None,
            "classifier": None,
            "img_size": None,
            "device": "auto",
            "no_cuda": False,
            "precision": "fp32",
            "batch_size": 10,
            "internal_batch_size": None,
            "shard": (0, 1),
            "seed": 42,
            "output_dir": None,
            "output_prefix": "imgnet_all",
            "overwrite": False,
            "topK": 5,
            "input_prefix": "imgnet_all",
        }

    def test_of_what_reads_records(self):
        assert vars(records_parser().parse_args([])) == {
            "results": ROOT / "results/demo/ja/ViT-digits",
            "method": "ja",
            "input_prefix": "imgnet_all",
            "mlp_dim": None,
            "dataset": None,
            "dataset_path": None,
            **NO_SOURCES,
            "output_dir": ROOT / "results/demo/similarity",
            "pretrain_weight": None,
            "model_type": "auto",
            "num_heads": None,
            "pool": None,
            "activation": None,
            "classifier": None,
            "img_size": None,
            "preprocess": None,
            "mean": None,
            "std": None,
            "crop_pct": None,
            "interpolation": None,
            "batch_size": 10,
            "device": "auto",
            "no_cuda": False,
        }

    def test_a_checkpoint_is_required_and_may_be_several(self):
        with pytest.raises(UserError, match="the following arguments are required: --pretrain_weight"):
            job_parser().parse_args([])
        parser = Parser("")
        opt.add_model(parser, several=True)
        found = parser.parse_args(["--pretrain_weight", "a.npz", "b.pth"])
        assert found.pretrain_weight == [Path("a.npz"), Path("b.pth")]


NUMBERS = {
    "images_per_class": (1, MOST),
    "num_workers": (0, MOST),
    "num_heads": (1, MOST),
    "img_size": (1, 4096),
    "batch_size": (1, MOST),
    "internal_batch_size": (1, MOST),
    "seed": (0, MOST),
    "topK": (1, MOST),
}
CHOICES = {
    "dataset": DATASETS,
    "preprocess": ("paper", "native"),
    "interpolation": ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "pool": ("cls", "mean"),
    "activation": ("gelu", "gelu-tanh", "quick-gelu"),
    "on_bad_image": ("fail", "skip"),
    "precision": ("fp32", "fp64", "tf32", "bf16"),
    "model_type": ("auto", *VITS),
}
TYPED = {
    "labels": ("3,1-2", [1, 2, 3]),
    "dataset_path": ("a", Path("a")),
    "truth": ("a", Path("a")),
    "class_map": ("a", Path("a")),
    "images": ("a", [Path("a")]),
    "output_dir": ("a", Path("a")),
    "shard": ("1/3", (1, 3)),
    "mean": ("0.5,-1,2e-1", [0.5, -1.0, 0.2]),
    "std": ("0.1,0.2,0.3", [0.1, 0.2, 0.3]),
    "crop_pct": ("0.875", 0.875),
    "device": ("cuda:1", "cuda:1"),
    "output_prefix": ("x", "x"),
    "input_prefix": ("x", "x"),
}
BAD = {
    "mean": "1,2",
    "std": "0.1,0.1,-1",
    "crop_pct": "1.5",
    "labels": "x",
    "shard": "3/3",
    "device": "gpu",
    "output_prefix": "a/b",
    "input_prefix": "a/b",
}


class TestValues:
    @staticmethod
    def value(name: str, word: object, parser: Parser | None = None):
        weights = [] if parser else ["--pretrain_weight", "a.npz"]
        return getattr((parser or job_parser()).parse_args([*weights, f"--{name}", str(word)]), name)

    @pytest.mark.parametrize("name", NUMBERS)
    def test_bounds(self, name):
        least, most = NUMBERS[name]
        assert [self.value(name, number) for number in (least, most)] == [least, most]
        for number in (least - 1, most + 1):
            with pytest.raises(UserError, match=f"--{name}: must be a whole number from {least} to {most}, not"):
                self.value(name, number)

    def test_bounds_of_what_reads_records(self):
        for name, most in (("mlp_dim", 50), ("img_size", 4096), ("batch_size", MOST), ("num_heads", MOST)):
            assert [self.value(name, number, records_parser()) for number in (1, most)] == [1, most]
            for number in (0, most + 1):
                with pytest.raises(UserError, match=f"--{name}: must be a whole number from 1 to {most}, not"):
                    self.value(name, number, records_parser())

    @pytest.mark.parametrize("name", CHOICES)
    def test_choices(self, name):
        assert tuple(self.value(name, word) for word in CHOICES[name]) == CHOICES[name]
        with pytest.raises(UserError, match=f"--{name}: invalid choice"):
            self.value(name, "other")

    @pytest.mark.parametrize(
        ("pool", "names"), [("cls", VITS), ("mean", MAES), (None, tuple(CONFIGS))], ids=["cls", "mean", "either"]
    )
    def test_named_models_are_those_of_the_head(self, pool, names):
        parser = Parser("")
        opt.add_model(parser, pool)
        weights = ["--pretrain_weight", "a.npz", "--model_type"]
        for name in CONFIGS.keys() - set(names):
            with pytest.raises(UserError, match="--model_type: invalid choice"):
                parser.parse_args([*weights, name])
        assert tuple(parser.parse_args([*weights, name]).model_type for name in names) == names

    @pytest.mark.parametrize("name", TYPED)
    def test_typed(self, name):
        word, value = TYPED[name]
        assert self.value(name, word) == value
        if name in BAD:
            with pytest.raises(UserError, match=f"--{name}: must be"):
                self.value(name, BAD[name])

    @pytest.mark.parametrize("name", ["results", "output_dir", "dataset_path", "truth", "class_map", "pretrain_weight"])
    def test_paths_of_what_reads_records(self, name):
        assert self.value(name, "a", records_parser()) == Path("a")

    def test_methods_are_those_of_the_command(self):
        assert self.value("method", "base", records_parser()) == "base"
        with pytest.raises(UserError, match="--method"):
            self.value("method", "random", records_parser())


class TestSettling:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        """Four GPUs, and no launcher."""
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID"):
            monkeypatch.delenv(name, raising=False)
        yield
        torch.set_float32_matmul_precision("highest")

    @staticmethod
    def settled(**changes) -> Namespace:
        given = {"dataset": "digits", "dataset_path": None, "shard": (0, 1), "device": "auto", "no_cuda": False}
        return opt.settle(Namespace(**{**given, **NO_SOURCES, "precision": "fp32", **changes}))

    @pytest.mark.parametrize(
        ("changes", "device"),
        [
            ({}, "cuda:0"),
            ({"no_cuda": True}, "cpu"),
            ({"no_cuda": True, "device": "cuda:1"}, "cpu"),
            ({"device": "cuda:3"}, "cuda:3"),
            ({"device": "cpu"}, "cpu"),
        ],
    )
    def test_the_device(self, changes, device):
        assert self.settled(**changes).device == torch.device(device)

    def test_the_folder_the_share_and_the_dtype(self):
        found = self.settled(shard=(2, 5), precision="fp64")
        assert found.dataset_path == ROOT / "dataset/digits/val"
        assert self.settled(dataset_path=Path("here")).dataset_path == Path("here")
        assert (found.share.index, found.share.count) == (2, 5)
        assert found.dtype == torch.float64

    def test_threads_are_settled_once(self, monkeypatch):
        asked = []
        monkeypatch.setattr(opt, "settle_threads", lambda: asked.append("threads"))
        self.settled()
        assert asked == ["threads"]

    def test_what_the_machine_lacks(self):
        with pytest.raises(UserError, match="--device cuda:4: this machine has 4 cuda"):
            self.settled(device="cuda:4")
        with pytest.raises(UserError, match="--precision tf32: cpu has none"):
            self.settled(no_cuda=True, precision="tf32")


def test_help_needs_no_pytorch():
    """The modules of options alone import nothing heavy: help comes at once."""
    code = "import sys, neuronpath.cli.options, neuronpath.cli.parsing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
