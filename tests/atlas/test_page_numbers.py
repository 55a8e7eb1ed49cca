"""What the atlas's pages show equals the records, computed anew from their JSON lines."""

import re
from itertools import pairwise

import pytest
from atlases import EDITED, FOLDERS, FULL, HOSTILE, MODELS, NO_INFLUENCE, address, number, share, shown

COUNT = 20  # images and units that are compared
EITHER = [FULL, pytest.param(HOSTILE, marks=pytest.mark.long)]


def mean(values) -> float:
    found = [*values]
    return sum(found) / len(found)


def label_of(title: str) -> int:
    """Of a class, by how pages call it."""
    return int(title.removeprefix("class ").split()[0])


def images_of(records) -> list[tuple[int, str]]:
    """20 of them, from all classes."""
    several = [(label, image) for label, found in records.everything.items() for image in found]
    return several[:: max(1, len(several) // COUNT)][:COUNT]


def near(margin: float) -> str:
    """As the page of an image shows a margin."""
    if abs(margin) >= 1e-3 or not margin:
        return number(margin)
    return ("near-tie " if abs(margin) < 1e-4 else "") + f"{margin:.1e}".replace("e-0", "e-")


class TestModel:
    @pytest.mark.parametrize("model", EITHER)
    def test_every_class_of_the_table(self, reader, world, model):
        records = world.records(model)
        rows = {row["label"]: row for row in reader.open(address(model)).table("label", "class", "images")}
        assert [*rows] == [str(label) for label in records.everything]
        for label, found in records.everything.items():
            row = rows[str(label)]
            assert row["images"] == str(len(found))
            for name, of in records.methods.items():
                cell = row[f"mean JAS, {name}"]
                if label not in of:
                    assert cell == "–"
                    continue
                scores = [score for _, score, *_ in of[label].values()]
                value, low, high = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", cell).groups()
                assert value == number(mean(scores))
                low, value, high = map(float, (low, value, high))
                assert min(scores) - 1e-4 <= low <= value <= high <= max(scores) + 1e-4
            margins = [margin for *_, margin in records.methods["Neuron Path"].get(label, {}).values()]
            ties = [min(map(abs, margin)) < 1e-4 for margin in margins]
            assert row["near-ties"] == (share(mean(ties)) if ties else "–")

    def test_scores_of_all_images(self, reader, world):
        records = world.records(FULL)
        rows = {row["method"]: row for row in reader.open(address(FULL)).table("method", "images", "near-ties")}
        assert [*rows] == [*records.methods]
        for name, of in records.methods.items():
            scores = [score for found in of.values() for _, score, *_ in found.values()]
            margins = [margin for found in of.values() for *_, margin in found.values()]
            (cell,) = (text for head, text in rows[name].items() if head.startswith("mean JAS"))
            assert cell.split(" ")[0] == number(mean(scores))
            assert rows[name]["images"] == str(len(scores))
            tied = share(mean(min(map(abs, margin)) < 1e-4 for margin in margins)) if margins[0] else "–"
            assert rows[name]["near-ties"] == tied

    def test_units_by_layer(self, reader, world):
        records = world.records(HOSTILE)
        rows = reader.open(address(HOSTILE)).table("layer", "unit (images)")
        assert len(rows) == MODELS[HOSTILE].depth
        for layer, row in enumerate(rows):
            named = re.findall(r"(\d+) \((\d+)\)", row["unit (images)"])
            assert len(named) == 5
            counts = {
                unit: sum(map(len, records.uses("Neuron Path", layer, unit).values()))
                for unit in range(MODELS[HOSTILE].units)
            }
            assert {int(unit): int(count) for unit, count in named}.items() <= counts.items()
            assert [int(count) for _, count in named] == sorted(counts.values(), reverse=True)[:5]

    def test_the_table_of_edits_has_every_method(self, reader):
        reader.open(address(FULL))
        methods = {row["method"] for row in reader.table("measure", "method", "value")}
        assert methods >= {"Activation", "Influence Pattern", "Neuron Path", "Matched control", "Random"}


class TestClass:
    @pytest.mark.parametrize("model", EITHER)
    def test_every_class(self, reader, world, model):
        records = world.records(model)
        for label, found in records.everything.items():
            reader.open(address(model, "class", label))
            facts = reader.facts()
            assert facts["images"] == str(len(found))
            there = [name for name in records.methods if label in records.methods[name]]
            assert [key for key in facts if "JAS" in key] == [f"mean JAS, {name}" for name in there]
            cards = reader.page.evaluate(
                "[...document.querySelectorAll('.cards li')].map((li) => [...li.children].map((e) => e.textContent))"
            )
            assert [card[0].removeprefix("no picture") for card in cards] == [*map(shown, found)]
            for card, (image, record) in zip(cards, found.items(), strict=True):
                assert f"p {number(record['prob'])}, predicted " in card[1]
                assert card[1].endswith("right") == (record["pred"] == label)
                scores = [
                    f"{name} {number(of[label][image][1])}"
                    for name, of in records.methods.items()
                    if image in of.get(label, {})
                ]
                assert card[2:] == scores

    def test_its_picture(self, reader, world):
        """Dots and lines by the number of images, of the method that is chosen."""
        records, label = world.records(HOSTILE), 4
        reader.open(address(HOSTILE, "class", label))
        for name in records.methods:
            reader.choose(name)
            paths = [path for path, *_ in records.methods[name][label].values()]
            dots, lines = {}, {}
            for path in paths:
                for layer, units in enumerate(path):
                    for unit in units:
                        dots[layer, unit] = dots.get((layer, unit), 0) + 1
                        for after in path[layer + 1] if layer + 1 < len(path) else ():
                            lines[layer, unit, after] = lines.get((layer, unit, after), 0) + 1
            hrefs = reader.attributes("main figure svg a", "href")
            counts = reader.attributes("main figure svg a", "data-count")
            expected = {address(HOSTILE, "unit", *key): str(count) for key, count in dots.items()}
            assert dict(zip(hrefs, counts, strict=True)) == expected
            tips = zip(
                reader.attributes("main path.link", "data-tip"),
                reader.attributes("main path.link", "data-count"),
                strict=True,
            )
            for tip, count in tips:
                unit, layer, after = map(int, re.search(r"unit (\d+) of layer (\d+) to unit (\d+)", tip).groups())
                assert str(lines.pop((layer, unit, after))) == count
                assert f"{count} image" in tip
                assert f"of {len(paths)} ({share(int(count) / len(paths))})" in tip
            assert lines == {}

    def test_steps_in_a_table(self, reader, world):
        """Made when it is opened."""
        records, label = world.records(HOSTILE), 4
        reader.open(address(HOSTILE, "class", label)).choose("Neuron Path")
        assert "from layer" not in reader.text
        reader.page.get_by_text("Steps between layers").click()
        reader.page.get_by_text("from layer").wait_for()
        rows, paths = (
            reader.table("from layer", "to unit"),
            [p for p, *_ in records.methods["Neuron Path"][label].values()],
        )
        counts = [int(row["images"]) for row in rows]
        assert counts == sorted(counts, reverse=True)
        for row, count in zip(rows, counts, strict=True):
            layer, unit, after = (int(row[head]) for head in ("from layer", "unit", "to unit"))
            assert count == sum(unit in path[layer] and after in path[layer + 1] for path in paths)
            assert row["share"] == share(count / len(paths))
        assert sum(counts) == sum(len(a) * len(b) for path in paths for a, b in pairwise(path))

    def test_many_steps(self, reader):
        """The 300 thickest lines between two layers are drawn and the 300 most frequent steps listed."""
        reader.open(address(FULL))
        reader.page.evaluate(
            """async (name) => {
          const model = await atlas.model(name);  // 20 × 20 steps of two images, as many of one
          const units = (first) => Array.from({length: 20}, (_, i) => first + i);
          const paths = [[units(0), units(20)], [units(0), units(20)], [units(20), units(0)]];
          main.replaceChildren(...atlas.classPicture(model, "ja", paths));
        }""",
            FULL,
        )
        assert reader.attributes("path.link", "data-count") == ["2"] * 300
        assert "At most 300 lines between two layers are drawn, the thickest; 500 lines are left out." in reader.text
        reader.page.get_by_text("Steps between layers").click()
        reader.page.get_by_text("The 300 most frequent of 800").wait_for()
        assert len(reader.table("from layer", "to unit")) == 300

    def test_classes_like_it(self, reader, world):
        records = world.records(FULL)
        compared = sorted(records.methods["Neuron Path"])
        for label in compared:
            tables = [
                t for t in reader.open(address(FULL, "class", label)).tables() if t["heads"] == ["class", "cosine"]
            ]
            cosines = {other: records.cosine(label, other) for other in compared if other != label}
            falling = sorted(cosines.values(), reverse=True)
            for table, expected in zip(tables, (falling, falling[::-1]), strict=True):
                assert [float(row[1]) for row in table["rows"]] == pytest.approx(
                    expected[: len(table["rows"])], abs=1e-4
                )
                for name, value in table["rows"]:
                    assert float(value) == pytest.approx(cosines[label_of(name)], abs=1e-4)


class TestImage:
    @pytest.mark.parametrize("model", EITHER)
    def test_20_images(self, reader, world, model):
        records = world.records(model)
        edits = {m: records.job(f"edit/remove_enhance/{m}") for m in ("base", "influence_pattern", "ja", "random")}
        several = images_of(records)
        assert len(several) == COUNT
        for label, image in several:
            record = records.everything[label][image]
            facts = reader.open(address(model, "image", image)).facts()
            assert facts["p of the target"] == number(record["prob"])
            assert label_of(facts["predicted"]) == record["pred"]
            assert label_of(facts["class"]) == label
            found = {name: of[label][image] for name, of in records.methods.items() if image in of.get(label, {})}
            assert {key: facts[key] for key in facts if "JAS" in key} == {
                f"JAS, {name}": number(score) for name, (_, score, *_) in found.items()
            }
            self.layers(reader, found)
            self.picture(reader, model, found)
            self.edits(reader, {key: of[label][image] for key, of in edits.items() if image in of.get(label, {})})

    def layers(self, reader, found) -> None:
        """Units, activations and margins, near-ties marked."""
        tables = {t["caption"].partition(",")[0]: t for t in reader.tables() if "layer" in t["heads"]}
        assert [*tables] == [*found]
        for name, (path, _, activation, margin) in found.items():
            heads = ["layer", "unit", *(["activation"] if activation else []), *(["margin"] if margin else [])]
            assert tables[name]["heads"][: len(heads)] == heads
            for layer, row in enumerate(tables[name]["rows"]):
                expected = [str(layer), ", ".join(map(str, path[layer]))]
                expected += [", ".join(map(number, activation[layer]))] if activation else []
                if margin:
                    expected.append(near(margin[layer]))
                assert row[: len(heads)] == expected

    def picture(self, reader, model: str, found) -> None:
        units = [(layer, unit) for path, *_ in found.values() for layer, units in enumerate(path) for unit in units]
        hrefs = reader.attributes("main figure svg a", "href")
        assert sorted(hrefs) == sorted(address(model, "unit", *unit) for unit in units)

    def edits(self, reader, found) -> None:
        """What removal and doubling did."""
        if not found:
            assert not [t for t in reader.tables() if "p before" in t["heads"]]
            return
        rows = {row["method"]: row for row in reader.table("method", "p before")}
        names = {"base": "Activation", "influence_pattern": "Influence Pattern", "ja": "Neuron Path"}
        for key, record in found.items():
            row = rows[{**names, "random": "Matched control"}[key]]
            assert row["p before"] == number(record["original"])
            assert row["p after removal"] == number(record["remove"])
            assert row["p after enhancement"] == number(record["enhance"])
        assert len(rows) == len(EDITED) - ("base" not in found)

    def test_what_is_predicted_after_an_edit(self, reader, world):
        records = world.records(FULL)
        edits = records.job("edit/remove_enhance/ja")
        image, record = next((i, r) for i, r in edits[NO_INFLUENCE].items() if r["remove_label"] != r["enhance_label"])
        reader.open(address(FULL, "image", image))
        (table,) = (t for t in reader.tables() if "p before" in t["heads"])
        (row,) = (row for row in table["rows"] if row[0] == "Neuron Path")
        then = [row[i] for i, head in enumerate(table["heads"]) if head == "predicted then"]
        assert [*map(label_of, then)] == [record["remove_label"], record["enhance_label"]]


class TestUnit:
    @pytest.mark.parametrize("model", [HOSTILE, pytest.param(FULL, marks=pytest.mark.long)])
    def test_20_units(self, reader, world, model):
        records, made = world.records(model), MODELS[model]
        total = {name: sum(map(len, of.values())) for name, of in records.methods.items()}
        for i in range(COUNT):
            layer, unit = i % made.depth, 7 * i % made.units
            reader.open(address(model, "unit", layer, unit))
            rows = {row["method"]: row for row in reader.table("method", "images", "of all")}
            uses = {name: records.uses(name, layer, unit) for name in records.methods}
            for name, found in uses.items():
                counts = [sum(map(len, records.uses(name, layer, j).values())) for j in range(made.units)]
                count = sum(map(len, found.values()))
                assert rows[name]["images"] == str(count)
                assert rows[name]["of all"] == share(count / total[name])
                used, above = sum(map(bool, counts)), sum(other > count for other in counts)
                assert rows[name]["rank among the layer's units"] == (
                    f"{above + 1} of {used} used" if count else "not used"
                )
            for name, found in uses.items():
                if found:
                    self.users(reader, records, name, found, sum(map(bool, uses.values())))
            assert any(uses.values()) or "No image's path uses it." in reader.text

    def users(self, reader, records, name: str, found: dict[int, list[str]], choices: int) -> None:
        """The classes and the images whose paths by the method use the unit."""
        if choices > 1:
            reader.choose(name)
        rows = reader.table("class", "images", "of the class")
        order = sorted(found, key=lambda label: (-len(found[label]), label))
        assert [label_of(row["class"]) for row in rows] == order
        assert [row["images"] for row in rows] == [str(len(found[label])) for label in order]
        assert [row["of the class"] for row in rows] == [
            share(len(found[label]) / len(records.methods[name][label])) for label in order
        ]
        names = [shown(image) for label in order for image in found[label]]
        reader.page.wait_for_selector(f".cards:last-of-type li:nth-child({len(names)})", state="attached")
        cards = "[...[...document.querySelectorAll('.cards')].at(-1).querySelectorAll('a')].map((e) => e.textContent)"
        assert reader.page.evaluate(cards) == names


class TestSimilar:
    def test_all_others_of_a_class(self, reader, world):
        records = world.records(HOSTILE)
        for label in range(len(FOLDERS)):
            rows = reader.open(address(HOSTILE, "similar", label)).table("class", "cosine", "its list")
            cosines = {other: records.cosine(label, other) for other in range(len(FOLDERS)) if other != label}
            assert {label_of(row["class"]) for row in rows} == {*cosines}
            values = [float(row["cosine"]) for row in rows]
            assert values == sorted(values, reverse=True)
            for row in rows:
                assert float(row["cosine"]) == pytest.approx(cosines[label_of(row["class"])], abs=1e-4)

    def test_pairs_of_the_matrix_by_keys(self, reader, world):
        records = world.records(FULL)
        compared = sorted(records.methods["Neuron Path"])
        reader.open(address(FULL, "similar"))
        canvas = reader.page.locator("canvas").first
        canvas.focus()
        seen, pairs = set(), "document.querySelector('canvas').closest('.matrix').nextElementSibling.textContent"
        keys = [*["ArrowRight"] * 5, "ArrowDown", "+", *["ArrowLeft"] * 5, "ArrowDown", "-", *["ArrowRight"] * 5]
        for key in keys:
            reader.page.keyboard.press(key)
            first, second, value = re.fullmatch(
                r"(\d) .* and (\d) .*: (\S+)", reader.page.evaluate(pairs), re.DOTALL
            ).groups()
            assert float(value) == pytest.approx(records.cosine(int(first), int(second)), abs=1e-4)
            seen.add((int(first), int(second)))
        assert {first for first, _ in seen} < {*compared}
        assert {second for _, second in seen} == {*compared}
        reader.page.keyboard.press("Enter")
        reader.page.wait_for_selector(f'main[data-page="{address(FULL, "class", int(first))}"]', state="attached")
        assert reader.drawn().title.startswith(f"{first} ")
