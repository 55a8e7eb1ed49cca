"""Help and mistakes are answered at once, by every command: PyTorch is not imported for them."""

import json
import sys

import pytest
from helpers import ROOT, run_process

from neuronpath.__main__ import JOBS

SCRIPTS = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("path", "topK", "experiments", "scripts")
    for file in (ROOT / folder).rglob("*.py")
)
WEIGHTS = ("--pretrain_weight", "none.npz")
#: What a command cannot do without, by the name of its script.
REQUIRED = dict.fromkeys(("baseline.py", "check.py", "edit.py", "joint_attr.py", "joint_attr_mae.py"), WEIGHTS)
REQUIRED |= {"joint_attr_heads.py": WEIGHTS}
REQUIRED |= dict.fromkeys(("influence_pattern.py", "influence_pattern_mae.py"), WEIGHTS)
REQUIRED |= {
    "name2img.py": ("--classes", "1"),
    "over_seeds.py": ("x", "y"),
    "shrink.py": (*WEIGHTS, "--output", "x.npz", "--importance", "random"),
    "study_methods.py": WEIGHTS,
    "top_images.py": WEIGHTS,
    "unit_maps.py": WEIGHTS,
    "zero_shot.py": ("--pretrain_weight", "x", "--names", "x"),
}
#: Each of the calls, one after another; what they print is theirs, and the last line tells how they ended.
PROGRAM = """
import json, runpy, sys

def ended(name, words):
    sys.argv = [name, *words]
    try:
        (runpy.run_path if name.endswith(".py") else runpy.run_module)(name, run_name="__main__")
    except SystemExit as e:
        return e.code
    return "went on"

name, *calls = json.loads(sys.argv[1])
found = [[ended(name, words), *(heavy in sys.modules for heavy in ("torch", "torchvision"))] for words in calls]
print("\\n" + json.dumps(found))
"""


def ended(name: str, *calls: tuple[str, ...]) -> tuple[list, str, list[str]]:
    """How each of the calls ended with what imported, what they printed, and the lines on stderr."""
    result = run_process(sys.executable, "-c", PROGRAM, json.dumps([name, *calls])).expect()
    *printed, last = result.stdout.splitlines()
    return json.loads(last), "\n".join(printed), result.lines


def test_the_scripts_are_all_there():
    assert len(SCRIPTS) == 36
    assert {name.rsplit("/", 1)[-1] for name in SCRIPTS} >= {"joint_attr.py", "edit.py", "table.py", "stages.py"}
    for name in SCRIPTS:
        assert 'if __name__ == "__main__":' in (ROOT / name).read_text(), name


@pytest.mark.parametrize("script", SCRIPTS)
def test_of_a_script(script):
    name = script.rsplit("/", 1)[-1]
    needed = REQUIRED.get(name, ())
    found, printed, lines = ended(
        str(ROOT / script), ("--help",), (*needed, "--no_such_option"), *([()] if needed else [])
    )
    assert found == [[0, False, False], *[[2, False, False]] * (2 if needed else 1)]
    assert printed.strip()
    wrong, *missing = lines
    assert wrong.startswith(f"{name}: ")
    assert "--no_such_option" in wrong
    assert [line.startswith(f"{name}: ") and "required" in line for line in missing] == [True] * bool(needed)


def test_of_the_package():
    jobs = [(job, *words) for job in JOBS for words in (("--help",), (*WEIGHTS, "--no_such_option"))]
    found, printed, lines = ended("neuronpath", ("--help",), ("no-such-job",), *jobs)
    assert found == [[code, False, False] for code in (0, 2)] * (1 + len(JOBS))
    assert printed.count("\nJobs: ") == 1
    assert printed.count("--pretrain_weight") >= len(JOBS)
    assert lines[0].startswith("neuronpath: 'no-such-job' is no job; ")
    assert len(lines) == 1 + len(JOBS)
    assert all(line.startswith("neuronpath: ") for line in lines)
    assert all("--no_such_option" in line for line in lines[1:])


#: Where a command imports PyTorch it ends, and it is told whether threads were settled before.
SETTLED = """
import runpy, sys
from neuronpath.cli import options, threads

class Found(BaseException):
    pass

class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            raise Found

settled = []
sys.meta_path.insert(0, Finder())
threads.settle_threads = options.settle_threads = lambda: settled.append(True)
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except Found:
    print(settled)
"""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("path/joint_attr.py", WEIGHTS),
        ("scripts/check.py", WEIGHTS),
        ("scripts/benchmark.py", ()),
        ("scripts/study_search.py", ("--output", "new/study")),
        ("scripts/study_methods.py", WEIGHTS),
        ("scripts/study_shrink.py", (*WEIGHTS, "--training_path", "x")),
        ("scripts/shrink.py", (*WEIGHTS, "--output", "x.npz", "--importance", "random")),
        ("scripts/train_digits.py", ("--overwrite",)),
    ],
)
def test_threads_are_settled_before_pytorch_is_imported(script, words, tmp_path):
    result = run_process(sys.executable, "-c", SETTLED, ROOT / script, *words, cwd=tmp_path).expect()
    assert result.stdout.splitlines()[-1:] == ["[True]"]
