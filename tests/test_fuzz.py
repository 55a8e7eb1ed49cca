"""Damage of any kind to what is read: an error of one line, or what was there before; nothing else, and no code run.

Each property is checked on a few fixed examples, and in the long run on many random ones.
"""

import argparse
import contextlib
import io
import itertools
import json
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, Payload, random_model, tiny_config
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from safetensors.torch import save_file

from neuronpath import load
from neuronpath.cli import exits as cli, parsing
from neuronpath.data.images import ImageSet, open_dataset
from neuronpath.data.loading import batches
from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.models.checkpoint import save
from neuronpath.records.args import Args
from neuronpath.records.reading import read_results
from neuronpath.records.schema import check_record
from neuronpath.records.store import Store
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import JointAttribution

FEW_AND_MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["few", "many"])
MORE = 10  # times as many examples in the long run
SMALLEST = {"patch_size": 1, "img_size": 2, "width": 4, "depth": 1, "num_heads": 2, "mlp_dim": 3, "num_classes": 2}
LARGE = {**SMALLEST, "width": 40, "mlp_dim": 80}  # arrays beyond the 4096 bytes that zipfile reads at once


def holds(body: Callable, examples: int, many: bool, *strategies: st.SearchStrategy) -> None:
    """`body` raises for none of the examples; what fails is printed with the means to repeat it."""
    chosen = settings(
        max_examples=examples * (MORE if many else 1),
        derandomize=not many,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    @chosen
    @given(st.tuples(*strategies))
    def run(example: tuple) -> None:
        body(*example)

    run()


@dataclass(frozen=True)
class Damage:
    """Bytes that replace `length` others from `start` on; `start` is a place in whatever is damaged."""

    start: int
    length: int
    replacement: bytes

    def __call__(self, data: bytes) -> bytes:
        start = self.start % max(1, len(data))
        return data[:start] + self.replacement + data[start + self.length :]


def damages(data: bytes, *marks: bytes) -> st.SearchStrategy[list[Damage]]:
    """Bytes flipped, put in, left out or zeroed, or the end cut off; half of it within 150 bytes from a mark on."""
    near = [at + i for mark in marks for at in range(len(data)) if data.startswith(mark, at) for i in range(150)]
    places = st.integers(0, len(data) - 1)
    places = places | st.sampled_from([i for i in near if i < len(data)]) if near else places
    other = st.builds(lambda at, bits: Damage(at, 1, bytes([data[at] ^ bits])), places, st.integers(1, 255))
    bit = st.builds(lambda at, bit: Damage(at, 1, bytes([data[at] ^ 1 << bit])), places, st.integers(0, 7))
    put_in = st.builds(Damage, places, st.integers(0, 9), st.binary(max_size=9))
    zeroed = st.builds(lambda at, n: Damage(at, n, bytes(n)), places, st.integers(1, 300))
    cut = st.builds(lambda at: Damage(at, len(data), b""), places)
    one = st.one_of(other, bit, put_in, zeroed, cut)
    return one.map(lambda damage: [damage]) | st.lists(one, min_size=2, max_size=3)


def damaged(data: bytes, found: list[Damage]) -> bytes:
    for damage in found:
        data = damage(data)
    return data


def weights(config: dict, pool: str = "cls") -> dict[str, torch.Tensor]:
    return random_model(tiny_config(pool, **config), dtype=torch.float32).state_dict()


def assert_one_line(error: UserError, file: Path) -> None:
    assert str(error).startswith(str(file)), error
    assert str(error).isprintable()


class TestNpz:
    """Each array has a checksum: damage is an error or changes nothing."""

    @pytest.fixture
    def assert_found(self, tmp_path):
        """Damage to the file `good` is found, or the weights are those of before."""

        def check(data: bytes, good: dict[str, torch.Tensor]) -> bool:
            file = tmp_path / "bad.npz"
            file.write_bytes(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = load(file).state_dict()
                except UserError as e:
                    assert_one_line(e, file)
                    return True
            assert found.keys() == good.keys()
            assert all(torch.equal(found[name], good[name]) for name in good)
            return False

        return check

    @pytest.fixture(params=[SMALLEST, LARGE], ids=["small arrays", "large arrays"])
    def good(self, request, tmp_path) -> tuple[bytes, dict[str, torch.Tensor]]:
        model = random_model(tiny_config(**request.param), dtype=torch.float32)
        save(model, tmp_path / "good.npz")
        return (tmp_path / "good.npz").read_bytes(), model.state_dict()

    @FEW_AND_MANY
    @pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
    def test_damage_is_found_or_harmless(self, many, compressed, good, assert_found, tmp_path):
        data, state = good
        if compressed:
            np.savez_compressed(tmp_path / "deflated.npz", **np.load(tmp_path / "good.npz"))
            data = (tmp_path / "deflated.npz").read_bytes()
        assert not assert_found(data, state)
        holds(lambda found: assert_found(damaged(data, found), state), 400, many, damages(data, b"PK", b"\x93NUMPY"))

    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64, 128])
    def test_every_bit_of_an_arrays_header(self, bits, good, assert_found):
        """zipfile compares a checksum once all is read, and NumPy leaves off where it thinks that the array ends."""
        data, state = good
        start = data.index(b"\x93NUMPY", data.index(b"MlpBlock_3/Dense_0/kernel"))
        for at in range(start, start + 128):
            assert assert_found(Damage(at, 1, bytes([data[at] ^ bits]))(data), state), at

    @pytest.mark.parametrize("suffix", ["", ".npy"])
    @FEW_AND_MANY
    def test_hostile_headers_with_a_right_checksum(self, many, suffix, tmp_path):
        """What is in an archive that is sound is anything."""
        file = tmp_path / "hostile.npz"
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"

        def check(found: list[Damage], version: int) -> None:
            text = damaged(header, found)
            array = b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(f"cls{suffix}", array + bytes(24))
            with pytest.raises(UserError) as caught:
                load(file)
            assert_one_line(caught.value, file)

        holds(check, 400, many, damages(header), st.integers(0, 4))


def pth(config: dict, **options) -> bytes:
    """A file like the public MAE's."""
    out = io.BytesIO()
    torch.save({"model": weights(config, "mean"), "args": argparse.Namespace(lr=0.1), "num_heads": 2}, out, **options)
    return out.getvalue()


def with_pickle(data: bytes, pickled: bytes) -> bytes:
    """The same archive, its checksums right, with another pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else source.read(name))
    return out.getvalue()


def pickle_of(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        (name,) = (name for name in source.namelist() if name.endswith("/data.pkl"))
        return source.read(name)


class TestStateDicts:
    """Values have no checksum here; but no other error, and nothing in the file is run."""

    @pytest.fixture
    def canary(self, tmp_path) -> Path:
        return tmp_path / "canary"

    @pytest.fixture
    def read(self, tmp_path, canary):
        """Whether a file of these bytes loads; otherwise it is refused in one line."""

        def load_it(data: bytes, suffix: str = ".pth") -> bool:
            file = tmp_path / f"bad{suffix}"
            file.write_bytes(data)
            try:
                load(file, num_heads=2)
            except UserError as e:
                assert_one_line(e, file)
                return False
            finally:
                assert not canary.exists()
            return True

        return load_it

    @FEW_AND_MANY
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_damaged_pth(self, many, zipped, read):
        data = pth(SMALLEST, _use_new_zipfile_serialization=zipped)
        assert read(data)
        holds(lambda found: read(damaged(data, found)), 300, many, damages(data, b"PK", b"\x80\x02"))

    @FEW_AND_MANY
    def test_damaged_pickle_in_a_sound_archive(self, many, read):
        data = pth(SMALLEST)
        pickled = pickle_of(data)
        assert read(with_pickle(data, pickled))
        holds(lambda found: read(with_pickle(data, damaged(pickled, found))), 400, many, damages(pickled))

    def test_parameters_that_require_grad_are_read(self, read):
        state = {name: torch.nn.Parameter(tensor) for name, tensor in weights(SMALLEST).items()}
        out = io.BytesIO()
        torch.save({"model": state}, out)
        assert read(out.getvalue())

    @FEW_AND_MANY
    def test_damaged_safetensors(self, many, read, tmp_path):
        save_file(weights(SMALLEST), tmp_path / "good.safetensors", metadata={"num_heads": "2"})
        data = (tmp_path / "good.safetensors").read_bytes()
        assert read(data, ".safetensors")
        found = damages(data, data[:8])
        holds(lambda found: read(damaged(data, found), ".safetensors"), 400, many, found)

    def program(self, canary: Path) -> bytes:
        """Opcodes that make the canary and leave the stack as it was."""
        return b"cbuiltins\nopen\n(V" + str(canary).encode() + b"\nVw\ntR0"

    @FEW_AND_MANY
    def test_a_program_between_any_two_opcodes_is_not_run(self, many, read, canary, tmp_path):
        data = pth(SMALLEST)
        pickled, program = pickle_of(data), self.program(canary)
        places = [at for _, _, at in pickletools.genops(pickled) if at > 1]
        assert len(places) > 200
        for i in range(1, len(places), 1 if many else 40):
            spliced = with_pickle(data, pickled[: places[i]] + program + pickled[places[i] :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the program leaves its file open
                torch.load(io.BytesIO(spliced), weights_only=False)
            canary.unlink()  # it was there: the program is live
            assert not read(spliced), places[i]

    @FEW_AND_MANY
    def test_pickles_put_in_anywhere_run_nothing(self, many, read, canary):
        hostile = [pickletools.optimize(pickle.dumps(Payload(canary), protocol)) for protocol in range(5)]
        hostile += [self.program(canary), hostile[2][2:-1]]
        kinds = [pth(SMALLEST), pth(SMALLEST, _use_new_zipfile_serialization=False)]

        def check(data: bytes, at: float, program: bytes, replace: bool, whole: bool) -> None:
            if not whole:  # into the pickle of a sound archive
                data = pickle_of(kinds[0])
            place = int(at * len(data))
            data = data[:place] + program + data[place + replace * len(program) :]
            read(data if whole else with_pickle(kinds[0], data))
            read(data, ".safetensors")
            read(data, ".npz")

        holds(
            check,
            150,
            many,
            st.sampled_from(kinds),
            st.floats(0, 1),
            st.sampled_from(hostile),
            st.booleans(),
            st.booleans(),
        )

    @pytest.mark.parametrize(
        "pickled",
        [
            b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00nopetR.",
            b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
            b"\x80\x02" + b"]" * 100_000 + b".",
            b"\x80\x02(" * 5000,
        ],
        ids=["unknown encoding", "wrong argument", "deep", "marks"],
    )
    def test_allowed_opcodes_used_wrongly(self, pickled, read):
        assert not read(pickled)
        assert not read(with_pickle(pth(SMALLEST), pickled))


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
def folder(tmp_path_factory) -> Path:
    """An image folder, a checkpoint, and the records of both jobs."""
    root, rng = tmp_path_factory.mktemp("fuzz"), np.random.default_rng(0)
    save(random_model(tiny_config(), dtype=torch.float32), root / "tiny.npz")
    for label, count in enumerate((1, 1, 1, 4)):
        (root / "images" / f"class{label}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"class{label}" / f"{i:02d}.png")
    for kind in (JointAttribution, Edit):
        assert job.main(kind("cls"), "", words(root, kind, root / kind.__name__)).code == 0
    return root


def words(root: Path, kind: type, out: Path, paths: Path | None = None) -> list[str]:
    given = {
        "--dataset": "imagefolder",
        "--dataset_path": root / "images",
        "--pretrain_weight": root / "tiny.npz",
        "--num_workers": 0,
        "--output_dir": out,
        **({"--ja_path": paths or root / "JointAttribution"} if kind is Edit else {"--ig_total_step": 1}),
    }
    return [str(word) for pair in given.items() for word in pair]


class Job:
    """A job up to its first write and, with made-up records, after it."""

    def __init__(self, root: Path, kind: type, paths: Path | None = None):
        self.job = kind("cls")
        options = job.parse(self.job, "", words(root, kind, root / "unused", paths))
        model, source = load(root / "tiny.npz"), open_dataset("imagefolder", root / "images", NUM_CLASSES)
        self.inputs = job.Inputs(options, model, source, source.items)
        self.args = Args.read(root / kind.__name__ / "imgnet_all.args.json")
        self.sound = {
            record["image"]: record for found in read_results(root / kind.__name__).values() for record in found
        }

    def prepare(self) -> job.Plan:
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

    def spoil(self, folder: Path, kind: type, to: Path) -> bytes:
        """A copy of a job's records; the file that is to be damaged."""
        to.mkdir()
        for file in (folder / kind.__name__).iterdir():
            (to / file.name).write_bytes(file.read_bytes())
        return (to / self.FILE).read_bytes()

    @FEW_AND_MANY
    def test_reading_results(self, many, folder, tmp_path):
        data = self.spoil(folder, JointAttribution, tmp_path / "out")

        def check(changed: bytes) -> None:
            (tmp_path / "out" / self.FILE).write_bytes(changed)
            try:
                read_results(tmp_path / "out")
            except UserError as e:
                assert_one_line(e, tmp_path / "out" / self.FILE)

        holds(check, 400, many, changes(data))

    @FEW_AND_MANY
    def test_reading_paths(self, many, folder, tmp_path):
        """Every image has a path that fits, or the lack of it is known, or all is refused."""
        data = self.spoil(folder, JointAttribution, tmp_path / "ja")
        edit = Job(folder, Edit, tmp_path / "ja")
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
    def test_resuming(self, many, kind, folder, tmp_path):
        """Refused with nothing changed, or completed with every image once, in order."""
        out = tmp_path / "out"
        data, resumed = self.spoil(folder, kind, out), Job(folder, kind)
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
    def test_the_command_itself(self, many, folder, tmp_path, capsys):
        out = tmp_path / "out"
        data = self.spoil(folder, JointAttribution, out)

        def check(changed: bytes) -> None:
            (out / self.FILE).write_bytes(changed)
            code = cli.command(lambda: job.main(JointAttribution("cls"), "", words(folder, JointAttribution, out)))
            assert "Traceback" not in capsys.readouterr().err
            assert code in (0, 2)
            if code == 0:
                found = [json.loads(line)["image"] for line in (out / self.FILE).read_bytes().splitlines()]
                assert found == [f"class3/{i:02d}.png" for i in range(4)]

        holds(check, 25, many, changes(data))

    @FEW_AND_MANY
    def test_settings_files(self, many, folder, tmp_path):
        out = tmp_path / "out"
        self.spoil(folder, JointAttribution, out)
        resumed, file = Job(folder, JointAttribution), out / "imgnet_all.args.json"
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


class TestTears:
    """A run killed while it wrote: the file ends anywhere, maybe in zeros."""

    KNOWN = [*(Item(f"ä/{i}.png", 0) for i in range(2)), *(Item(f"b/{i}.png", 2) for i in range(3))]  # noqa: RUF012
    KEYS = ("pred", "prob", "ja", "margin")

    def record(self, item: Item) -> dict:
        found = {"pred": 1, "prob": 0.25, "ja": [[i] for i in range(6)], "margin": [0.5] * 6}
        return {"image": item.image, "label": item.label, **found}

    def run(self, directory: Path, overwrite: bool = False, stop_after: int = 99) -> list[Item]:
        args = Args("joint_attr", {})

        def check(record: dict) -> str:
            return check_record(record, tiny_config(), self.KEYS)

        with Store(directory, "all", args, self.KNOWN, self.KNOWN, overwrite=overwrite, check=check) as store:
            for item in store.pending[:stop_after]:
                store.write(item, self.record(item))
            return store.pending

    @pytest.mark.parametrize("tail", [b"", b"\0" * 7], ids=["cut", "zeros"])
    @pytest.mark.parametrize("twin", [False, True], ids=["", "overwrite"])
    def test_at_every_byte_of_the_last_file(self, tmp_path, tail, twin):
        self.run(tmp_path)
        last = tmp_path / "all-2.rlt.jsonl"
        expected = {file: file.read_bytes() for file in tmp_path.iterdir()}
        torn = last.with_name(last.name + ".partial") if twin else last
        data = expected[last]
        ends = list(itertools.accumulate(len(line) for line in data.splitlines(keepends=True)))
        for cut in range(len(data)):
            torn.write_bytes(data[:cut] + tail)
            whole = sum(end <= cut for end in ends)
            assert self.run(tmp_path) == self.KNOWN[2 + whole :], cut
            assert {file: file.read_bytes() for file in tmp_path.iterdir()} == expected, cut


class TestBatches:
    @FEW_AND_MANY
    def test_every_item_once_in_order(self, many):
        def check(n: int, batch_size: int, bad: list[int], random) -> None:
            order = list(range(n))
            random.shuffle(order)
            arrays = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))
            spoilt = {i for i in bad if i < n}
            items = [Item(str(n + i if i in spoilt else i), i % 5) for i in order]  # there is no image n + i
            source = ImageSet(Path(), [str(c) for c in range(5)], items, arrays)
            found = list(batches(source, items, lambda image: torch.tensor(image.getpixel((0, 0))), batch_size))
            sizes = [len(batch.items) + len(batch.bad) for batch in found]
            assert sizes == [min(batch_size, n - start) for start in range(0, n, batch_size)]
            for start, batch in zip(range(0, n, batch_size), found, strict=True):
                part, numbers = items[start : start + batch_size], order[start : start + batch_size]
                assert batch.items == [item for item, i in zip(part, numbers, strict=True) if i not in spoilt]
                assert [item for item, _ in batch.bad] == [
                    item for item, i in zip(part, numbers, strict=True) if i in spoilt
                ]
                assert len(batch.images) == len(batch.items)
                assert batch.images.flatten().tolist() == [i for i in numbers if i not in spoilt for _ in range(3)]

        holds(
            check,
            100,
            many,
            st.integers(0, 60),
            st.integers(1, 70),
            st.lists(st.integers(0, 60)),
            st.randoms(use_true_random=False),
        )


TEXT = (
    st.text(max_size=20)
    | st.text("0123456789+-., \n_e", max_size=9)
    | st.text(st.characters(categories=("Nd", "Nl", "No", "Zs", "Pd")), max_size=4)
    | st.builds(
        lambda before, n, after: before + "9" * n + after,
        st.sampled_from(["", "-", "0-"]),
        st.sampled_from([18, 5000]),
        st.sampled_from(["", "-", ",1"]),
    )
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["label", "pred", "..", ".", "/", "a/b", "nan", "inf", "1e999", "0x10", "\0", "\ud800"])
)

PARSERS = {
    "whole": (parsing.whole(1, 2**31 - 1), lambda v: type(v) is int and 1 <= v < 2**31),
    "whole from 0": (parsing.whole(0, 9), lambda v: type(v) is int and 0 <= v <= 9),
    "labels": (parsing.labels, lambda v: v and v == sorted(set(v)) and all(type(i) is int and i >= 0 for i in v)),
    "target": (parsing.target, lambda v: v in ("label", "pred") or (type(v) is int and v >= 0)),
    "factor": (parsing.factor, lambda v: type(v) is float and abs(v) < float("inf")),
    "proportion": (parsing.proportion, lambda v: type(v) is float and 0 <= v <= 1),
    "file name": (parsing.file_name, lambda v: v and "/" not in v),
}


class TestOptions:
    @FEW_AND_MANY
    @pytest.mark.parametrize(
        "name",
        [
            *("whole", "whole from 0", "labels", "target"),
            "factor",
            "proportion",
            "file name",
        ],
    )
    def test_a_valid_value_or_refused(self, many, name):
        parse, valid = PARSERS[name]

        def check(text: str) -> None:
            with contextlib.suppress(argparse.ArgumentTypeError):
                assert valid(parse(text))

        holds(check, 300, many, TEXT)

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("whole", " 7 ", 7),
            ("whole", "+7", 7),
            ("whole", "2147483647", 2**31 - 1),
            ("labels", "3, 1-2,3", [1, 2, 3]),
            ("target", "12", 12),
            ("factor", "-1.5e2", -150.0),
            ("proportion", "1", 1.0),
            ("file name", "a b.c", "a b.c"),
        ],
    )
    def test_good_values(self, name, text, value):
        assert PARSERS[name][0](text) == value
