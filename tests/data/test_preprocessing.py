"""The paper's preprocessing and the models' own."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_config
from PIL import Image

from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.files import DATASETS
from neuronpath.pixels import FILTERS, HALF, Preprocessing, digits, google, mae, recorded, settled


def normalised(image: Image.Image, mean, std) -> np.ndarray:
    return ((np.asarray(image, np.float64) / 255 - mean) / std).transpose(2, 0, 1)


class TestPreprocessing:
    IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    @pytest.fixture(params=[(500, 300), (300, 500), (100, 100)])
    def image(self, request) -> Image.Image:
        """A smooth image of some width and height with some noise on it."""
        width, height = request.param
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        noise = np.random.default_rng(0).random((height, width, 3))
        return Image.fromarray((255 * (0.8 * np.stack([x, y, x * y], -1) + 0.2 * noise)).astype(np.uint8))

    @pytest.mark.parametrize("pool", ["cls", "mean"])
    @pytest.mark.parametrize("size", [224, 9])
    def test_paper(self, image, size, pool):
        found = preprocessing("paper", tiny_config(pool, img_size=size))(image)
        resized = image.resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, normalised(resized, *self.IMAGENET), atol=1e-5)

    @pytest.mark.parametrize("dataset", DATASETS)
    def test_the_papers_cifar_is_normalised_by_half(self, dataset):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
        found = preprocessing("paper", tiny_config(img_size=32), dataset)(image)
        expected = normalised(image, *((0.5, 0.5) if dataset in ("cifar10", "cifar100") else self.IMAGENET))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("pool", "size", "short"),
        [
            ("cls", 224, 248),
            ("cls", 384, 384),
            ("cls", 32, 35),
            ("mean", 224, 256),
            ("mean", 384, 438),
            ("mean", 32, 36),
        ],
    )
    def test_native(self, image, pool, size, short):
        config = tiny_config(pool, img_size=size)
        found = preprocessing("native", config, native=(google if pool == "cls" else mae)(size))(image)
        width, height = (short * side // min(image.size) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        cropped = resized.crop((left, top, left + size, top + size))
        expected = normalised(cropped, *((0.5, 0.5) if pool == "cls" else self.IMAGENET))
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestNative:
    OWN = Preprocessing(11, 9, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear")  # ⌊9 / 0.8⌋ = 11

    def test_the_known_ones(self):
        """Google's ViTs, fine-tuned MAE, and the digits, which are trained as scripts/train_digits.py loads them."""
        imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        assert [google(size) for size in (224, 383)] == [
            Preprocessing(short, size, *HALF, "bicubic") for short, size in ((248, 224), (425, 383))
        ]
        assert [google(size) for size in (384, 512)] == [Preprocessing(S, S, *HALF, "bicubic") for S in (384, 512)]
        assert mae(224) == Preprocessing(256, 224, *imagenet, "bicubic")
        assert digits(32) == Preprocessing(32, 32, *imagenet, "bilinear")
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
        config = tiny_config(img_size=32)
        assert preprocessing("native", config, native=digits(32))(image).equal(preprocessing("paper", config)(image))

    def test_what_is_not_known_is_refused_and_not_guessed(self):
        for pool in ("cls", "mean"):
            with pytest.raises(UserError, match=r"give --mean, --std, --crop_pct, --interpolation, or a --model_type"):
                preprocessing("native", tiny_config(pool))
        with pytest.raises(UserError, match=r"give --std, --crop_pct, or a --model_type"):
            settled(None, {"mean": [0.5] * 3, "interpolation": "box"}, 9)

    @pytest.mark.parametrize("filter", FILTERS)
    def test_every_part_counts(self, filter):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        native = settled(self.OWN, {"interpolation": filter}, 9)
        found = preprocessing("native", tiny_config(img_size=9), "cifar10", native)(image)
        resized = image.resize((16, 11), getattr(Image.Resampling, filter.upper()))
        expected = normalised(resized.crop((4, 1, 13, 10)), self.OWN.mean, self.OWN.std)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_what_is_given_counts_before_what_is_known(self):
        given = {"mean": [0.0, 0.1, 0.2], "std": [1.0, 2.0, 3.0], "crop_pct": 1, "interpolation": "lanczos"}
        whole = Preprocessing(9, 9, (0.0, 0.1, 0.2), (1.0, 2.0, 3.0), "lanczos")
        assert settled(None, given, 9) == settled(self.OWN, given, 9) == whole
        assert settled(self.OWN, {}, 9) == settled(self.OWN, dict.fromkeys(given), 9) == self.OWN
        assert settled(self.OWN, {"mean": given["mean"]}, 9) == replace(self.OWN, mean=(0.0, 0.1, 0.2))
        assert settled(self.OWN, {"crop_pct": 0.5}, 9) == replace(self.OWN, size=18)
        squashed = replace(self.OWN, size=(9, 9), crop=None, rounding="down")
        assert settled(squashed, {"interpolation": "box"}, 9) == replace(squashed, interpolation="box")

    @pytest.mark.parametrize("size", [11, (9, 12), None])
    def test_what_records_say_of_it_is_it(self, size):
        native = replace(self.OWN, size=size)
        said = {f"preprocess_{name}": value for name, value in json.loads(json.dumps(native.to_dict())).items()}
        assert recorded({"preprocess": "native", **said}) == native
        assert recorded({"preprocess": "native", "preprocess_mean": 0.5}) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"size": 0}, {"size": [9]}, {"size": [9, True]}, {"size": 2**40}, {"crop": "9"}, {"crop": 1.5},
            {"rounding": "up"}, {"mean": 0.5}, {"mean": [0.5, 0.5]}, {"mean": "abc"}, {"mean": [True, 0, 0]},
            {"mean": [0.5, 0.5, float("nan")]}, {"std": [0.5, 0.5, 0]}, {"interpolation": "x"}, {"interpolation": [1]},
        ],
    )  # fmt: skip
    def test_what_records_say_may_be_anything(self, wrong):
        (name,) = wrong
        said = {f"preprocess_{key}": value for key, value in (self.OWN.to_dict() | wrong).items()}
        with pytest.raises(UserError, match=f"^--preprocess native: preprocess_{name} of the records cannot be "):
            recorded(said)
