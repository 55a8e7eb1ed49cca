"""The picture of a few paths."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.images import DECODING_ERRORS, ImageSet
from ..errors import UserError, one_line
from ..files import Item
from ..records.schema import METHODS
from .common import escaped

SEARCHED = {key: method for key, method in METHODS.items() if method.job == "ja"}  # what joint_attr records


def plot_paths(
    records: Sequence[dict], source: ImageSet, num_neurons: int, rule: str, unit: str = "probability"
) -> Figure:
    """For each record the image, both its paths (layer × neuron index, area by activation) and both their JAS.

    `records` of joint_attr, their images in `source`; `num_neurons` H; `rule` names the quadrature for the caption,
    `unit` that of the scores. UserError for an image that is not there.
    """
    known = {item.image: item for item in source.items}
    figure = Figure(figsize=(10, 2.1 * len(records) + 0.9), layout="constrained")
    axes = figure.subplots(len(records), 3, width_ratios=(1, 4, 1.6), squeeze=False)
    largest = max(abs(a) for record in records for key in SEARCHED for layer in record[f"{key}_act"] for a in layer)
    scores = [0, *(record[method.score] for record in records for method in SEARCHED.values())]
    spread = max(scores) - min(scores)
    for (picture, path, score), record in zip(axes, records, strict=True):
        picture.imshow(_image(source, known.get(record["image"]), record["image"]))
        picture.set_title(f"label {record['label']}, predicted {record['pred']}", fontsize=9)
        picture.set_xlabel(escaped(record["image"]), fontsize=8)
        picture.set(xticks=[], yticks=[])
        for row, (key, method) in enumerate(SEARCHED.items()):
            _draw_path(path, record, key, largest)
            score.barh(row, record[method.score], color=method.colour)
            shown = round(record[method.score], 3) + 0.0  # no minus before a zero
            score.text(max(0, shown), row, f" {shown:.3f}", va="center", fontsize=8)
        path.set(xticks=range(len(record["ja"])), ylim=(-0.05 * num_neurons, 1.05 * num_neurons), ylabel="neuron index")
        score.set(yticks=[], ylim=(1.6, -0.6), xlim=(min(scores) - 0.02 * spread, max(scores) + 0.3 * spread))
        score.axvline(0, color="black", linewidth=0.8)
        score.spines[["top", "right"]].set_visible(False)
    axes[0, 1].set_title("paths through the layers (area: |activation|)", fontsize=9)
    axes[0, 2].set_title("Joint Attribution Score", fontsize=9)
    axes[-1, 1].set_xlabel("layer")
    axes[-1, 2].set_xlabel(f"in units of {unit}")
    handles, names = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(
        f"JAS(P) = (1/N) $\\Sigma_t$ S[t]·G[t], {rule}; n = {len(records)} images. "
        "The order of the neuron indices carries no meaning.",
        fontsize=8,
    )
    return figure


def _image(source: ImageSet, item: Item | None, name: str) -> np.ndarray:
    """As the model sees it but for size and normalisation."""
    if item is None:
        raise UserError(f"{name}: this record's image is not in {source.root}; does --dataset_path fit the records?")
    try:
        return np.asarray(source.rgb(item))
    except DECODING_ERRORS as e:
        raise UserError(f"{source.root / name}: cannot be read ({one_line(e)}); replace it or its record") from e


def _draw_path(axes: Axes, record: dict, key: str, largest: float) -> None:
    """`largest`: of the activations, which has the largest area."""
    colour, name = METHODS[key].colour, METHODS[key].noun
    layers = [layer for layer, neurons in enumerate(record[key]) for _ in neurons]
    neurons = [neuron for layer in record[key] for neuron in layer]
    areas = [8 + 160 * abs(a) / largest for layer in record[f"{key}_act"] for a in layer]
    axes.plot(range(len(record[key])), [layer[0] for layer in record[key]], color=colour, linewidth=1, alpha=0.6)
    axes.scatter(layers, neurons, s=areas, color=colour, alpha=0.8, edgecolors="white", linewidths=0.5, label=name)
