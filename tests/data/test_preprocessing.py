"""The paper's preprocessing and the models' own."""

import numpy as np
import pytest
from helpers import tiny_config
from PIL import Image

from neuronpath.data.preprocessing import preprocessing
from neuronpath.files import DATASETS


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
        found = preprocessing("native", tiny_config(pool, img_size=size))(image)
        width, height = (short * side // min(image.size) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        cropped = resized.crop((left, top, left + size, top + size))
        expected = normalised(cropped, *((0.5, 0.5) if pool == "cls" else self.IMAGENET))
        np.testing.assert_allclose(found, expected, atol=1e-5)
