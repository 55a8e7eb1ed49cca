"""Make the atlas of result folders: pages to look at classes, images and units, opened from disk by double click.

    python scripts/atlas.py --results results --dataset digits --dataset_path dataset/digits/val --output results/atlas

Seconds for the digits, a minute or two for ImageNet's 50000 images beside their pictures; a second run makes only the
pictures that are not there. Expect OUTPUT/index.html; what is missing (records, edits, top images, data set) is said.
"""

import sys
from pathlib import Path

from neuronpath import atlas
from neuronpath.analysis.results import Results
from neuronpath.cli.exits import Report, command
from neuronpath.cli.options import add_dataset, add_input_prefix
from neuronpath.cli.parsing import Parser, whole
from neuronpath.errors import UserError, printable
from neuronpath.files import ROOT


def main() -> Report:
    parser = Parser(__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="holds <job>/<model> (default: results)")
    add_input_prefix(parser)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="models to show (default: all with records)")
    add_dataset(parser, None)
    parser.add_argument(
        "--thumbnail_size",
        type=whole(0),
        default=160,
        metavar="PIXELS",
        help="larger side of the pictures of images; 0: make none (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "results/atlas", help="folder of the page (default: results/atlas)"
    )
    options = parser.parse_args()
    results = Results(options.results, options.input_prefix)
    known = results.models()
    if unknown := [name for name in options.models or [] if name not in known]:
        raise UserError(f"--models: {options.results} has no records of {unknown[0]}; choose among {', '.join(known)}")
    models = [*dict.fromkeys(options.models or known)]
    sources = atlas.open_sources(options, results, models)
    built = atlas.build_atlas(results, models, sources, options.output, options.thumbnail_size)
    lines = [
        f"missing     {printable(model)}: {printable(text)}" for model, texts in built.missing.items() for text in texts
    ]
    lines += [
        f"note        {printable(model)}: {printable(text)}" for model, texts in built.notes.items() for text in texts
    ]
    if built.unreadable:
        lines.append(f"pictures    {built.unreadable} images cannot be read and have none")
    return Report("\n".join([*lines, f"atlas       {built.page.resolve()}"]))


if __name__ == "__main__":
    sys.exit(command(main))
