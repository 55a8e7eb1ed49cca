"""The atlas's pages in light and dark, wide and narrow: axe-core finds no serious fault, nothing sticks out."""

import pytest
from atlases import BARE, FULL, HOSTILE, PAIRED, address, kinds

SERIOUS = ("serious", "critical")
LOOKS = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
#: The quick ones see every kind of page, width and scheme; all of them together see every combination.
QUICK = {(1280, "light", FULL), (390, "dark", HOSTILE)}
CASES = [
    pytest.param(*look, model, marks=[] if (*look, model) in QUICK else pytest.mark.long)
    for look in LOOKS
    for model in (FULL, HOSTILE, BARE)
]


@pytest.fixture
def serious(reader):
    """What axe-core finds on the page that is open."""
    from axe_playwright_python.sync_playwright import Axe

    def found() -> list[dict]:
        options = {"resultTypes": ["violations"], "preload": False}  # which would load style.css anew
        return [v for v in Axe().run(reader.page, options=options).response["violations"] if v["impact"] in SERIOUS]

    return found


def pages(world, model: str) -> dict[str, str]:
    return {"home": "", **kinds(world, model), "none": "#/nothing"}


@pytest.mark.parametrize(("width", "scheme", "model"), CASES)
def test_every_kind_of_page(reader, world, serious, width, scheme, model):
    reader.look(width, scheme)
    faults = {}
    for kind, where in pages(world, model).items():
        reader.open(where, anew=kind == "home")
        sizes = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        across, room = reader.page.evaluate(sizes)
        assert across <= room == width, (kind, "the page scrolls sideways")
        faults |= {f"{kind}: {v['id']}": [node["html"][:200] for node in v["nodes"][:3]] for v in serious()}
    assert faults == {}


def test_axe_finds_what_is_there(reader, serious):
    """That the test above could fail: a picture without words, and text that nobody can read."""
    reader.open(address(FULL))
    reader.page.evaluate("document.querySelector('main').append(atlas.h('img', {src: 'icon.svg'}))")
    reader.page.evaluate("document.querySelector('main h1').style.color = 'color-mix(in srgb, Canvas 85%, gray)'")
    assert {v["id"] for v in serious()} == {"image-alt", "color-contrast"}


def test_schemes_differ_and_follow_the_system(reader, world):
    reader.open(kinds(world, FULL)["image"])
    colours = []
    for scheme in ("light", "dark"):
        reader.look(scheme=scheme)
        colours.append(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        inks = "[document.body, document.querySelector('svg text')].map((e) => getComputedStyle(e).color)"
        assert reader.page.evaluate(inks)[0] != colours[-1]
    red = [int(colour.split("(")[1].split(",")[0]) for colour in colours]
    assert red[0] > 200 > 60 > red[1]


def test_methods_differ_in_more_than_colour(reader, world):
    """Marks and dashes in the picture of an image, as in its key."""
    reader.open(address(FULL, "image", world.images[PAIRED][1]))
    shapes = (
        "[...document.querySelectorAll('.key li')].map((li) => [li.querySelector('.mark').tagName + "
        "(li.querySelector('.mark').getAttribute('d') ?? '').length, "
        "li.querySelector('path').getAttribute('stroke-dasharray'), li.querySelector('.mark').getAttribute('fill')])"
    )
    found = reader.page.evaluate(shapes)
    assert len(found) == 4
    for column in zip(*found, strict=True):
        assert len({*column}) == len(column)


def test_a_near_tie_is_marked_beside_its_colour(reader, world):
    records = world.records(FULL)
    image, (*_, margin) = next((i, r) for i, r in records.methods["Neuron Path"][0].items() if min(r[3]) < 1e-4)
    reader.open(address(FULL, "image", image))
    marked = reader.page.evaluate("[...document.querySelectorAll('.tie')].map((e) => e.textContent)")
    assert f"near-tie {min(margin):.0e}".replace("e-0", ".0e-") in marked
    assert sum(x < 1e-4 for x in margin) == 1
