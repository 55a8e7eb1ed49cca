"""Damage of any kind to records and settings: an error of one line, or every image once, in order."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import FEW_AND_MANY, assert_one_line, damaged, damages, holds
from helpers import NUM_CLASSES, EditCommand, random_model, run_job, tiny_config
from hypothesis import strategies as st
from PIL import Image

from neuronpath import load
from neuronpath.data.images import open_dataset
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.records.args import Args
from neuronpath.records.reading import read_results
from neuronpath.records.store import Store
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.run import Inputs, Plan

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()  # NaN and infinity, too
    | st.sampled_from([10**400, -1, 0, 28, 1e308, "\ud800", "a\n\x1b", "class3/00.png"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.just("image"), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> EditCommand:
    """Both commands on one image of three classes and four of the last; the records of each in a folder of its name."""
    root, rng = tmp_path_factory.mktemp("damage"), np.random.default_rng(0)
    save(random_model(tiny_config(), dtype=torch.float32), root / "tiny.npz")
    for label, count in enumerate((1, 1, 1, 4)):
        (root / "images" / f"class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"class{label}" / f"{i:02d}.png")
    found = EditCommand(root / "tiny.npz", root / "images", root, steps=1)
    found.ja = root / "JointAttribution"
    for kind in (JointAttribution, Edit):
        found(kind=kind, out=root / kind.__name__)
    return found


class Job:
    """A job up to its first write and, with made-up records, after it."""

    def __init__(self, made: EditCommand, kind: type, paths: Path | None = None):
        self.job = kind("cls")
        options = job.parse(self.job, "", made.words(kind=kind, ja=paths))
        model, source = load(made.checkpoint), open_dataset("imagefolder", made.images, NUM_CLASSES)
        self.inputs = Inputs(options, model, source, source.items, source.items)
        self.args = Args.read(made.images.parent / kind.__name__ / "imgnet_all.args.json")
        self.sound = {
            record["image"]: record
            for found in read_results(made.images.parent / kind.__name__).values()
            for record in found
        }

    def prepare(self) -> Plan:
        return self.job.prepare(self.inputs)

    def resume(self, out: Path) -> None:
        """Complete the records in `out`."""
        plan, items = self.job.prepare(self.inputs), self.inputs.items
        summary = plan.summary()
        with Store(out, "imgnet_all", self.args, items, items, check=plan.check, earlier=summary.add) as store:
            for item in store.pending:
                store.write(item, self.sound[item.image])
                summary.add(self.sound[item.image])
        summary.running()
        summary.text(0, 1.0, out, "imgnet_all")


def changes(data: bytes) -> st.SearchStrategy[bytes]:
    """A file of records changed as by hand or by chance."""
    lines = data.splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    which = st.integers(0, len(lines) - 1)
    keys = st.sampled_from([*records[0], "extra"])

    def joined(parts: list) -> bytes:
        return b"".join(p if isinstance(p, bytes) else (json.dumps(p) + "\n").encode() for p in parts)

    def replaced(i: int, *others) -> bytes:
        return joined([*lines[:i], *others, *lines[i + 1 :]])

    def at(record: object, path: list[int], value: object) -> object:
        """`record` with a value somewhere deep in it."""
        if not path or not record or not isinstance(record, list):
            return value
        i = path[0] % len(record)
        return [*record[:i], at(record[i], path[1:], value), *record[i + 1 :]]

    return st.one_of(
        damages(data, b"\n").map(lambda found: damaged(data, found)),
        st.permutations(lines).map(joined),
        st.lists(st.sampled_from(lines), max_size=2 * len(lines)).map(joined),
        st.builds(lambda i, value: replaced(i, value), which, JSON),
        st.builds(lambda i, value: replaced(i, value, lines[i]), which, JSON),
        st.builds(lambda i, key, value: replaced(i, {**records[i], key: value}), which, keys, JSON),
        st.builds(lambda i, key: replaced(i, {k: v for k, v in records[i].items() if k != key}), which, keys),
        st.builds(
            lambda i, key, path, value: replaced(i, {**records[i], key: at(records[i].get(key), path, value)}),
            which,
            keys,
            st.lists(st.integers(0, 9), max_size=3),
            JSON,
        ),
        st.builds(lambda i, end: joined([*(x.rstrip(b"\n") + end for x in lines[:i]), *lines[i:]]), which,
                  st.sampled_from([b"\r", b"\r\n", b"\n\n", b"\x0b", b" ", b"\0\n", b",\n"])),
        st.builds(lambda i, n: replaced(i, b"[" * n + b"]" * n + b"\n"), which, st.sampled_from([3, 900, 990, 10**5])),
        st.just(joined([records])),
    )  # fmt: skip


class TestRecords:
    FILE = "imgnet_all-3.rlt.jsonl"

    def spoil(self, made: EditCommand, kind: type, to: Path) -> bytes:
        """A copy of a job's records; the file that is to be damaged."""
        to.mkdir()
        for file in (made.images.parent / kind.__name__).iterdir():
            (to / file.name).write_bytes(file.read_bytes())
        return (to / self.FILE).read_bytes()

    @FEW_AND_MANY
    def test_reading_results(self, many, made, tmp_path):
        data = self.spoil(made, JointAttribution, tmp_path / "out")

        def check(changed: bytes) -> None:
            (tmp_path / "out" / self.FILE).write_bytes(changed)
            try:
                read_results(tmp_path / "out")
            except UserError as e:
                assert_one_line(e, tmp_path / "out" / self.FILE)

        holds(check, 400, many, changes(data))

    @FEW_AND_MANY
    def test_reading_paths(self, many, made, tmp_path):
        """Every image has a path that fits, or the lack of it is known, or all is refused."""
        data = self.spoil(made, JointAttribution, tmp_path / "ja")
        edit = Job(made, Edit, tmp_path / "ja")
        images = {item.image for item in edit.inputs.source.items}

        def check(changed: bytes) -> None:
            (tmp_path / "ja" / self.FILE).write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    plan = edit.prepare()
                except UserError as e:
                    assert_one_line(e, tmp_path / "ja" / self.FILE)
                    return
            missing = {item.image for item in plan.lacking}
            assert plan.paths.keys() == images - missing
            assert all(image.startswith("class3/") for image in missing)
            for path in plan.paths.values():
                assert len(path) == 6
                assert all(0 <= unit < 28 for layer in path for unit in layer)

        holds(check, 400, many, changes(data))

    @FEW_AND_MANY
    @pytest.mark.parametrize("kind", [JointAttribution, Edit])
    def test_resuming(self, many, kind, made, tmp_path):
        """Refused with nothing changed, or completed with every image once, in order."""
        out = tmp_path / "out"
        data, resumed = self.spoil(made, kind, out), Job(made, kind)
        plan = resumed.prepare()
        images = [item.image for item in resumed.inputs.source.items if item.label == 3]

        def check(changed: bytes) -> None:
            (out / self.FILE).write_bytes(changed)
            try:
                resumed.resume(out)
            except UserError as e:
                assert_one_line(e, out / self.FILE)
                assert (out / self.FILE).read_bytes() == changed
                return
            found = [json.loads(line) for line in (out / self.FILE).read_bytes().splitlines()]
            assert [record["image"] for record in found] == images
            assert all(plan.check(record) == "" for record in found)

        holds(check, 250, many, changes(data))

    @FEW_AND_MANY
    def test_the_command_itself(self, many, made, tmp_path):
        out = tmp_path / "out"
        data = self.spoil(made, JointAttribution, out)

        def check(changed: bytes) -> None:
            (out / self.FILE).write_bytes(changed)
            result = run_job(JointAttribution, *made.words(kind=JointAttribution, out=out))
            result.expect(2 if result.code == 2 else 0)
            if result.code == 0:
                found = [json.loads(line)["image"] for line in (out / self.FILE).read_bytes().splitlines()]
                assert found == [f"class3/{i:02d}.png" for i in range(4)]

        holds(check, 25, many, changes(data))

    @FEW_AND_MANY
    def test_settings_files(self, many, made, tmp_path):
        out = tmp_path / "out"
        self.spoil(made, JointAttribution, out)
        resumed, file = Job(made, JointAttribution), out / "imgnet_all.args.json"
        data = file.read_bytes()
        deep = st.sampled_from([b"[" * 10**5, b'{"job": ' * 10**5])
        hurt = damages(data).map(lambda found: damaged(data, found))
        other = JSON.map(lambda value: json.dumps(value).encode())

        def check(changed: bytes) -> None:
            file.write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    resumed.resume(out)
                except UserError as e:
                    assert_one_line(e, file)

        holds(check, 150, many, hurt | other | deep)
