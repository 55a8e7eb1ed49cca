"""Local folders of timm and `transformers`: the live model, its preprocessing and names; hostile ones are refused."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from foreign import timm_folder, transformers_folder
from helpers import Payload, fault
from PIL import Image
from safetensors.torch import load_file, save_file

import neuronpath
from neuronpath import HeadError, adapt, find_path
from neuronpath.data.preprocessing import transform
from neuronpath.models.checkpoint import sha256

MAKERS = {"timm": timm_folder, "transformers": transformers_folder}


@pytest.fixture(params=MAKERS)
def made(request, tmp_path):
    """A folder and the live model that it was written from."""
    return tmp_path, MAKERS[request.param](tmp_path)


def change(file: Path, **changes) -> None:
    """Other settings in a JSON file; None takes one away."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def images(sizes=((40, 30), (30, 43), (9, 9), (200, 123))) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def test_a_folder_is_the_live_model_cut_at_its_neurons(made):
    folder, live = made
    model, expected = neuronpath.load(folder, dtype=torch.float64), adapt(live.double(), img_size=8)
    x, y = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 2])
    found, wanted = find_path(model, x, y), find_path(expected, x, y)
    assert torch.equal(found.path, wanted.path)
    torch.testing.assert_close(found.score, wanted.score)
    assert (model.config.tokens, model.config.neuron_tokens, model.config.neuron_token_indices) == (5, 1, "0")
    assert model.config.architecture in ("timm vit_tiny_patch16_224", "transformers ViTForImageClassification")


def test_several_tokens_are_named(tmp_path):
    transformers_folder(tmp_path, "Dinov2WithRegisters", "Bit", mlp_ratio=1)
    model = neuronpath.load(tmp_path, pool="mean")
    assert (model.num_neuron_tokens, model.config.neuron_token_indices) == (5, "0,5-8")
    with pytest.raises(HeadError, match="its head reads 5 of 9 tokens, not one") as caught:
        neuronpath.load(tmp_path, pool="cls")
    assert caught.value.pool == "mean"


def test_a_folders_digest_is_of_what_sha256sum_prints(made):
    folder, _ = made
    lines = [
        f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in ("config.json", "model.safetensors")
    ]
    assert sha256(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("share", "filter"), [(0.9, "bicubic"), (0.875, "bilinear"), (1.0, "bicubic"), (None, None)])
def test_native_preprocessing_equals_timms_own(tmp_path, mode, share, filter):
    timm_folder(tmp_path)
    cfg = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    cfg |= {
        "crop_mode": mode,
        "crop_pct": share,
        "interpolation": filter,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.6, 0.7],
    }
    change(tmp_path / "config.json", pretrained_cfg=cfg)
    own = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))
    found = transform(neuronpath.load(tmp_path).native)
    for image in images():
        assert torch.equal(found(image), own(image))


@pytest.mark.parametrize(
    ("processor", "changes"),
    [
        ("ViT", {}),
        ("ViT", {"resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_processor_type": "ViTFeatureExtractor"}),
        ("ViT", {"do_normalize": False, "size": 8}),
        ("CLIP", {}),
        (
            "CLIP",
            {
                "size": 13,
                "crop_size": 8,
                "image_processor_type": None,
                "feature_extractor_type": "CLIPFeatureExtractor",
            },
        ),
        ("Bit", {"size": {"shortest_edge": 11}}),
        ("Siglip", {"image_processor_type": "SiglipImageProcessorFast"}),
        ("DeiT", {"size": {"height": 11, "width": 13}, "crop_size": 8, "do_center_crop": True}),
    ],
)
def test_native_preprocessing_equals_transformers_to_one_grey_level(tmp_path, processor, changes):
    import transformers

    transformers_folder(tmp_path, processor=processor)
    change(tmp_path / "preprocessor_config.json", **changes)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    own = getattr(transformers, f"{processor}ImageProcessor")(**settings)
    native = neuronpath.load(tmp_path).native
    grey = torch.tensor(native.std)[:, None, None] * 255
    for image in images():
        expected = own(image, return_tensors="pt")["pixel_values"][0]
        assert ((transform(native)(image) - expected) * grey).abs().max() < 1.01


def test_what_nothing_tells_is_not_guessed(tmp_path):
    transformers_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    assert neuronpath.load(tmp_path).native is None
    found = fault(neuronpath.load_images, Path(__file__), neuronpath.load(tmp_path), "native")
    assert found.startswith("--preprocess native: nothing tells how the images were prepared that this model was")


def test_class_names(tmp_path):
    timm_folder(tmp_path / "timm", config={"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n2": "a\nb"}})
    assert neuronpath.load(tmp_path / "timm").class_names == ("n1", "a\nb", "n3")
    transformers_folder(tmp_path / "named", names=("x", "y", "z"))
    assert neuronpath.load(tmp_path / "named").class_names == ("x", "y", "z")
    transformers_folder(tmp_path / "plain")
    assert neuronpath.load(tmp_path / "plain").class_names == ()


def test_an_architecture_of_timm_with_a_file(tmp_path):
    live = timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()
    save_file(live.state_dict(), tmp_path / "w.safetensors")
    torch.save({"model": live.state_dict()}, tmp_path / "w.pth")
    x = torch.randn(2, 3, 224, 224)
    for name in ("w.safetensors", "w.pth"):
        model = neuronpath.load(tmp_path / name, "timm:vit_tiny_patch16_224")
        torch.testing.assert_close(model(x), live(x).detach())
    assert model.native.size == 248
    found = fault(neuronpath.load, tmp_path / "w.pth", "timm:vit_small_patch16_224")
    assert "the weights do not fit the architecture: wrong: cls_token is (1, 1, 192), not (1, 1, 384)" in found
    found = fault(neuronpath.load, tmp_path / "w.pth", "timm:hf-hub:someone/model")
    assert "is no architecture of timm" in found


HOSTILE = {
    "a path": ({"architecture": "local-dir:/etc"}, "is no architecture of timm"),
    "a hub": ({"architecture": "hf-hub:someone/model"}, "is no architecture of timm"),
    "weights of another file": (
        {"model_args": {"checkpoint_path": "/etc/passwd"}},
        "model_args has checkpoint_path, which is no part of an architecture",
    ),
    "a download": ({"model_args": {"pretrained": True}}, "model_args has pretrained, "),
    "no settings": ({"model_args": [1]}, "are not objects of settings"),
    "too deep": ({"model_args": {"depth": 10**9}}, "depth is 1000000000, but the weights have"),
    "too wide": ({"model_args": {"embed_dim": 3 * 2**24}}, "the weights do not fit the architecture: "),
    "nonsense": ({"model_args": {"num_heads": "many"}}, "timm makes no model of it (TypeError: "),
    "huge images": ({"model_args": {"img_size": 10**9}}, "is no number of pixels"),
    "no square": ({"model_args": {"img_size": [8, 16]}}, "images of 8 × 16 pixels, not squares"),
    "nan": (
        {"pretrained_cfg": {"crop_pct": float("nan"), "input_size": [3, 8, 8]}},
        "timm makes no model of it (ValueError",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folders_of_timm(tmp_path, kind):
    timm_folder(tmp_path)
    changes, why = HOSTILE[kind]
    args = json.loads((tmp_path / "config.json").read_text())["model_args"]
    if isinstance(changes.get("model_args"), dict):
        changes = {"model_args": args | changes["model_args"]}
    change(tmp_path / "config.json", **changes)
    found = fault(neuronpath.load, tmp_path)
    assert why in found
    assert "\n" not in found


STRANGE = {
    "a class of other things": ({"architectures": ["AutoModel"]}, "is no Vision Transformer of these families"),
    "one that loads timm": ({"architectures": ["TimmWrapperForImageClassification"]}, "is no Vision Transformer of"),
    "no name": ({"architectures": [3]}, "is no Vision Transformer of these families"),
    "none": ({"architectures": []}, "None is no Vision Transformer of these families"),
    "too deep": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but the weights have"),
    "too wide": ({"hidden_size": 3 * 2**24}, "weights, but the file beside it has"),
    "nonsense": ({"hidden_size": "wide"}, "transformers makes no model of it ("),
    "another shape": ({"intermediate_size": 10}, "the weights do not fit the architecture: wrong: "),
    "one layer more": ({"num_hidden_layers": 3}, "the weights do not fit the architecture: missing: "),
    "one layer less": ({"num_hidden_layers": 1}, "the weights do not fit the architecture: left over: "),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_hostile_folders_of_transformers(tmp_path, kind):
    transformers_folder(tmp_path)
    changes, why = STRANGE[kind]
    change(tmp_path / "config.json", **changes)
    found = fault(neuronpath.load, tmp_path)
    assert why in found
    assert "\n" not in found


def test_no_code_of_a_folder_runs(tmp_path):
    live = transformers_folder(tmp_path)
    canary = tmp_path / "canary"
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
    for name in ("modeling_own.py", "__init__.py", "configuration_own.py"):
        (tmp_path / name).write_text(code)
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForImageClassification": "modeling_own.Own"}
    more = {"quantization_config": {"quant_method": "own"}, "attn_implementation": "someone/kernel", "dtype": "own"}
    change(tmp_path / "config.json", auto_map=own, _attn_implementation="someone/kernel", **more)
    change(tmp_path / "preprocessor_config.json", auto_map={"AutoImageProcessor": "modeling_own.Own"})
    torch.save(Payload(canary), tmp_path / "pytorch_model.bin")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(neuronpath.load(tmp_path)(x), live(x).logits, rtol=1e-4, atol=1e-4)
    assert not canary.exists()


def test_broken_and_missing_files(made):
    folder, _ = made
    weights, settings = folder / "model.safetensors", folder / "config.json"
    sound, told = weights.read_bytes(), settings.read_bytes()
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    assert fault(neuronpath.load, folder) == f"{weights}: no such file; weights are read from safetensors alone"
    weights.write_bytes(sound[: len(sound) // 2])
    assert "model.safetensors: not sound safetensors (" in fault(neuronpath.load, folder)
    tensors = {name: value.clone() for name, value in load_file_of(sound, folder).items()}
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first] * float("nan")}, weights)
    assert "holds values that are not finite" in fault(neuronpath.load, folder)
    weights.write_bytes(sound)
    for content, why in (
        (b"{", "not a sound JSON file ("),
        (b"[" * 10**5, "not a sound JSON file ("),
        (b"[]", "a list, not an"),
    ):
        settings.write_bytes(content)
        assert why in fault(neuronpath.load, folder)
    settings.write_text("{}")
    assert "neither timm's, with an architecture, nor transformers', with architectures" in fault(
        neuronpath.load, folder
    )
    settings.unlink()
    assert fault(neuronpath.load, folder) == f"{settings}: no such file; a model's folder has one"
    settings.write_bytes(told)
    assert "a folder says itself which model it holds" in fault(neuronpath.load, folder, "ViT-B_16")


def load_file_of(content: bytes, folder: Path) -> dict:
    (folder / "sound.safetensors").write_bytes(content)
    return load_file(folder / "sound.safetensors")


def test_what_is_not_installed_is_named(made, monkeypatch):
    folder, live = made
    name = "timm" if "timm" in type(live).__module__ else "transformers"
    monkeypatch.setitem(sys.modules, name, None)
    expected = f"a model of {name}, which is not installed; pip install {name}, or pip install -e '.[models]' for both"
    assert fault(neuronpath.load, folder).endswith(expected)
