"""Options of the search command: what is refused, by name, and what --help says."""

from argparse import Namespace

import pytest
import torch
from helpers import NO_SOURCES, run_job

from neuronpath.cli import options as opt
from neuronpath.runs.extraction import JointAttribution


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--batch_size", "0", "--batch_size"),
        ("--batch_size", "ten", "--batch_size"),
        ("--batch_size", "9" * 30, "--batch_size"),
        ("--internal_batch_size", "0", "--internal_batch_size"),
        ("--internal_batch_size", "9" * 30, "--internal_batch_size"),
        ("--ig_total_step", "0", "--ig_total_step"),
        ("--ig_total_step", "-3", "--ig_total_step"),
        ("--ig_total_step", "1.5", "--ig_total_step"),
        ("--ig_total_step", "9" * 30, "--ig_total_step"),
        ("--images_per_class", "0", "--images_per_class"),
        ("--num_workers", "-1", "--num_workers"),
        ("--device", "nonsense", "nonsense"),
        ("--device", "cuda:99", "cuda:99"),
        ("--device", "cuda:x", "cuda:x"),
        ("--model_type", "nonsense", "nonsense"),
        ("--model_type", "ViT-B_16", "ViT-B_16"),
        ("--precision", "fp8", "fp8"),
        ("--quadrature", "simpson", "simpson"),
        ("--search", "none", "none"),
        ("--dataset", "mnist", "mnist"),
        ("--labels", "9", "9"),
        ("--labels", "0,x", "--labels"),
        ("--labels", "3-1", "--labels"),
        ("--labels", "", "--labels"),
        ("--target", "99", "99"),
        ("--target", "-1", "--target"),
        ("--target", "cat", "cat"),
        ("--img_size", "10", "10"),
        ("--img_size", "0", "--img_size"),
        ("--output_prefix", "a/b", "a/b"),
        ("--output_prefix", "../b", "../b"),
        ("--nonsense", "1", "--nonsense"),
        ("--batch", "4", "--batch"),
        ("--pretrain", "x.npz", "--pretrain"),
        ("--seed", "1\n2", "--seed"),
        ("--no\nsense", "1", "sense"),
    ],
)
def test_is_refused_by_name(run, option, value, word):
    assert word in run.refused(option, value)


def test_checkpoint_is_required():
    assert "--pretrain_weight" in run_job(JointAttribution).fault


def test_help_names_every_option():
    text = run_job(JointAttribution, "--help").expect().stdout
    options = "dataset dataset_path output_dir output_prefix model_type pretrain_weight img_size preprocess target"
    options += " batch_size internal_batch_size ig_total_step quadrature search labels images_per_class device"
    options += " shortlist_max beam_width beam_over shortlist_kappa truth class_map images"
    options += " no_cuda precision num_workers seed on_bad_image overwrite"
    assert all(f"--{option} " in text for option in options.split())


def test_every_process_is_given_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    options = Namespace(dataset="digits", dataset_path=None, shard=(0, 1), device="cuda", no_cuda=False, **NO_SOURCES)
    options.precision = "fp32"
    assert opt.settle(options).device == torch.device("cuda", 1)
