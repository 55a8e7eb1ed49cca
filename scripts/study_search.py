"""Layer, shortlist and exhaustive search, and the quadrature rules: how far they agree, and what they cost.

    python scripts/study_search.py --output docs/search

Both digits models, 100 held-out images each; an hour or two on two cores, most of it the exhaustive search of all
candidates, kept in results/search. Writes OUTPUT.json, .png and .pdf and prints tables; expect a shortlist that
chooses as the exhaustive search does in over 99 % of the layers. OUTPUT.json keeps models of earlier runs.
"""

import json
import sys
from pathlib import Path

from neuronpath.cli import command
from neuronpath.options import ROOT, add_device
from neuronpath.parsing import Parser, whole
from neuronpath.search_report import draw, markdown, run

MODELS = [ROOT / "ckpt/ViT-digits.npz", ROOT / "ckpt/MAE-digits.pth"]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--models", type=Path, nargs="+", default=MODELS, help="checkpoints (default: both digits')")
    parser.add_argument("--images_per_class", type=whole(1), default=10, help="held-out images (default: %(default)s)")
    parser.add_argument("--training_per_class", type=whole(1), default=3, help="to calibrate on (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "results/search/study", help="files, without ending")
    add_device(parser)
    o = parser.parse_args()
    digits, kept = ROOT / "dataset/digits", ROOT / "results/search"
    o.output.parent.mkdir(parents=True, exist_ok=True)
    file = o.output.with_suffix(".json")
    for m in o.models:
        result = run(m, digits, o.images_per_class, o.training_per_class, kept, o.device)
        earlier = json.loads(file.read_text()) if file.exists() else {}  # also of a run beside this one
        found = {**earlier, m.stem: result}
        file.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(found))
    for file in draw(found, o.output):
        print(f"picture     {file.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
