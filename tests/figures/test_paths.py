"""Pictures of paths."""

import numpy as np
import pytest
from helpers import saved
from matplotlib.axes import Axes
from PIL import Image

from neuronpath.data.images import ImageSet
from neuronpath.errors import UserError
from neuronpath.figures.paths import plot_paths
from neuronpath.files import Item


@pytest.mark.parametrize("kind", ["16-bit", "cifar"])
def test_paths_show_the_image_that_the_model_sees(tmp_path, monkeypatch, kind):
    """One reader: 16-bit greyscale is scaled, CIFAR comes from its arrays."""
    values = np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(32, 32)
    source = ImageSet(tmp_path, ["a"], [Item("a/0.png", 0)])
    if kind == "16-bit":
        (tmp_path / "a").mkdir()
        Image.fromarray(values).save(tmp_path / "a/0.png")
    else:
        arrays = np.stack([(values // 257).astype(np.uint8)] * 3, -1)[None]
        source = ImageSet(tmp_path, ["a"], [Item("0", 0)], arrays)
    path = {"ja": [[0], [1]], "ja_act": [[0.5], [0.5]], "ja_score": 0.5}
    path |= {key.replace("ja", "base"): value for key, value in path.items()}
    shown = []
    monkeypatch.setattr(Axes, "imshow", lambda self, image: shown.append(image))
    records = [{"image": source.items[0].image, "label": 0, "pred": 0, **path}]
    plot_paths(records, source, 4, "rule")
    np.testing.assert_allclose(shown[0], np.repeat(values[..., None] // 257, 3, -1), atol=1)
    with pytest.raises(UserError, match="secret"):
        plot_paths([records[0] | {"image": "../secret.png"}], source, 4, "rule")


def test_an_image_named_by_dollar_signs_is_drawn(tmp_path):
    (tmp_path / "c$_$").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "c$_$/0.png")
    path = {"ja": [[0], [1]], "ja_act": [[0.5], [0.5]], "ja_score": 0.5}
    path |= {key.replace("ja", "base"): value for key, value in path.items()}
    source = ImageSet(tmp_path, ["c$_$"], [Item("c$_$/0.png", 0)])
    assert saved(plot_paths([{"image": "c$_$/0.png", "label": 0, "pred": 0, **path}], source, 4, "rule"), tmp_path)
