"""How often the rule of a shortlist misses the winner, by its first length and κ.

    python scripts/study_shortlist.py --output docs/shortlist

Five seeds of each digits model trained on noisy digits, 20 held-out images each, and random weights of two scales,
hostile to the rule; about 50 minutes on one core, kept in results/shortlist as it goes. Writes OUTPUT.json and prints
tables; expect the default (4, κ = 2) to miss no winner in trained models, and some in random ones.
"""

import json
import sys
from pathlib import Path

from neuronpath import studies
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, whole
from neuronpath.cli.threads import settle_threads
from neuronpath.files import ROOT, replace_file


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--seeds", type=whole(1), default=5, help="models of each setting (default: %(default)s)")
    parser.add_argument("--images_per_class", type=whole(1), default=2, help="of each model (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "results/shortlist/study", help="file, without ending")
    parser.add_argument("--kept", type=Path, default=ROOT / "results/shortlist", help="models, images and scores")
    o = parser.parse_args()
    settle_threads()
    o.output.parent.mkdir(parents=True, exist_ok=True)
    found = studies.shortlist_errors(o.kept, o.seeds, o.images_per_class)
    replace_file(o.output.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    print(studies.shortlist_tables(found))


if __name__ == "__main__":
    sys.exit(command(main))
