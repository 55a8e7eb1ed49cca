"""Links of the atlas lead where they say, and nowhere else."""

import shutil
from dataclasses import replace

import pytest
from atlases import BARE, FULL, HOSTILE, MODELS, ONLY_INFLUENCE, address, kinds, shown


def collected(reader, where: list[str]) -> set[str]:
    """The addresses of all links of these pages."""
    found: set[str] = set()
    for page in where:
        found |= {href for href in reader.open(page).links() if href.startswith("#") and href != "#main"}
    return found


def spread(addresses: set[str], count: int) -> list[str]:
    """So many of each kind of page."""
    kinds: dict[tuple, list[str]] = {}
    for each in sorted(addresses):
        kinds.setdefault(tuple(each.split("/")[1:3]), []).append(each)
    return [each for several in kinds.values() for each in several[:: max(1, len(several) // count)]]


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (FULL, 3),
        *(pytest.param(name, 10**6, marks=pytest.mark.long) for name in (FULL, HOSTILE, BARE)),
    ],
)
def test_every_link_opens_a_page(reader, world, model, count):
    pages = ["", *kinds(world, model).values()]
    found = collected(reader, pages)
    assert {*map(address, MODELS)} <= found
    for href in spread(found, count):
        assert reader.open(href).found, href
        assert reader.page.evaluate("location.hash") == href


def test_they_lead_to_all_classes_images_and_used_units(reader, world):
    records = world.records(FULL)
    found = collected(reader, [address(FULL), *(address(FULL, "class", label) for label in records.everything)])
    images = {address(FULL, "image", image) for of in records.everything.values() for image in of}
    used = {
        address(FULL, "unit", layer, unit)
        for of in records.methods["Neuron Path"].values()
        for path, *_ in of.values()
        for layer, units in enumerate(path)
        for unit in units
    }
    assert images <= found
    assert used <= found  # that is the picture drawn at first
    assert {address(FULL, "class", label) for label in records.everything} <= found
    assert address(FULL, "similar", ONLY_INFLUENCE) not in found


def test_nothing_leads_out_of_the_folder(reader, world):
    for model in (FULL, HOSTILE):
        for where in kinds(world, model).values():
            for href in reader.open(where).links():
                assert href.startswith("#") or href in ("icon.svg", "style.css"), href
            sources = reader.attributes("img", "src")
            assert all(name.startswith("thumbs/") and (world.output / name).is_file() for name in sources)


def test_texts_of_links_name_what_they_lead_to(reader, world):
    """Of images and units; classes are those of the page's heading."""
    reader.open(kinds(world, HOSTILE)["class"])
    for text, href in reader.page.evaluate(
        "[...document.querySelectorAll('.cards a')].map((e) => [e.textContent.trim(), e.getAttribute('href')])"
    ):
        assert href == address(HOSTILE, "image", text)
    words = zip(reader.attributes("svg a", "aria-label"), reader.attributes("svg a", "href"), strict=True)
    for text, href in words:
        layer, unit = href.split("/")[-2:]
        assert text.startswith(f"unit {unit} of layer {layer}: ")
    assert shown(HOSTILE) in [crumb.strip() for crumb in reader.page.locator("#crumbs a").all_text_contents()]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("data/index.js", "data/index.js is not there; make the atlas anew"),
        ("data/m0/model.js", "data/m0/model.js is not there; make the atlas anew"),
        ("data/m0/class/0.js", "data/m0/class/0.js is not there; make the atlas anew"),
    ],
)
def test_a_file_that_is_not_there_is_named(reader, world, tmp_path, given, text):
    shutil.copytree(world.output, tmp_path / "atlas")
    (tmp_path / "atlas" / given).unlink()
    whole, reader.world = reader.world, replace(world, output=tmp_path / "atlas")
    try:
        reader.open(address(HOSTILE, "class", 0))
        assert reader.title == "This page cannot be shown"
        assert text in reader.text
    finally:
        reader.world = whole
        reader.faults.clear()  # a browser reports the missing file
