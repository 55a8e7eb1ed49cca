"""The loop that all scripts share which compute a record per image: from a checkpoint and a data set to label files."""

import subprocess
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import version

import torch
from ml_collections import ConfigDict
from torch import Tensor
from tqdm import tqdm

from ..attribution.rows import default_rows
from ..attribution.search import NonFiniteError
from ..cli import options as opt
from ..cli.parsing import Parser
from ..cli.processes import Share
from ..data.images import Batch, ImageSet, Item, batches, open_dataset, paper_half, preprocessing
from ..errors import UserError, out_of_memory
from ..models.checkpoint import HeadError, load, sha256
from ..models.devices import free
from ..models.vit import VisionTransformer
from ..records.args import Args
from ..records.reading import check_record
from ..records.store import Store
from .accuracy import expected_top1, low_accuracy
from .summary import Summary

SAMPLE = 500  # images after which accuracy is looked at


class Job:
    """What one script computes; an instance is one run of it.

    `name` is what args.json calls it, `keys` what a record holds beside `image` and `label`. `scripts` has the path
    of the script for each kind of head, and `pool` is the head of this one. `options` are there once parsed. `origin`:
    the settings of the records that it reads, there once prepared.
    """

    name: str
    keys: tuple[str, ...]
    scripts: dict[str, str]
    options: Namespace

    def __init__(self, pool: str):
        self.pool = pool
        self.origin: dict = {}

    def add_options(self, parser: Parser) -> None:
        """The options of its own."""
        raise NotImplementedError

    def chosen(self) -> "Job":
        """The job that the options ask for, where one script has several."""
        return self

    def folder(self) -> str:
        """Results go to results/<folder>/<model> by default."""
        raise NotImplementedError

    def settings(self) -> dict:
        """What a resumed run must agree with, beside data and model."""
        raise NotImplementedError

    def prepare(self, model: VisionTransformer, source: ImageSet, items: list[Item]) -> tuple[list[Item], dict]:
        """Check what can be checked before the first write.

        The items to compute, and those that lack what it takes, each with the reason; an item to compute that lacks it
        is skipped, any other is only listed.
        """
        return items, {}

    def summary(self) -> Summary:
        raise NotImplementedError

    def check(self, record: dict, config: ConfigDict) -> str:
        """What is wrong with a record that an earlier run left, or ""."""
        return check_record(record, config, self.keys)

    def records(self, model: VisionTransformer, items: list[Item], images: Tensor) -> list[dict]:
        """Per image its record but for `image` and `label`: `keys`."""
        raise NotImplementedError


def main(job: Job, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """The script of `job`: exit code 0, or 3 where images were skipped. UserError for a user's mistake."""
    options = job.options = parse(job, description, arguments)
    job = job.chosen()
    model = _load(job, options)
    source = open_dataset(options.dataset, options.dataset_path, model.config.num_classes)
    selected = source.select(options.labels, options.images_per_class)
    labels = sorted({item.label for item in selected})
    mine = set(options.share.of(labels))
    items = [item for item in selected if item.label in mine]
    if not items:
        print(f"process {options.share.index} of {options.share.count}: no labels are left for it")
        return 0
    options.internal_batch_size = options.internal_batch_size or default_rows(model, options.device)
    items, impossible = job.prepare(model, source, items)
    if impossible and options.on_bad_image == "fail":
        raise UserError(next(iter(impossible.values())))
    directory = options.output_dir or opt.ROOT / "results" / job.folder() / opt.model_name(options)
    summary = job.summary()
    started = time.perf_counter()
    with Store(
        directory,
        options.output_prefix,
        provenance(job, model),
        source.items,
        items,
        options.overwrite,
        check=lambda record: job.check(record, model.config),
        earlier=summary.add,
        labels=labels,
    ) as store:
        resumed = summary.images
        computed = set(items)
        skipped = [_skipped(item, reason) for item, reason in impossible.items() if item not in computed]
        try:
            _run(job, model, source, store, summary, len(items), impossible, skipped)
        finally:
            file = store.write_skipped(skipped)
        others = store.others()
    if options.share.speaks:
        print(f"{job.name}{_share_words(options.share)}\n{_model_line(options, model)}")
        print(summary.text(resumed, time.perf_counter() - started, directory, options.output_prefix))
        if others:
            print(f"also there  {others} records of other images, from earlier runs of the same settings")
    if skipped:
        print(f"skipped     {len(skipped)} images, listed in {file.resolve()}")
    # torchrun would stop the other processes.
    return 3 if skipped and options.share.launcher != "torchrun" else 0


def parse(job: Job, description: str | None, arguments: Sequence[str] | None) -> Namespace:
    """The options with what follows from them: default paths, `device` and `dtype`."""
    parser = Parser(description)
    opt.add_data(parser)
    opt.add_model(parser, job.pool)
    job.add_options(parser)
    opt.add_running(parser)
    opt.add_output(parser)
    return opt.settle(parser.parse_args(arguments))


def _load(job: Job, options: Namespace) -> VisionTransformer:
    o = options
    try:
        return load(o.pretrain_weight, o.model_type, o.img_size, o.num_heads, job.pool, o.device, o.dtype)
    except HeadError as e:
        if e.pool not in job.scripts:
            raise
        raise UserError(f"{e}; run {job.scripts[e.pool]}") from e


def data_and_model(options: Namespace, model: VisionTransformer) -> dict:
    """The settings that all jobs share: which images, how preprocessed, in which model."""
    return {
        "dataset": options.dataset,
        "checkpoint_sha256": sha256(options.pretrain_weight),
        **{f"model_{key}": value for key, value in sorted(model.config.to_dict().items())},
        "preprocess": options.preprocess,
        **({"preprocess_mean": 0.5} if options.preprocess == "paper" and paper_half(options.dataset) else {}),
        "precision": options.precision,
    }


def provenance(job: Job, model: VisionTransformer) -> Args:
    options = job.options
    common = data_and_model(options, model)
    precision = common.pop("precision")
    shown = {key: value for key, value in vars(options).items() if key not in ("dtype", "share")}
    return Args(
        job.name,
        {**common, **job.settings(), "precision": precision},
        {key: _plain(value) for key, value in shown.items()},
        {"neuronpath": version("neuronpath"), "torch": torch.__version__, "git": _git_commit()},
        job.origin,
    )


def _run(job: Job, model, source, store: Store, summary, total: int, impossible: dict, skipped: list) -> None:
    """Compute and write the pending records; what cannot be is added to `skipped`."""
    options, quiet = job.options, not job.options.share.speaks
    transform = preprocessing(options.preprocess, model.config, options.dataset)
    with tqdm(total=total, initial=summary.images, unit="img", desc=job.name, dynamic_ncols=True, disable=quiet) as bar:

        def skip(item: Item, reason: str) -> None:
            skipped.append(_skipped(item, reason))
            store.skip(item)
            bar.update()

        pending = [item for item in store.pending if item not in impossible]
        for item in store.pending:
            if item in impossible:
                skip(item, impossible[item])
        on_gpu = options.device.type == "cuda"
        for batch in batches(source, pending, transform, options.batch_size, options.num_workers, pin_memory=on_gpu):
            for item, message in batch.bad:
                if options.on_bad_image == "fail":
                    raise UserError(
                        f"{source.root / item.image}: cannot be read ({message}); replace it or use --on_bad_image skip"
                    )
                skip(item, message)
            if batch.items:
                for item, record in zip(batch.items, _records(job, model, batch), strict=True):
                    record = {"image": item.image, "label": item.label, **record}
                    store.write(item, record)
                    summary.add(record)
                    if summary.images == min(SAMPLE, total):
                        _warn_of_low_accuracy(summary, options, model)
            bar.set_postfix_str(summary.running(), refresh=False)
            bar.update(len(batch.items))


def _warn_of_low_accuracy(summary: Summary, options: Namespace, model: VisionTransformer) -> None:
    classes = model.config.num_classes
    expected = expected_top1(opt.model_name(options), classes)
    if text := low_accuracy(summary.correct, summary.images, expected, 1 / classes):
        warnings.warn(text, stacklevel=2)


def _skipped(item: Item, reason: str) -> dict:
    return {"image": item.image, "label": item.label, "error": reason}


def _records(job: Job, model: VisionTransformer, batch: Batch) -> list[dict]:
    options = job.options
    images = batch.images.to(options.device, model.dtype, non_blocking=batch.images.is_pinned())
    try:
        while True:
            try:
                return job.records(model, batch.items, images)
            except (MemoryError, RuntimeError) as e:
                if options.internal_batch_size == 1 or not out_of_memory(e):
                    raise
            # Outside the except block, where the failed attempt's tensors are gone.
            options.internal_batch_size //= 2
            warnings.warn(f"memory is short: --internal_batch_size is now {options.internal_batch_size}", stacklevel=2)
            free(options.device)
    except NonFiniteError as e:
        raise UserError(
            f"{batch.items[e.image].image}: the {e.what} are not finite; check the checkpoint, or use --precision fp64"
        ) from e


def _share_words(part: Share) -> str:
    return f", process {part.index} of {part.count}: every {part.count}th label" if part.count > 1 else ""


def _model_line(options: Namespace, model: VisionTransformer) -> str:
    c = model.config
    line = f"model       {opt.model_name(options)}: {c.depth} layers of {c.mlp_dim} neurons, {c.img_size} pixels"
    if options.model_type == "auto" and c.img_size == 384:
        line += ", the file's own; the paper ran its 384-pixel files at 224 (--img_size 224)"
    return line


def _plain(value):
    return value if isinstance(value, int | float | str | list | None) else str(value)


def _git_commit() -> str | None:
    """The commit of this code, with "+" where files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        result = subprocess.run(command, cwd=opt.ROOT, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
