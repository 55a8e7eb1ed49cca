"""What pruning does over K, share of zeroed units and depth: a table, pruning.npz and pictures.

    python topK/experiments/quantitative-comparison/manipulation/analysis/plot_probability_deviation.py

Seconds after ../ViT/scripts/edit_logits.sh; expect one row per run found below RESULTS, whatever its folder is called,
and per model pruning-<model>-{prob,top1}.{png,pdf}.
"""

import sys
from pathlib import Path

import numpy as np

from neuronpath.analysis.pruning import arrays, markdown, read_runs
from neuronpath.cli.exits import command
from neuronpath.cli.options import add_input_prefix
from neuronpath.cli.parsing import Parser
from neuronpath.figures.common import save
from neuronpath.figures.pruning import plot_runs
from neuronpath.files import ROOT


def main() -> None:
    parser = Parser(__doc__)
    default = ROOT / "results/demo/pruning"
    parser.add_argument("--results", type=Path, default=default, help="holds the runs (default: %(default)s)")
    add_input_prefix(parser)
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="for table and pictures (default: RESULTS)")
    options = parser.parse_args()
    runs, out = read_runs(options.results, options.input_prefix), options.output_dir or options.results
    print(markdown(runs))
    for model in dict.fromkeys(run.model for run in runs):
        for measure in ("prob", "top1"):
            files = save(plot_runs(runs, model, measure), out / f"pruning-{model}-{measure}")
            print(f"picture     {files[0].resolve()}")
    np.savez(out / "pruning.npz", **arrays(runs))
    print(f"arrays      {(out / 'pruning.npz').resolve()}")


if __name__ == "__main__":
    sys.exit(command(main))
