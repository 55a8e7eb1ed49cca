"""Measure the atlas on made-up records: how long it takes to build, and how soon a browser shows its pages.

    python scripts/benchmark_atlas.py                  # 1000 classes of 50 images, 12 layers of 3072 units, 3 methods
    python scripts/benchmark_atlas.py --edits          # and edits by four methods

Needs `chromium` and playwright (the extra `test`). A few minutes, and 1 GB below --folder that is removed at the end.
Expect a build of under 3 minutes and 2 GiB, an index page of under 300 kB that answers in under 1 s, other pages in
0.5 s.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from neuronpath.cli.exits import command
from neuronpath.cli.parsing import Parser, whole
from neuronpath.errors import UserError
from neuronpath.files import ROOT

MODEL = "ViT-made-up"
PREFIX = "imgnet_all"
LIKED = 12  # units of a layer that a class prefers, out of
SHARED = 200  # which all classes share
#: Runs in every page before its own scripts: when the page has been drawn, in ms from the beginning of the navigation.
WATCH = """
new MutationObserver(() => {
  if (window.drawn || !document.querySelector("main[data-page]:not([aria-busy])")) return;
  window.drawn = NaN;
  requestAnimationFrame(() => setTimeout(() => { window.drawn = performance.now(); }));
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-page", "aria-busy"] });
"""
#: How long the search field takes to answer, in ms.
SEARCH = """(() => {
  const field = document.querySelector("input[type=search]"), start = performance.now();
  field.value = "17";
  field.dispatchEvent(new Event("input"));
  return document.body.offsetHeight && performance.now() - start;
})()"""


def parse() -> Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--classes", type=whole(2), default=1000, help="(default: %(default)s)")
    parser.add_argument("--images", type=whole(1), default=50, help="of a class (default: %(default)s)")
    parser.add_argument("--layers", type=whole(1), default=12, help="(default: %(default)s)")
    parser.add_argument("--units", type=whole(SHARED), default=3072, help="of a layer (default: %(default)s)")
    parser.add_argument("--edits", action="store_true", help="with edits by four methods")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="where to put a profile of the build")
    parser.add_argument("--folder", type=Path, help="where records and atlas are made (default: a temporary one)")
    return parser.parse_args()


def records(o: Namespace, job: str, label: int) -> Iterator[dict[str, Any]]:
    """Those of one class."""
    rng = np.random.default_rng([label, *job.encode()])
    liked = np.random.default_rng(label).integers(0, SHARED, (o.layers, LIKED)) * (o.units // SHARED)
    paths = {"ja": ("ja", "base"), "influence_pattern": ("path",)}.get(job, ())
    for i in range(o.images):
        record: dict[str, Any] = {
            "image": f"n{label:08d}/ILSVRC2012_val_{label * o.images + i:08d}.JPEG",
            "label": label,
        }
        record |= {"pred": int(rng.choice([label, (label + 1) % o.classes])), "prob": float(rng.random())}
        for key in paths:
            chosen = rng.geometric(0.3, o.layers).clip(max=LIKED) - 1
            record[key] = liked[np.arange(o.layers), chosen][:, None].tolist()
            record["score" if key == "path" else f"{key}_score"] = float(np.float32(rng.lognormal(-3)))
            record[f"{key}_act"] = rng.normal(0, 2, (o.layers, 1)).astype(np.float32).tolist()
        if paths:
            record["margin"] = rng.random(o.layers).astype(np.float32).tolist()
        else:
            for key in ("original", "remove", "enhance"):
                record |= {key: float(np.float32(rng.random())), f"{key}_label": label}
        yield record


def make(o: Namespace, root: Path) -> None:
    """The records of all jobs."""
    edits = [f"edit/remove_enhance/{method}" for method in ("base", "influence_pattern", "ja", "random")]
    sizes = {"model_depth": o.layers, "model_mlp_dim": o.units, "model_num_classes": o.classes}
    settings = {"dataset": "imagenet1k", "quadrature": "right", "ig_total_step": 20, "precision": "fp32", **sizes}
    for job in ("ja", "influence_pattern", *(edits if o.edits else [])):
        folder = root / job / MODEL
        folder.mkdir(parents=True)
        for label in range(o.classes):
            lines = "".join(json.dumps(record) + "\n" for record in records(o, job, label))
            (folder / f"{PREFIX}-{label}.rlt.jsonl").write_text(lines)
        args = {"job": job, "settings": settings, "options": {}, "versions": {}}
        (folder / f"{PREFIX}.args.json").write_text(json.dumps(args))


def build(o: Namespace, root: Path, output: Path) -> None:
    """In a process of its own, whose time and peak memory are printed."""
    profile = ["-m", "cProfile", "-o", str(o.profile)] if o.profile else []
    words = ["--results", str(root), "--output", str(output), "--thumbnail_size", "0"]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *profile, str(ROOT / "scripts/atlas.py"), *words], check=True, stdout=subprocess.DEVNULL
    )
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    files = [file for file in output.rglob("*") if file.is_file()]
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    print(f"build       {seconds:.1f} s, {cpu:.1f} s of CPU, {peak:.2f} GiB at most")
    print(f"atlas       {len(files)} files, {sum(file.stat().st_size for file in files) / 2**20:.0f} MiB")


def measure(o: Namespace, output: Path) -> None:
    """When a browser has drawn pages, each in a new tab."""
    from playwright.sync_api import sync_playwright  # of the extra `test`

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise UserError("no chromium to measure with; install it: apt install chromium")
    last = next(records(o, "ja", o.classes - 1))
    pages = ["", f"#/{MODEL}", *(f"#/{MODEL}/class/{i * (o.classes - 1) // 4}" for i in range(5))]
    pages += [f"#/{MODEL}/image/{last['image']}", f"#/{MODEL}/unit/{o.layers - 1}/{last['ja'][-1][0]}"]
    pages += [f"#/{MODEL}/similar", f"#/{MODEL}/similar/{o.classes // 2}"]
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for address in ["", *pages]:  # the first once more: it is slowed by the browser's own start
            print(f"page        {line(browser, output / 'index.html', address)}")
        browser.close()


def line(browser: Any, index: Path, address: str) -> str:
    """Address, seconds until it is drawn, or answers a search where there is a field, and bytes loaded."""
    context = browser.new_context(offline=True)
    page, files = context.new_page(), []
    page.add_init_script(WATCH)
    page.on("request", lambda request: files.append(Path(unquote(urlparse(request.url).path))))
    page.goto(index.as_uri() + address)
    while not (drawn := page.evaluate("window.drawn || null")):
        time.sleep(0.02)
    search = page.evaluate(SEARCH) if page.query_selector("input[type=search]") else None
    size = sum(file.stat().st_size for file in files if file.is_file())
    context.close()
    answers = "" if search is None else f", the search answers {search / 1000:.3f} s later"
    return f"{address or 'home':54} {drawn / 1000:.3f} s, {size / 1000:.0f} kB{answers}"


def main() -> None:
    o = parse()
    with tempfile.TemporaryDirectory(dir=o.folder) as folder:
        root = Path(folder) / "results"
        make(o, root)
        build(o, root, Path(folder) / "atlas")
        measure(o, Path(folder) / "atlas")


if __name__ == "__main__":
    sys.exit(command(main))
