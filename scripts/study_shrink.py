"""Do paths say which units a smaller model can do without, better than what is usual? On any models and images.

    python scripts/study_shrink.py --dataset digits --pretrain_weight ckpt/ViT-digits.npz ckpt/MAE-digits.pth \\
        --output docs/shrink
    python scripts/study_shrink.py --time_rounds 7 --output docs/shrink       # alone: what they cost at ViT-B_32 sizes

Units are chosen by the images below --training_path alone; the data options name the held-out ones. About 20 minutes on
one core for both digits models, most of it paths, which are kept in results/shrink; two more for the times. Writes
OUTPUT.json after every model, which keeps models and times of earlier runs (what stands there is measured again only
with --overwrite), .png and .pdf, and prints tables; expect Taylor at all tokens to keep the most where the head reads
CLS alone.
"""

import copy
import hashlib
import json
import sys
from argparse import Namespace
from pathlib import Path

from neuronpath import analysis, figures, models, runs, studies
from neuronpath.analysis.shrinking import read_shrink
from neuronpath.cli import options as opt
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, share_of_one, whole
from neuronpath.errors import UserError
from neuronpath.files import DIGITS, ROOT, model_name, replace_file
from neuronpath.models.configs import CONFIGS
from neuronpath.studies.parts import SHARES, SHRINK_NAMES


def parse() -> Namespace:
    parser = Parser(__doc__)
    opt.add_data(parser)
    opt.add_model(parser, several=True, required=False)
    group = parser.add_argument_group("study")
    group.add_argument(
        "--training_path",
        type=Path,
        metavar="DIR",
        help=f"images to choose by, of the same kind of data set (default: {DIGITS}/train for digits, else required)",
    )
    group.add_argument("--training_per_class", type=whole(1), metavar="N", help="of each class (default: all)")
    group.add_argument(
        "--importances", nargs="+", choices=SHRINK_NAMES, default=SHRINK_NAMES, metavar="NAME", help="(default: all)"
    )
    group.add_argument(
        "--shares", nargs="+", type=share_of_one, default=SHARES, metavar="SHARE", help="kept (default: 0.9 … 0.1)"
    )
    group.add_argument(
        "--time_rounds", type=whole(0), default=0, metavar="N", help="rounds of timing, 7 are enough (default: none)"
    )
    group.add_argument("--kept", type=Path, default=ROOT / "results/shrink", metavar="DIR", help="paths found")
    group.add_argument(
        "--output", type=Path, default=ROOT / "results/shrink/study", metavar="PATH", help="files, without ending"
    )
    group.add_argument("--overwrite", action="store_true", help="find paths anew that are kept, and measure anew")
    opt.add_running(parser)
    o = parser.parse_args()
    if not (o.pretrain_weight or o.time_rounds):
        raise UserError("nothing to do: give --pretrain_weight, or --time_rounds, or both")
    if o.pretrain_weight and o.dataset == "images":
        raise UserError("--dataset images: the study asks what is left of the label; give images with labels")
    if o.dataset == "digits" and o.training_path is None:
        o.training_path = ROOT / DIGITS / "train"
    if o.pretrain_weight and o.training_path is None:
        raise UserError("--training_path: give the images to choose by, others than the held-out ones")
    o = opt.settle(o)
    if o.share.count > 1:
        raise UserError("this runs in one process: leave --shard and the launcher out")
    if o.training_path and o.training_path.resolve() == o.dataset_path.resolve():
        raise UserError(f"--training_path {o.training_path}: these are the held-out images; give others")
    return o


def each_of(options: Namespace) -> list[Namespace]:
    """The options with one checkpoint each. UserError where two have one name, by which results stand in the file."""
    each = [Namespace(**{**vars(options), "pretrain_weight": file}) for file in options.pretrain_weight or ()]
    names = [model_name(one) for one in each]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--pretrain_weight: two are called {twice[0]}; rename one, or give another --output for it")
    return each


def images_of(options: Namespace) -> "tuple[models.StagedModel, studies.Images, set[str]]":
    """The model, its images, and the digests of their bytes."""
    inputs = runs.open_inputs(options)
    items, x = inputs.load_all()
    y = x.new_tensor([item.label for item in items], dtype=int)
    images = studies.Images(x, y, [item.image for item in items], inputs.preprocessing.std)
    return inputs.model, images, {inputs.source.sha256(item) for item in items}


def identity(options: Namespace) -> str:
    """Of the model: by this its paths are found again."""
    said = [options.precision, *(str(value) for value in opt.told(options).values())]
    said += [models.sha256(file) for file in (options.pretrain_weight, options.classifier) if file]
    return f"{model_name(options)}-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:8]}"


def study(options: Namespace, earlier: dict) -> dict:
    """Of one model. `earlier`: what stands in the file, which is returned where it is of the same."""
    o, to_choose = options, copy.copy(options)
    to_choose.dataset_path, to_choose.images_per_class = o.training_path, o.training_per_class
    to_choose.truth = None  # it tells the labels of the held-out images
    model, training, chosen_by = images_of(to_choose)
    _, held_out, measured_on = images_of(o)
    if shared := len(chosen_by & measured_on):
        raise UserError(f"{o.training_path}: {shared} images are also among those to measure on; give others")
    same = {
        "model": identity(o),
        "checkpoint_sha256": models.sha256(o.pretrain_weight),
        "precision": o.precision,
        "seed": o.seed,
        "training_digest": training.digest(),
        "images_digest": held_out.digest(),
        "shares": [*o.shares],
        "importances": [*o.importances],
    }
    if earlier.get("identity") == same and not o.overwrite:
        return earlier
    named = {"seed": o.seed, "anew": o.overwrite, "internal_batch_size": o.internal_batch_size}
    ranked = studies.rank_units(identity(o), model, training, o.importances, o.kept, **named)
    measured = studies.measure_smaller(model, held_out, ranked, o.shares)
    labels = held_out.y.cpu().numpy()
    return {
        "identity": same,
        "training": len(training),
        "images": len(held_out),
        "held": ranked.held,
        "flops": studies.flops_of_smaller(model, held_out.x[:1], o.shares),
        "kept": analysis.of_smaller_models(labels, o.shares, measured),
    }


def main() -> None:
    o = parse()
    each = each_of(o)
    o.output.parent.mkdir(parents=True, exist_ok=True)
    file = o.output.with_name(f"{o.output.name}.json")
    found = read_shrink(file) if file.exists() else {"models": {}, "time": {}}
    for one in each:
        name = model_name(one)
        found["models"][name] = study(one, found["models"].get(name, {}))
        replace_file(file, json.dumps(found, indent=1) + "\n")  # after every model, so that a kill loses one at most
    if o.time_rounds:
        shares = [share for share in o.shares if share < 1]
        times = studies.times_of_smaller(CONFIGS["ViT-B_32"], shares, 4, o.time_rounds, o.device)
        found["time"] = {"model": "ViT-B_32", **times}
        replace_file(file, json.dumps(found, indent=1) + "\n")
    print(analysis.shrink_tables(found))
    for picture in figures.save(figures.plot_shrink(found), o.output) if found["models"] else ():
        print(f"picture     {picture.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
