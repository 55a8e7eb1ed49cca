"""Records: what a run leaves behind, how the next one goes on from it, and how record files are read."""

import json
import math
import os
from pathlib import Path

import pytest
from helpers import tiny_config

from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.records.args import Args
from neuronpath.records.reading import join, label_files, read_label, read_results
from neuronpath.records.schema import check_record
from neuronpath.records.store import Store

CONFIG = tiny_config()
KEYS = ("pred", "prob", "ja", "ja_score", "margin")
KNOWN = [*(Item(f"ä/{i}.png", 0) for i in range(3)), *(Item(f"b/{i}.png", 2) for i in range(2))]
FIRST, LAST = KNOWN[:3], KNOWN[3:]


def record(item: Item, run: int = 1) -> dict:
    """A sound record; `run` is told by its score."""
    n = int(item.image[-5])
    found = {"pred": 1, "prob": 0.25, "ja": [[n + i] for i in range(6)], "ja_score": run + n / 8, "margin": [0.5] * 6}
    return {"image": item.image, "label": item.label, **found}


def args(job: str = "joint_attr", versions: dict | None = None, **settings) -> Args:
    return Args(job, {"m": 20, "quadrature": "right", **settings}, versions=versions or {"torch": "2"})


def open_store(directory: Path, items=KNOWN, prefix="all", earlier=lambda r: None, overwrite=False, **changes) -> Store:
    def check(r):
        return check_record(r, CONFIG, KEYS)

    return Store(directory, prefix, args(**changes), KNOWN, items, overwrite=overwrite, check=check, earlier=earlier)


def run(directory: Path, items=KNOWN, skip=(), stop_after: int = 99, run: int = 1, **options) -> list[Item]:
    """Compute what is pending, or the first `stop_after` of it, and return that."""
    with open_store(directory, items, **options) as store:
        pending = store.pending[:stop_after]
        for item in pending:
            store.skip(item) if item in skip else store.write(item, record(item, run))
    return pending


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def lines(items, run: int = 1) -> list[dict]:
    return [record(item, run) for item in items]


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def done(tmp_path) -> Path:
    """A folder with a finished run."""
    run(tmp_path / "out")
    return tmp_path / "out"


class TestWriting:
    def test_one_file_per_label_in_order_and_the_args(self, done):
        assert sorted(contents(done)) == ["all-0.rlt.jsonl", "all-2.rlt.jsonl", "all.args.json"]
        assert read(done / "all-0.rlt.jsonl") == lines(FIRST)
        assert read(done / "all-2.rlt.jsonl") == lines(LAST)
        assert Args.read(done / "all.args.json") == args()

    def test_records_are_on_disk_at_once(self, tmp_path):
        with open_store(tmp_path) as store:
            store.write(KNOWN[0], record(KNOWN[0]))
            assert read(tmp_path / "all-0.rlt.jsonl") == lines(KNOWN[:1])

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_json_is_strict(self, tmp_path, value):
        with open_store(tmp_path) as store:
            store.write(KNOWN[0], record(KNOWN[0]))
            with pytest.raises(ValueError, match="JSON"):
                store.write(KNOWN[1], record(KNOWN[1]) | {"prob": value})
        assert read(tmp_path / "all-0.rlt.jsonl") == lines(KNOWN[:1])

    def test_file_name_that_is_not_utf8(self, tmp_path):
        item = Item(os.fsdecode(b"a/\xff.png"), 0)
        for pending in ([item], []):
            with Store(tmp_path, "all", args(), [item], [item]) as store:
                assert store.pending == pending
                for new in pending:
                    store.write(new, {"image": new.image})
        (found,) = read_results(tmp_path, "all")[0]
        assert found["image"] == item.image

    def test_skipped_images_are_listed_and_the_list_goes_away(self, done):
        with open_store(done) as store:
            file = store.write_skipped([{"image": "b/1.png", "label": 2, "error": "cut"}])
            assert read(file) == [{"image": "b/1.png", "label": 2, "error": "cut"}]
            assert file.name == "all.skipped.jsonl"
            store.write_skipped([])
            assert not file.exists()

    def test_the_list_keeps_what_it_says_of_other_labels(self, tmp_path):
        entries = [{"image": i.image, "label": i.label, "error": "cut"} for i in (FIRST[0], LAST[0])]
        for items, entry in ((FIRST, entries[0]), (LAST, entries[1])):
            with open_store(tmp_path, items) as store:
                file = store.write_skipped([entry])
        assert read(file) == entries
        with open_store(tmp_path, FIRST) as store:
            store.write_skipped([])
        assert read(file) == entries[1:]


class TestResuming:
    @pytest.mark.parametrize("stop_after", range(6))
    def test_a_stopped_run_goes_on(self, tmp_path, done, stop_after):
        assert run(tmp_path / "new", stop_after=stop_after) == KNOWN[:stop_after]
        earlier = []
        assert run(tmp_path / "new", earlier=earlier.append) == KNOWN[stop_after:]
        assert earlier == lines(KNOWN[:stop_after])
        assert contents(tmp_path / "new") == contents(done)

    def test_records_that_this_run_was_not_asked_for_are_counted(self, tmp_path):
        run(tmp_path)
        for items, others in ((KNOWN, 0), (FIRST, 2), (FIRST[:1], 4), (LAST[:1], 4)):
            with open_store(tmp_path, items) as store:
                assert store.others() == others

    def test_a_finished_run_changes_nothing(self, done):
        before = contents(done)
        assert run(done) == []
        assert contents(done) == before

    def test_torn_last_line_at_every_byte(self, done):
        before, file = contents(done), done / "all-0.rlt.jsonl"
        whole = file.read_bytes()
        start = whole[:-1].rindex(b"\n") + 1
        assert len(whole) - start > 100
        for cut in range(start, len(whole)):
            file.write_bytes(whole[:cut])
            assert run(done) == FIRST[2:], cut
            assert contents(done) == before, cut

    @pytest.mark.parametrize("tail", [b"\0\0\0\0", b'{"image": "\xc3', b"{}}\n"])
    def test_garbage_after_a_crash(self, done, tail):
        before, file = contents(done), done / "all-2.rlt.jsonl"
        file.write_bytes(file.read_bytes() + tail)
        assert run(done) == []
        assert contents(done) == before

    def test_images_skipped_at_first_come_to_their_place(self, tmp_path, done):
        folder = tmp_path / "new"
        run(folder, skip=[KNOWN[1], KNOWN[3]])
        assert read(folder / "all-0.rlt.jsonl") == lines([KNOWN[0], KNOWN[2]])
        assert run(folder) == [KNOWN[1], KNOWN[3]]
        assert contents(folder) == contents(done)

    def test_selection_grows_and_shrinks(self, tmp_path, done):
        folder, earlier = tmp_path / "new", []
        assert run(folder, [KNOWN[4]]) == [KNOWN[4]]
        assert run(folder, FIRST[:2]) == FIRST[:2]
        assert run(folder) == [KNOWN[2], KNOWN[3]]
        assert contents(folder) == contents(done)
        assert run(folder, FIRST[1:2], earlier=earlier.append) == []
        assert earlier == lines(FIRST[1:2])
        assert contents(folder) == contents(done)

    def test_prefixes_do_not_mix(self, done):
        assert run(done, prefix="all-0", m=4) == KNOWN
        assert run(done, prefix="a.l", m=5) == KNOWN
        assert run(done) == []
        assert {label: len(found) for label, found in read_results(done, "all").items()} == {0: 3, 2: 2}


class TestRefusal:
    """Nothing is written to a folder that does not fit."""

    def refuse(self, directory: Path, *words: str, **options) -> None:
        before = contents(directory)
        with pytest.raises(UserError) as caught:
            open_store(directory, **options)
        assert contents(directory) == before
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "line",
        [
            b'{"image": "\xc3\xa4/1.png", "label"',
            b"\xff\xfe",
            b"",
            b"[1]",
            b"[" * 100_000,
            b'{"label": 0}',
            b'{"image": ["b"], "label": 0}',
            json.dumps(record(KNOWN[1]) | {"prob": math.nan}).encode(),
            json.dumps(record(KNOWN[0])).encode(),  # a duplicate
            json.dumps(record(KNOWN[3])).encode(),  # an image of another label
            json.dumps(record(Item("ä/7.png", 0))).encode(),  # no such image
        ],
        ids=range(11),
    )
    def test_broken_line(self, done, line):
        file = done / "all-0.rlt.jsonl"
        first, _, last = file.read_bytes().splitlines()
        file.write_bytes(b"\n".join([first, line, last]) + b"\n")
        self.refuse(done, str(file), "line 2")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("ja", None),
            ("ja", [[1]] * 5),
            ("ja", [[1]] * 7),
            ("ja", [[1]] * 5 + [[28]]),
            ("ja", [[1]] * 5 + [[-1]]),
            ("ja", [[1]] * 5 + [[]]),
            ("ja", [[1]] * 5 + [[3, 3]]),
            ("ja", [[1]] * 5 + [["3"]]),
            ("ja", [[1]] * 5 + [[1.0]]),
            ("ja", [[1]] * 5 + [3]),
            ("ja", list(range(6))),
            ("pred", 4),
            ("pred", None),
            ("prob", "0.5"),
            ("ja_score", None),
            ("margin", [0.5] * 5),
            ("margin", 0.5),
            ("label", 4),
            ("label", 1),  # a label, but not this file's
        ],
    )
    @pytest.mark.parametrize("line", [1, 3])
    def test_wrong_value(self, done, key, value, line):
        file = done / "all-0.rlt.jsonl"
        found = read(file)
        found[line - 1][key] = value
        file.write_text("".join(json.dumps(r) + "\n" for r in found))
        self.refuse(done, str(file), f"line {line}", key)

    @pytest.mark.parametrize("key", KEYS)
    def test_missing_value(self, done, key):
        file = done / "all-0.rlt.jsonl"
        found = read(file)
        del found[1][key]
        file.write_text("".join(json.dumps(r) + "\n" for r in found))
        self.refuse(done, str(file), "line 2", key)

    @pytest.mark.parametrize("changes", [{"m": 4}, {"quadrature": "left"}, {"precision": "fp64"}])
    def test_other_settings(self, done, changes):
        ((key, value),) = changes.items()
        self.refuse(done, "all.args.json", key, str(value), **changes)

    def test_other_job_even_with_overwrite_and_another_prefix(self, done):
        for prefix in ("all", "other"):
            for overwrite in (False, True):
                self.refuse(done, "joint_attr", "--output_dir", job="influence", prefix=prefix, overwrite=overwrite)

    def test_other_settings_with_overwrite_that_leaves_labels_uncovered(self, done):
        self.refuse(done, "label 2", "m 20", overwrite=True, items=FIRST, m=4)

    def test_records_without_args(self, done):
        (done / "all.args.json").unlink()
        for overwrite in (False, True):
            self.refuse(done, "all.args.json", overwrite=overwrite)

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"job": 1}', b'{"job": "joint_attr", "settings": 3}', b"\xff"])
    def test_broken_args(self, done, content):
        (done / "all.args.json").write_bytes(content)
        for overwrite in (False, True):
            self.refuse(done, "all.args.json", overwrite=overwrite)

    def test_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("text")
        for directory in (tmp_path / "file", tmp_path / "file" / "out"):
            with pytest.raises(UserError, match="file"):
                open_store(directory)
        assert (tmp_path / "file").read_text() == "text"

    def test_other_versions_are_a_warning(self, done):
        with pytest.warns(UserWarning, match="torch 2 → 3"):
            assert run(done, versions={"torch": "3"}) == []


class TestOverwrite:
    def test_with_other_settings_by_one_of_two_processes(self, done):
        """The old records of the other's labels must not pass for new ones, nor be gone on from."""

        def part(items, **options) -> Store:
            def check(r):
                return check_record(r, CONFIG, KEYS)

            return Store(done, "all", args(m=4), KNOWN, items, check=check, labels=(0, 2), **options)

        with part(FIRST, overwrite=True) as store:
            for item in store.pending:
                store.write(item, record(item, 2))
        with pytest.raises(UserError, match="unfinished"):
            read_results(done, "all")
        with part(LAST) as store:
            assert store.pending == LAST
            for item in store.pending:
                store.write(item, record(item, 2))
        assert read_results(done, "all") == {0: lines(FIRST, 2), 2: lines(LAST, 2)}

    def test_replaces_the_covered_labels_only_and_each_at_once(self, done):
        before = contents(done)
        with open_store(done, FIRST, overwrite=True) as store:
            assert store.pending == FIRST
            for item in FIRST:
                assert (done / "all-0.rlt.jsonl").read_bytes() == before["all-0.rlt.jsonl"]
                store.write(item, record(item, 2))
        assert sorted(contents(done)) == sorted(before)
        assert read(done / "all-0.rlt.jsonl") == lines(FIRST, 2)
        assert (done / "all-2.rlt.jsonl").read_bytes() == before["all-2.rlt.jsonl"]

    def test_with_other_settings(self, done):
        assert run(done, overwrite=True, run=2, m=4) == KNOWN
        assert read(done / "all-2.rlt.jsonl") == lines(LAST, 2)
        assert Args.read(done / "all.args.json") == args(m=4)
        assert run(done, m=4) == []

    def test_with_fewer_images(self, done):
        assert run(done, [KNOWN[1]], overwrite=True, run=2) == [KNOWN[1]]
        assert read(done / "all-0.rlt.jsonl") == lines(KNOWN[1:2], 2)

    def test_in_a_new_folder(self, tmp_path, done):
        run(tmp_path / "new", overwrite=True)
        assert contents(tmp_path / "new") == contents(done)

    @pytest.mark.parametrize("stop_after", range(5))
    def test_killed_and_resumed_without_overwrite(self, done, stop_after):
        before = contents(done)
        run(done, overwrite=True, run=2, m=4, stop_after=stop_after)
        for name, items in (("all-0.rlt.jsonl", FIRST), ("all-2.rlt.jsonl", LAST)):
            complete = KNOWN.index(items[-1]) < stop_after
            assert read(done / name) == lines(items, 2) if complete else (done / name).read_bytes() == before[name]
        with pytest.raises(UserError, match="unfinished"):
            read_results(done, "all")
        with pytest.raises(UserError, match=r"m 4 → 20"):
            open_store(done)
        assert run(done, run=2, m=4) == KNOWN[stop_after:]
        assert sorted(contents(done)) == sorted(before)
        assert read_results(done, "all") == {0: lines(FIRST, 2), 2: lines(LAST, 2)}

    def test_killed_inside_a_line(self, done):
        run(done, overwrite=True, run=2, stop_after=2)
        (partial,) = (file for file in done.iterdir() if "-0" in file.name and file.name != "all-0.rlt.jsonl")
        partial.write_bytes(partial.read_bytes()[:-7])
        assert run(done, run=2) == KNOWN[1:]
        assert read_results(done, "all") == {0: lines(FIRST, 2), 2: lines(LAST, 2)}

    def test_killed_and_started_anew(self, done):
        run(done, overwrite=True, run=2, stop_after=2)
        assert run(done, overwrite=True, run=3) == KNOWN
        assert read_results(done, "all") == {0: lines(FIRST, 3), 2: lines(LAST, 3)}

    def test_repairs_what_is_refused_otherwise(self, done):
        (done / "all-0.rlt.jsonl").write_text("broken\nbroken\n")
        assert run(done, overwrite=True) == KNOWN
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}


class TestReading:
    def test_a_prefix_that_ends_like_another_is_not_that_one(self, done):
        for name in ("my-all", "all-old", "all-0"):
            for label in (0, 7):
                (done / f"{name}-{label}.rlt.jsonl").write_text(json.dumps(record(KNOWN[0], 9)) + "\n")
        assert label_files(done, "all") == {label: done / f"all-{label}.rlt.jsonl" for label in (0, 2)}
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}

    RELEASED = (
        {"ja": [[5, 1, 4]], "ja_score": [0.5], "base": [[2, 0, 3]], "base_score": [[0.25]], "label": 0},
        {"ja": [6, 2, 5], "ja_score": 0.5, "base": [[[2, 0, 3]]], "base_score": [0.125], "label": [0]},
    )
    NORMALISED = (
        {"ja": [[5], [1], [4]], "ja_score": 0.5, "base": [[2], [0], [3]], "base_score": 0.25, "label": 0},
        {"ja": [[6], [2], [5]], "ja_score": 0.5, "base": [[2], [0], [3]], "base_score": 0.125, "label": 0},
    )

    def write(self, directory: Path, *values, label: int = 0) -> Path:
        file = directory / f"all-{label}.rlt.jsonl"
        file.write_text("".join(json.dumps(value) + "\n" for value in values))
        return file

    def test_our_records_are_read_as_they_are(self, done):
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}

    def test_our_records_are_joined_by_image(self, done):
        found = join(read_label(done / "all-0.rlt.jsonl"), ["whatever"], "here")
        assert found == {item.image: record(item) for item in FIRST}

    def test_path_of_several_neurons_per_layer_stays(self, tmp_path):
        ours = {"image": "a.png", "ja": [[3, 1, 2], [0, 1, 5]], "ja_score": 0.5}
        assert read_label(self.write(tmp_path, ours)) == [ours]

    def test_labels_ascend(self, tmp_path):
        for label in (10, 2, 100):
            self.write(tmp_path, {"image": f"{label}.png"}, label=label)
        assert list(read_results(tmp_path, "all")) == [2, 10, 100]

    @pytest.mark.parametrize("as_list", [False, True])
    def test_released_records(self, tmp_path, as_list):
        values = [list(self.RELEASED)] if as_list else self.RELEASED
        assert read_label(self.write(tmp_path, *values)) == list(self.NORMALISED)

    @pytest.mark.parametrize("batch", [1, 2])
    def test_released_influence_patterns_hold_floats_and_a_batch_in_one(self, tmp_path, batch):
        """influence_pattern.py writes `path.tolist()` of a NumPy array (batch, layers), the MAE's also `score`."""
        path = [[0.0, 1.0, 27.0], [4.0, 3.0, 0.0]][:batch]
        lines = [{"path": path}, {"path": path, "score": [[0.25], [0.5]][:batch]}]
        paths = [[[0], [1], [27]], [[4], [3], [0]]][:batch]
        scores = [0.25, 0.5][:batch]
        found = read_label(self.write(tmp_path, *lines))
        expected = [{"path": p} for p in paths]
        assert found == [*expected, *({"path": p, "score": s} for p, s in zip(paths, scores, strict=True))]
        assert all(type(unit) is int for record in found for layer in record["path"] for unit in layer)

    def test_released_top_k_and_scores(self, tmp_path):
        """topK/path/joint_attr.py writes one record per line, ip_analysis_parallel.py a batch of them."""
        top = {"ja": [[1, 2], [3, 4]], "ja_score": [[0.5]], "base": [[5, 6], [7, 8]], "base_score": [[0.25]]}
        batch = [{"ja": [[1, 2]], "ja_score": [0.5]}, {"ja": [[3, 4]], "ja_score": [0.75]}]
        found = read_label(self.write(tmp_path, top, batch))
        assert found == [
            {"ja": [[1, 2], [3, 4]], "ja_score": 0.5, "base": [[5, 6], [7, 8]], "base_score": 0.25},
            {"ja": [[1], [2]], "ja_score": 0.5},
            {"ja": [[3], [4]], "ja_score": 0.75},
        ]

    def test_a_fraction_is_no_unit(self, tmp_path):
        assert read_label(self.write(tmp_path, {"path": [0.5, 1.0]})) == [{"path": [0.5, [1]]}]

    def test_a_second_record_of_an_image_names_file_and_line(self, done):
        file = done / "all-0.rlt.jsonl"
        first, *rest = file.read_text().splitlines()
        file.write_text("\n".join([first, *rest, first]) + "\n")
        for read_them in (lambda: read_label(file), lambda: read_results(done, "all")):
            with pytest.raises(UserError, match="line 4: a second record of ä/0"):
                read_them()

    def test_released_edits(self, tmp_path):
        released = {"method": "ja", "path": [[4, 7]], "base": [0.5], "remove": [[0.25]], "enhance": 0.75}
        expected = {"method": "ja", "path": [[4], [7]], "original": 0.5, "remove": 0.25, "enhance": 0.75}
        assert read_label(self.write(tmp_path, [released])) == [expected]

    def test_released_records_are_joined_by_position_with_a_warning(self, tmp_path):
        found = read_label(self.write(tmp_path, list(self.RELEASED)))
        with pytest.warns(UserWarning, match=r"here.*position"):
            assert join(found, ["x.png", "y.png"], "here") == dict(zip(["x.png", "y.png"], found, strict=True))

    @pytest.mark.parametrize("images", [["x.png"], ["x.png", "y.png", "z.png"], []])
    def test_released_records_of_another_count_are_not_joined(self, tmp_path, images):
        found = read_label(self.write(tmp_path, list(self.RELEASED)))
        with pytest.raises(UserError, match=rf"here.* 2 .*{len(images)}"):
            join(found, images, "here")

    @pytest.mark.parametrize("line", ["", "{", '{"image": "a.png", "prob": NaN}', "3", '[{"image": "a.png"}, 3]'])
    def test_broken_line(self, done, line):
        file = done / "all-0.rlt.jsonl"
        first, *rest = file.read_text().splitlines()
        file.write_text("\n".join([first, line, *rest]) + "\n")
        with pytest.raises(UserError) as caught:
            read_label(file)
        assert f"{file}, line 2" in str(caught.value)

    def test_torn_last_line_is_not_passed_over(self, done):
        file = done / "all-0.rlt.jsonl"
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(UserError, match="line 3"):
            read_label(file)

    def test_no_records(self, tmp_path, done):
        for directory, prefix in ((tmp_path / "nowhere", "all"), (done, "other"), (done, "al")):
            with pytest.raises(UserError, match=f"{directory.name}.*{prefix}"):
                read_results(directory, prefix)
