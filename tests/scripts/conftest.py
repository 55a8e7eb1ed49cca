import runpy
import sys

import pytest
from helpers import ROOT


class Script:
    """One script in this process; stand-ins take the place of names in it."""

    def __init__(self, monkeypatch, capsys):
        self.patch, self.capsys = monkeypatch, capsys

    def __call__(self, script: str, *words: object, **stand_ins) -> str:
        main = runpy.run_path(str(ROOT / script))["main"]
        for name, value in stand_ins.items():
            assert name in main.__globals__, name
            self.patch.setitem(main.__globals__, name, value)
        self.patch.setattr(sys, "argv", [script, *map(str, words)])
        main()
        return self.capsys.readouterr().out


@pytest.fixture
def script(monkeypatch, capsys) -> Script:
    return Script(monkeypatch, capsys)
