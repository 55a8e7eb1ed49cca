"""scripts/shrink.py from a checkpoint, images and paths to the smaller checkpoint; options and mistakes."""

import pytest
import torch
from foreign import timm_folder
from helpers import COUNTS, IMAGES, LABELS, change_line, random_model, records, run_file, tiny_config, words_of

import neuronpath
from neuronpath.attribution.importance import (
    magnitude,
    most_important,
    path_frequency,
    random_importance,
    unit_sums,
    written,
)
from neuronpath.models.checkpoint import save
from neuronpath.runs.extraction import TopKAttribution

SCRIPT = "scripts/shrink.py"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Whether the paths are there: the fixtures of a test are its own, so their folder is made once by hand."""
    return tmp_path_factory.mktemp("paths")


@pytest.fixture
def paths(topk, image_folder, searched):
    """Records of paths of K = 3 of the images of `image_folder`."""
    out = searched / "ja"
    if not out.exists():
        topk("--topK", 3, kind=TopKAttribution, images=image_folder, out=out)
    return out


@pytest.fixture
def shrink(checkpoint, image_folder, tmp_path):
    """The script; the result, and by `out` the smaller model in float64."""

    def start(*words, images=image_folder, weights=checkpoint, out=tmp_path / "new/small.npz"):
        given = {"--dataset": "imagefolder", "--dataset_path": images, "--num_workers": 0, "--precision": "fp64"}
        given |= {"--pretrain_weight": weights, "--output": out}
        return run_file(SCRIPT, *words_of(given, *words))

    start.out = tmp_path / "new/small.npz"
    return start


def ranked(run, importance: str, tokens: str, paths) -> torch.Tensor:
    """All units, best first, in Python."""
    model, images = run.loaded()
    x, y = torch.stack([images[name] for name in IMAGES]), torch.tensor([LABELS[name] for name in IMAGES])
    sums = unit_sums(model, x, y, all_tokens=tokens == "all")
    chosen = torch.tensor([records(paths)[name]["ja"] for name in IMAGES])
    values = {
        "path": lambda: path_frequency(chosen, y, 28),
        "activation": lambda: written(model, sums.sizes),
        "taylor": lambda: sums.taylor,
        "magnitude": lambda: magnitude(model),
        "random": lambda: random_importance(42, 6, 28),
    }
    return most_important(values[importance](), 28, sums.sizes if importance == "path" else None)


@pytest.mark.parametrize("chosen", ["path", "activation, all", "taylor", "taylor, all", "magnitude", "random"])
def test_the_file_is_the_model_with_the_best_units(chosen, run, shrink, paths):
    importance, tokens = chosen.split(", ") if ", " in chosen else (chosen, "neuron")
    more = ("--paths", paths) if importance == "path" else ()
    result = shrink("--importance", importance, "--score_tokens", tokens, "--keep", 0.4, *more).expect()
    assert "11 of 28 units in each of 6 layers" in result.stdout
    assert str(shrink.out.resolve()) in result.stdout
    assert "weights     14,290 of 18,472, 77.4 %" in result.stdout, "6 · 17 · (20 + 1 + 20) less"
    assert (f"images      {sum(COUNTS)}," in result.stdout) == (importance not in ("magnitude", "random"))
    model, images = run.loaded()
    x = torch.stack([*images.values()])
    kept = ranked(run, importance, tokens, paths)[:, :11]
    found = neuronpath.load(shrink.out, dtype=torch.float64)
    torch.testing.assert_close(found(x), neuronpath.shrink(model, kept)(x), rtol=1e-10, atol=1e-10)


def test_means_are_folded_at_all_tokens(run, shrink):
    shrink("--importance", "random", "--seed", 7, "--fold_mean").expect()
    model, images = run.loaded()
    x, y = torch.stack([images[name] for name in IMAGES]), torch.tensor([LABELS[name] for name in IMAGES])
    kept, means = most_important(random_importance(7, 6, 28), 14), unit_sums(model, x, y).means
    expected = neuronpath.shrink(model, kept, means)
    found = neuronpath.load(shrink.out, dtype=torch.float64)
    torch.testing.assert_close(found(x), expected(x), rtol=1e-4, atol=1e-4)  # its bias is written in float32
    assert not torch.allclose(expected(x), neuronpath.shrink(model, kept)(x), rtol=1e-2, atol=1e-2)


def test_the_best_of_every_path_and_only_the_chosen_images(run, shrink, paths):
    shrink("--importance", "path", "--paths", paths, "--topK", 2, "--labels", "1,3", "--images_per_class", 2).expect()
    model, images = run.loaded()
    names = ["class1/00.png", "class3/00.png", "class3/01.png"]
    own = torch.tensor([[layer[:2] for layer in records(paths)[name]["ja"]] for name in names])
    y = torch.tensor([1, 3, 3])
    sizes = unit_sums(model, torch.stack([images[name] for name in names]), y).sizes
    kept = most_important(path_frequency(own, y, 28), 14, sizes)
    x = torch.stack([*images.values()])
    found = neuronpath.load(shrink.out, dtype=torch.float64)
    torch.testing.assert_close(found(x), neuronpath.shrink(model, kept)(x), rtol=1e-10, atol=1e-10)


def test_ties_of_paths_are_broken_at_the_neuron_tokens(shrink, paths, tmp_path):
    """With K = 1 most units are in no path."""
    words, kept = ("--paths", paths, "--topK", 1), []
    for tokens in ("neuron", "all"):
        shrink(*words, "--score_tokens", tokens, out=tmp_path / f"{tokens}.npz").expect()
        kept.append(neuronpath.load(tmp_path / f"{tokens}.npz").state_dict())
    assert all(torch.equal(kept[0][name], value) for name, value in kept[1].items())


def test_bfloat16_chooses_and_the_file_is_not_rounded(checkpoint, shrink, tmp_path):
    torch.save(random_model(tiny_config(), dtype=torch.float32).state_dict(), tmp_path / "bare.pth")  # tells no head
    words = ("--importance", "taylor", "--fold_mean", "--precision", "bf16", "--num_heads", 5)
    result = shrink(*words, weights=tmp_path / "bare.pth").expect()
    assert len([line for line in result.warnings if "assumed" in line]) == 1
    told = {"num_heads": 5, "pool": "cls", "activation": "gelu"}
    full, small = neuronpath.load(tmp_path / "bare.pth", **told), neuronpath.load(shrink.out)
    for block, whole in zip(small.blocks, full.blocks, strict=True):
        assert torch.equal(block.attn.qkv.weight, whole.attn.qkv.weight)
        rows = {tuple(row) for row in whole.mlp.fc1.weight.tolist()}
        assert {tuple(row) for row in block.mlp.fc1.weight.tolist()} < rows
        assert not torch.equal(block.mlp.fc2.bias, block.mlp.fc2.bias.bfloat16().float())


@pytest.mark.parametrize("ending", [".npz", ".pth"])
def test_endings(ending, shrink, tmp_path):
    shrink("--importance", "magnitude", out=tmp_path / f"a{ending}").expect()
    assert neuronpath.load(tmp_path / f"a{ending}").config == tiny_config(mlp_dim=14)


def test_a_folder_of_timm(shrink, tmp_path):
    timm_folder(tmp_path / "whole", num_classes=4, config={"embed_dim": 12, "patch_size": 4, "img_size": 8, **MORE})
    given = {"weights": tmp_path / "whole", "out": tmp_path / "small"}
    shrink("--importance", "taylor", "--fold_mean", "--keep", 0.3, **given).expect()
    assert neuronpath.load(tmp_path / "small").config.mlp_dim == 3


MORE = {"depth": 2, "num_heads": 3, "mlp_ratio": 0.75, "num_classes": 4}


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ((), "--importance path: give --paths"),
            (("--importance", "random", "--paths", "x"), "--paths: --importance random has no use for it"),
            (("--importance", "taylor", "--topK", "2"), "--topK: --importance taylor has no use for it"),
            (("--importance", "random", "--keep", "0"), "--keep"),
            (("--importance", "random", "--keep", "1.1"), "--keep"),
            (("--dataset", "images", "--images", "x.png"), "images need labels"),
            (("--importance", "taylor", "--labels", "9"), "9"),
        ],
    )
    def test_of_options(self, words, said, shrink):
        assert said in shrink(*words).fault
        assert not shrink.out.exists()

    def test_of_the_output(self, shrink, checkpoint, tmp_path):
        random = ("--importance", "random")
        assert "ends in .npz or .pth" in shrink(*random, out=tmp_path / "x.bin").fault
        assert "the model itself" in shrink(*random, out=checkpoint).fault
        save(random_model(tiny_config("mean")), tmp_path / "mean.pth")
        assert "save it as .pth" in shrink(*random, weights=tmp_path / "mean.pth").fault
        (tmp_path / "file").touch()
        assert "choose another --output" in shrink(*random, out=tmp_path / "file/x.npz").fault

    @pytest.mark.parametrize("words", [("path", "--paths", "x"), ("taylor",), ("random", "--fold_mean")])
    def test_the_default_images_are_held_out(self, words, checkpoint, tmp_path):
        given = ("--pretrain_weight", checkpoint, "--output", tmp_path / "x.npz", "--importance", *words)
        assert "--dataset_path: give the training images" in run_file(SCRIPT, "--dataset", "digits", *given).fault

    def test_what_is_not_finite(self, shrink, tmp_path):
        model = random_model(tiny_config(), dtype=torch.float32)
        model.blocks[2].mlp.fc1.bias[1] = 3e38  # which float32 holds, and no square of it
        save(model, tmp_path / "large.npz")
        words = ("--importance", "taylor", "--precision", "fp32")
        assert "activations or gradients are not finite" in shrink(*words, weights=tmp_path / "large.npz").fault

    def test_paths_of_another_model(self, shrink, paths, tmp_path):
        save(random_model(tiny_config(), seed=9, dtype=torch.float32), tmp_path / "other.npz")
        given = ("--paths", paths)
        assert "other weights" in shrink(*given, weights=tmp_path / "other.npz").fault
        result = shrink(*given, "--allow_other_weights", weights=tmp_path / "other.npz").expect()
        assert any("other settings" in line for line in result.warnings)

    def test_an_image_without_a_path(self, shrink, paths, tmp_path):
        some = tmp_path / "some"
        some.mkdir()
        for file in paths.iterdir():
            if "-3." not in file.name:
                (some / file.name).write_bytes(file.read_bytes())
        assert "class3/00.png: no path for it" in shrink("--paths", some).fault
        result = shrink("--paths", some, "--on_bad_image", "skip").expect()
        assert "5 images were left out" in result.stderr
        assert "images      6," in result.stdout

    def test_too_few_neurons(self, shrink, paths):
        assert "lower --topK 4" in shrink("--paths", paths, "--topK", 4).fault

    def test_a_broken_record(self, shrink, paths, tmp_path):
        broken = tmp_path / "broken"
        broken.mkdir()
        for file in paths.iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        change_line(broken / "imgnet_all-3.rlt.jsonl", 1, ja=[[28]] * 6)
        assert "its ja is not" in shrink("--paths", broken).fault

    def test_an_unreadable_image(self, shrink, image_folder):
        (image_folder / "class0/01.png").write_bytes(b"none")
        assert "cannot be read" in shrink("--importance", "taylor").fault
        result = shrink("--importance", "taylor", "--on_bad_image", "skip").expect()
        assert "1 images were left out" in result.stderr
