"""What can be known before a long run: weights, data, accuracy, memory and time, each with what to do about it.

A check goes on with whatever the checks before it could open, so that one run finds all faults.
"""

import math
import os
import shutil
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..attribution.quadrature import Quadrature
from ..attribution.rows import default_rows
from ..data.images import ImageSet, open_chosen
from ..data.labels import synsets
from ..data.loading import batches
from ..data.names import class_names, listing
from ..data.preprocessing import preprocessing
from ..errors import NonFiniteError, UserError, out_of_memory
from ..files import ROOT, Item, model_name
from ..models.checkpoint import HEADS, head_kind, said
from ..models.configs import Config
from ..models.reading import read
from ..models.staged import StagedModel
from .accuracy import expected_top1, low_accuracy
from .check import FAULT, OK, WARNING, Finding
from .estimate import GIB, duration, machine_memory, peak_memory, seconds_per_image
from .run import open_model

NAMED = 20  # unreadable images that are named
SAMPLE = 500  # images that are classified
IMAGENET_EACH = 50  # validation images of a class
OTHER = {"paper": "native", "native": "paper"}
SCRIPTS = {"cls": "path/joint_attr.py", "mean": "path/joint_attr_mae.py"}
PARAMETERS = {  # published numbers of the public files, by name
    "ViT-B_16-224.npz": 86_567_656,
    "ViT-B_32.npz": 88_297_192,
    "ViT-L_32.npz": 306_632_680,
    "mae_finetuned_vit_base.pth": 86_567_656,
}
LITTLE = 2**30  # bytes of free disk space


Findings = Iterator[Finding]


def findings(options: Namespace) -> Findings:
    """The chosen checks, one by one."""
    chosen = set(options.checks)
    models = {}
    for file in options.pretrain_weight:
        of_file = Namespace(**{**vars(options), "pretrain_weight": file})
        model = yield from _check_weights(of_file)
        if model:
            models[file] = of_file, model
    if chosen - {"weights", "output"}:
        yield from _check_data(options, models)
    if "output" in chosen:
        yield from _check_output(options)


def _check_data(options: Namespace, models: dict[Path, tuple[Namespace, StagedModel]]) -> Findings:
    """The data set, and what the models make of it."""
    chosen = set(options.checks)
    first = next((model for _, model in models.values()), None)
    classes = first.config.num_classes if first else None
    alone = options.dataset == "images"  # no labels
    source = yield from _check_folder(options, classes)
    if source is None:
        return
    items = source.items if alone else (yield from _check_classes(options, source))
    if items and "images" in chosen:
        yield from _check_images(options, source, items)
    for of_file, model in models.values():
        if items and not alone and "accuracy" in chosen and model.config.num_classes == len(source.classes):
            yield from _check_accuracy(of_file, model, source)
        if items and "cost" in chosen:
            yield from _check_cost(of_file, model, len(items))


def _check_output(options: Namespace) -> Findings:
    """Whether there is room for records, and leave to write them."""
    directory = options.output_dir or ROOT / "results"
    there = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        yield Finding(FAULT, "output", f"{directory}: cannot be written; choose another --output_dir")
    elif free < LITTLE:
        yield Finding(WARNING, "output", f"{directory}: only {free / GIB:.2f} GiB are free on its disk; make room")
    else:
        yield Finding(OK, "output", f"{directory}: {free / GIB:.0f} GiB are free on its disk")


def _check_weights(options: Namespace) -> Generator[Finding, None, StagedModel | None]:
    o = options
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was assumed is a finding
            model = open_model(o)
    except UserError as e:
        yield Finding(FAULT, "weights", str(e))
        return None
    c = model.config
    shape = f"{c.depth} layers of {c.mlp_dim} neurons, {c.img_size} pixels, {c.num_classes} classes"
    pool = c.pool if isinstance(c, Config) else head_kind(model)
    reads = HEADS[pool] if isinstance(c, Config) else f"{model.num_neuron_tokens} of {model.tokens} tokens"
    head = f"the head reads {reads}: {SCRIPTS[pool]}"
    yield _published(o.pretrain_weight, f"{shape}; {head}")
    if model.assumed:
        yield Finding(WARNING, "weights", f"{o.pretrain_weight}: {said(model.assumed)}")
    if isinstance(o.target, int) and o.target >= c.num_classes:
        yield Finding(FAULT, "weights", f"--target {o.target}: the model's classes are 0 to {c.num_classes - 1}")
    return model


def _published(file: Path, sound: str) -> Finding:
    """Whether a file with a public name holds as many parameters as are published."""
    if file.name not in PARAMETERS:
        return Finding(OK, "weights", f"{file}: {sound}")
    count, published = sum(x.numel() for x in read(file).tensors.values()), PARAMETERS[file.name]
    if count != published:
        text = f"{file}: {count:,} parameters, not the published {published:,}; delete it and download it again"
        return Finding(FAULT, "weights", text)
    return Finding(OK, "weights", f"{file}: {sound}; {count:,} parameters, as published")


def _check_folder(options: Namespace, num_classes: int | None) -> Generator[Finding, None, ImageSet | None]:
    """The data set, whatever its number of classes, which must be `num_classes` where that is known."""
    try:
        source = _open(options, num_classes)
    except UserError as e:
        yield Finding(FAULT, "data", str(e))
        for kind in dict.fromkeys((options.dataset, "imagefolder")):
            with suppress(UserError):
                return _open(Namespace(**{**vars(options), "dataset": kind}))
        return None
    of = "" if options.dataset == "images" else f" of {len({item.label for item in source.items})} classes"
    yield Finding(OK, "data", f"{source.root}: {len(source.items)} images{of}")
    return source


def _open(options: Namespace, num_classes: int | None = None) -> ImageSet:
    if num_classes is None:
        num_classes = len(class_names(options.dataset, options.dataset_path, options.class_map))
    return open_chosen(options, num_classes)


def _check_classes(options: Namespace, source: ImageSet) -> Generator[Finding, None, list[Item]]:
    """The chosen images, and whether they are what ImageNet has."""
    counts = Counter(item.label for item in source.items)
    labels = options.labels if options.labels is not None else range(len(source.classes))
    wanted = [x for x in labels if x < len(source.classes)]
    whole = options.dataset == "imagenet1k" and source.classes == [*synsets()]
    if whole:  # as opposed to folders that are no synsets, a fault
        there = [x for x in range(len(source.classes)) if counts[x] or (source.root / source.classes[x]).is_dir()]
        whole = len(there) == len(source.classes)
        which = "all" if whole else f"{len(there)}"
        yield Finding(OK, "names", f"{which} of ImageNet's 1000 synsets, which are the labels 0 to 999")
        wanted = [x for x in wanted if x in {*there}]
    if lacking := {x for x in wanted if (counts[x] != IMAGENET_EACH if whole else not counts[x])}:
        which = listing(lacking, dict(enumerate(source.classes)))
        what = f"have not ImageNet's {IMAGENET_EACH} images each" if whole else "have no images"
        yield Finding(WARNING, "data", f"{source.root}: classes {which} {what}; is the copy complete?")
    try:
        return source.select(options.labels, options.images_per_class)
    except UserError as e:
        yield Finding(FAULT, "data", str(e))
        return []


def _check_images(options: Namespace, source: ImageSet, items: list[Item]) -> Findings:
    """Every image decoded."""
    bad, named = 0, list[tuple[Item, str]]()
    level = FAULT if options.on_bad_image == "fail" else WARNING
    with _bar("decoding", len(items)) as bar:
        for batch in batches(source, items, _decoded, 64, num_workers=options.num_workers):
            bad += len(batch.bad)
            named += batch.bad[: NAMED - len(named)]
            bar.update(len(batch.items) + len(batch.bad))
    for item, message in named:
        yield Finding(level, "images", f"{source.root / item.image}: cannot be read ({message})")
    if not bad:
        yield Finding(OK, "images", f"all {len(items)} can be read")
    else:
        unnamed = f", the first {NAMED} of them named above" if bad > NAMED else ""
        doing = "replace them or use --on_bad_image skip" if level == FAULT else "they will be skipped"
        yield Finding(level, "images", f"{bad} of {len(items)} cannot be read{unnamed}; {doing}")


def _decoded(_: Image.Image) -> Tensor:
    return torch.empty(0)


def _check_accuracy(options: Namespace, model: StagedModel, source: ImageSet) -> Findings:
    items, classes = sample(source, options.labels, options.images_per_class), model.config.num_classes
    try:
        correct, images = _top1(options, model, source, items, options.preprocess)
        known = options.preprocess == "native" or model.native is not None
        others = _top1(options, model, source, items, OTHER[options.preprocess])[0] if known else None
    except UserError as e:
        yield Finding(FAULT, "accuracy", str(e))
        return
    if not images:
        return
    expected = expected_top1(model_name(options), classes)
    other = "native preprocessing is not known"
    if others is not None:
        other = f"{100 * others / images:.1f} % with --preprocess {OTHER[options.preprocess]}"
    low = low_accuracy(correct, images, expected, 1 / classes)
    preprocess = others is not None and others - correct > max(0.1 * images, 2 * math.sqrt(images))
    if low:
        yield Finding(WARNING, "accuracy", low)
    if preprocess:
        text = f"top-1 is {100 * correct / images:.1f} % of {images} images, but {other}; were the weights trained so?"
        yield Finding(WARNING, "accuracy", text)
    if not low and not preprocess:
        yield Finding(OK, "accuracy", f"top-1 is {100 * correct / images:.1f} % of {images} images ({other})")


def sample(source: ImageSet, labels: Sequence[int] | None, images_per_class: int | None) -> list[Item]:
    """At most SAMPLE of the chosen images: the first of each class, spread evenly over all classes."""
    each = -(-SAMPLE // len(labels if labels is not None else source.classes))
    chosen = source.select(labels, min(each, images_per_class or each))
    n = min(SAMPLE, len(chosen))
    return [chosen[i * len(chosen) // n] for i in range(n)]


@torch.no_grad()
def _top1(
    options: Namespace, model: StagedModel, source: ImageSet, items: list[Item], preprocess: str
) -> tuple[int, int]:
    """How many of `items` are classified rightly, and how many there are without unreadable ones."""
    correct = images = 0
    transform = preprocessing(preprocess, model.config, options.dataset, model.native)
    with _bar(f"top-1, {preprocess}", len(items)) as bar:
        for batch in batches(source, items, transform, options.batch_size, num_workers=options.num_workers):
            bar.update(len(batch.items) + len(batch.bad))
            if not batch.items:
                continue
            logits = model(batch.images.to(options.device, model.dtype))
            for item, good in zip(batch.items, logits.isfinite().all(-1).tolist(), strict=True):
                if not good:
                    why = "its logits are not finite; check the checkpoint, or use --precision fp64"
                    raise UserError(f"{source.root / item.image}: {why}")
            pairs = zip(logits.argmax(-1).tolist(), batch.items, strict=True)
            correct += sum(pred == item.label for pred, item in pairs)
            images += len(batch.items)
    return correct, images


def _check_cost(options: Namespace, model: StagedModel, images: int) -> Findings:
    """Memory and time of one evaluation as large as the options allow; memory that is short halves it, as in a run."""
    o, quadrature = options, Quadrature(options.quadrature, options.ig_total_step)
    rows = o.internal_batch_size or default_rows(model, o.device)
    while True:
        at_once = max(1, min(o.batch_size, rows // quadrature.steps))
        try:
            each = seconds_per_image(model, quadrature.steps, at_once, quadrature, rows)
            break
        except NonFiniteError as e:
            text = f"the {e.what} of random images are not finite; check the checkpoint, or use --precision fp64"
            yield Finding(FAULT, "time", text)
            return
        except (MemoryError, RuntimeError) as e:
            if rows == 1 or not out_of_memory(e):
                raise
        yield Finding(WARNING, "memory", f"too little for {rows} rows at once; give --internal_batch_size {rows // 2}")
        rows //= 2
    used, there = peak_memory(o.device), machine_memory(o.device)
    level, advice = (OK, "") if used < 0.9 * there else (WARNING, "; lower --internal_batch_size or --batch_size")
    text = f"at most {used / GIB:.2f} of {there / GIB:.1f} GiB on {o.device} with --internal_batch_size {rows}{advice}"
    yield Finding(level, "memory", text)
    shares = ", ".join(f"{job} {duration(images * seconds)}" for job, seconds in each.items())
    name, total = model_name(options), duration(images * sum(each.values()))
    text = f"{name}, {images} images on {o.device}: about {total} of computing for all jobs ({shares})"
    yield Finding(OK, "time", text)


def _bar(what: str, total: int) -> tqdm:
    return tqdm(total=total, unit="img", desc=what, dynamic_ncols=True, leave=False)
