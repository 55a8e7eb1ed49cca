"""The pages of units: their top images and maps are those of the files."""

import numpy as np
import pytest
from atlases import FULL, HOSTILE, MODELS, SIDE, address, number, shown

CARDS = """[...document.querySelectorAll("main h2 + .cards > li")].map((li) => ({
  name: li.querySelector("a, .pair ~ span").textContent,
  href: li.querySelector(":scope > a")?.getAttribute("href"),
  words: [...li.querySelectorAll("p")].map((p) => p.textContent),
  label: li.querySelector("canvas")?.getAttribute("aria-label"),
  pixels: (() => {
    const canvas = li.querySelector("canvas");
    return canvas && [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
  })(),
}))"""


def arrays(world, model: str) -> dict[str, np.ndarray]:
    with np.load(world.results / "top_images" / model / "top_images.npz") as found:
        return dict(found)


@pytest.mark.parametrize("model", [FULL, HOSTILE])
def test_20_units_have_the_top_images_of_the_file(reader, world, model):
    top, made, there = arrays(world, model), MODELS[model], world.records(model).everything
    recorded = {image for of in there.values() for image in of}
    assert (top["image"] < 0).any()
    for i in range(20):
        layer, unit = i % made.depth, i // made.depth
        reader.open(address(model, "unit", layer, unit))
        facts = reader.facts()
        assert facts["mean activation"] == number(top["mean"][layer, unit])
        assert float(facts["images above 0"].split()[0]) == pytest.approx(100 * top["share"][layer, unit], abs=0.06)
        assert facts["over"] == f"{len(top['images'])} images"
        cards = reader.page.evaluate(CARDS)
        places = [place for place in top["image"][layer, unit] if place >= 0]
        assert [card["name"] for card in cards] == [shown(top["images"][place]) for place in places]
        for rank, (card, place) in enumerate(zip(cards, places, strict=True)):
            name = str(top["images"][place])
            assert card["href"] == (address(model, "image", name) if name in recorded else None)
            token = f", patch {top['token'][layer, unit, rank]}" if "token" in top else ""
            assert card["words"][0] == f"activation {number(float(top['value'][layer, unit, rank]))}{token}"


def test_maps_are_drawn_patch_by_patch(reader, world):
    """Orange above 0, blue below, the more the larger; none where the file has none."""
    top = arrays(world, FULL)
    for layer, unit in ((0, 0), (0, 1), (2, 9), (4, 3)):
        with np.load(world.results / "top_images" / FULL / f"maps-{layer}.npz") as found:
            maps = found["map"][unit]
        reader.open(address(FULL, "unit", layer, unit))
        cards = reader.page.evaluate(CARDS)
        assert len(cards) == (top["image"][layer, unit] >= 0).sum()
        for card, one in zip(cards, maps, strict=False):
            pixels = np.array(card["pixels"]).reshape(SIDE, SIDE, 4)
            assert (pixels[..., 3] == 255).all()
            largest = np.abs(one).max()
            assert f"largest in size {number(float(largest))}" in card["label"]
            red, blue = pixels[..., 0], pixels[..., 2]
            seen = np.abs(one) > largest / 20
            assert ((red > blue) == (one > 0))[seen].all()
            shade = np.where(one > 0, 255 - blue, 255 - red) / 255
            np.testing.assert_allclose(shade, np.abs(one) / largest, atol=0.01)
    for layer, unit in ((1, 0), (0, 10)):
        reader.open(address(FULL, "unit", layer, unit))
        assert {card["label"] for card in reader.page.evaluate(CARDS)} == {None}


def test_pictures_that_excite_are_shown(reader, world):
    """Those of images that no record names, too; words where an image cannot be read."""
    reader.open(address(FULL, "unit", 2, 5))
    images = reader.page.evaluate("document.querySelectorAll('main h2 + .cards .pair > :first-child').length")
    assert images == 9
