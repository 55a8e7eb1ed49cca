"""How often the rule of a shortlist errs: on models trained on noisy digits, and on random ones, hostile to it."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..data.digits import NOISE, write_images
from ..data.loading import load_images
from ..models.checkpoint import load, save, sha256
from ..models.configs import CONFIGS, Config
from ..models.digits import CHECKPOINTS, EPOCHS
from ..models.staged import StagedModel
from ..models.training import train
from ..models.vit import VisionTransformer
from .report import first_of_each_class
from .searches import calibration, every_score, per_layer

SCALES = (0.4, 0.8)  # standard deviations of random weights; from 0.8 on attention and GELU saturate
RANDOM = {"width": 24, "num_heads": 4, "mlp_dim": 96, "depth": 6}
ENDINGS = {name: Path(file).suffix for name, file in CHECKPOINTS.items()}

Problem = tuple[str, StagedModel, Tensor, Tensor]  # a name, a model, its images and labels


def trained(folder: Path, name: str, seeds: int, per_class: int) -> Iterator[Problem]:
    """Models of `name` trained on noisy digits, kept in `folder`, with the first held-out images of each class."""
    write_images(folder / "digits")
    for seed in range(seeds):
        file = folder / f"{name}-{seed}{ENDINGS[name]}"
        if not file.exists():
            given = load_images(folder / "digits/train", VisionTransformer(CONFIGS[name]))
            save(train(CONFIGS[name], *given, EPOCHS, seed), file)
        model = load(file)
        images, labels = first_of_each_class(*load_images(folder / "digits/val", model), per_class)
        yield f"{name}-{seed}-{sha256(file)[:8]}", model, images, labels


def random(name: str, scale: float, seeds: int, per_class: int) -> Iterator[Problem]:
    """Models of normal weights of `scale`, six layers of 96 neurons, and normal images of every class."""
    config = CONFIGS[name].with_(**RANDOM)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(config.num_classes).repeat_interleave(per_class)
        images = torch.randn(len(labels), 3, config.img_size, config.img_size, generator=generator)
        yield f"{name}-random-{scale}-{seed}", random_model(config, scale, generator), images, labels


def random_model(config: Config, scale: float, generator: torch.Generator) -> VisionTransformer:
    """All parameters normal with standard deviation `scale`, around 1 for the norms' weights."""
    model = VisionTransformer(config).requires_grad_(False).eval()
    for key, parameter in model.named_parameters():
        centre = 1.0 if "norm" in key and key.endswith("weight") else 0.0
        parameter.normal_(centre, scale, generator=generator)
    return model


def shortlist_errors(folder: Path, seeds: int, per_class: int) -> dict:
    """Of every setting the calibration over all its models; models and scores are kept in `folder`."""
    found = {}
    for name in ENDINGS:
        settings = {f"trained on digits with noise {NOISE}": trained(folder, name, seeds, per_class)}
        for scale in SCALES:
            settings[f"random weights, scale {scale}"] = random(name, scale, seeds, per_class)
        for setting, models in settings.items():
            parts = [
                every_score(model, images, labels, folder / f"{each}-{per_class}.npy")
                for each, model, images, labels in models
            ]
            scores = torch.cat(parts)
            found[f"{name}, {setting}"] = {
                "models": len(parts),
                "default": [per_layer(part)["shortlist"]["agree"] for part in parts],
                **{key: value for key, value in per_layer(scores).items() if key != "shortlist"},
                "shortlist": calibration(scores),
            }
    return found


def shortlist_tables(found: dict) -> str:
    """A table per setting: κ across, the first length down."""
    lines = []
    for name, r in found.items():
        kappas = list(dict.fromkeys(row["kappa"] for row in r["shortlist"]))
        lines += [
            f"**{name}**: {r['models']} models, {r['images']} images, {r['layers']} layers; two nodes and all "
            f"candidates choose as eight nodes do in {100 * r['exact']['agree']:.1f} %",
            "",
            f"| first | {' | '.join(f'κ = {kappa}' for kappa in kappas)} |",
            f"|---|{'---|' * len(kappas)}",
        ]
        for first in dict.fromkeys(row["first"] for row in r["shortlist"]):
            row = [_cell(row) for row in r["shortlist"] if row["first"] == first]
            lines.append(f"| {first} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: dict) -> str:
    missed = f"{row['missed']} missed, by {row['missed_by']:.2g} at most" if row["missed"] else "0 missed"
    return f"{missed}; {row['mean_scored']:.1f} scored"
