"""Write the tables of docs/options.md and docs/records.md anew, from the parsers and the schema of records.

    python scripts/write_tables.py            # --check compares only, and exits with 2 where a table is not up to date

A few seconds; expect no change unless an option or a key has changed. A table stands behind <!-- table: NAME -->.
"""

import re
import sys
from pathlib import Path

from neuronpath.cli.exits import command
from neuronpath.cli.options import add_output, add_records, add_weights
from neuronpath.cli.parsing import Parser
from neuronpath.errors import UserError
from neuronpath.files import ROOT, replace_file
from neuronpath.records.schema import METHODS, MOST_UNITS, markdown
from neuronpath.runs.check import parser_of as check_parser
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import Baseline, HeadAttribution, JointAttribution, TopKAttribution
from neuronpath.runs.job import parser_of
from neuronpath.runs.pruning import TopKEdit
from neuronpath.runs.shrinking import parser_of as shrink_parser
from neuronpath.runs.top_images import TopImages


def tables() -> dict[str, str]:
    """By name."""
    extraction, edit = parser_of(JointAttribution("cls"), ""), parser_of(Edit("cls"), "")
    records, weights = Parser(""), Parser("")
    add_records(records, tuple(METHODS), MOST_UNITS)
    add_weights(weights)
    add_output(top_images := Parser(""), TopImages.prefix, TopImages.files)
    return {
        "joint_attr": extraction.markdown(),
        "topK": parser_of(TopKAttribution("cls"), "").markdown(extraction),
        "baseline": parser_of(Baseline(), "").markdown(extraction),
        "joint_attr_heads": parser_of(HeadAttribution(), "").markdown(extraction),
        "edit": edit.markdown(extraction),
        "topK edit": parser_of(TopKEdit("cls"), "").markdown(edit),
        "top_images": top_images.markdown(),
        "check": check_parser("").markdown(extraction),
        "shrink": shrink_parser("").markdown(extraction),
        "similarity": records.markdown(),
        "pair-sim": weights.markdown(),
        "records": markdown(),
    }


def filled(file: Path) -> str:
    """A page with its tables as they should be."""
    pattern, new = r"<!-- table: ([\w -]+) -->\n(?:\|.*\n)*", tables()
    return re.sub(pattern, lambda m: f"<!-- table: {m[1]} -->\n{new[m[1]]}\n", file.read_text())


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    for file in (ROOT / "docs/options.md", ROOT / "docs/records.md"):
        if file.read_text() == filled(file):
            continue
        if check:
            raise UserError(f"{file}: its tables are not up to date; run python scripts/write_tables.py")
        replace_file(file, filled(file))


if __name__ == "__main__":
    sys.exit(command(main))
