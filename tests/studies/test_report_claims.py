"""The study of searches: which images and settings each part gets, and the text of its report."""

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath.data.loading import load_images
from neuronpath.models.checkpoint import load, save, sha256
from neuronpath.studies import report
from neuronpath.studies.parts import PARTS
from neuronpath.studies.report import first_of_each_class, markdown, run

QUADRATURE = {
    "images": 40,
    "converged": 39,
    "rules": {"right": {"4": 0.5, "20": 0.9}, "gauss-legendre": {"4": 0.975}},
    "auto": {"mean_nodes": 4.456, "agree": 1.0},
}
RESULTS = {
    "layers": {
        "images": 40,
        "layers": 480,
        "layer": {"agree": 0.75, "lowest_rank": 11},
        "estimate": {"agree": 0.8, "lowest_rank": 5},
        "exact": {"agree": 0.995, "lowest_rank": 2},
        "shortlist": {"agree": 0.998, "mean_scored": 9.125, "stopped": {"rule": 479, "cap": 0, "all": 1}, "misses": []},
    },
    "checked": {"images": 10, "agree": 1.0, "error": 0.0123},
    "paths": {
        "layer": {"agree": 0.125, "jas": 0.1},
        "shortlist": {"agree": 0.95, "jas": 0.25},
        "exhaustive": {"agree": 1.0, "jas": 0.26},
    },
    "quadrature": QUADRATURE,
    "shortlist_quadrature": {
        "images": 20,
        "converged": 18,
        "rules": {"gauss-legendre": {"2": 0.5, "3": 0.75}, "gauss-radau": {"2": 0.625}},
        "auto": {"mean_nodes": 5.5, "agree": 0.875},
    },
    "precision": {
        "fp32": {"jas": 0.5},
        "tf32": {
            "layers": 1.0,
            "whole_paths": 0.999,
            "whole_activation_paths": 0.998,
            "score_error": 0.001,
            "margins": [],
            "under": 0.0,
            "jas": 0.49,
        },
        "bf16": {
            "layers": 0.9,
            "whole_paths": 0.8,
            "whole_activation_paths": 0.7,
            "score_error": 0.06,
            "margins": [0.012345, 0.001],
            "under": 0.25,
            "jas": 0.48,
        },
    },
    "costs": {
        "layer, auto": {"block_passes": 123.4, "seconds": 0.01234},
        "exhaustive, Gauss-Radau 2": {"block_passes": 9000, "seconds": 12},
    },
}
REPORT = """\
**tiny**, 40 held-out images, 480 layers

| search | exact winner, of layers | lowest rank of it | whole paths | mean JAS |
|---|---|---|---|---|
| layer | 75.0 % | 11 | 12.5 % | 0.1000 |
| shortlist | 99.8 % | 5 | 95.0 % | 0.2500 |
| exhaustive | 100.0 % |  | 100.0 % | 0.2600 |

The exact winner is that of Gauss-Legendre 8, among the 32 best by Gauss-Radau 2. Of all candidates, in 10 images, it \
is the same in 100.0 % of the layers; the two rules differ by 1.2 % of a layer's largest score at most. Gauss-Radau 2 \
and all candidates choose it in 99.5 % of the layers.

Shortlist with the cap off: 9.12 candidates on average (rule 479, cap 0, all 1); misses: none.

| rule, 39 of 40 images converged | nodes | whole paths |
|---|---|---|
| right | 4 | 50.0 % |
| right | 20 | 90.0 % |
| gauss-legendre | 4 | 97.5 % |
| auto | 4.46 below α = 1 on average, repeats included | 100.0 % |
| gauss-legendre (shortlist; 8 and 16 agree on 18 of 20) | 2 | 50.0 % |
| gauss-legendre (shortlist; 8 and 16 agree on 18 of 20) | 3 | 75.0 % |
| gauss-radau (shortlist; 8 and 16 agree on 18 of 20) | 2 | 62.5 % |
| auto (shortlist; 8 and 16 agree on 18 of 20) | 5.50 | 87.5 % |

| precision, Gauss-Legendre 4 | layers as in fp32 | whole paths | activation paths | error of a path's JAS | mean JAS \
reached | largest margin where it differs, layers under it |
|---|---|---|---|---|---|---|
| fp32 | | | | | 0.5000 | |
| tf32 | 100.0 % | 99.9 % | 99.8 % | 0.1 % | 0.4900 | none |
| bf16 | 90.0 % | 80.0 % | 70.0 % | 6.0 % | 0.4800 | 0.0123, 25.0 % |

| search | block passes/image | s/image |
|---|---|---|
| layer, auto | 123 | 0.012 |
| exhaustive, Gauss-Radau 2 | 9000 | 12.000 |
"""


def test_the_text_of_a_whole_report():
    assert markdown({"tiny": RESULTS}) == REPORT
    missed = [{"image": 3, "layer": 2, "margin": 0.5, "rank": 9}]
    layers = RESULTS["layers"] | {"shortlist": RESULTS["layers"]["shortlist"] | {"misses": missed}}
    two = markdown({"tiny": RESULTS, "other": RESULTS | {"layers": layers}})
    assert two.startswith(f"{REPORT}\n**other**, 40 held-out images")
    assert f"misses: {missed}." in two


@pytest.mark.parametrize(("count", "chosen"), [(1, [1, 2, 0]), (2, [1, 4, 2, 0, 3]), (9, [1, 4, 2, 0, 3, 5])])
def test_the_first_images_of_each_class_class_by_class(count, chosen):
    labels = torch.tensor([7, 0, 3, 7, 0, 7])
    x, y = first_of_each_class(torch.arange(6.0), labels, count)
    assert x.tolist() == chosen
    assert y.tolist() == labels[chosen].tolist()


@pytest.fixture
def digits(tmp_path, image_folder):
    """Held-out images as of `image_folder`, 3, 1, 2 and 5 of a class; of training, the same but one of the last."""
    (tmp_path / "val").symlink_to(image_folder)
    for folder in sorted(image_folder.iterdir()):
        (tmp_path / "train" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir()):
            if file.name != "04.png":
                (tmp_path / "train" / folder.name / file.name).symlink_to(file)
    return tmp_path


class Scores(tuple):
    """What the scores were asked of; those of some images are told by their numbers."""

    def __new__(cls, *parts):
        return super().__new__(cls, parts)

    def __getitem__(self, which):
        return which.tolist() if isinstance(which, torch.Tensor) else super().__getitem__(which)


@pytest.mark.parametrize("few", [2, 10])
def test_every_part_gets_its_images_model_and_settings(digits, tmp_path, monkeypatch, few):
    """2 held-out images of a class, 1 to calibrate κ on; x, y: 2 + 1 + 2 + 2 = 7 of them."""
    checkpoint = tmp_path / "tiny.npz"
    save(random_model(tiny_config(), dtype=torch.float32), checkpoint)
    calls = {}

    def kept(name):
        def called(*given, **named):
            calls.setdefault(name, []).append((given, named))
            return f"{name} {len(calls[name])}"

        return called

    for name in ("calibration", "quadratures", "per_layer", "checked", "whole_paths", "precisions", "costs"):
        monkeypatch.setattr(report.study, name, kept(name))
    monkeypatch.setattr(
        report.study, "every_score", lambda model, x, y, file, **named: Scores(model.dtype, x, y, file, named)
    )
    monkeypatch.setattr(report, "FEW", few)
    sizes = {"per_class": 2, "train_per_class": 1, "kept": tmp_path / "kept", "device": torch.device("cpu")}
    found = run(checkpoint, digits, **sizes)
    assert tuple(found) == PARTS
    assert found == {
        "training": {"shortlist_images": 4, "shortlist": "calibration 1", "quadrature": "quadratures 1"},
        "layers": "per_layer 1",
        "checked": "checked 1",
        "paths": "whole_paths 1",
        "quadrature": "quadratures 2",
        "shortlist_quadrature": "quadratures 3",
        "precision": "precisions 1",
        "costs": "costs 1",
    }
    model = load(checkpoint)
    val, train = (load_images(digits / part, model) for part in ("val", "train"))
    x, y = first_of_each_class(*val, 2)
    (tx, ty), (qx, qy) = (first_of_each_class(*train, count) for count in (1, 2))

    def same(given, *expected):
        assert all(torch.equal(a, b) for a, b in zip(given, expected, strict=True))

    name = f"tiny-{sha256(checkpoint)[:8]}"
    (scored,), _ = calls["calibration"][0]
    assert (scored[0], scored[3]) == (torch.float32, tmp_path / f"kept/{name}-train-1.npy")
    same(scored[1:3], tx, ty)
    for (scored,) in (calls["per_layer"][0][0], calls["whole_paths"][0][0][3:]):
        assert (scored[0], scored[3]) == (torch.float32, tmp_path / f"kept/{name}-val-2.npy")
        same(scored[1:3], x, y)
    chosen, complete = calls["checked"][0][0]
    assert chosen == ([0, 3] if few == 2 else list(range(7)))
    assert complete[3:] == (tmp_path / f"kept/{name}-val-2-complete.npy", {"finely": 28, "at_once": 1})
    same(complete[1:3], x[chosen], y[chosen])
    (first, *data), named = calls["quadratures"][0]
    assert (first.dtype, named) == (torch.float64, {"rules": {}, "fine": (16, 32)})
    same(data, qx.double(), qy)
    (second, *data), named = calls["quadratures"][1]
    assert (second.dtype, named) == (torch.float64, {})
    same(data, x.double(), y)
    (third, *data), named = calls["quadratures"][2]
    rules = {"gauss-legendre": (2, 3, 4), "gauss-radau": (2, 3)}
    assert (third.dtype, named) == (torch.float64, {"rules": rules, "fine": (8, 16), "search": "shortlist"})
    same(data, x[::2].double(), y[::2])
    (single, *data, _), _ = calls["whole_paths"][0]
    assert single.dtype == torch.float32
    same(data, x, y)
    (file, *data), _ = calls["precisions"][0]
    assert file == checkpoint
    same(data, x, y)
    (single, *data), _ = calls["costs"][0]
    assert single.dtype == torch.float32
    same(data, *((x[[0, 3]], y[[0, 3]]) if few == 2 else (x, y)))


def test_only_the_parts_that_are_asked_for_are_run(digits, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(report.study, "costs", lambda *_: "costs")
    monkeypatch.setattr(report.study, "precisions", lambda *_: "precisions")
    sizes = {"per_class": 1, "train_per_class": 1, "kept": tmp_path / "kept", "device": torch.device("cpu")}
    found = run(checkpoint, digits, **sizes, parts=["costs", "precision"])
    assert list(found.items()) == [("precision", "precisions"), ("costs", "costs")]
