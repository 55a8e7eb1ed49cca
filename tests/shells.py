"""A copy of the checkout in which shell scripts run, with a `python` that notes what it is asked for."""

import shutil
import subprocess
from pathlib import Path

from helpers import ROOT

MANIPULATION = "experiments/quantitative-comparison/manipulation"
PYTHON = """#!/bin/sh
printf '%s' "${0##*/}" >> "$LOG"
for word; do case $word in *' '*) word="<$word>";; esac; printf ' %s' "$word" >> "$LOG"; done
echo >> "$LOG"
case "$*" in *"${FAILS:-no such thing}"*) exit ${CODE:-1};; esac
"""


class Checkout:
    """A copy of the shell scripts alone; `ran` tells the commands, with @ for the root of the copy."""

    def __init__(self, root: Path):
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        for folder in ("scripts", MANIPULATION, f"topK/{MANIPULATION}"):
            for file in [*(ROOT / folder).rglob("*.sh"), *(ROOT / folder).rglob("*.sbatch")]:
                copy = root / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        self.bin.mkdir()
        self.command("python", PYTHON)

    def command(self, name: str, text: str = PYTHON) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def touch(self, *files: str) -> None:
        for file in files:
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).touch()

    def run(self, script: str, *arguments: str, code: int = 0, cwd: Path | None = None, **environment) -> list[str]:
        """The commands of one script."""
        self.log.write_text("")
        path = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), "HOME": str(self.root)}
        environment = path | {"VIRTUAL_ENV": "/another"} | environment
        command = [shutil.which("bash"), str(self.root / script), *arguments]
        self.found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd or self.root)
        assert self.found.returncode == code, self.found.stderr
        return self.log.read_text().replace(str(self.root), "@").splitlines()

    @property
    def fault(self) -> str:
        """The one line on stderr."""
        (line,) = self.found.stderr.splitlines()
        return line


def row(*stages: str, start: str = "python") -> str:
    """The command that runs scripts one after another."""
    return f"{start} @/scripts/stages.py {' -- '.join(stages)}"


def stages(command: str, start: str = "python") -> list[str]:
    """And the scripts that such a command runs."""
    head = row("", start=start)
    assert command.startswith(head)
    return command.removeprefix(head).split(" -- ")
