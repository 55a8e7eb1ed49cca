"""The writer of records: what a run leaves behind, and how the next one goes on from it."""

import itertools
import json
import math
import os
from pathlib import Path

import pytest
from helpers import contents, read_lines, tiny_config, write_lines
from made import FIRST, KEYS, KNOWN, LAST, args, check, lines, open_store, record, run_store

from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.records.args import Args
from neuronpath.records.reading import read_results
from neuronpath.records.schema import check_record
from neuronpath.records.store import Store


class TestWriting:
    def test_one_file_per_label_in_order_and_the_args(self, done):
        assert sorted(contents(done)) == ["all-0.rlt.jsonl", "all-2.rlt.jsonl", "all.args.json"]
        assert read_lines(done / "all-0.rlt.jsonl") == lines(FIRST)
        assert read_lines(done / "all-2.rlt.jsonl") == lines(LAST)
        assert Args.read(done / "all.args.json") == args()

    def test_records_are_on_disk_at_once(self, tmp_path):
        with open_store(tmp_path) as store:
            store.write(KNOWN[0], record(KNOWN[0]))
            assert read_lines(tmp_path / "all-0.rlt.jsonl") == lines(KNOWN[:1])

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_json_is_strict(self, tmp_path, value):
        with open_store(tmp_path) as store:
            store.write(KNOWN[0], record(KNOWN[0]))
            with pytest.raises(ValueError, match="JSON"):
                store.write(KNOWN[1], record(KNOWN[1]) | {"prob": value})
        assert read_lines(tmp_path / "all-0.rlt.jsonl") == lines(KNOWN[:1])

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
            assert read_lines(file) == [{"image": "b/1.png", "label": 2, "error": "cut"}]
            assert file.name == "all.skipped.jsonl"
            store.write_skipped([])
            assert not file.exists()

    def test_the_list_keeps_what_it_says_of_other_labels(self, tmp_path):
        entries = [{"image": i.image, "label": i.label, "error": "cut"} for i in (FIRST[0], LAST[0])]
        for items, entry in ((FIRST, entries[0]), (LAST, entries[1])):
            with open_store(tmp_path, items) as store:
                file = store.write_skipped([entry])
        assert read_lines(file) == entries
        with open_store(tmp_path, FIRST) as store:
            store.write_skipped([])
        assert read_lines(file) == entries[1:]


class TestResuming:
    @pytest.mark.parametrize("stop_after", range(6))
    def test_a_stopped_run_goes_on(self, tmp_path, done, stop_after):
        assert run_store(tmp_path / "new", stop_after=stop_after) == KNOWN[:stop_after]
        earlier = []
        assert run_store(tmp_path / "new", earlier=earlier.append) == KNOWN[stop_after:]
        assert earlier == lines(KNOWN[:stop_after])
        assert contents(tmp_path / "new") == contents(done)

    def test_records_that_this_run_was_not_asked_for_are_counted(self, tmp_path):
        run_store(tmp_path)
        for items, others in ((KNOWN, 0), (FIRST, 2), (FIRST[:1], 4), (LAST[:1], 4)):
            with open_store(tmp_path, items) as store:
                assert store.others() == others

    def test_a_finished_run_changes_nothing(self, done):
        before = contents(done)
        assert run_store(done) == []
        assert contents(done) == before

    def test_torn_last_line_at_every_byte(self, done):
        before, file = contents(done), done / "all-0.rlt.jsonl"
        whole = file.read_bytes()
        start = whole[:-1].rindex(b"\n") + 1
        assert len(whole) - start > 100
        for cut in range(start, len(whole)):
            file.write_bytes(whole[:cut])
            assert run_store(done) == FIRST[2:], cut
            assert contents(done) == before, cut

    @pytest.mark.parametrize("tail", [b"\0\0\0\0", b'{"image": "\xc3', b"{}}\n"])
    def test_garbage_after_a_crash(self, done, tail):
        before, file = contents(done), done / "all-2.rlt.jsonl"
        file.write_bytes(file.read_bytes() + tail)
        assert run_store(done) == []
        assert contents(done) == before

    def test_images_skipped_at_first_come_to_their_place(self, tmp_path, done):
        folder = tmp_path / "new"
        run_store(folder, skip=[KNOWN[1], KNOWN[3]])
        assert read_lines(folder / "all-0.rlt.jsonl") == lines([KNOWN[0], KNOWN[2]])
        assert run_store(folder) == [KNOWN[1], KNOWN[3]]
        assert contents(folder) == contents(done)

    def test_selection_grows_and_shrinks(self, tmp_path, done):
        folder, earlier = tmp_path / "new", []
        assert run_store(folder, [KNOWN[4]]) == [KNOWN[4]]
        assert run_store(folder, FIRST[:2]) == FIRST[:2]
        assert run_store(folder) == [KNOWN[2], KNOWN[3]]
        assert contents(folder) == contents(done)
        assert run_store(folder, FIRST[1:2], earlier=earlier.append) == []
        assert earlier == lines(FIRST[1:2])
        assert contents(folder) == contents(done)

    def test_prefixes_do_not_mix(self, done):
        assert run_store(done, prefix="all-0", m=4) == KNOWN
        assert run_store(done, prefix="a.l", m=5) == KNOWN
        assert run_store(done) == []
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
        found = read_lines(file)
        found[line - 1][key] = value
        write_lines(file, found)
        self.refuse(done, str(file), f"line {line}", key)

    @pytest.mark.parametrize("key", KEYS)
    def test_missing_value(self, done, key):
        file = done / "all-0.rlt.jsonl"
        found = read_lines(file)
        del found[1][key]
        write_lines(file, found)
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
            assert run_store(done, versions={"torch": "3"}) == []


class TestOverwrite:
    def test_with_other_settings_by_one_of_two_processes(self, done):
        """The old records of the other's labels must not pass for new ones, nor be gone on from."""

        def part(items, **options) -> Store:
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
        assert read_lines(done / "all-0.rlt.jsonl") == lines(FIRST, 2)
        assert (done / "all-2.rlt.jsonl").read_bytes() == before["all-2.rlt.jsonl"]

    def test_with_other_settings(self, done):
        assert run_store(done, overwrite=True, run=2, m=4) == KNOWN
        assert read_lines(done / "all-2.rlt.jsonl") == lines(LAST, 2)
        assert Args.read(done / "all.args.json") == args(m=4)
        assert run_store(done, m=4) == []

    def test_with_fewer_images(self, done):
        assert run_store(done, [KNOWN[1]], overwrite=True, run=2) == [KNOWN[1]]
        assert read_lines(done / "all-0.rlt.jsonl") == lines(KNOWN[1:2], 2)

    def test_in_a_new_folder(self, tmp_path, done):
        run_store(tmp_path / "new", overwrite=True)
        assert contents(tmp_path / "new") == contents(done)

    @pytest.mark.parametrize("stop_after", range(5))
    def test_killed_and_resumed_without_overwrite(self, done, stop_after):
        before = contents(done)
        run_store(done, overwrite=True, run=2, m=4, stop_after=stop_after)
        for name, items in (("all-0.rlt.jsonl", FIRST), ("all-2.rlt.jsonl", LAST)):
            complete = KNOWN.index(items[-1]) < stop_after
            assert (
                read_lines(done / name) == lines(items, 2) if complete else (done / name).read_bytes() == before[name]
            )
        with pytest.raises(UserError, match="unfinished"):
            read_results(done, "all")
        with pytest.raises(UserError, match=r"m 4 → 20"):
            open_store(done)
        assert run_store(done, run=2, m=4) == KNOWN[stop_after:]
        assert sorted(contents(done)) == sorted(before)
        assert read_results(done, "all") == {0: lines(FIRST, 2), 2: lines(LAST, 2)}

    def test_killed_inside_a_line(self, done):
        run_store(done, overwrite=True, run=2, stop_after=2)
        (partial,) = (file for file in done.iterdir() if "-0" in file.name and file.name != "all-0.rlt.jsonl")
        partial.write_bytes(partial.read_bytes()[:-7])
        assert run_store(done, run=2) == KNOWN[1:]
        assert read_results(done, "all") == {0: lines(FIRST, 2), 2: lines(LAST, 2)}

    def test_killed_and_started_anew(self, done):
        run_store(done, overwrite=True, run=2, stop_after=2)
        assert run_store(done, overwrite=True, run=3) == KNOWN
        assert read_results(done, "all") == {0: lines(FIRST, 3), 2: lines(LAST, 3)}

    def test_repairs_what_is_refused_otherwise(self, done):
        (done / "all-0.rlt.jsonl").write_text("broken\nbroken\n")
        assert run_store(done, overwrite=True) == KNOWN
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}


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


def test_what_another_process_skipped_stays_listed(tmp_path):
    items = [Item("a/0.png", 0), Item("b/0.png", 1)]
    for item in items:
        with Store(tmp_path, "all", Args("joint_attr", {}), items, [item], labels=(0, 1)) as store:
            store.skip(item)
            file = store.write_skipped([{"image": item.image, "label": item.label, "error": "cut"}])
    assert [line.split('"')[3] for line in file.read_text().splitlines()] == ["a/0.png", "b/0.png"]
