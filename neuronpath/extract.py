"""From a checkpoint and a data set to per-label records: the loop that all extraction scripts share."""

import subprocess
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch
from torch import Tensor
from tqdm import tqdm

from . import options as opt
from .checkpoint import HeadError, load, sha256
from .data import DEFAULT_PATH, DEFAULT_PATHS, Batch, batches, open_dataset, preprocessing
from .errors import UserError, out_of_memory
from .influence import influence_path
from .model import VisionTransformer
from .prefix import default_rows, probability, resolve_targets
from .quadrature import Quadrature
from .records import check_record
from .search import NonFiniteError, find_path
from .store import Store
from .summary import Summary


@dataclass(frozen=True)
class Job:
    """What one extraction script computes.

    Results go to results/`folder`/<model>; `pool` is the kind of head it is for. `records(model, images, targets,
    options)` gives per image its record but for `image` and `label`: `keys`. `scores`: those that are scores, with
    their names in the summary; the first is shown while it runs. `searches`: the values of --search.
    """

    name: str
    folder: str
    pool: str
    keys: tuple[str, ...]
    scores: dict[str, str]
    records: Callable[[VisionTransformer, Tensor, Tensor, Namespace], list[dict]]
    searches: tuple[str, ...] = ()


def _joint_attribution(model, images, targets, options: Namespace) -> list[dict]:
    quadrature = Quadrature(options.quadrature, options.ig_total_step)
    rows = options.internal_batch_size
    found = find_path(model, images, targets, quadrature, search=options.search, internal_batch_size=rows)
    return _as_records(
        found.logits,
        targets,
        ja=found.path,
        ja_score=found.score,
        ja_act=found.activation,
        base=found.base_path,
        base_score=found.base_score,
        base_act=found.base_activation,
        margin=found.margin,
    )


def _influence_pattern(model, images, targets, options: Namespace) -> list[dict]:
    quadrature = Quadrature(options.quadrature, options.ig_total_step)
    found = influence_path(model, images, targets, quadrature, options.internal_batch_size)
    return _as_records(found.logits, targets, path=found.path, score=found.score, margin=found.margin)


def _as_records(logits: Tensor, targets: Tensor, **columns: Tensor) -> list[dict]:
    """Rows of JSON values from columns of tensors, with `pred` and `prob` of the target before them."""
    prob = probability(logits, resolve_targets(targets, logits))
    values = [column.tolist() for column in (logits.argmax(-1), prob, *columns.values())]
    return [dict(zip(("pred", "prob", *columns), row, strict=True)) for row in zip(*values, strict=True)]


JOINT_ATTR = Job(
    name="joint_attr",
    folder="ja",
    pool="cls",
    keys=("pred", "prob", "ja", "ja_score", "ja_act", "base", "base_score", "base_act", "margin"),
    scores={"ja_score": "neuron path", "base_score": "activation path"},
    records=_joint_attribution,
    searches=("layer",),
)
INFLUENCE_PATTERN = Job(
    name="influence_pattern",
    folder="influence_pattern",
    pool="cls",
    keys=("pred", "prob", "path", "score", "margin"),
    scores={"score": "influence pattern"},
    records=_influence_pattern,
)
JOINT_ATTR_MAE = replace(JOINT_ATTR, name="joint_attr_mae", pool="mean")
INFLUENCE_PATTERN_MAE = replace(INFLUENCE_PATTERN, name="influence_pattern_mae", pool="mean")
JOBS = (JOINT_ATTR, INFLUENCE_PATTERN, JOINT_ATTR_MAE, INFLUENCE_PATTERN_MAE)


def main(job: Job, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """The script of `job`: exit code 0, or 3 where images were skipped. UserError for a user's mistake."""
    options = parse(job, description, arguments)
    model = _load(job, options)
    source = open_dataset(options.dataset, options.dataset_path, model.config.num_classes)
    items = source.select(options.labels, options.images_per_class)
    if isinstance(options.target, int) and options.target >= model.config.num_classes:
        raise UserError(f"--target {options.target}: the model's classes are 0 to {model.config.num_classes - 1}")
    options.internal_batch_size = options.internal_batch_size or default_rows(model, options.device)
    directory = options.output_dir or opt.ROOT / "results" / job.folder / _model_name(options)
    summary = Summary(job.scores)
    started = time.perf_counter()
    with Store(
        directory,
        options.output_prefix,
        provenance(job, options, model),
        source.items,
        items,
        options.overwrite,
        check=lambda record: check_record(record, model.config, job.keys),
        earlier=summary.add,
    ) as store:
        resumed = summary.images
        skipped: list[dict] = []
        try:
            _run(job, options, model, source, store, summary, len(items), skipped)
        finally:
            file = store.write_skipped(skipped)
    print(f"{job.name}\n{_model_line(options, model)}")
    print(summary.text(resumed, time.perf_counter() - started, directory, options.output_prefix))
    if skipped:
        print(f"skipped     {len(skipped)} unreadable images, listed in {file.resolve()}")
    return 3 if skipped else 0


def parse(job: Job, description: str | None, arguments: Sequence[str] | None) -> Namespace:
    """The options with what follows from them: default paths, `device` and `dtype`."""
    parser = opt.Parser(description)
    opt.add_data(parser)
    opt.add_model(parser, job.pool)
    opt.add_attribution(parser, job.searches)
    opt.add_output(parser)
    options = parser.parse_args(arguments)
    if options.dataset_path is None:
        options.dataset_path = opt.ROOT / DEFAULT_PATHS.get(options.dataset, DEFAULT_PATH)
    if options.no_cuda:
        options.device = torch.device("cpu")
    options.dtype = opt.PRECISIONS[options.precision]
    return options


def _load(job: Job, options: Namespace) -> VisionTransformer:
    o = options
    try:
        return load(o.pretrain_weight, o.model_type, o.img_size, o.num_heads, job.pool, o.device, o.dtype)
    except HeadError as e:
        (twin,) = (other for other in JOBS if other.folder == job.folder and other.pool == e.pool)
        raise UserError(f"{e}; run path/{twin.name}.py") from e


def provenance(job: Job, options: Namespace, model: VisionTransformer) -> dict:
    """What args.json says; `settings` is what a resumed run must agree with."""
    settings = {
        "dataset": options.dataset,
        "checkpoint_sha256": sha256(options.pretrain_weight),
        **{f"model_{key}": value for key, value in sorted(model.config.to_dict().items())},
        "preprocess": options.preprocess,
        "target": options.target,
        "quadrature": options.quadrature,
        "ig_total_step": options.ig_total_step,
        **({"search": options.search, "topK": 1} if job.searches else {}),
        "precision": options.precision,
    }
    shown = {key: value for key, value in vars(options).items() if key != "dtype"}
    return {
        "job": job.name,
        "settings": settings,
        "options": {key: _plain(value) for key, value in shown.items()},
        "versions": {"neuronpath": version("neuronpath"), "torch": torch.__version__, "git": _git_commit()},
    }


def _run(job: Job, options, model, source, store: Store, summary: Summary, total: int, skipped: list[dict]) -> None:
    """Compute and write the pending records; images that cannot be read are added to `skipped`."""
    transform = preprocessing(options.preprocess, model.config)
    with tqdm(total=total, initial=summary.images, unit="img", desc=job.name, dynamic_ncols=True) as bar:
        for batch in batches(source, store.pending, transform, options.batch_size, options.num_workers):
            for item, message in batch.bad:
                if options.on_bad_image == "fail":
                    raise UserError(
                        f"{source.root / item.image}: cannot be read ({message}); replace it or use --on_bad_image skip"
                    )
                skipped.append({"image": item.image, "label": item.label, "error": message})
                store.skip(item)
            if batch.items:
                for item, record in zip(batch.items, _records(job, options, model, batch), strict=True):
                    record = {"image": item.image, "label": item.label, **record}
                    store.write(item, record)
                    summary.add(record)
            bar.set_postfix_str(summary.running(), refresh=False)
            bar.update(len(batch.items) + len(batch.bad))


def _records(job: Job, options: Namespace, model: VisionTransformer, batch: Batch) -> list[dict]:
    images = batch.images.to(options.device, options.dtype)
    labels = [item.label for item in batch.items]
    chosen = {"label": labels, "pred": [-1] * len(labels)}.get(options.target, [options.target] * len(labels))
    targets = torch.tensor(chosen, device=options.device)
    try:
        while True:
            try:
                return job.records(model, images, targets, options)
            except (MemoryError, RuntimeError) as e:
                if options.internal_batch_size == 1 or not out_of_memory(e):
                    raise
            # Outside the except block, where the failed attempt's tensors are gone.
            options.internal_batch_size //= 2
            warnings.warn(f"memory is short: --internal_batch_size is now {options.internal_batch_size}", stacklevel=2)
            torch.cuda.empty_cache()
    except NonFiniteError as e:
        raise UserError(
            f"{batch.items[e.image].image}: the scores of layer {e.layer} are not finite; check the checkpoint, or use "
            "--precision fp64"
        ) from e


def _model_line(options: Namespace, model: VisionTransformer) -> str:
    c = model.config
    line = f"model       {_model_name(options)}: {c.depth} layers of {c.mlp_dim} neurons, {c.img_size} pixels"
    if options.model_type == "auto" and c.img_size == 384:
        line += ", the file's own; the paper ran its 384-pixel files at 224 (--img_size 224)"
    return line


def _model_name(options: Namespace) -> str:
    return options.pretrain_weight.stem if options.model_type == "auto" else options.model_type


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
