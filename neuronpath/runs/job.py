"""What a script computes, and its options. Nothing here imports PyTorch: help and mistakes are answered at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..cli import options as opt
from ..cli.exits import Report
from ..cli.parsing import Parser

if TYPE_CHECKING:
    from .run import Inputs, Plan


class Job(ABC):
    """What one script computes; `pool` is the kind of head that it is for, None: either.

    `prefix`: the default of --output_prefix; `files`: what follows it in the names of the results.
    """

    prefix = "imgnet_all"
    files = "-<label>.rlt.jsonl"

    def __init__(self, pool: str | None = None):
        self.pool = pool

    @property
    @abstractmethod
    def name(self) -> str:
        """What args.json calls it."""

    @property
    @abstractmethod
    def scripts(self) -> dict[str, str]:
        """The path of the script for each kind of head."""

    @abstractmethod
    def add_options(self, parser: Parser) -> None:
        """The options of its own."""

    @abstractmethod
    def settle(self, options: Namespace) -> None:
        """Fill in what follows from its own options. UserError where they contradict each other."""

    @abstractmethod
    def folder(self, options: Namespace) -> str:
        """Results go to results/<folder>/<model> by default."""

    @abstractmethod
    def prepare(self, inputs: Inputs) -> Plan:
        """Check what can be checked before the first write."""


def main(job: Job, description: str | None, arguments: Sequence[str] | None = None) -> Report:
    """The script of `job`. UserError for a user's mistake."""
    options = parse(job, description, arguments)
    from .run import Run

    run = Run.select(job, options)
    if run is None:
        return Report(f"process {options.share.index} of {options.share.count}: no labels are left for it")
    run.compute()
    return run.report()


def parse(job: Job, description: str | None, arguments: Sequence[str] | None) -> Namespace:
    """The options with what follows from them: default paths, `device` and `dtype`."""
    options = parser_of(job, description).parse_args(arguments)
    job.settle(options)
    return opt.settle(options)


def parser_of(job: Job, description: str | None) -> Parser:
    parser = Parser(description)
    opt.add_data(parser)
    opt.add_model(parser, job.pool)
    job.add_options(parser)
    opt.add_running(parser)
    opt.add_output(parser, job.prefix, job.files)
    return parser
