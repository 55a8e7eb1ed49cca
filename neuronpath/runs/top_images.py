"""The job that finds each unit's images of highest activation (docs/method.md §6)."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from ..cli.parsing import Parser
from .job import Job

if TYPE_CHECKING:
    from .run import Inputs, Plan


class TopImages(Job):
    """Per layer and unit the 9 images of highest activation, its mean and how often it is above 0, for either head."""

    prefix = "top_images"
    files = ".npz"

    @property
    def name(self) -> str:
        return "top_images"

    @property
    def scripts(self) -> dict[str, str]:
        return dict.fromkeys(("cls", "mean"), "scripts/top_images.py")

    def add_options(self, parser: Parser) -> None:
        """It has none of its own."""

    def settle(self, options: Namespace) -> None:
        """Nothing follows from them."""

    def folder(self, options: Namespace) -> str:
        return "top_images"

    def prepare(self, inputs: Inputs) -> Plan:
        from .top_plan import plan_top_images

        return plan_top_images(inputs)
