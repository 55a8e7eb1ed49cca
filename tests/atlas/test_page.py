"""The atlas in a browser, from disk and without a network: addresses, ways through it, keys."""

from urllib.parse import quote

import pytest
from atlases import (
    BARE,
    FOLDERS,
    FULL,
    HOSTILE,
    NAMED,
    NESTED,
    NO_INFLUENCE,
    ODD,
    ONLY_INFLUENCE,
    PAIRED,
    PLAIN,
    SCRIPT,
    UNREADABLE,
    address,
    kinds,
    shown,
)

NO_PAGE = "There is no such page"
NOWHERE = ["#/nothing", "#/__proto__", "#/%", "#/one%20class/similar"]
NOWHERE += [
    f"#/tiny%20ViT/{rest}"
    for rest in (
        *("nothing", "constructor/0", "class", "class/6", "class/-1", "class/01", "class/0.0", "class/__proto__"),
        *("image/", "image/nothing.png", "image/__proto__", "unit/0", "unit/5/0", "unit/0/40", "unit/-1/0"),
        *("unit/0/1e1", "similar/17", "similar/x"),
    )
]


class TestAddresses:
    @pytest.mark.parametrize("model", [FULL, *(pytest.param(name, marks=pytest.mark.long) for name in (HOSTILE, BARE))])
    def test_of_every_kind_of_page(self, reader, world, model):
        """Typed into a new tab; loaded anew, the page is the same."""
        for kind, where in {"home": "", **kinds(world, model)}.items():
            assert reader.open(where, anew=True).found, kind
            title, text = reader.title, reader.text
            if kind in ("home", "image"):
                assert reader.reload().title == title
                assert reader.text == text
            reader.check()

    def test_home_names_the_models(self, reader, world):
        assert reader.open().attributes("main li a", "href") == [
            address(name) for name in sorted([FULL, HOSTILE, BARE])
        ]
        for name in (FULL, HOSTILE, BARE):
            assert f"{shown(name)}: " in reader.text

    def test_of_an_image_with_slashes_or_their_codes(self, reader):
        name = f"{FOLDERS[PLAIN]}/{NESTED}"
        for typed in (quote(name, safe=""), quote(name, safe="/"), name):
            assert reader.open(f"#/{quote(FULL)}/image/{typed}").title == name

    def test_of_nothing(self, reader):
        for where in NOWHERE:
            assert reader.open(where).title == NO_PAGE, where
            assert reader.attributes("main a", "href") == ["#/"]

    def test_of_a_class_that_is_compared_with_none(self, reader):
        """It has an influence pattern alone; classes are compared by neuron paths."""
        assert reader.open(address(FULL, "class", ONLY_INFLUENCE)).found
        assert reader.open(address(FULL, "similar", ONLY_INFLUENCE)).title == NO_PAGE


class TestWays:
    def test_back_and_forward(self, reader, world):
        ways = ["", *kinds(world, FULL).values()]
        titles = [reader.open(where).title for where in ways]
        for title in reversed(titles[:-1]):
            reader.page.go_back()
            assert reader.drawn().title == title
        for title in titles[1:]:
            reader.page.go_forward()
            assert reader.drawn().title == title

    def test_back_finds_the_page_as_it_was_left(self, reader, world):
        """How far down, what was searched for and the order; also loaded anew. A link leads to the top."""
        where = address(FULL, "class", PLAIN)
        down, settled = "Math.round(scrollY)", "new Promise((done) => setTimeout(() => done(Math.round(scrollY)), 100))"
        first = "document.querySelector('main tbody [href*=class]').textContent"
        reader.look(500).open("", anew=True).open(address(FULL))
        heads = reader.page.get_by_role("columnheader", name="class").get_by_role("button").first
        heads.click()
        heads.click()
        last = reader.page.evaluate(first)
        reader.page.get_by_role("searchbox").fill("a")
        reader.page.evaluate("scrollTo(0, 321)")
        searched = reader.page.evaluate(first)
        reader.page.evaluate("(href) => { location.hash = href; }", where)
        reader.drawn()
        assert reader.page.evaluate(down) == 0
        assert reader.page.evaluate("document.activeElement.id") == "main"
        reader.page.evaluate("scrollTo(0, 123)")
        reader.page.go_back()
        for again in (reader.drawn, reader.reload):
            again()
            assert reader.page.evaluate(settled) == 321
            assert reader.page.get_by_role("searchbox").input_value() == "a"
            assert reader.page.evaluate(first) == searched
            assert heads.locator("..").get_attribute("aria-sort") == "descending"
        reader.page.get_by_role("searchbox").fill("")
        assert reader.page.evaluate(first) == last
        reader.page.go_forward()
        reader.drawn()

    def test_by_click_from_home_to_a_unit_and_back_to_a_class(self, reader, world):
        records = world.records(FULL)
        image = next(iter(records.methods["Neuron Path"][PLAIN]))
        unit = records.methods["Neuron Path"][PLAIN][image][0][2][0]
        reader.open()
        for text, where in (
            (FULL, address(FULL)),
            (FOLDERS[PLAIN], address(FULL, "class", PLAIN)),
            (image, address(FULL, "image", image)),
            (str(unit), address(FULL, "unit", 2, unit)),
            (f"{PLAIN} {FOLDERS[PLAIN]}", address(FULL, "class", PLAIN)),
        ):
            if "/class/" in where and "/unit/" in reader.page.url:
                reader.choose("Neuron Path")
            reader.page.locator(f'main a[href="{where}"]').filter(has_text=text).first.click()
            assert reader.drawn().found
            assert reader.page.evaluate("location.hash") == where

    def test_the_trail_leads_upwards(self, reader, world):
        where = kinds(world, HOSTILE)
        reader.open(where["image"])
        trail = [address(), address(HOSTILE), where["class"], where["image"]]
        assert reader.attributes("#crumbs a", "href") == trail
        assert reader.attributes("#crumbs a", "aria-current") == [None, None, None, "page"]

    def test_a_new_page_has_the_focus_and_its_title(self, reader, world):
        where = kinds(world, FULL)
        reader.open(where["model"]).open(where["class"])
        assert reader.page.evaluate("document.activeElement.id") == "main"
        assert reader.title in reader.page.title()
        assert reader.page.evaluate("document.getElementById('status').textContent") == reader.title


class TestClassTable:
    LABELS = (
        "[...document.querySelectorAll('main table')].find((t) => t.tHead.textContent.startsWith('label')).tBodies[0]"
    )

    def labels(self, reader) -> list[int]:
        rows = f"[...{self.LABELS}.rows].map((row) => row.cells[0].textContent)"
        return [int(label) for label in reader.page.evaluate(rows)]

    def test_search(self, reader):
        reader.open(address(FULL))
        field = reader.page.get_by_role("searchbox")
        for typed, expected in (
            ("", range(6)),
            ("PLAIN", [PLAIN]),
            ("<img", [i for i, name in enumerate(FOLDERS) if "<img" in name]),
            ("😀", [i for i, name in enumerate(FOLDERS) if "😀" in name]),
            (f"{PLAIN} ", [PLAIN]),
            ("%2F", [i for i, name in enumerate(FOLDERS) if "%2F" in name]),
            ("nothing of this kind", []),
            ("", range(6)),
        ):
            field.fill(typed)
            assert self.labels(reader) == [*expected], typed

    def test_sort(self, reader, world):
        records = world.records(FULL)
        reader.open(address(FULL))
        mean = {
            label: sum(score for _, score, *_ in found.values()) / len(found)
            for label, found in records.methods["Influence Pattern"].items()
        }
        by_count = sorted(range(6), key=lambda label: -len(records.everything[label]))
        head = reader.page.get_by_role("columnheader", name="mean JAS, Influence Pattern", exact=False)
        button = head.get_by_role("button")
        button.click()
        falling = [*sorted(mean, key=lambda label: -mean[label]), NO_INFLUENCE]  # what is missing stays below
        assert self.labels(reader) == falling
        assert head.get_attribute("aria-sort") == "descending"
        button.click()
        assert self.labels(reader) == [*falling[-2::-1], NO_INFLUENCE]
        assert head.get_attribute("aria-sort") == "ascending"
        reader.page.get_by_role("columnheader", name="images").get_by_role("button").first.click()
        assert [len(records.everything[label]) for label in self.labels(reader)] == [
            len(records.everything[label]) for label in by_count
        ]
        assert head.get_attribute("aria-sort") is None


class TestKeys:
    def test_the_skip_link_leads_to_the_content(self, reader):
        reader.open(address(FULL))
        reader.page.evaluate("document.activeElement.blur()")
        reader.page.keyboard.press("Tab")
        assert reader.page.evaluate("document.activeElement.className") == "skip"
        where = reader.page.evaluate("location.hash")
        reader.page.keyboard.press("Enter")
        assert reader.page.evaluate("document.activeElement.id") == "main"
        assert reader.page.evaluate("location.hash") == where

    @pytest.mark.parametrize("kind", ["class", "image"])
    def test_tab_reaches_a_dot_and_enter_opens_its_unit(self, reader, world, kind):
        reader.open(kinds(world, FULL)[kind])
        for _ in range(40):
            reader.page.keyboard.press("Tab")
            if reader.page.evaluate("document.activeElement instanceof SVGAElement"):
                break
        words = reader.page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert "unit " in words
        assert reader.page.evaluate("document.getElementById('tip').textContent") == words
        assert not reader.page.evaluate("document.getElementById('tip').hidden")
        reader.page.keyboard.press("Escape")
        assert reader.page.evaluate("document.getElementById('tip').hidden")
        where = reader.page.evaluate("document.activeElement.getAttribute('href')")
        assert "/unit/" in where
        reader.page.keyboard.press("Enter")
        reader.page.wait_for_selector(f'main[data-page="{where}"]', state="attached")
        assert reader.drawn().title.startswith("Unit ")

    def test_more_of_a_list_moves_the_focus_to_it(self, reader):
        """What fails is said, and the button stays to try again."""
        reader.open(address(FULL))
        reader.page.evaluate("""() => {
          let press = 0;
          const next = async () => {
            press += 1;
            if (press === 2) throw new Error("not there");
            return [atlas.h("li", {}, atlas.h("a", {href: "#/"}, `link ${press}`))];
          };
          main.append(...atlas.batches(atlas.h("ul"), next, () => (press < 3 ? "More" : "")));
        }""")
        button, focused = reader.page.get_by_role("button", name="More"), "document.activeElement.textContent"
        button.press("Enter")
        reader.page.get_by_text("not there").wait_for()
        assert reader.page.evaluate(focused) == "More"
        assert button.get_attribute("aria-disabled") is None
        button.press("Enter")
        reader.page.get_by_text("link 3").wait_for()
        assert reader.page.evaluate(focused) == "link 3"
        assert not button.is_visible()
        assert not reader.page.get_by_text("not there").is_visible()

    def test_a_table_sorts_by_key(self, reader):
        reader.open(address(FULL))
        button = reader.page.get_by_role("columnheader", name="class").get_by_role("button").first
        button.focus()
        reader.page.keyboard.press("Enter")
        assert reader.page.get_by_role("columnheader", name="class").first.get_attribute("aria-sort") == "ascending"


class TestMissingThings:
    def words(self, reader, where: str) -> str:
        return reader.open(where).text

    def test_of_a_model(self, reader):
        text = self.words(reader, address(HOSTILE))
        for what in ("influence patterns: ", "edits: ", "maps of units"):
            assert what in text
        assert "influence patterns: no" not in self.words(reader, address(FULL))
        assert "top images of units: no" in self.words(reader, address(BARE))

    def test_of_an_image(self, reader, world):
        """The pages say what there is, and nothing for what is not."""
        names = world.images[PAIRED]
        first, last = address(FULL, "image", names[0]), address(FULL, "image", names[-1])
        assert "JAS, Influence Pattern" not in reader.open(first).facts()
        assert {"JAS, Neuron Path", "JAS, Random"} <= {*reader.facts()}
        assert {"JAS, Influence Pattern", "JAS, Random"} <= {*reader.open(last).facts()}
        assert "JAS, Neuron Path" not in reader.facts()
        assert not [table for table in reader.tables() if "p before" in table["heads"]]

    def test_a_picture_that_cannot_be_read(self, reader):
        reader.open(address(FULL, "image", f"{FOLDERS[PLAIN]}/{UNREADABLE}"))
        assert "no picture" in reader.text
        assert reader.attributes("main img", "src") == []
        reader.open(address(FULL, "class", PLAIN))
        assert len(reader.attributes(".cards .no-picture", "class")) == 1

    def test_an_image_whose_prediction_no_record_tells(self, reader, world):
        reader.open(address(BARE, "image", world.images[PLAIN][0]))
        assert "null" not in reader.text
        assert reader.facts()["predicted"] == reader.facts()["p of the target"] == "–"
        assert "null" not in reader.open(address(BARE, "class", PLAIN)).text


class TestNames:
    """Names are text: `Reader.check` sees that none of them ran."""

    def test_of_classes(self, reader):
        for label, name in enumerate(FOLDERS):
            escaped = name.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e")
            assert reader.open(address(FULL, "class", label)).title == f"{label} {escaped}"

    def test_of_classes_that_weights_bring(self, reader):
        for label, name in enumerate(NAMED):
            title = f"{label} {name}".replace("\n", "\\n") if name else f"class {label}"
            assert reader.open(address(HOSTILE, "class", label)).title == title

    def test_of_models(self, reader):
        assert reader.open(address(HOSTILE)).title == shown(HOSTILE)

    def test_of_images(self, reader, world):
        ends = tuple(f"/{name}" for name in (*ODD, NESTED, SCRIPT.partition("/")[2]))
        names = [name for found in world.images.values() for name in found if name.endswith(ends)]
        assert len(names) == len(ends)
        for name in names:
            assert reader.open(address(HOSTILE, "image", name)).title == shown(name)

    def test_every_picture_loads(self, reader, world):
        for label in (0, PLAIN):
            reader.open(address(FULL, "class", label))
            for image in reader.page.locator(".cards img").all():
                image.scroll_into_view_if_needed()
            reader.page.wait_for_load_state("networkidle")
            loaded = "[...document.querySelectorAll('.cards img')].map((e) => e.complete && e.naturalWidth > 0)"
            count = len(world.images[label]) - (label == PLAIN)
            assert reader.page.evaluate(loaded) == [True] * count
