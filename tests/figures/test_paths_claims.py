"""The picture of a few paths, read off: images, neurons, activations, scores, and what is said of them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from neuronpath.data.images import ImageSet
from neuronpath.errors import UserError
from neuronpath.figures.paths import plot_paths
from neuronpath.files import Item

BLUE, ORANGE = "#0072B2", "#D55E00"
RECORDS = [
    {
        "image": "a/$0.png", "label": 3, "pred": 1,
        "ja": [[4, 7], [0, 9]], "ja_act": [[0.5, -2.0], [1.0, 0.0]], "ja_score": 0.75,
        "base": [[1, 2], [3, 5]], "base_act": [[4.0, 3.0], [2.0, 1.0]], "base_score": -0.0004,
    },
    {
        "image": "a/1.png", "label": 0, "pred": 0,
        "ja": [[8, 6], [2, 1]], "ja_act": [[1.0, 1.0], [1.0, 1.0]], "ja_score": -0.25,
        "base": [[0, 1], [2, 3]], "base_act": [[-1.0, 1.0], [1.0, 1.0]], "base_score": 0.0625,
    },
]  # fmt: skip
LARGEST, H = 4.0, 10


@pytest.fixture
def figure(tmp_path):
    (tmp_path / "a").mkdir()
    items = [Item(record["image"], record["label"]) for record in RECORDS]
    for i, item in enumerate(items):
        Image.new("RGB", (3 + i, 2), (10 * i, 20, 30)).save(tmp_path / item.image)
    return plot_paths(RECORDS, ImageSet(tmp_path, ["a"], items[::-1]), H, "quadrature right, m = 20")


def test_scores_are_in_the_unit_that_is_given(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "x.png")
    record = RECORDS[0] | {"image": "x.png"}
    figure = plot_paths([record], ImageSet(tmp_path, ["a"], [Item("x.png", 0)]), H, "rule", "logits")
    assert figure.axes[2].get_xlabel() == "in units of logits"


def test_a_row_has_the_image_its_paths_and_their_scores(figure):
    axes = np.array(figure.axes).reshape(2, 3)
    for i, ((picture, path, score), record) in enumerate(zip(axes, RECORDS, strict=True)):
        assert picture.images[0].get_array().shape == (2, 3 + i, 3)
        assert picture.images[0].get_array()[0, 0].tolist() == [10 * i, 20, 30]
        assert picture.get_title() == f"label {record['label']}, predicted {record['pred']}"
        assert picture.get_xlabel() == record["image"].replace("$", r"\$")
        assert len(picture.get_xticks()) == len(picture.get_yticks()) == 0
        for row, (key, colour) in enumerate((("base", ORANGE), ("ja", BLUE))):
            line, dots, bar, text = path.lines[row], path.collections[row], score.patches[row], score.texts[row]
            assert line.get_xdata().tolist() == [0, 1]
            assert line.get_ydata().tolist() == [layer[0] for layer in record[key]]
            assert (line.get_color(), line.get_alpha()) == (colour, 0.6)
            assert dots.get_offsets().tolist() == [[x, n] for x, layer in enumerate(record[key]) for n in layer]
            areas = [8 + 160 * abs(a) / LARGEST for layer in record[f"{key}_act"] for a in layer]
            assert dots.get_sizes().tolist() == pytest.approx(areas)
            assert dots.get_facecolor()[0].tolist() == [*to_rgba(colour, 0.8)]
            assert (bar.get_y() + bar.get_height() / 2, bar.get_width()) == (row, record[f"{key}_score"])
            assert bar.get_facecolor() == to_rgba(colour)
            assert text.get_position() == (max(0, round(record[f"{key}_score"], 3)), row)


def test_scores_are_shown_with_three_digits_and_no_minus_before_a_zero(figure):
    words = [[t.get_text() for t in figure.axes[i].texts] for i in (2, 5)]
    assert words == [[" 0.000", " 0.750"], [" 0.062", " -0.250"]]


def test_axes_legend_and_caption(figure):
    axes = np.array(figure.axes).reshape(2, 3)
    for path in axes[:, 1]:
        assert path.get_xticks().tolist() == [0, 1]
        assert (path.get_ylim(), path.get_ylabel()) == ((-0.5, 10.5), "neuron index")
    for score in axes[:, 2]:
        assert score.get_xlim() == pytest.approx((-0.27, 1.05))  # -0.25 - 0.02 · 1 to 0.75 + 0.3 · 1
        assert (score.get_ylim(), len(score.get_yticks())) == ((1.6, -0.6), 0)
        assert [line.get_xdata() for line in score.lines] == [[0, 0]]
    assert [axes[0, i].get_title() for i in (1, 2)] == [
        "paths through the layers (area: |activation|)",
        "Joint Attribution Score",
    ]
    assert [[a.get_xlabel() for a in row[1:]] for row in axes] == [["", ""], ["layer", "in units of probability"]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["activation path", "neuron path"]
    assert figure.get_supxlabel() == (
        "JAS(P) = (1/N) $\\Sigma_t$ S[t]·G[t], quadrature right, m = 20; n = 2 images. "
        "The order of the neuron indices carries no meaning."
    )
    assert figure.get_size_inches().tolist() == pytest.approx([10, 5.1])


def test_scores_of_one_sign_are_measured_from_0(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    record = RECORDS[0] | {"image": "x.png", "ja_score": 1.0, "base_score": 0.5}
    score = plot_paths([record], ImageSet(tmp_path, ["a"], [Item("x.png", 0)]), H, "rule").axes[2]
    assert score.get_xlim() == pytest.approx((-0.02, 1.3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "none.png: this record's image is not in {root}; does --dataset_path fit the records?"),
        (b"no image", "{root}/none.png: cannot be read ("),
    ],
)
def test_an_image_that_cannot_be_shown_says_what_to_do(tmp_path, content, said):
    items = []
    if content:
        (tmp_path / "none.png").write_bytes(content)
        items.append(Item("none.png", 0))
    with pytest.raises(UserError) as e:
        plot_paths([RECORDS[0] | {"image": "none.png"}], ImageSet(tmp_path, ["a"], items), H, "rule")
    assert str(e.value).startswith(said.format(root=tmp_path))
    assert content is None or str(e.value).endswith("); replace it or its record")
