"""An atlas of made-up records with hostile names, and a browser to read it with."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from helpers import read_lines, run_file, write_lines
from PIL import Image

from neuronpath.records.schema import EDITED as ALL_EDITED

EDITED = [key for key, method in ALL_EDITED.items() if method.units == "neurons"]  # those that the atlas shows

#: What would run if a name were read as markup: each sets a variable that no page sets.
MARKUP = '<img src=x onerror="window.pwned=1">'
SCRIPT = "close</script><script>window.pwned=1<!--.png"
#: Class folders, in the order of their labels.
FOLDERS = sorted(
    [MARKUP, "__proto__", "a%2Fb#c?d&amp;", "close<", "line\u2028end \u202eright to left 😀", "plain, with 'quotes\""]
)
PLAIN = FOLDERS.index("plain, with 'quotes\"")
ODD = ["<svg onload=window.pwned=1>.png", "100%.png", "a%2Fb.png", "#x?y.png", "two  spaces.png", "\u2028.png"]
ODD += ["\u202egnp.exe.png", "😀.png", "\"'>.png", os.fsdecode(b"\xff\xfe.png"), "back\\slash.png", "new\nline.png"]
UNREADABLE, NESTED = "broken.png", "deep/er/00.png"

FULL, HOSTILE, BARE = "tiny ViT", '<b onclick=window.pwned=1>"%2F" #?é\u2028\u202e😀', "one class"
#: Of HOSTILE, as its weights name them.
NAMED = ["</script><script>window.pwned=1</script>", "a\nb", "javascript:window.pwned=1", "constructor", "", "é/ü"]
PREFIX = "imgnet_all"
PAIRED, NO_INFLUENCE, ONLY_INFLUENCE = (
    1,
    2,
    3,
)  # labels: with images lacking in one job; without its file; with it alone
SIDE = 3  # of the maps over patches


@dataclass(frozen=True)
class Made:
    """A model's made-up sizes."""

    depth: int
    units: int
    K: int
    ties: tuple[int, ...] = ()  # the places, within a class, of images with a near-tie


MODELS = {FULL: Made(5, 40, 1, (1,)), HOSTILE: Made(4, 30, 3, (0, 2)), BARE: Made(3, 12, 1)}


@dataclass(frozen=True)
class World:
    """Records below `results`, their data set, and the atlas in `output`."""

    results: Path
    dataset: Path
    output: Path
    images: dict[int, list[str]] = field(default_factory=dict)  # of the data set, by label

    @property
    def page(self) -> str:
        return (self.output / "index.html").as_uri()

    def words(self) -> list:
        """What makes the atlas."""
        given = {"--results": self.results, "--dataset": "imagefolder", "--dataset_path": self.dataset}
        return [word for pair in {**given, "--output": self.output}.items() for word in pair]

    def build(self, *more):
        return run_file("scripts/atlas.py", *self.words(), *more)

    def records(self, model: str) -> "Records":
        return Records(self.results, model)


@dataclass(frozen=True)
class Records:
    """One model's JSON lines, read without the package."""

    results: Path
    model: str

    def job(self, job: str) -> dict[int, dict[str, dict]]:
        """By label, by image."""
        files = (self.results / job / self.model).glob(f"{PREFIX}-*.rlt.jsonl")
        found = {int(f.name[len(PREFIX) + 1 : -len(".rlt.jsonl")]): read_lines(f) for f in files}
        return {label: {r["image"]: r for r in found[label]} for label in sorted(found)}

    @cached_property
    def methods(self) -> dict[str, dict[int, dict[str, tuple]]]:
        """By the method's name on the page, label and image: path, score, activations, margins."""
        jobs = {
            "Activation": ("ja", "base", "base_score"),
            "Influence Pattern": ("influence_pattern", "path", "score"),
            "Neuron Path": ("ja", "ja", "ja_score"),
            "Random": ("baseline/random", "path", "score"),
        }
        found = {}
        for name, (job, path, score) in jobs.items():
            margin = "margin" if path != "base" else "none"
            of = {
                label: {i: (r[path], r[score], r.get(f"{path}_act"), r.get(margin)) for i, r in records.items()}
                for label, records in self.job(job).items()
            }
            found |= {name: of} if of else {}
        return found

    @cached_property
    def everything(self) -> dict[int, dict[str, dict]]:
        """By label and image what its records tell of it."""
        found: dict[int, dict[str, dict]] = {}
        for job in ("ja", "influence_pattern", "baseline/random", *(f"edit/remove_enhance/{m}" for m in EDITED)):
            for label, records in self.job(job).items():
                for image, record in records.items():
                    found.setdefault(label, {}).setdefault(image, {}).update(record)
        return dict(sorted(found.items()))

    def uses(self, method: str, layer: int, unit: int) -> dict[int, list[str]]:
        """By label the images whose paths by `method` use the unit."""
        of = {
            label: [image for image, (path, *_) in found.items() if unit in path[layer]]
            for label, found in self.methods[method].items()
        }
        return {label: images for label, images in of.items() if images}

    def cosine(self, a: int, b: int, method: str = "Neuron Path") -> float:
        """Of two classes' unit counts."""

        def counts(label: int) -> dict[tuple[int, int], int]:
            found: dict[tuple[int, int], int] = {}
            for path, *_ in self.methods[method][label].values():
                for layer, units in enumerate(path):
                    for unit in units:
                        found[layer, unit] = found.get((layer, unit), 0) + 1
            return found

        x, y = counts(a), counts(b)
        dot = sum(x[key] * y.get(key, 0) for key in x)
        return dot / (sum(v * v for v in x.values()) * sum(v * v for v in y.values())) ** 0.5


def make_world(root: Path) -> World:
    """Everything but the atlas."""
    rng = np.random.default_rng(0)
    images = _images(root / "images", rng)
    world = World(root / "results", root / "images", root / "the atlas", images)
    _write_full(world, rng)
    _write_hostile(world, rng)
    for model in (FULL, HOSTILE):
        _write_top_images(world, model, rng)
    found = [_record(rng, MODELS[BARE], PLAIN, image, ("ja", "base"), False) for image in images[PLAIN]]
    kept = [{key: r[key] for key in r if key not in ("pred", "prob", "margin", "ja_act")} for r in found]
    _write(world, "ja", BARE, {PLAIN: kept})
    return world


def _images(root: Path, rng: np.random.Generator) -> dict[int, list[str]]:
    """A data set of class folders; the images' names by label."""
    odd = iter(ODD)
    found: dict[int, list[str]] = {}
    for label, folder in enumerate(FOLDERS):
        names = ["00.png", "01.jpg", next(odd), next(odd)] + ([UNREADABLE, NESTED] if label == PLAIN else [])
        names += [SCRIPT.partition("/")[2]] if folder == "close<" else []
        for name in names:
            file = root / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            size = (20 + label, 31) if name.endswith("png") else (240, 150)
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file) if name != UNREADABLE else file.write_bytes(b"no picture")
        found[label] = [f"{folder}/{name}" for name in names]
    return found


def _path(rng: np.random.Generator, made: Made, label: int) -> list[list[int]]:
    """(L, K); every class prefers some units, which it shares with others."""
    liked = [
        [(5 * (label // 2) + 7 * layer + i) % made.units for i in range(made.K + 3)] for layer in range(made.depth)
    ]
    return [rng.choice(units, made.K, replace=False).tolist() for units in liked]


def _record(rng, made: Made, label: int, image: str, paths: Sequence[str], tie: bool) -> dict:
    """What is recorded of an image; `paths`: the keys that hold one."""
    pred = int(rng.choice([label, label, (label + 1) % 6]))
    record: dict[str, Any] = {"image": image, "label": label, "pred": pred, "prob": float(rng.uniform(0.01, 1))}
    for key in paths:
        record[key] = _path(rng, made, label)
        record["score" if key == "path" else f"{key}_score"] = float(rng.normal(0.02, 0.02))
        record[f"{key}_act"] = rng.normal(0, 2, (made.depth, made.K)).tolist()
    margin = rng.uniform(0.01, 0.9, made.depth).tolist()
    if tie:
        margin[made.depth // 2] = 5e-5
    return {**record, "margin": margin}


def _write(world: World, job: str, model: str, records: dict[int, list[dict]], names: Sequence[str] = ()) -> None:
    made, folder = MODELS[model], world.results / job / model
    for label, found in records.items():
        write_lines(folder / f"{PREFIX}-{label}.rlt.jsonl", found)
    sizes = {"model_depth": made.depth, "model_mlp_dim": made.units, "model_num_classes": 6, "model_pool": "cls"}
    settings = {"dataset": "imagefolder", "quadrature": "right", "ig_total_step": 20, "precision": "fp32", **sizes}
    args = {"job": job, "settings": settings, "options": {}, "versions": {"torch": "2"}, "class_names": [*names]}
    (folder / f"{PREFIX}.args.json").write_text(json.dumps(args))


def _write_full(world: World, rng: np.random.Generator) -> None:
    made = MODELS[FULL]

    def of(label: int, paths: Sequence[str]) -> list[dict]:
        images = enumerate(world.images[label])
        return [_record(rng, made, label, image, paths, i in made.ties) for i, image in images]

    ja = {label: of(label, ("ja", "base")) for label in world.images}
    told = {r["image"]: {key: r[key] for key in ("pred", "prob")} for found in ja.values() for r in found}
    influence = {label: [r | told[r["image"]] for r in of(label, ("path",))] for label in world.images}
    uniform = {label: [r | told[r["image"]] for r in of(label, ("path",))] for label in world.images}
    ja[PAIRED], influence[PAIRED] = ja[PAIRED][:-1], influence[PAIRED][1:]
    del influence[NO_INFLUENCE], ja[ONLY_INFLUENCE], uniform[ONLY_INFLUENCE]
    _write(world, "ja", FULL, ja)
    _write(world, "influence_pattern", FULL, influence)
    _write(world, "baseline/random", FULL, uniform)
    for method in EDITED:
        edits = {
            label: [_edit(rng, made, r) for r in found[1 if method == "base" else 0 :]] for label, found in ja.items()
        }
        _write(world, f"edit/remove_enhance/{method}", FULL, edits)


def _edit(rng: np.random.Generator, made: Made, record: dict) -> dict:
    kept = {key: record[key] for key in ("image", "label", "pred", "prob")}
    p = record["prob"]
    found = {"original": p, "remove": p * float(rng.uniform(0.1, 1)), "enhance": float(rng.uniform(p, 1))}
    then = {"original_label": record["pred"], "remove_label": int(rng.integers(6)), "enhance_label": record["label"]}
    return {**kept, "path": _path(rng, made, record["label"]), **found, **then}


def _write_hostile(world: World, rng: np.random.Generator) -> None:
    made = MODELS[HOSTILE]
    ja = {
        label: [_record(rng, made, label, image, ("ja", "base"), i in made.ties) for i, image in enumerate(images)]
        for label, images in world.images.items()
    }
    _write(world, "ja", HOSTILE, ja, NAMED)


def _write_top_images(world: World, model: str, rng: np.random.Generator) -> None:
    """Of FULL as for one neuron token, with maps of ten units of every other layer; of HOSTILE as for several."""
    made, folder = MODELS[model], world.results / "top_images" / model
    images = [(image, label) for label, found in world.images.items() for image in found]
    shape = (made.depth, made.units)
    image = np.argsort(rng.random((*shape, len(images))), -1)[..., :9].astype(np.int32)
    image[0, 1, 4:] = -1  # as where the data set has fewer than 9
    value = np.where(image < 0, np.nan, -np.sort(-rng.normal(1, 1, image.shape))).astype(np.float32)
    token = {} if model == FULL else {"token": rng.integers(0, SIDE**2, image.shape, dtype=np.int32)}
    names, labels = zip(*images, strict=True)
    more = {"mean": rng.normal(size=shape), "share": rng.random(shape), "images": np.array(names)}
    more |= {"labels": np.array(labels, np.int32), "pred": np.zeros(len(names), np.int32)}
    folder.mkdir(parents=True)
    np.savez(folder / "top_images.npz", image=image, value=value, **token, **more)
    made_of = json.dumps({"top_images": hashlib.sha256((folder / "top_images.npz").read_bytes()).hexdigest()})
    for layer in range(0, made.depth if model == FULL else 0, 2):
        maps = rng.normal(size=(10, 9, SIDE, SIDE)).astype(np.float32)
        maps[image[layer, :10] < 0] = np.nan
        np.savez(folder / f"maps-{layer}.npz", unit=np.arange(10, dtype=np.int32), map=maps, made_of=made_of)


# --- reading --------------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """A name as pages show it."""
    return name.encode(errors="backslashreplace").decode()


def address(*parts: object) -> str:
    """`#/…` of these parts, percent-encoded."""
    return "#/" + "/".join(quote(shown(str(part)), safe="!'()*~") for part in parts)


def number(value: float | None, digits: int = 4) -> str:
    """As pages print it."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text[1:] if text.strip("-0.") == "" and text.startswith("-") else text


def share(part: float) -> str:
    return f"{number(100 * part, 1)} %"


TABLES = """[...document.querySelectorAll("main table")].map((table) => ({
  caption: table.caption.textContent,
  heads: [...table.tHead.rows[0].cells].map((cell) => cell.textContent.replace(/ [▲▼]$/, "")),
  rows: [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent)),
}))"""


class Reader:
    """A tab of a browser that is cut from the network; `faults` is what no page may do."""

    def __init__(self, page, world: World):
        self.world, self.page = world, page
        self.faults: list[str] = []
        self.page.on(
            "console", lambda m: self._fault(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self._fault(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.on("popup", lambda other: self._fault(f"a window: {other.url}"))

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self.page.url}: {text}")

    def _dialog(self, dialog) -> None:
        self._fault(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request) -> None:
        if not request.url.startswith((self.world.output.as_uri() + "/", "about:blank")):
            self._fault(f"a request of {request.url}")

    def open(self, where: str = "", anew: bool = False) -> "Reader":
        """The page of an address, when it has been drawn; `anew`: as in a new tab."""
        if anew:
            self.page.goto("about:blank")
        self.page.goto(self.world.page + where)
        return self.drawn()

    def look(self, width: int = 1280, scheme: str = "light") -> "Reader":
        """Another width, in CSS pixels, and colour scheme."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        return self

    def drawn(self) -> "Reader":
        where = json.dumps(self.page.evaluate("location.hash") or "#/", ensure_ascii=False)
        self.page.wait_for_selector(f"main[data-page={where}]:not([aria-busy])", state="attached")
        return self

    def reload(self) -> "Reader":
        self.page.reload()
        return self.drawn()

    @property
    def title(self) -> str:
        return self.page.evaluate("document.querySelector('main h1').textContent")

    @property
    def text(self) -> str:
        return self.page.evaluate("document.querySelector('main').textContent")

    @property
    def found(self) -> bool:
        return self.title not in ("There is no such page", "This page cannot be shown")

    def tables(self) -> list[dict]:
        return self.page.evaluate(TABLES)

    def table(self, *heads: str) -> list[dict[str, str]]:
        """The rows of the one table that has these columns."""
        (found,) = (table for table in self.tables() if {*heads} <= {*table["heads"]})
        return [dict(zip(found["heads"], row, strict=True)) for row in found["rows"]]

    def facts(self) -> dict[str, str]:
        """Names and values that stand beside each other."""
        pairs = "[...document.querySelectorAll('main dl div')].map((d) => [...d.children].map((e) => e.textContent))"
        return dict(self.page.evaluate(pairs))

    def choose(self, method: str) -> None:
        """Press the button of a method."""
        self.page.evaluate(
            "(n) => [...document.querySelectorAll('.choice button')].find((b) => b.textContent === n).click()", method
        )

    def links(self) -> list[str]:
        """Every href, inside SVG, too."""
        return self.page.evaluate("[...document.querySelectorAll('[href]')].map((e) => e.getAttribute('href'))")

    def attributes(self, selector: str, name: str) -> list[str]:
        return self.page.evaluate(
            "([s, n]) => [...document.querySelectorAll(s)].map((e) => e.getAttribute(n))", [selector, name]
        )

    def check(self) -> None:
        """Nothing that no page may do happened."""
        assert self.faults == []
        assert self.page.evaluate("typeof window.pwned") == "undefined"


def kinds(world: World, model: str) -> dict[str, str]:
    """An address of every kind of page that a model has."""
    records = world.records(model)
    label = 0 if 0 in records.everything else next(iter(records.everything))
    image = [*records.everything[label]][-1]
    layer, unit = 1, next(iter(records.methods["Neuron Path"][label].values()))[0][1][0]
    found = {
        "model": address(model),
        "class": address(model, "class", label),
        "image": address(model, "image", image),
        "unit": address(model, "unit", layer, unit),
    }
    if len(records.methods["Neuron Path"]) > 1:
        found |= {"similar": address(model, "similar"), "similar to": address(model, "similar", label)}
    return found
