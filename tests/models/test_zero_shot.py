"""Zero-shot heads against the logits of the models themselves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from foreign import clip_folder, open_clip_folder, transformers_folder
from helpers import fault, records, run_file, run_job, settings
from PIL import Image

import neuronpath
from neuronpath.data.preprocessing import transform
from neuronpath.models.classifiers import write_classifier
from neuronpath.models.zero_shot import TEMPLATES, zero_shot
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import JointAttribution

NAMES = ["cat", "tabby dog", "sea", "{} of all"]


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_logits_are_the_models_own(tmp_path, name):
    import transformers

    live = clip_folder(tmp_path / "clip", name).eval()
    write_classifier(zero_shot(tmp_path / "clip", NAMES), tmp_path / "c.npz")
    model = neuronpath.load(tmp_path / "clip", classifier=tmp_path / "c.npz")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "clip")
    padding = {"padding": "max_length", "max_length": 30} if name == "Siglip" else {"padding": True}
    tokens = tokenizer([TEMPLATES[0].replace("{}", n) for n in NAMES], return_tensors="pt", **padding)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        own = live(pixel_values=x, **tokens).logits_per_image
    torch.testing.assert_close(model(x).softmax(-1), own.softmax(-1), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(model(x), own, rtol=1e-3, atol=1e-3)
    assert model.class_names == tuple(NAMES)
    assert model.native.img_size == 8


def test_templates_are_normalised_averaged_and_normalised(tmp_path):
    clip_folder(tmp_path)
    templates = ["a {}.", "the {}, the {}.", "{}"]
    each = torch.stack([zero_shot(tmp_path, NAMES, [template]).weight for template in templates])
    torch.testing.assert_close(zero_shot(tmp_path, NAMES, templates).weight, F.normalize(each.mean(0), dim=1))


def test_open_clip(tmp_path):
    import open_clip

    live = open_clip_folder(tmp_path / "clip").eval()
    write_classifier(zero_shot(tmp_path / "clip", NAMES), tmp_path / "c.npz")
    model, x = neuronpath.load(tmp_path / "clip", classifier=tmp_path / "c.npz"), torch.randn(3, 3, 8, 8)
    tokens = open_clip.SimpleTokenizer(context_length=16)([TEMPLATES[0].replace("{}", name) for name in NAMES])
    image, text, scale = live(x, tokens)
    torch.testing.assert_close(model(x), scale * image @ text.T, rtol=1e-3, atol=1e-3)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 20, 3), dtype=np.uint8))
    options = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "interpolation": "bicubic", "resize_mode": "shortest"}
    own = open_clip.image_transform(8, is_train=False, **options)
    assert torch.equal(transform(model.native)(picture), own(picture))


def test_from_names_to_paths(tmp_path, image_folder):
    clip_folder(tmp_path / "clip")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    words = ("--pretrain_weight", tmp_path / "clip", "--names", tmp_path / "names.txt")
    result = run_file("scripts/zero_shot.py", *words, "--output", tmp_path / "c.npz").expect()
    assert "c.npz: 4 classes of 10 features, 1 templates" in result.stdout
    usual = run_file(
        "scripts/zero_shot.py", *words[:3], "imagenet1k", "--templates", "usual", "--output", tmp_path / "i.npz"
    )
    assert "i.npz: 1000 classes of 10 features, 7 templates" in usual.stdout
    given = ("--dataset", "imagefolder", "--dataset_path", image_folder, "--num_workers", 0, "--ig_total_step", 2)
    given += ("--pretrain_weight", tmp_path / "clip", "--output_dir", tmp_path / "out", "--preprocess", "native")
    assert "ends in features, without a classifier" in run_job(JointAttribution, *given).fault
    own = ("--classifier", tmp_path / "c.npz")
    found = run_job(JointAttribution, *given, *own)
    pool = "cls" if found.code == 0 else "mean"
    run_job(JointAttribution, *given, *own, pool=pool).expect()
    assert len(records(tmp_path / "out")) == 11
    assert len(settings(tmp_path / "out")["classifier_sha256"]) == 64
    run_file("scripts/zero_shot.py", *words, "--templates", "my {}", "--output", tmp_path / "c.npz").expect()
    assert "classifier_sha256 " in run_job(JointAttribution, *given, *own, pool=pool).fault
    edit = (*given[:6], *given[8:10], *own, "--ja_path", tmp_path / "out", "--output_dir", tmp_path / "edited")
    assert "its paths were found on other weights (classifier_sha256 " in run_job(Edit, *edit, pool=pool).fault


def test_what_cannot_be_is_said(tmp_path):
    transformers_folder(tmp_path)
    assert "no text tower in it; give the folder of a CLIP" in fault(zero_shot, tmp_path, NAMES)
    assert "has no {} in the place of the class" in fault(zero_shot, tmp_path, NAMES, ["a photo"])
    assert "--names: a class without a name" in fault(zero_shot, tmp_path, [])
    result = run_file("scripts/zero_shot.py", "--pretrain_weight", tmp_path, "--names", tmp_path / "none")
    assert "none: no text file of class names" in result.fault
