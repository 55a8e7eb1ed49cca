"""The writer of `top_images.npz`: each process keeps a part of its own, and the last to finish merges them.

The parts are in `{prefix}.parts/`, one for each process; while they are there, an older `{prefix}.npz` does not count.
A part is written whole, every INTERVAL seconds, when its process ends, and when it has all its images; only between
two groups of images, so that a resumed run computes the same groups again. Whoever ends looks, alone among the
processes, whether any image of the run is in none of the parts; if not, it writes the file and takes the folder away,
in one step.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import Item, writing
from ..interrupts import held
from .args import Args, args_file
from .store import Note, Store
from .top_images import Gathered, Shape, read_gathered, write_part, write_top_images

INTERVAL = 30.0  # seconds


def file_of(directory: Path, prefix: str) -> Path:
    return directory / f"{prefix}.npz"


def parts_of(directory: Path, prefix: str) -> Path:
    """The folder of the parts, which is there while the file is being made."""
    return directory / f"{prefix}.parts"


class TopStore(Store):
    """What one process gathers of its `items`, into its part of the run.

    `chosen`: all images of the run, in the data set's order; `groups`: of each item the group that it is computed with;
    `process`: (index, count); `shape` and `several` as of `Gathered`. Other arguments, and errors, as of `Store`;
    `earlier` is told image, label and pred of the items that an earlier run left.
    """

    _changed = False

    def __init__(
        self,
        directory: Path,
        prefix: str,
        args: Args,
        known: list[Item],
        items: list[Item],
        *,
        chosen: list[Item],
        groups: Mapping[Item, Hashable],
        process: tuple[int, int],
        shape: Shape,
        several: bool,
        earlier: Note = lambda record: None,
        overwrite: bool = False,
        **more: Any,
    ):
        self.file, self._parts = file_of(directory, prefix), parts_of(directory, prefix)
        index, self._count = process
        self._own = self._parts / f"{index}-of-{self._count}.npz"
        self._made_of = json.dumps(args.settings, sort_keys=True)
        self._chosen, self._groups, self._sizes = chosen, groups, (len(chosen), shape, several)
        self._place = {item: i for i, item in enumerate(chosen)}
        if (self.file.exists() or self._parts.exists()) and not args_file(directory, prefix).exists():
            advice = "choose another --output_dir or --output_prefix"
            raise UserError(f"{self.file}: it lacks {prefix}.args.json beside it; {advice}")
        super().__init__(directory, prefix, args, known, items, overwrite=overwrite, **more)
        try:
            with held(), writing(directory), self.alone():
                pred = self._begin(items, overwrite)
            for item in items:
                if (found := int(pred[self._place[item]])) >= 0:
                    earlier({"image": item.image, "label": item.label, "pred": found})
            self.pending = [item for item in items if pred[self._place[item]] < 0]
            self._left_of = Counter(groups[item] for item in self.pending)
            self._begun: set[Hashable] = set()
            self._saved = time.monotonic()
            if not self.pending:
                self._finish()
        except BaseException:
            self.close()
            raise

    def write(self, item: Item, record: dict) -> None:
        """Take in one image: `pred`, and of each unit `value`, `mean` and, where N > 1, `token`, (L, H) each."""
        with held():
            self._begun.add(self._groups[item])
            self._changed = True
            place, token = self._place[item], record.get("token")
            self._gathered.add(place, record["pred"], record["value"], record["mean"], token)
            self._count_off(item)

    def skip(self, item: Item) -> None:
        """This image cannot be read; the next run tries it again."""
        with held():
            self._begun.add(self._groups[item])
            self._changed = True
            self._gathered.skipped[self._place[item]] = True
            self._count_off(item)

    def close(self) -> None:
        """What is known of whole groups is kept."""
        try:
            if self._changed and not self._begun:
                self._save()
        finally:
            super().close()

    def _begin(self, items: list[Item], overwrite: bool) -> np.ndarray:
        """Take stock of the parts, or of the file where there are none: of each of the run's images `pred`, -1 to do.

        Parts of other settings go, and with `overwrite` those with images of `items`. Where there is something to do,
        this process's part is there afterwards, so that none merges before it.
        """
        shutil.rmtree(_old(self._parts), ignore_errors=True)
        mine = [self._place[item] for item in items]
        self._gathered, found = Gathered(*self._sizes), list[np.ndarray]()
        for file in self._part_files():
            part = self._load(file)
            if part is None or (overwrite and part.seen[mine].any()):
                file.unlink()
                continue
            found.append(part.pred)
            if file == self._own:
                self._gathered = part
                part.skipped[:] = False
        if not found and not overwrite:
            whole = self._load(self.file)
            if whole is not None:
                found.append(whole.pred)
                if not whole.seen[mine].all():
                    self._parts.mkdir(exist_ok=True)
                    write_part(self._parts / "whole.npz", whole, self._made_of)
        pred = np.max(found, 0) if found else np.full(len(self._chosen), -1, np.int32)
        if (pred[mine] < 0).any():
            self._parts.mkdir(exist_ok=True)
            write_part(self._own, self._gathered, self._made_of)
        return pred

    def _count_off(self, item: Item) -> None:
        group = self._groups[item]
        self._left_of[group] -= 1
        if self._left_of[group]:
            return
        del self._left_of[group]
        self._begun.discard(group)
        if not self._left_of:
            self._finish()
        elif time.monotonic() - self._saved > INTERVAL:
            self._save()

    def _save(self) -> None:
        with held(), writing(self.directory), self.alone():
            self._save_alone()

    def _save_alone(self) -> None:
        write_part(self._own, self._gathered, self._made_of)
        self._changed, self._saved = False, time.monotonic()

    def _finish(self) -> None:
        """Write the file, where no process has anything left to do."""
        with held(), writing(self.directory), self.alone():
            if self._changed:
                self._save_alone()
            merged = self._merged()
            if merged is None:
                return
            images, labels = [item.image for item in self._chosen], [item.label for item in self._chosen]
            write_top_images(self.file, merged, images, labels, self._made_of)
            self._parts.replace(_old(self._parts))
        shutil.rmtree(_old(self._parts), ignore_errors=True)

    def _merged(self) -> Gathered | None:
        """All parts together; None where images are left, or none could be read."""
        merged, skipped, files = Gathered(*self._sizes), np.zeros(len(self._chosen), bool), self._part_files()
        for file in files:
            part = self._load(file)
            if part is None:
                continue
            try:
                merged.merge(part)
            except ValueError as e:
                raise UserError(f"{self._parts}: {e}; start anew with --overwrite") from e
            if file.stem.endswith(f"-of-{self._count}"):
                skipped |= part.skipped  # those of another number of processes are tried again
        seen = merged.seen
        return merged if seen.any() and (seen | skipped).all() else None

    def _part_files(self) -> list[Path]:
        return sorted(self._parts.glob("*.npz"))

    def _load(self, file: Path) -> Gathered | None:
        return read_gathered(file, self._made_of, *self._sizes)


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")
