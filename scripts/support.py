"""Which models of timm and transformers can be cut at their neurons, and why the others cannot.

    python scripts/support.py --output docs/models.md

Builds every image classifier of transformers and every Vision Transformer of timm with random weights, two layers and
small images; about 10 minutes on one core. Expect over 95 % of timm's to be adapted. Nothing is downloaded.
"""

import sys
from pathlib import Path

from neuronpath import studies
from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser
from neuronpath.cli.threads import settle_threads
from neuronpath.files import ROOT, replace_file

HEAD = """# Models of other libraries

`neuronpath.adapt(module)` cuts a live Vision Transformer at its neurons. This page was written by `python
scripts/support.py --output docs/models.md`, with {versions}: every model is built with random weights,
two layers and small images, cut, and compared with itself before the cut. *Neuron tokens*: those that its head reads.

"""


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "results/models.md", help="page to write")
    parser.add_argument("--only", default="", help="models whose names contain this (default: all)")
    o = parser.parse_args()
    settle_threads()
    found = studies.verdicts(o.only)
    o.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(o.output, HEAD.format(versions=studies.library_versions()) + studies.support_page(found))
    print(f"page        {o.output.resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
