"""The road that all scripts share which compute a record per image: from a checkpoint and a data set to label files.

A `Job` (`job.py`) is what one script computes. Its `prepare` checks what can be checked before the first write and
returns a `Plan`, a frozen value that knows all that the computing needs. A `Run` is one execution: select, compute,
report.
"""

import subprocess
import time
import warnings
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from ..attribution.rows import default_rows
from ..cli.exits import DONE, SKIPPED, Report
from ..cli.options import told, typed_native
from ..cli.processes import Share
from ..data.images import ImageSet, open_chosen
from ..data.loading import Batch, Transform, batches, cut, grouped
from ..data.preprocessing import chosen, paper_half, transform
from ..errors import NonFiniteError, UserError, out_of_memory
from ..files import CHECKOUT, Item, model_name, results_folder
from ..models.checkpoint import HeadError, check_head, load, sha256
from ..models.configs import AdaptedShape
from ..models.devices import free
from ..models.staged import StagedModel
from ..pixels import Preprocessing, settled
from ..records.args import Args
from ..records.schema import Sizes, check_record
from ..records.store import Store
from .accuracy import expected_top1, low_accuracy
from .job import Job
from .predicting import predicted
from .summary import Summary

T = TypeVar("T")
SAMPLE = 500  # images after which accuracy is looked at


@dataclass(frozen=True)
class Inputs:
    """What a job works on: the model, the data set, and the images that were chosen.

    `items`: this process's; `chosen`: those of the whole run.
    """

    options: Namespace
    model: StagedModel
    source: ImageSet
    items: list[Item]
    chosen: list[Item]

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before the model sees it."""
        return chosen(self.options.preprocess, self.model.config, self.options.dataset, self.model.native)

    @property
    def transform(self) -> Transform:
        """From an image to what the model takes, (3, S, S)."""
        return transform(self.preprocessing)

    def on_device(self, images: Tensor) -> Tensor:
        """Loaded images (B, 3, S, S) where the model is, in its dtype."""
        return images.to(self.options.device, self.model.dtype, non_blocking=images.is_pinned())

    def load_all(self) -> tuple[list[Item], Tensor]:
        """This process's images at once, (n, 3, S, S) where the model is; unreadable ones may be left out."""
        items, parts = list[Item](), list[Tensor]()
        for batch in batches(self.source, self.items, self.transform, num_workers=self.options.num_workers):
            for item, reason in batch.bad:
                self.refuse(item, reason)
            items += batch.items
            parts += [self.on_device(batch.images)] if batch.items else []
        if not parts:
            raise UserError(f"{self.source.root}: no image can be read; replace them")
        return items, torch.cat(parts)

    def refuse(self, item: Item, reason: str) -> None:
        """UserError for an unreadable image, unless such are to be skipped."""
        if self.options.on_bad_image == "fail":
            file, advice = self.source.root / item.image, "replace it or use --on_bad_image skip"
            raise UserError(f"{file}: cannot be read ({reason}); {advice}")


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What a job's preparation finds out; it computes the records.

    `items`: those to compute. `lacking`: those that lack what it takes, each with the reason; one that is to be
    computed is skipped, any other is only listed. `keys`: what a record holds beside `image` and `label`. `settings`:
    what a resumed run must agree with, beside data and model. `origin`: the settings of the records that were read.
    `sizes`: what paths are checked by, where they are not of the model's neurons alone.
    """

    inputs: Inputs
    items: list[Item]
    keys: tuple[str, ...]
    settings: dict[str, Any]
    lacking: dict[Item, str] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    sizes: Sizes | None = None

    @abstractmethod
    def records(self, items: list[Item], images: Tensor, rows: int) -> list[dict]:
        """Per image its record but for `image` and `label`; at most `rows` rows at once."""

    @abstractmethod
    def summary(self) -> Summary: ...

    def open_store(self, run: "Run", kind: Callable[..., Store] = Store) -> Store:
        """Where the run's results go, locked for this process; of `kind`."""
        options = self.inputs.options
        return kind(
            run.directory,
            options.output_prefix,
            provenance(run.job, self, run.rows),
            self.inputs.source.items,
            self.items,
            overwrite=options.overwrite,
            check=self.check,
            earlier=run.summary.add,
            labels=run.labels,
            others=options.dataset == "images",
        )

    def groups(self, pending: list[Item]) -> list[list[Item]]:
        """The images that are computed at once, in order."""
        return cut(pending, self.inputs.options.batch_size)

    def begin(self, run: "Run", store: Store) -> "Plan":
        """Itself with what must be known of all the run's images before the first record is computed."""
        return self

    def check(self, record: dict) -> str:
        """What is wrong with a record that an earlier run left, or ""."""
        return check_record(record, self.sizes or self.inputs.model.config, self.keys)


class Run:
    """One execution of a job by one process."""

    def __init__(self, job: Job, plan: Plan, labels: list[int]):
        self.job, self.plan, self.labels = job, plan, labels
        self.options = plan.inputs.options
        self.rows = self.options.internal_batch_size or default_rows(plan.inputs.model, self.options.device)
        self.directory: Path = self.options.output_dir or results_folder(job.folder(self.options), self.options)
        self.summary = plan.summary()
        self.skipped: list[dict] = []
        self.listed = self.directory
        self.resumed = self.others = 0
        self.seconds = 0.0

    @classmethod
    def select(cls, job: Job, options: Namespace) -> "Run | None":
        """Open model and data, choose this process's images and prepare; None where no labels are left for it."""
        model = _load(job, options)
        every = open_chosen(options, model.config.num_classes)
        source, unread = predicted(Inputs(options, model, every, every.items, every.items))
        selected = source.select(options.labels, options.images_per_class)
        labels = sorted({item.label for item in selected})
        mine = set(options.share.of(labels))
        items = [item for item in selected if item.label in mine]
        if not items:
            return None
        plan = job.prepare(Inputs(options, model, source, items, selected))
        if plan.lacking and options.on_bad_image == "fail":
            raise UserError(next(iter(plan.lacking.values())))
        return cls(job, replace(plan, lacking={**plan.lacking, **unread}), labels)

    def compute(self) -> None:
        """Write the records that are not there yet."""
        plan, started = self.plan, time.perf_counter()
        with plan.open_store(self) as store:
            self.resumed = self.summary.images
            computed = set(plan.items)
            self.skipped = [_skipped(item, why) for item, why in plan.lacking.items() if item not in computed]
            try:
                if any(item not in plan.lacking for item in store.pending):
                    self.plan = plan.begin(self, store)
                self._write_pending(store)
            finally:
                self.listed = store.write_skipped(self.skipped)
            self.others = store.others()
        self.seconds = time.perf_counter() - started

    def report(self) -> Report:
        """What was found, in a few lines; exit code 3 where images were skipped."""
        share, lines = self.options.share, []
        if share.speaks:
            lines += [f"{self.job.name}{_share_words(share)}", _model_line(self.options, self.plan.inputs.model)]
            lines.append(self.summary.text(self.resumed, self.seconds, self.directory, self.options.output_prefix))
            if self.options.dataset == "images":
                lines.append("labels      none: the predicted class stands for the label, so that it is always right")
            if self.others:
                lines.append(
                    f"also there  {self.others} records of other images, from earlier runs of the same settings"
                )
        if self.skipped:
            lines.append(f"skipped     {len(self.skipped)} images, listed in {self.listed.resolve()}")
        # torchrun would stop the other processes.
        stops = self.skipped and share.launcher != "torchrun"
        return Report("\n".join(lines), SKIPPED if stops else DONE)

    def _write_pending(self, store: Store) -> None:
        options, plan, total = self.options, self.plan, len(self.plan.items)
        source, quiet = plan.inputs.source, not self.options.share.speaks
        with tqdm(
            total=total, initial=self.resumed, unit="img", desc=self.job.name, dynamic_ncols=True, disable=quiet
        ) as bar:

            def skip(item: Item, reason: str) -> None:
                self.skipped.append(_skipped(item, reason))
                store.skip(item)
                bar.update()

            for item in store.pending:
                if item in plan.lacking:
                    skip(item, plan.lacking[item])
            pending, workers = [item for item in store.pending if item not in plan.lacking], options.num_workers
            on_gpu = options.device.type == "cuda"
            for batch in grouped(
                source, plan.groups(pending), plan.inputs.transform, num_workers=workers, pin_memory=on_gpu
            ):
                for item, message in batch.bad:
                    plan.inputs.refuse(item, message)
                    skip(item, message)
                if batch.items:
                    self._write_batch(store, batch)
                bar.set_postfix_str(self.summary.running(), refresh=False)
                bar.update(len(batch.items))
        if self.resumed < self.summary.images < SAMPLE:
            self._warn_of_low_accuracy()

    def _write_batch(self, store: Store, batch: Batch) -> None:
        for item, record in zip(batch.items, self._records(batch), strict=True):
            whole = {"image": item.image, "label": item.label, **record}
            store.write(item, whole)
            self.summary.add(whole)
            if self.summary.images == SAMPLE:
                self._warn_of_low_accuracy()

    def fitting(self, compute: Callable[[int], T]) -> T:
        """`compute` of so many rows at once; where memory is short, of half as many, from then on."""
        while True:
            try:
                return compute(self.rows)
            except (MemoryError, RuntimeError) as e:
                if self.rows == 1 or not out_of_memory(e):
                    raise
            # Outside the except block, where the failed attempt's tensors are gone.
            self.rows //= 2
            warnings.warn(f"memory is short: --internal_batch_size is now {self.rows}", stacklevel=2)
            free(self.options.device)

    def _records(self, batch: Batch) -> list[dict]:
        images = self.plan.inputs.on_device(batch.images)
        try:
            return self.fitting(lambda rows: self.plan.records(batch.items, images, rows))
        except NonFiniteError as e:
            advice = "check the checkpoint, or use --precision fp64"
            raise UserError(f"{batch.items[e.image].image}: the {e.what} are not finite; {advice}") from e

    def _warn_of_low_accuracy(self) -> None:
        classes, summary = self.plan.inputs.model.config.num_classes, self.summary
        expected = expected_top1(model_name(self.options), classes)
        if text := low_accuracy(summary.correct, summary.images, expected, 1 / classes):
            warnings.warn(text, stacklevel=2)


def data_and_model(inputs: Inputs) -> dict[str, Any]:
    """The settings that all jobs share but for the precision: which images, how preprocessed, in which model."""
    options, model, table = inputs.options, inputs.model, inputs.source.table
    return {
        "dataset": options.dataset,
        **({"label_table": table} if table else {}),
        "checkpoint_sha256": sha256(options.pretrain_weight),
        **({"classifier_sha256": sha256(options.classifier)} if options.classifier else {}),
        **{f"model_{key}": value for key, value in sorted(model.config.to_dict().items())},
        "preprocess": options.preprocess,
        **_preprocessing(inputs),
    }


def _preprocessing(inputs: Inputs) -> dict[str, Any]:
    """What its name does not say; the paper's is known."""
    if inputs.options.preprocess == "paper":
        return {"preprocess_mean": 0.5} if paper_half(inputs.options.dataset) else {}
    return {f"preprocess_{name}": value for name, value in inputs.preprocessing.to_dict().items()}


def provenance(job: Job, plan: Plan, rows: int) -> Args:
    options = plan.inputs.options
    shown = {key: value for key, value in vars(options).items() if key not in ("dtype", "share")}
    shown["internal_batch_size"] = rows
    return Args(
        job.name,
        {**data_and_model(plan.inputs), **plan.settings, "precision": options.precision},
        {key: _plain(value) for key, value in shown.items()},
        {"neuronpath": version("neuronpath"), "torch": torch.__version__, "git": _git_commit()},
        plan.origin,
        [*plan.inputs.model.assumed],
        [*plan.inputs.model.class_names],
    )


def open_inputs(options: Namespace) -> Inputs:
    """Model, data set and all images that the options choose, for one process."""
    model = open_model(options)
    source = open_chosen(options, model.config.num_classes)
    items = source.select(options.labels, options.images_per_class)
    return Inputs(options, model, source, items, items)


def open_model(options: Namespace) -> StagedModel:
    """The model that the options of `cli.options.add_model` name, with what `--preprocess native` needs."""
    o, typed = options, typed_native(options)
    named = {"img_size": o.img_size, "device": o.device, "dtype": o.dtype, **told(o)}
    model = load(o.pretrain_weight, o.model_type, **named)
    if o.preprocess == "native":
        model.native = settled(model.native, typed, model.config.img_size)
    return model


def _load(job: Job, options: Namespace) -> StagedModel:
    """The model. HeadError where its head is not the job's."""
    try:
        with warnings.catch_warnings():
            if not options.share.speaks:
                warnings.simplefilter("ignore")
            model = open_model(options)
        if job.pool:
            check_head(options.pretrain_weight, model, job.pool)
        return model
    except HeadError as e:
        if job.pool is None or e.pool not in job.scripts:
            raise
        other = job.scripts[e.pool]
        if CHECKOUT is None:
            other = f"python -m neuronpath {type(job)(e.pool).name.replace('_', '-')}"
        raise UserError(f"{e}; run {other}") from e


def _skipped(item: Item, reason: str) -> dict:
    return {"image": item.image, "label": item.label, "error": reason}


def _share_words(part: Share) -> str:
    return f", process {part.index} of {part.count}: every {part.count}th label" if part.count > 1 else ""


def _model_line(options: Namespace, model: StagedModel) -> str:
    c = model.config
    line = f"model       {model_name(options)}: {c.depth} layers of {c.mlp_dim} neurons, {c.img_size} pixels"
    if isinstance(c, AdaptedShape):
        line += (
            f", {c.architecture}, whose head reads {c.neuron_tokens} of {c.tokens} tokens ({c.neuron_token_indices})"
        )
    elif options.model_type == "auto" and c.img_size == 384:
        line += ", the file's own; the paper ran its 384-pixel files at 224 (--img_size 224)"
    return line


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if isinstance(value, int | float | str | None) else str(value)


def _git_commit() -> str | None:
    """The commit of this code, with "+" where files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    if CHECKOUT is None:
        return None
    try:
        result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
