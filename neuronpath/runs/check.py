"""The check before a long run: its options, and what it says. The checks themselves are in `checks.py`."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..cli import options as opt
from ..cli.parsing import Parser
from ..errors import printable
from .extraction import add_attribution, settle_attribution

OK, WARNING, FAULT = "ok", "WARNING", "FAULT"
CHECKS = ("weights", "data", "images", "accuracy", "cost", "output")


@dataclass(frozen=True)
class Finding:
    """One line: `level` is OK, WARNING or FAULT, `what` was checked, and `text` says what is so and what to do."""

    level: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.what:<9} {printable(self.text)}"


def findings(description: str | None, arguments: Sequence[str] | None = None) -> Iterator[Finding]:
    """The chosen checks, one by one. UserError for a mistake in the options themselves."""
    options = parse(description, arguments)
    from .checks import findings as found

    yield from found(options)


def parser_of(description: str | None) -> Parser:
    """The options of the extraction scripts, for either kind of head and one checkpoint or several."""
    parser = Parser(description)
    parser.add_argument(
        "--checks",
        nargs="+",
        choices=CHECKS,
        default=CHECKS,
        metavar="CHECK",
        help=f"which checks: {', '.join(CHECKS)} (default: all); weights are always loaded, data is opened for all but "
        "weights and output",
    )
    opt.add_data(parser)
    opt.add_model(parser, several=True)
    add_attribution(parser, searches=False)
    opt.add_running(parser)
    opt.add_output(parser)
    return parser


def parse(description: str | None, arguments: Sequence[str] | None) -> Namespace:
    options = parser_of(description).parse_args(arguments)
    settle_attribution(options)
    return opt.settle(options)
