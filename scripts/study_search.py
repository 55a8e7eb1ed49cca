"""Layer, shortlist and exhaustive search, quadrature rules and precisions: how far they agree, and what they cost.

    python scripts/study_search.py --output docs/search

Both digits models, 100 held-out images each; about 100 minutes on one core, most of it the exhaustive search of all
candidates, kept in results/search as it goes. Writes OUTPUT.json, .png and .pdf and prints tables; expect a shortlist
that chooses as the exhaustive search does in over 99 % of the layers. OUTPUT.json keeps models of earlier runs.
"""

import json
import sys
from pathlib import Path

from neuronpath import figures, models, studies
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_device
from neuronpath.cli.parsing import Parser, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.errors import UserError
from neuronpath.files import ROOT, replace_file
from neuronpath.studies.parts import PARTS

MODELS = [ROOT / "ckpt/ViT-digits.npz", ROOT / "ckpt/MAE-digits.pth"]


def read(file: Path) -> dict:
    return json.loads(file.read_text()) if file.exists() else {}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", type=Path, nargs="+", default=MODELS, help="checkpoints (default: both digits')")
    parser.add_argument("--images_per_class", type=whole(1), default=10, help="held-out images (default: %(default)s)")
    parser.add_argument("--training_per_class", type=whole(1), default=3, help="to calibrate on (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "results/search/study", help="files, without ending")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="compute these only, the rest is OUTPUT.json's"
    )
    add_device(parser)
    o = parser.parse_args()
    settle_threads()
    digits, kept = ROOT / "dataset/digits", ROOT / "results/search"
    o.output.parent.mkdir(parents=True, exist_ok=True)
    file, where = o.output.with_suffix(".json"), models.device("cpu" if o.no_cuda else o.device)
    for m in o.models:
        if missing := [part for part in PARTS if part not in {*o.parts, *read(file).get(m.stem, {})}]:
            raise UserError(f"{file}: {m.stem} lacks {', '.join(missing)}; add them to --parts")
        sizes = {"per_class": o.images_per_class, "train_per_class": o.training_per_class}
        result = studies.run(m, digits, **sizes, kept=kept, device=where, parts=o.parts)
        found = read(file)  # again: another model's run may have ended beside this one
        found[m.stem] = found.get(m.stem, {}) | result
        replace_file(file, json.dumps(found, indent=1) + "\n")
    print(studies.markdown(found))
    for file in figures.save(figures.plot_study(found), o.output):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
