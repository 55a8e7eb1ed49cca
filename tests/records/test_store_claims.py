"""The store: the bytes on the disk, when they are there, and what each refusal says."""

import io
import json
import os
import warnings
from pathlib import Path

import pytest

from neuronpath.errors import UserError
from neuronpath.files import Item
from neuronpath.records.args import Args
from neuronpath.records.store import Store

ITEMS = [Item("ä/0.png", 0), Item("ä/1.png", 0), Item("b/0.png", 2)]


def store(folder: Path, items=ITEMS, **options) -> Store:
    args = options.pop("args", Args("ja", {"m": 20}, {"seed": 1}, {"torch": "2"}))
    return Store(folder, options.pop("prefix", "all"), args, ITEMS, items, **options)


def fill(folder: Path, items=ITEMS, **options) -> None:
    with store(folder, items, **options) as found:
        for item in found.pending:
            found.write(item, {"image": item.image, "label": item.label})


@pytest.fixture
def done(tmp_path) -> Path:
    fill(tmp_path / "out")
    return tmp_path / "out"


def refusal(*given, **options) -> str:
    with pytest.raises(UserError) as caught:
        store(*given, **options)
    return str(caught.value)


class TestDisk:
    def test_the_bytes(self, done):
        assert {file.name: file.read_text() for file in done.glob("*.rlt.jsonl")} == {
            "all-0.rlt.jsonl": '{"image": "ä/0.png", "label": 0}\n{"image": "ä/1.png", "label": 0}\n',
            "all-2.rlt.jsonl": '{"image": "b/0.png", "label": 2}\n',
        }
        assert (done / "all.args.json").read_text() == Args("ja", {"m": 20}, {"seed": 1}, {"torch": "2"}).text()

    def test_a_name_that_is_no_unicode_is_written_as_an_escape(self, tmp_path):
        item = Item("a\udcff.png", 0)
        with Store(tmp_path, "all", Args("ja", {}), [item], [item]) as found:
            found.write(item, {"image": item.image})
        assert (tmp_path / "all-0.rlt.jsonl").read_bytes() == b'{"image": "a\\udcff.png"}\n'

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_complete_file_is_on_the_disk_before_it_is_in_place(self, done, overwrite, monkeypatch):
        synced, working = [], done / ("all-0.rlt.jsonl.partial" if overwrite else "all-0.rlt.jsonl")
        if not overwrite:
            for file in done.iterdir():
                file.unlink()
        with store(done, ITEMS[:2], overwrite=overwrite, labels=(0, 2)) as found:
            monkeypatch.setattr(os, "fsync", lambda n: synced.append((n, os.fstat(n), working.read_bytes())))
            found.write(ITEMS[0], {"image": ITEMS[0].image})
            assert synced == []
            before = working.stat().st_ino
            found.write(ITEMS[1], {"image": ITEMS[1].image})
            ((number, state, content),) = synced
            with pytest.raises(OSError, match="Bad file"):  # a thousand labels need no thousand open files
                os.fstat(number)
        assert (state.st_ino, content.count(b"\n")) == (before, 2)
        assert not (done / "all-0.rlt.jsonl.partial").exists()

    def test_records_come_into_order_in_a_new_file(self, tmp_path, monkeypatch):
        """What fails then leaves all of them as they were."""
        calls = []

        def fsync(number):
            calls.append(number)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")

        fill(tmp_path, ITEMS[1:2])
        monkeypatch.setattr(os, "fsync", fsync)
        with store(tmp_path, ITEMS[:2]) as found, pytest.raises(OSError, match="No space"):
            found.write(ITEMS[0], {"image": ITEMS[0].image})
        file = tmp_path / "all-0.rlt.jsonl"
        assert file.read_text() == '{"image": "ä/1.png", "label": 0}\n{"image": "ä/0.png"}\n'
        store(tmp_path, ITEMS[:2]).close()
        assert file.read_text() == '{"image": "ä/0.png"}\n{"image": "ä/1.png", "label": 0}\n'

    def test_a_class_whose_last_image_is_skipped_is_complete_too(self, done):
        with store(done, ITEMS[:2], overwrite=True, labels=(0, 2)) as found:
            found.write(ITEMS[0], {"image": ITEMS[0].image})
            found.skip(ITEMS[1])
            assert (done / "all-0.rlt.jsonl").read_text() == '{"image": "ä/0.png"}\n'
            assert not (done / "all-0.rlt.jsonl.partial").exists()

    def test_a_cut_write_is_gone_on_with_and_a_failed_one_taken_back(self, tmp_path, monkeypatch):
        """Of a file that takes 9 bytes at a time, and then no more."""
        sizes = []

        class Slow(io.FileIO):
            def write(self, data):
                sizes.append(len(data))
                if len(sizes) > 8:
                    raise OSError(28, "No space left on device")
                return super().write(data[:9])

        opened = Path.open
        monkeypatch.setattr(
            Path, "open", lambda file, mode="r", **more: Slow(file, mode) if more else opened(file, mode, **more)
        )
        with store(tmp_path, ITEMS[:2]) as found:
            found.write(ITEMS[0], {"image": ITEMS[0].image, "n": 123456})
            whole = (tmp_path / "all-0.rlt.jsonl").read_bytes()
            assert json.loads(whole)["n"] == 123456
            with pytest.raises(OSError, match="No space"):
                found.write(ITEMS[1], {"image": ITEMS[1].image, "text": "x" * 200})
            assert (tmp_path / "all-0.rlt.jsonl").read_bytes() == whole

    def test_skipped_images_are_listed_as_they_are_named(self, tmp_path):
        with store(tmp_path) as found:
            file = found.write_skipped([{"image": "ä/0.png", "label": 0}])
        assert file == tmp_path / "all.skipped.jsonl"
        assert file.read_text() == '{"image": "ä/0.png", "label": 0}\n'

    def test_a_torn_or_strange_list_of_skipped_images_is_mended(self, tmp_path):
        (tmp_path / "all.skipped.jsonl").write_text(
            '{"image": "z", "label": 9}\n3\n{"image": "ä/0.png", "label": 0}\n{'
        )
        with store(tmp_path) as found:
            file = found.write_skipped([])
        assert file.read_text() == '{"image": "z", "label": 9}\n'

    def test_what_is_pending_and_what_was_there(self, done):
        (done / "all-0.rlt.jsonl").write_text('{"image": "ä/1.png"}\n')  # that tells no label
        (done / "all-2.rlt.jsonl").write_text('{"image": "b/0.png"}\n')
        told = []
        with store(done, ITEMS[:1], earlier=told.append) as found:
            assert found.pending == ITEMS[:1]
            assert (found.labels, told, found.others()) == ([0], [], 2)
        with store(done, ITEMS[1:], earlier=told.append) as found:
            assert (found.pending, found.labels, found.others()) == ([], [0, 2], 0)
        assert [record["image"] for record in told] == ["ä/1.png", "b/0.png"]
        with store(done, ITEMS[2:], labels=(0, 2)) as found:
            assert found.others() == 0, "another process of this run is asked for label 0"

    def test_the_labels_ascend_whatever_the_images_order(self, tmp_path):
        with store(tmp_path, ITEMS[::-1]) as found:
            assert found.labels == [0, 2]
            assert found.pending == ITEMS[::-1]


class TestArgs:
    NEW = Args("ja", {"m": 20}, {"seed": 2}, {"torch": "3"})

    def test_the_first_runs_stay(self, done):
        before = (done / "all.args.json").read_bytes()
        said = r"all\.args\.json: its records were made with other versions \(torch 2 → 3\)$"
        with pytest.warns(UserWarning, match=said):
            store(done, args=self.NEW).close()
        assert (done / "all.args.json").read_bytes() == before

    def test_those_of_an_overwriting_run_replace_them_without_a_warning(self, done):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fill(done, args=self.NEW, overwrite=True)
        assert Args.read(done / "all.args.json") == self.NEW

    def test_another_process_of_the_run_may_be_first(self, done):
        """It is compared again once the lock is held."""
        for file in done.glob("*.rlt.jsonl"):
            file.unlink()
        assert "other settings (m 20 → 4)" in refusal(done, args=Args("ja", {"m": 4}))


class TestRefusals:
    def test_other_settings(self, done):
        other, file = Args("ja", {"m": 4}), done / "all.args.json"
        elsewhere = "choose another --output_dir or --output_prefix"
        assert refusal(done, args=other) == (
            f"{file}: its records were made with other settings (m 20 → 4); {elsewhere}, "
            "or replace them with --overwrite"
        )
        assert refusal(done, ITEMS[2:], args=other, overwrite=True) == (
            f"{file}: label 0, not in this run, has other settings (m 20 → 4); cover them too or {elsewhere}"
        )
        file.unlink()
        assert refusal(done) == f"{done}: its all records lack all.args.json; {elsewhere}"

    def test_another_job(self, done):
        assert refusal(done, prefix="x", args=Args("edit", {}), overwrite=True) == (
            f"{done / 'all.args.json'}: this folder holds records of another job (ja); choose another --output_dir"
        )

    def test_another_prefix_may_have_other_settings(self, done):
        store(done, prefix="x", args=Args("ja", {"m": 4})).close()

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"image": "b/0.png"}', "not a record of an image of label 0 in this data set ('b/0.png')"),
            ('{"label": 0}', "not a record of an image of label 0 in this data set (None)"),
            ("[]", "not a record of an image of label 0 in this data set (None)"),
            ('{"image": "ä/0.png"}', "a second record of ä/0.png"),
            ('{"image": "ä/1.png", "label": 1}', "label is 1, not 0"),
            ('{"image": "ä/1.png", "bad": "it is bad"}', "it is bad"),
            ('{"image": "ä/1.png", "bad": "' + "x" * 300 + '"}', "x" * 199 + "…"),
        ],
    )
    def test_a_line(self, done, line, said):
        file = done / "all-0.rlt.jsonl"
        file.write_text('{"image": "ä/0.png"}\n' + line + "\n")
        found = refusal(done, check=lambda record: record.get("bad", ""))
        assert found == f"{file}, line 2: {said}; remove the line or start anew with --overwrite"

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        found = refusal(tmp_path / "file/out")
        assert found.startswith(f"{tmp_path / 'file/out'}: cannot be written (")
        assert found.endswith("); choose another --output_dir")
