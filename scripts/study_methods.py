"""Which method finds the neurons that matter: all of them side by side, on any models and images.

    for seed in 0 1 2 3 4; do python scripts/train_digits.py --seed $seed --output_dir results/seed$seed/ckpt; done
    python scripts/study_methods.py --dataset digits --pretrain_weight results/seed*/ckpt/*.npz --output docs/methods
    python scripts/study_methods.py --dataset digits --pretrain_weight results/seed*/ckpt/*.pth --output docs/methods

On one core about 10 minutes for a training of the digits' ViT and 20 for its MAE, as long again for a beam of 16; kept
in results/methods as it goes, so that a killed run goes on. Checkpoints of the same name are trainings of one model.
Writes OUTPUT.json, which keeps models of earlier runs, .png and .pdf, and prints tables; expect the widest beam to
reach the largest JAS.
"""

import hashlib
import json
import sys
from argparse import Namespace
from pathlib import Path

from neuronpath import analysis, figures, models, runs, studies
from neuronpath.analysis.methods import read_study
from neuronpath.cli import options as opt
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, whole
from neuronpath.errors import UserError
from neuronpath.files import ROOT, model_name, replace_file
from neuronpath.studies.parts import METHOD_NAMES


def parse() -> Namespace:
    parser = Parser(__doc__)
    opt.add_data(parser)
    opt.add_model(parser, several=True)
    group = parser.add_argument_group("study")
    group.add_argument(
        "--methods",
        nargs="+",
        choices=METHOD_NAMES,
        default=METHOD_NAMES,
        metavar="METHOD",
        help=f"{', '.join(METHOD_NAMES)} (default: all); base: activation, uniform: random, random: the matched "
        f"control; {METHOD_NAMES[0]} is always there, since the others are compared with it",
    )
    group.add_argument(
        "--only_first",
        nargs="*",
        choices=METHOD_NAMES[1:],
        default=["beam_16"],
        metavar="METHOD",
        help="methods that take long: of the first training of each model only (default: beam_16)",
    )
    group.add_argument(
        "--noisy_images", type=whole(1), default=50, metavar="N", help="about so many for the stability (default: 50)"
    )
    group.add_argument("--kept", type=Path, default=ROOT / "results/methods", metavar="DIR", help="what was measured")
    group.add_argument(
        "--output", type=Path, default=ROOT / "results/methods/study", metavar="PATH", help="files, without ending"
    )
    parser.set_defaults(shard=(0, 1))
    options = parser.parse_args()
    if options.dataset == "images":
        raise UserError("--dataset images: the study asks what an edit does to the label; give images with labels")
    return opt.settle(options)


def subject(options: Namespace) -> "studies.Subject":
    inputs = runs.open_inputs(options)
    items, images = inputs.load_all()
    if len({item.label for item in items}) < 2:
        raise UserError(f"all images are of class {items[0].label}, but other classes take part; give more --labels")
    labels = images.new_tensor([item.label for item in items], dtype=int)
    names, std = [item.image for item in items], inputs.preprocessing.std
    return studies.Subject(inputs.model, studies.Images(images, labels, names, std))


def told(options: Namespace) -> str:
    """Of what the options say of the model beside its weights; "" where they leave all to the file."""
    said = {name: value for name, value in opt.told(options).items() if value is not None}
    if options.classifier:
        said["classifier"] = models.sha256(options.classifier)
    if options.precision != "fp32":
        said["precision"] = options.precision
    return f"-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:8]}" if said else ""


def main() -> None:
    options = parse()
    checkpoints, names = options.pretrain_weight, [m for m in METHOD_NAMES if m in (METHOD_NAMES[0], *options.methods)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    groups: dict[str, dict] = {}
    for options.pretrain_weight in checkpoints:
        model, weights = model_name(options), models.sha256(options.pretrain_weight)[:16]
        group = groups.setdefault(model, {"trainings": {}})
        if weights in group["trainings"]:
            raise UserError(f"{options.pretrain_weight}: these weights are given twice; leave one of the files out")
        given = subject(options)
        methods = [m for m in names if not (group["trainings"] and m in options.only_first)]
        name = f"{model}-{weights[:8]}{told(options)}"
        measured = studies.compare_methods(name, given, methods, options.kept, options.noisy_images)
        group["images"] = len(given.images)
        group["trainings"][weights] = analysis.of_training(given.images.y.cpu().numpy(), measured)
    file = options.output.with_name(f"{options.output.name}.json")
    found = read_study(file) if file.exists() else {}
    for model, group in groups.items():
        found[model] = {**group, "over": analysis.over_trainings([*group["trainings"].values()])}
    replace_file(file, json.dumps(found, indent=1) + "\n")
    print(analysis.method_tables(found))
    for file in figures.save(figures.plot_methods(found), options.output):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
