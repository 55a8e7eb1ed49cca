import runpy
import sys

import pytest
from helpers import ROOT
from shells import Checkout


class Script:
    """One script in this process; stand-ins take the place of names in it, or of what it asks a part of the package."""

    def __init__(self, monkeypatch, capsys):
        self.patch, self.capsys = monkeypatch, capsys

    def __call__(self, script: str, *words: object, **stand_ins) -> str:
        main = runpy.run_path(str(ROOT / script))["main"]
        for name, value in stand_ins.items():
            part, _, asked = name.rpartition(".")
            assert (part or asked) in main.__globals__, name
            if part:
                self.patch.setattr(main.__globals__[part], asked, value)
            else:
                self.patch.setitem(main.__globals__, asked, value)
        self.patch.setattr(sys, "argv", [script, *map(str, words)])
        main()
        return self.capsys.readouterr().out


@pytest.fixture
def script(monkeypatch, capsys) -> Script:
    return Script(monkeypatch, capsys)


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path.resolve())
