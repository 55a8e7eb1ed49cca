"""What notebooks show where records are missing."""

import pytest

from neuronpath.errors import UserError
from neuronpath.figures.shown import made_or_line


def refuse(*_, **__):
    raise UserError("results: no <b>records</b>\n; run it")


def test_what_is_made_comes_without_a_line():
    assert made_or_line(dict, [(1, 2)], a=3) == ({1: 2, "a": 3}, None)


def test_a_refusal_is_its_line_as_it_is():
    made, line = made_or_line(refuse, 1, a=2)
    assert made is None
    assert repr(line) == "results: no <b>records</b>\\n; run it"
    assert not hasattr(line, "_repr_markdown_")


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        made_or_line(lambda: 1 / 0)
