"""What tests share: models, images, and the one harness for commands, in this process or in one of their own."""

import io
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import neuronpath
from neuronpath.cli.exits import command
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import batches
from neuronpath.data.preprocessing import preprocessing
from neuronpath.errors import UserError
from neuronpath.models.configs import Config
from neuronpath.models.vit import VisionTransformer
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import Extraction, JointAttribution
from neuronpath.runs.pruning import TopKEdit

ROOT = Path(__file__).resolve().parent.parent

# --- models and images ----------------------------------------------------------------------------------------------

NUM_CLASSES = 4
KINDS = ("cls", "mean", "mean-1")  # of `tiny_config`; the last has one patch: N = 1, the neuron token is the second


def tiny_config(kind: str = "cls", **changes) -> Config:
    """Pairwise different sizes, so that a swapped axis cannot pass: patch 3, grid 3, D 20, heads 5, H 28, L 6, C 4."""
    pool, _, one = kind.partition("-")
    sizes = {"patch_size": 3, "img_size": 3 if one else 9, "width": 20, "depth": 6, "num_heads": 5, "mlp_dim": 28}
    return Config(**{**sizes, "num_classes": NUM_CLASSES, "pool": pool, **changes})


SHAPES = {
    **{kind: tiny_config(kind) for kind in KINDS},
    "cls-2": tiny_config("cls", patch_size=2, img_size=4, width=18, depth=3, num_heads=2, mlp_dim=25, num_classes=7),
    "one-layer": tiny_config("cls", depth=1),
    "cls-registers": tiny_config("cls", depth=3, registers=2, activation="quick-gelu"),
    "mean-registers": tiny_config("mean", depth=3, registers=2, activation="gelu-tanh", norm_first=True),
}
SMALLEST = {"patch_size": 1, "img_size": 2, "width": 4, "depth": 1, "num_heads": 2, "mlp_dim": 3, "num_classes": 2}


def random_model(config: Config, seed: int = 0, scale: float = 0.35, dtype=torch.float64) -> VisionTransformer:
    """Random weights of a size that makes the Joint Attribution Scores larger than 0.01."""
    generator = torch.Generator().manual_seed(seed)
    model = VisionTransformer(config).to(dtype)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
        parameter.data = (values + 1 if "norm" in name and name.endswith("weight") else values).to(dtype)
    return model.requires_grad_(False).eval()


def random_images(config: Config, count: int, seed: int = 1, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = config.img_size
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64).to(dtype)


def problem(config: Config, count: int = 5, seed: int = 1, dtype=torch.float64):
    """A random model, images and labels in which classes mix."""
    images = random_images(config, count, seed, dtype)
    return random_model(config, dtype=dtype), images, torch.arange(count) % config.num_classes


def random_path(config: Config, layers: int, k: int, n: int = 5, seed: int = 2) -> torch.Tensor:
    """(n, layers, k), the units of a layer distinct."""
    generator = torch.Generator().manual_seed(seed)
    units = [torch.randperm(config.mlp_dim, generator=generator)[:k] for _ in range(n * layers)]
    return torch.stack(units).view(n, layers, k)


#: Options of the data set that tell labels, none of which is given.
NO_SOURCES: dict = {"truth": None, "class_map": None, "images": None}

#: The images of the `image_folder` fixture, and their labels.
COUNTS = (3, 1, 2, 5)
IMAGES = [f"class{label}/{i:02d}.png" for label, count in enumerate(COUNTS) for i in range(count)]
LABELS = {image: int(image[5]) for image in IMAGES}


def assert_same_path(found, expected, precision=1e-9) -> None:
    """What `find_path` found."""
    assert torch.equal(found.path, expected.path)
    assert torch.equal(found.base_path, expected.base_path)
    for key in ("score", "base_score", "activation", "base_activation", "logits"):
        torch.testing.assert_close(getattr(found, key), getattr(expected, key), rtol=precision, atol=0)
    torch.testing.assert_close(found.margin, expected.margin, rtol=precision, atol=precision)


def fault(call: Callable, *given, **more) -> str:
    """What the UserError says that a call must raise."""
    with pytest.raises(UserError) as caught:
        call(*given, **more)
    return str(caught.value)


class Payload:
    """Pickled, it is a program that creates the file `canary` when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


# --- commands: in this process or in one of their own ---------------------------------------------------------------

BAR = re.compile(r"img/s|it/s|s/img|class/s|%\|")
#: Of the processes that tests start: they are no part of a group, and one thread is enough for tiny models.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """Those on stderr but for the progress bar's."""
        return [line for line in re.split(r"[\r\n]", self.stderr) if line.strip() and not BAR.search(line)]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if ": warning: " in line]

    @property
    def messages(self) -> list[str]:
        """The lines on stderr but for the progress bar's and warnings."""
        return [line for line in self.lines if ": warning: " not in line]

    def expect(self, code: int = 0) -> "Result":
        """Itself, after a look at the exit code; no command ever ends with a traceback."""
        assert self.code == code, (self.code, self.stdout[-3000:], self.stderr[-3000:])
        assert "Traceback" not in self.stderr, self.stderr
        return self

    @property
    def fault(self) -> str:
        """The one line that a user's mistake is answered with."""
        (message,) = self.expect(2).messages
        assert "usage:" not in message
        return message


def captured(call: Callable) -> Result:
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            code = call()
        except SystemExit as e:
            code = e.code or 0
    return Result(code, stdout.getvalue(), stderr.getvalue())


def run_here(main: Callable) -> Result:
    """`main` ended as a command, in this process."""
    return captured(lambda: command(main))


def run_job(kind: type[job.Job], *words, pool: str = "cls") -> Result:
    return run_here(lambda: job.main(kind(pool), "", [str(word) for word in words]))


def run_file(script: str, *words, cwd: Path = ROOT) -> Result:
    """A Python script, its path relative to the root, as its own process would run it in `cwd`, but in this process."""
    file, here = str(ROOT / script), Path.cwd()
    os.chdir(cwd)
    try:
        with mock.patch.object(sys, "argv", [file, *map(str, words)]):
            return captured(lambda: runpy.run_path(file, run_name="__main__") and 0)
    finally:
        os.chdir(here)


def run_process(*command, cwd: Path = ROOT, timeout: float = 600, environment=ENVIRONMENT, **options) -> Result:
    words = list(map(str, command))
    named = {"cwd": cwd, "timeout": timeout, "env": environment, **options}
    found = subprocess.run(words, capture_output=True, text=True, check=False, **named)
    return Result(found.returncode, found.stdout, found.stderr)


def run_script(script: str, *words, cwd: Path = ROOT, threads: int = 1) -> Result:
    """Run a Python script of the project as users do; its path is relative to the root."""
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    return run_process(sys.executable, ROOT / script, *words, cwd=cwd, environment=environment)


def run_bash(script: str | Path, *words, cwd: Path = ROOT, timeout: float = 600, **variables: str) -> Result:
    """Run a shell script; its path is relative to the root, `variables` are added to the environment."""
    environment = ENVIRONMENT | variables
    return run_process("bash", ROOT / script, *words, cwd=cwd, timeout=timeout, environment=environment)


def start(*words, **options) -> subprocess.Popen:
    """Start Python in a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, words)], env=ENVIRONMENT, **pipes, **options)


HOLD = """
import sys
from pathlib import Path
from neuronpath.records.locks import Locks
locks = Locks(Path(sys.argv[1]), sys.argv[2], [int(x) for x in sys.argv[3:]])
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path, *labels: int, prefix: str = "imgnet_all") -> subprocess.Popen:
    """A process that holds the locks of `labels`."""
    folder.mkdir(exist_ok=True)
    process = start("-c", HOLD, folder, prefix, *labels, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


def words_of(given: dict, *more) -> list[str]:
    """Options with one value each, then more words."""
    return [str(word) for pair in given.items() for word in pair] + [str(word) for word in more]


class Command:
    """A job, in this process, on a checkpoint and an image folder; its records go to `out`.

    `steps`: of an extraction, None for its default; `more` words are given every time. `result` is the last call's.
    """

    kind: type[job.Job] = JointAttribution

    def __init__(self, checkpoint: Path, images: Path, out: Path, *, steps: int | None = 5, more: tuple = ()):
        self.checkpoint, self.images, self.out = checkpoint, images, out
        self.steps, self.more, self.pool = steps, more, "cls"
        self.result = Result(0, "", "")

    def words(self, *more, kind=None, checkpoint=None, images=None, out=None) -> list[str]:
        given = {
            "--dataset": "imagefolder",
            "--num_workers": 0,
            "--pretrain_weight": checkpoint or self.checkpoint,
            "--dataset_path": images or self.images,
            "--output_dir": out or self.out,
        }
        if self.steps and issubclass(kind or self.kind, Extraction):
            given["--ig_total_step"] = self.steps
        return words_of(given, *self.more, *more)

    def __call__(self, *more, code: int = 0, kind=None, **changes) -> str:
        """Run it, expect its exit code; its stdout, or the one line on stderr where it fails."""
        kind = kind or self.kind
        self.result = run_job(kind, *self.words(*more, kind=kind, **changes), pool=self.pool).expect(code)
        messages = self.result.messages
        assert len(messages) == (code in (2, 4, 130)), self.result
        assert "usage:" not in self.result.stderr
        return messages[0] if messages else self.result.stdout

    @property
    def stderr(self) -> str:
        return self.result.stderr

    def refused(self, *more, **changes) -> str:
        """Run it, expect one line on stderr and nothing written; that line."""
        message = self(*more, code=2, **changes)
        assert self.result.stdout == ""
        assert len(message) > 20
        assert not self.out.exists()
        return message

    def loaded(self):
        """The model in float64, and the images in float64 by their names."""
        model = neuronpath.load(self.checkpoint, dtype=torch.float64)
        source = open_dataset("imagefolder", self.images, model.config.num_classes)
        (batch,) = batches(source, source.items, preprocessing("paper", model.config), 1000)
        return model, {i.image: x.double() for i, x in zip(batch.items, batch.images, strict=True)}


class EditCommand(Command):
    """The edit command; `ja` and `influence` hold the paths."""

    kind = Edit

    def __init__(self, checkpoint: Path, images: Path, root: Path, **options):
        super().__init__(checkpoint, images, root / "out", **{"steps": 2, **options})
        self.ja, self.influence = root / "ja", root / "influence"

    def words(self, *more, kind=None, ja=None, influence=None, **changes) -> list[str]:
        paths = {"--ja_path": ja or self.ja, "--influence_pattern_path": influence or self.influence}
        edits = issubclass(kind or self.kind, Edit | TopKEdit)
        return super().words(*(words_of(paths) if edits else ()), *more, kind=kind, **changes)

    def search(self, kind=JointAttribution, out=None, *more) -> None:
        """The records of the search itself."""
        self(*more, kind=kind, out=out or self.ja)


# --- what they write ------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_lines(file: Path, records: list) -> Path:
    """A line for each; text stays as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return file


def change_line(file: Path, line: int, **changes) -> None:
    """Other values in one record."""
    found = read_lines(file)
    found[line] |= changes
    write_lines(file, found)


def record_lines(out: Path, prefix: str = "imgnet_all") -> dict[str, str]:
    """The records' lines by image, byte for byte, in the files' order; every image once, in the file of its label."""
    found: dict[str, str] = {}
    files = {int(file.name[len(prefix) + 1 : -len(".rlt.jsonl")]): file for file in out.glob(f"{prefix}-*.rlt.jsonl")}
    for label, file in sorted(files.items()):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            assert record["label"] == label
            assert record["image"] not in found
            found[record["image"]] = line
    return found


def records(out: Path, prefix: str = "imgnet_all") -> dict[str, dict]:
    """By image, in the files' order; every image once."""
    return {image: json.loads(line) for image, line in record_lines(out, prefix).items()}


def settings(out: Path, prefix: str = "imgnet_all") -> dict:
    """What args.json says that made the records."""
    return json.loads((out / f"{prefix}.args.json").read_text())["settings"]


def assert_same_search(found: dict[str, dict], expected: dict[str, dict], tolerance: float = 1e-4) -> None:
    """The same images in the same order; scores and paths equal as far as the margins tell choices from ties."""
    assert list(found) == list(expected)
    for a, b in zip(found.values(), expected.values(), strict=True):
        assert (a["label"], a["pred"], a["base"]) == (b["label"], b["pred"], b["base"])
        assert a["prob"] == pytest.approx(b["prob"], rel=tolerance)
        assert a["base_score"] == pytest.approx(b["base_score"], rel=tolerance)
        clear = next((i for i, margin in enumerate(b["margin"]) if margin < tolerance), len(b["ja"]))
        assert a["ja"][:clear] == b["ja"][:clear]
        if clear == len(b["ja"]):
            assert a["ja_score"] == pytest.approx(b["ja_score"], rel=tolerance)
            np.testing.assert_allclose(a["ja_act"], b["ja_act"], rtol=10 * tolerance, atol=tolerance)
    assert any(min(record["margin"]) > tolerance for record in expected.values()) or not expected


def assert_same_edits(found: dict[str, dict], expected: dict[str, dict], tolerance: float = 1e-6) -> None:
    names = ("prob", "original", "remove", "enhance", "retain", "gain", "control_ratio")

    def numbers(record: dict) -> list[float]:
        own = [record[key] for key in names[:-2] if key in record] + record.get("gain", [])
        own += [ratio for layer in record.get("control_ratio", []) for ratio in layer]
        return own + [x for draw in record.get("draws", []) for x in numbers(draw)]

    def rest(record: dict) -> dict:
        own = {key: value for key, value in record.items() if key not in names}
        return own | ({"draws": [rest(draw) for draw in record["draws"]]} if "draws" in record else {})

    assert list(found) == list(expected)
    for a, b in zip(found.values(), expected.values(), strict=True):
        assert rest(a) == rest(b)
        assert numbers(a) == pytest.approx(numbers(b), rel=0, abs=tolerance)


#: What the job of top images leaves behind.
TOP_FILES = ["top_images.args.json", "top_images.npz"]


def top_bytes(out: Path) -> bytes:
    """Of the file of top images, when nothing else is left."""
    assert sorted(contents(out)) == TOP_FILES
    return (out / "top_images.npz").read_bytes()


# --- pictures -------------------------------------------------------------------------------------------------------


def caption(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def saved(figure, folder: Path) -> bool:
    figure.savefig(folder / "figure.png", dpi=40)
    figure.savefig(folder / "figure.pdf")
    return (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
