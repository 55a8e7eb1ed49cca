"""What notebooks show where records may be missing: the thing itself, or one line on what is missing."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..errors import UserError

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Line(str):
    """A text that a notebook shows as it is, without quotes and not as Markdown."""

    __repr__ = str.__str__


def made_or_line(
    make: Callable[Given, Made], *given: Given.args, **named: Given.kwargs
) -> tuple[Made, None] | tuple[None, Line]:
    """What `make` returns; or, where that is refused as a UserError, None and the error's line."""
    try:
        return make(*given, **named), None
    except UserError as e:
        return None, Line(e)
