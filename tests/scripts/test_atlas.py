"""scripts/atlas.py: what it prints, what it refuses, what it leaves alone."""

import json

import numpy as np
import pytest
from atlases import BARE, FULL, HOSTILE, PLAIN, PREFIX, World, make_world, shown
from helpers import change_line, contents, read_lines, run_file

ARGS = f"{PREFIX}.args.json"
FILE = f"{PREFIX}-{PLAIN}.rlt.jsonl"


@pytest.fixture
def fresh(tmp_path) -> World:
    """Records without an atlas, for changing."""
    return make_world(tmp_path)


def pictures(world: World) -> dict[str, int]:
    """Their times of change."""
    return {file.name: file.stat().st_mtime_ns for file in (world.output / "thumbs").rglob("*.*")}


class TestWhatIsSaid:
    def test_what_is_missing_and_where_the_page_is(self, fresh):
        """Names from outside with escapes: a line break in one cannot feign a line."""
        found = fresh.build("--models", FULL, BARE, HOSTILE, "--thumbnail_size", 0).expect()
        *lines, last = found.stdout.splitlines()
        assert last == f"atlas       {fresh.output.resolve() / 'index.html'}"
        assert lines == [line for line in lines if line.startswith("missing     ")]
        assert all(line.isprintable() for line in lines)
        of = {
            name: [line for line in lines if line.startswith(f"missing     {name}: ")]
            for name in (FULL, BARE, HOSTILE.replace("\u2028", "\\u2028").replace("\u202e", "\\u202e"))
        }
        full, bare, hostile = of.values()
        assert len(full) + len(bare) + len(hostile) == len(lines)
        assert not [line for line in full if "top images" not in line]
        for told in (bare, hostile):
            assert "influence patterns: no records in influence_pattern/" in told[0]
            assert "path/influence_pattern.py or influence_pattern_mae.py makes them" in told[0]
            assert "edits: no records in edit/remove_enhance/<method>/" in told[1]
        assert found.messages == []

    def test_pictures_that_cannot_be_read(self, fresh):
        assert "pictures    1 images cannot be read and have none" in fresh.build("--models", BARE).expect().stdout

    def test_no_data_set(self, fresh):
        """The rest is built; one that was named must be there."""
        words = ("--results", fresh.results, "--models", BARE, "--output", fresh.output)
        found = run_file("scripts/atlas.py", *words, "--dataset_path", fresh.results / "none")
        assert str(fresh.results / "none") in found.fault
        assert not fresh.output.exists()
        assert "missing     one class: pictures: " in run_file("scripts/atlas.py", *words).expect().stdout
        assert not (fresh.output / "thumbs").exists()


class TestRefusals:
    def test_an_unknown_model(self, fresh):
        fault = fresh.build("--models", FULL, "nothing").fault
        assert f"--models: {fresh.results} has no records of nothing; choose among " in fault
        assert FULL in fault
        assert not fresh.output.exists()

    def test_no_records(self, fresh, tmp_path):
        found = run_file("scripts/atlas.py", "--results", tmp_path / "none", "--output", fresh.output)
        assert f"{tmp_path / 'none'}: no {PREFIX} records" in found.fault
        assert not fresh.output.exists()

    def test_another_folder_is_left_alone(self, fresh):
        fresh.output.mkdir()
        (fresh.output / "thesis.txt").write_text("text")
        assert "something else than an atlas; choose another --output" in fresh.build().fault
        assert contents(fresh.output) == {"thesis.txt": b"text"}

    def test_a_file_is_left_alone(self, fresh):
        fresh.output.write_text("text")
        assert str(fresh.output) in fresh.build().fault
        assert fresh.output.read_text() == "text"

    @pytest.mark.parametrize("strange", ["data.new", "data"])
    def test_a_folder_that_has_a_part_of_the_same_name(self, fresh, strange):
        """`data` or `data.new` alone do not make an atlas."""
        (fresh.output / strange).mkdir(parents=True)
        (fresh.output / strange / "mine.txt").write_text("text")
        (fresh.output / "thesis.txt").write_text("text")
        assert "something else than an atlas" in fresh.build().fault
        assert (fresh.output / strange / "mine.txt").read_text() == "text"

    @pytest.mark.parametrize("pixels", ["-1", "x"])
    def test_a_size_of_pictures(self, fresh, pixels):
        assert "--thumbnail_size" in fresh.build("--thumbnail_size", pixels).expect(2).stderr


class TestBrokenRecords:
    """One line that names the file, and exit code 2; an atlas of before stays."""

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"ja": [[0], [40], [0], [0], [0]]}, "ja is not"),
            ({"ja": [[0]] * 6}, "ja is not"),
            ({"ja": "x"}, "ja is not"),
            ({"ja": [[0, 1]] * 5}, "one K per folder"),
            ({"ja_score": None}, "ja_score is not"),
            ({"prob": "1"}, "prob is not"),
            ({"pred": 6}, "pred is not"),
            ({"margin": [0.5]}, "margin is not"),
        ],
    )
    def test_values(self, fresh, change, words):
        fresh.build("--models", BARE, "--thumbnail_size", 0).expect()
        before = {file: file.read_bytes() for file in fresh.output.rglob("*.js")}
        change_line(fresh.results / "ja" / FULL / FILE, 0, **change)
        fault = fresh.build("--models", FULL, "--thumbnail_size", 0).fault
        assert words in fault
        assert str(fresh.results / "ja" / FULL) in fault
        assert {file: file.read_bytes() for file in before} == before

    @pytest.mark.parametrize("text", ["NaN", "1e999", "Infinity"])
    def test_numbers_that_are_none(self, fresh, text):
        file = fresh.results / "ja" / FULL / FILE
        record = read_lines(file)[0]
        line = json.dumps({**record, "ja_score": "here"}).replace('"here"', text)
        file.write_text(line + "\n" + file.read_text().partition("\n")[2])
        assert str(file) in fresh.build("--models", FULL).fault

    def test_a_line_that_is_no_record(self, fresh):
        file = fresh.results / "influence_pattern" / FULL / FILE
        file.write_text(file.read_text() + '{"image": \n')
        assert f"{file}, line " in fresh.build("--models", FULL).fault

    def test_records_without_their_score(self, fresh):
        file = fresh.results / "ja" / BARE / FILE
        lines = [{key: value for key, value in r.items() if key != "base_score"} for r in read_lines(file)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert "without base_score" in fresh.build("--models", BARE).fault


class TestWhatIsNotTheAtlas:
    def test_a_site_with_a_file_of_the_same_name_is_left_alone(self, fresh):
        (fresh.output / "data").mkdir(parents=True)
        (fresh.output / "data/index.js").write_text("var site = 1;")
        assert "something else than an atlas" in fresh.build().fault
        assert [file.name for file in fresh.output.rglob("*") if file.is_file()] == ["index.js"]

    @pytest.mark.parametrize("name", ["data", "data.new", "thumbs"])
    def test_links_are_not_followed(self, fresh, tmp_path, name):
        fresh.build("--models", BARE).expect()
        elsewhere = tmp_path / "elsewhere"
        if (fresh.output / name).exists():
            (fresh.output / name).rename(elsewhere)
        else:
            elsewhere.mkdir()
        (fresh.output / name).symlink_to(elsewhere)
        before = sorted(elsewhere.rglob("*"))
        assert f"{name}: a link" in fresh.build("--models", BARE).fault
        assert sorted(elsewhere.rglob("*")) == before

    def test_pictures_stay_where_none_are_made(self, fresh):
        fresh.build("--models", BARE).expect()
        before = pictures(fresh)
        fresh.build("--models", BARE, "--thumbnail_size", 0).expect()
        assert pictures(fresh) == before


class TestMapsAndTopImages:
    def test_those_of_others_are_left_out_and_said(self, fresh):
        folder = fresh.results / "top_images" / FULL
        for i, file in enumerate(sorted(folder.glob("maps-*.npz"))):
            with np.load(file) as found:
                arrays = dict(found)
            np.savez(file, **{**arrays, "made_of": (json.dumps({"top_images": "0"}), "{broken", "[]")[i % 3]})
        assert f"missing     {FULL}: maps of units: " in fresh.build("--models", FULL).expect().stdout
        for file, sha in ((folder / "top_images.args.json", "a"), (fresh.results / "ja" / FULL / ARGS, "b")):
            args = json.loads(file.read_text()) if file.exists() else {"job": "x", "versions": {}, "settings": {}}
            file.write_text(json.dumps({**args, "settings": {**args["settings"], "checkpoint_sha256": sha}}))
        printed = fresh.build("--models", FULL).expect().stdout
        assert "is of other weights than the records" in printed


class TestASecondRun:
    def test_reuses_pictures_and_removes_stale_ones(self, fresh):
        fresh.build("--models", FULL).expect()
        before = pictures(fresh)
        assert len(before) == sum(map(len, fresh.images.values())) - 1
        stale, theirs = (fresh.output / "thumbs/00" / name for name in ("0123456789abcdef01.png", "holiday.png"))
        stale.parent.mkdir(exist_ok=True)
        stale.write_bytes(b"")
        theirs.write_bytes(b"")
        fresh.build("--models", FULL).expect()
        assert theirs.exists(), "what the atlas has not made is left alone"
        theirs.unlink()
        assert pictures(fresh) == before
        fresh.build("--models", BARE).expect()
        assert pictures(fresh).items() < before.items()
        assert len(pictures(fresh)) == len(fresh.images[PLAIN]) - 1
        fresh.build("--models", BARE, "--thumbnail_size", 20).expect()
        assert not pictures(fresh).keys() & before.keys()

    def test_a_changed_image_has_a_new_picture(self, fresh):
        fresh.build("--models", BARE).expect()
        before = pictures(fresh)
        file, other = (fresh.dataset / name for name in fresh.images[PLAIN][:2])
        file.write_bytes(other.read_bytes())
        fresh.build("--models", BARE).expect()
        assert len(before.keys() - pictures(fresh).keys()) == 1

    def test_shows_the_models_that_were_asked_for(self, fresh):
        fresh.build("--thumbnail_size", 0).expect()
        assert len([*(fresh.output / "data").glob("m*")]) == 3
        fresh.build("--models", BARE, BARE, "--thumbnail_size", 0).expect()
        assert [folder.name for folder in (fresh.output / "data").glob("m*")] == ["m0"]
        assert shown(BARE) in (fresh.output / "data/index.js").read_text()
        assert FULL not in (fresh.output / "data/index.js").read_text()

    def test_what_a_killed_run_left_is_cleared(self, fresh):
        left = fresh.output / "data.new/m0/class/0.js"
        left.parent.mkdir(parents=True)
        left.write_text("half of")
        (fresh.output / "thumbs").mkdir()
        (fresh.output / "index.html").touch()
        fresh.build("--models", BARE, "--thumbnail_size", 0).expect()
        assert not (fresh.output / "data.new").exists()
        assert {path.name for path in (fresh.output / "data/m0/class").iterdir()} == {f"{PLAIN}.js"}

    def test_equals_the_first(self, fresh):
        """Byte for byte."""
        fresh.build("--models", FULL, "--thumbnail_size", 0).expect()
        first = {file: file.read_bytes() for file in fresh.output.rglob("*.js")}
        fresh.build("--models", FULL, "--thumbnail_size", 0).expect()
        assert {file: file.read_bytes() for file in fresh.output.rglob("*.js")} == first
