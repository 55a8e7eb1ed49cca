"""Records made up, as the jobs and their writer leave them."""

import json
from pathlib import Path

import numpy as np
from helpers import IMAGES, LABELS, NUM_CLASSES, random_path, tiny_config, write_lines

from neuronpath.analysis.classes import Classes
from neuronpath.analysis.results import Results
from neuronpath.files import Item
from neuronpath.records.args import Args
from neuronpath.records.schema import PAPER, check_record
from neuronpath.records.store import Store


def write_args(folder: Path, job_name: str = "joint_attr", **made_with) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    args = {"job": job_name, "settings": made_with, "options": {}, "versions": {}}
    (folder / "imgnet_all.args.json").write_text(json.dumps(args))


def write_folder(folder: Path, found: dict[int, list[dict]], **made_with) -> None:
    """Records by label, images numbered, with an args.json where there are settings."""
    folder.mkdir(parents=True, exist_ok=True)
    for label, several in found.items():
        lines = [{"image": f"{label}/{i}", **record} for i, record in enumerate(several)]
        write_lines(folder / f"imgnet_all-{label}.rlt.jsonl", lines)
    if made_with:
        write_args(folder, **made_with)


def write_paths(folder: Path, key: str = "ja", k: int = 1, units: int = 28, seed: int = 0) -> dict:
    """Records with a random path of its own for every image, as little as edits need; the paths by image."""
    paths = random_path(tiny_config(mlp_dim=units), 6, k, len(IMAGES), seed)
    found = dict(zip(IMAGES, paths.tolist(), strict=True))
    for label in range(NUM_CLASSES):
        lines = [{"image": i, "label": label, key: found[i]} for i in IMAGES if LABELS[i] == label]
        write_lines(folder / f"imgnet_all-{label}.rlt.jsonl", lines)
    return found


def random_paths(n: int, K: int = 1, seed: int = 0, depth: int = 6, num_neurons: int = 28) -> np.ndarray:
    """(n, L, K), the units of a layer distinct."""
    rng = np.random.default_rng(seed)
    return np.array([[rng.choice(num_neurons, K, replace=False) for _ in range(depth)] for _ in range(n)])


def classes_of(*paths: np.ndarray, labels=None, **names) -> Classes:
    labels = labels or range(len(paths))
    return Classes(dict(zip(labels, paths, strict=True)), {}, 28, "ja", **names)


def write_classes(folder: Path, paths: dict, key: str = "ja", images: dict | None = None, **made_with) -> Path:
    """Records as the extraction scripts leave them, with args.json, of the paths (n, L, K) of each label."""
    for label, found in paths.items():
        names = (images or {}).get(label) or [f"class{label}/{i:02d}.png" for i in range(len(found))]
        lines = [
            {"image": image, "label": label, key: np.asarray(path).tolist()}
            for image, path in zip(names, found, strict=True)
        ]
        write_lines(folder / f"imgnet_all-{label}.rlt.jsonl", lines)
    write_args(folder, **{"dataset": "imagefolder", "model_mlp_dim": 28, **made_with})
    return folder


def write_results(root: Path, model: str, counts=(5, 3, 4), *, pool="cls", methods=(*PAPER, "random"), zero=()) -> Path:
    """Records of all jobs for `model`: counts[label] images a label; `zero`: labels whose p_original is 0."""
    rng = np.random.default_rng(len(model))
    for label, n in enumerate(counts):
        images = [{"image": f"{label}/{i}.png", "label": label, "pred": label, "prob": 0.5} for i in range(n)]
        file, steps = f"imgnet_all-{label}.rlt.jsonl", [[1], [0], [3]]
        ja = [
            {**r, "ja": steps, "base": steps, "ja_score": rng.lognormal(-3), "base_score": rng.normal(0, 0.01)}
            for r in images
        ]
        write_lines(root / "ja" / model / file, ja)
        influence = [{**r, "path": steps, "score": rng.lognormal(-5)} for r in images]
        write_lines(root / "influence_pattern" / model / file, influence)
        for method in methods:
            edits = [{**r, "path": steps, **edit_of(rng, label, 0 if label in zero else 0.6)} for r in images]
            write_lines(root / f"edit/remove_enhance/{method}" / model / file, edits)
    write_args(root / "ja" / model, model_pool=pool, quadrature="right", ig_total_step=20)
    return root


def results_of(root: Path) -> Results:
    return Results(root, "imgnet_all")


def edit_of(rng: np.random.Generator, label: int, p: float) -> dict:
    remove, enhance = p * rng.uniform(0.8, 1), p * rng.uniform(1, 1.2)
    found = {"original": p, "remove": remove, "enhance": enhance}
    labels = {"original_label": label, "remove_label": label if remove > 0.52 else -1, "enhance_label": label}
    return found | labels


# --- a run of the records' writer -----------------------------------------------------------------------------------

KEYS = ("pred", "prob", "ja", "ja_score", "margin")
KNOWN = [*(Item(f"ä/{i}.png", 0) for i in range(3)), *(Item(f"b/{i}.png", 2) for i in range(2))]
FIRST, LAST = KNOWN[:3], KNOWN[3:]


def record(item: Item, run: int = 1) -> dict:
    """A sound record; `run` is told by its score."""
    n = int(item.image[-5])
    found = {"pred": 1, "prob": 0.25, "ja": [[n + i] for i in range(6)], "ja_score": run + n / 8, "margin": [0.5] * 6}
    return {"image": item.image, "label": item.label, **found}


def lines(items, run: int = 1) -> list[dict]:
    return [record(item, run) for item in items]


def check(found: dict) -> str:
    return check_record(found, tiny_config(), KEYS)


def args(job: str = "joint_attr", versions: dict | None = None, **settings) -> Args:
    return Args(job, {"m": 20, "quadrature": "right", **settings}, versions=versions or {"torch": "2"})


def open_store(
    directory: Path, items=KNOWN, *, prefix="all", earlier=lambda r: None, overwrite=False, **changes
) -> Store:
    return Store(directory, prefix, args(**changes), KNOWN, items, overwrite=overwrite, check=check, earlier=earlier)


def run_store(directory: Path, items=KNOWN, *, skip=(), stop_after: int = 99, run: int = 1, **options) -> list[Item]:
    """Compute what is pending, or the first `stop_after` of it, and return that."""
    with open_store(directory, items, **options) as store:
        pending = store.pending[:stop_after]
        for item in pending:
            store.skip(item) if item in skip else store.write(item, record(item, run))
    return pending
