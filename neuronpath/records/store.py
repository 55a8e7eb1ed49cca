"""The one writer of results: per-label files, one record per image, resumed where a run stopped.

`{prefix}.args.json` says which job, settings, weights and code made the records; a run whose settings differ is
refused. A killed run leaves at most a torn last line, which is dropped and computed again.

With `overwrite`, the label files that the run covers get an unfinished twin (`.partial`) before anything else
happens; it takes the old file's place once it is complete. A later run, with or without `overwrite`, sees the
twins, so that old records never pass for new ones and a killed run resumes.

Several processes may share a folder: each holds the locks of its labels, and what is common to all, args.json and
the list of skipped images, is changed by one at a time.
"""

import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path

from ..errors import UserError, shortened
from ..files import Item, replace_file, writing
from ..interrupts import held
from .args import Args, args_file, differences
from .locks import Locks
from .reading import UNFINISHED, label_file, label_files, parse_lines

Check = Callable[[dict], str]
Note = Callable[[dict], None]


class Store:
    """Records of one run, or of one process's labels of it.

    `args`: what goes to args.json; its `job` and `settings` are compared. `known`: all items of the data set, in order;
    `items`: those of this process; `labels`: those of the whole run where others do the rest. `check(record)` says what
    is wrong with a record read back, or ""; `earlier(record)` is told every record that an earlier run left for this
    run's items. `others`: `known` is a part only, and records of more images may be there. UserError, before anything
    is written, for a folder that does not fit this run or is being written by another.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str,
        args: Args,
        known: list[Item],
        items: list[Item],
        *,
        overwrite: bool = False,
        check: Check = lambda record: "",
        earlier: Note = lambda record: None,
        labels: Collection[int] = (),
        others: bool = False,
    ):
        self.directory, self.prefix, self.args = directory, prefix, args
        self.labels = sorted({item.label for item in items})
        self._covered = {*labels, *self.labels}
        self._order = {item.image: i for i, item in enumerate(known)}
        self._more = others
        self._images: dict[int, list[str]] = {label: [] for label in self.labels}  # recorded, in the file's order
        self._files: dict[int, io.FileIO] = {}
        self._unwanted = 0  # records in this run's label files of images that it was not asked for
        self._settle_args(overwrite)
        self._locks = self._lock()
        try:
            ends = {} if overwrite else self._read_all(known, {item.image for item in items}, check, earlier)
            with held():
                self._open(overwrite, ends)
            done = {image for images in self._images.values() for image in images}
            self.pending = [item for item in items if item.image not in done]
            self._left = Counter(item.label for item in self.pending)
            for label in self.labels:
                if not self._left[label]:
                    self._complete(label)
        except BaseException:
            self.close()
            raise

    @property
    def args_file(self) -> Path:
        return args_file(self.directory, self.prefix)

    def others(self) -> int:
        """How many records the folder holds that this run, all processes of it, was not asked for."""
        files = label_files(self.directory, self.prefix)
        elsewhere = (file.read_bytes().count(b"\n") for label, file in files.items() if label not in self._covered)
        return self._unwanted + sum(elsewhere)

    def write(self, item: Item, record: dict) -> None:
        """Append one image's record and put it on its way to the disk."""
        line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
        with held():
            if item.label not in self._files:
                self._files[item.label] = self._working(item.label).open("ab", buffering=0)
            _append(self._files[item.label], line.encode(errors="backslashreplace"))
            self._images[item.label].append(item.image)
            self._count_down(item.label)

    def skip(self, item: Item) -> None:
        """This image gets no record in this run."""
        with held():
            self._count_down(item.label)

    def write_skipped(self, skipped: list[dict]) -> Path:
        """List the images without a record in `{prefix}.skipped.jsonl`, keeping what it says of other labels.

        No file where there are none.
        """
        file = self.directory / f"{self.prefix}.skipped.jsonl"
        with held(), self._locks.settings():
            self._replace_skipped(file, skipped)
        return file

    def _replace_skipped(self, file: Path, skipped: list[dict]) -> None:
        earlier = [entry for _, _, entry in parse_lines(file, tear=True)] if file.exists() else []
        here = {*self.labels, -1}  # -1: of images without labels, which every run of them lists
        others = [e for e in earlier if isinstance(e, dict) and e.get("label") not in here]
        if others or skipped:
            replace_file(file, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in others + skipped))
        else:
            file.unlink(missing_ok=True)

    def alone(self) -> AbstractContextManager[None]:
        """Alone among the processes that share the folder; waits for its turn."""
        return self._locks.settings()

    def close(self) -> None:
        with held():
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._locks.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle_args(self, overwrite: bool) -> None:
        """Refuse a folder that holds something else."""
        elsewhere = "choose another --output_dir or --output_prefix"
        there = label_files(self.directory, self.prefix)
        if there and not self.args_file.exists():
            raise UserError(f"{self.directory}: its {self.prefix} records lack {self.args_file.name}; {elsewhere}")
        for file in sorted(self.directory.glob("*.args.json")):
            old = Args.read(file)
            if old.job != self.args.job:
                raise UserError(
                    f"{file}: this folder holds records of another job ({old.job}); choose another --output_dir"
                )
            if file != self.args_file:
                continue
            other = differences(old.settings, self.args.settings)
            if other and not overwrite:
                advice = f"{elsewhere}, or replace them with --overwrite"
                raise UserError(f"{file}: its records were made with other settings ({other}); {advice}")
            if other and (rest := sorted(there.keys() - self._covered)):
                advice = f"cover them too or {elsewhere}"
                raise UserError(f"{file}: label {rest[0]}, not in this run, has other settings ({other}); {advice}")
            if not overwrite and (changed := differences(old.versions, self.args.versions)):
                warnings.warn(f"{file}: its records were made with other versions ({changed})", stacklevel=4)

    def _lock(self) -> Locks:
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            return Locks(self.directory, self.prefix, self.labels)

    def _read_all(self, known: list[Item], wanted: set[str], check: Check, earlier: Note) -> dict[int, int]:
        """Take note of the records that are there; per label how many bytes of its file they are."""
        members: dict[int, set[str]] = {label: set() for label in self.labels}
        for item in known:
            members.get(item.label, set()).add(item.image)

        def note(record: dict) -> None:
            if record["image"] in wanted:
                earlier(record)
            else:
                self._unwanted += 1

        return {label: self._read(label, members[label], check, note) for label in self.labels}

    def _read(self, label: int, members: set[str], check: Check, earlier: Note) -> int:
        """Take note of the records that are there; how many bytes of the file they are."""
        file, images, end = self._working(label), self._images[label], 0
        if not file.exists():
            return 0
        seen: set[str] = set()
        for number, line_end, record in parse_lines(file, tear=True):
            image = record.get("image") if isinstance(record, dict) else None
            if not isinstance(record, dict) or not isinstance(image, str) or not self._belongs(image, members):
                fault = f"not a record of an image of label {label} in this data set ({image!r})"
                record, image = {}, ""
            elif image in seen:
                fault = f"a second record of {image}"
            elif record.get("label", label) != label:
                fault = f"label is {record['label']}, not {label}"
            else:
                fault = check(record)
            if fault:
                advice = "remove the line or start anew with --overwrite"
                raise UserError(f"{file}, line {number}: {shortened(fault)}; {advice}")
            seen.add(image)
            images.append(image)
            earlier(record)
            end = line_end
        for i, image in enumerate(images):
            self._order.setdefault(image, i - len(images))  # those that are not known stay before those that are
        return end

    def _belongs(self, image: str, members: set[str]) -> bool:
        return image in members or (self._more and image not in self._order)

    def _open(self, overwrite: bool, ends: dict[int, int]) -> None:
        """The first writes: everything has been checked."""
        with writing(self.directory), self._locks.settings():
            self._settle_args(overwrite)  # again: another process may have been first
            if overwrite:
                self._begin_twins()
            if overwrite or not self.args_file.exists():
                replace_file(self.args_file, self.args.text())
        for label, end in ends.items():
            file = self._working(label)
            if file.exists() and file.stat().st_size > end:
                os.truncate(file, end)

    def _begin_twins(self) -> None:
        """Unfinished twins, empty, of this process's label files.

        Where the settings change, also of the other processes' labels, once: their old records must not pass for new.
        """
        changed = self.args_file.exists() and bool(differences(Args.read(self.args_file).settings, self.args.settings))
        for label in sorted(self._covered if changed else self.labels):
            if label_file(self.directory, self.prefix, label).exists() or self._partial(label).exists():
                self._partial(label).write_bytes(b"")

    def _partial(self, label: int) -> Path:
        file = label_file(self.directory, self.prefix, label)
        return file.with_name(file.name + UNFINISHED)

    def _working(self, label: int) -> Path:
        """The file that this label's records are written to: the unfinished twin where there is one."""
        partial = self._partial(label)
        return partial if partial.exists() else label_file(self.directory, self.prefix, label)

    def _count_down(self, label: int) -> None:
        self._left[label] -= 1
        if not self._left[label]:
            if label in self._files:
                os.fsync(self._files[label].fileno())
                self._files.pop(label).close()
            self._complete(label)

    def _complete(self, label: int) -> None:
        """Bring a label's records into the data set's order and its file into place."""
        file, order = self._working(label), [self._order[image] for image in self._images[label]]
        if order != sorted(order):
            lines = file.read_bytes().splitlines(keepends=True)
            replace_file(file, b"".join(lines[i] for i in sorted(range(len(order)), key=order.__getitem__)))
        if file == self._partial(label):
            file.replace(label_file(self.directory, self.prefix, label))


def _append(file: io.FileIO, line: bytes) -> None:
    """Write the whole line, or, where that fails, none of it."""
    start, written = file.seek(0, os.SEEK_END), 0
    try:
        while written < len(line):
            written += file.write(line[written:])
    except OSError:
        file.truncate(start)
        raise
