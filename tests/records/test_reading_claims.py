"""Reading records: which files, which lines, what the authors' layout becomes, and what each fault is called."""

import json
import re
from pathlib import Path

import pytest
from helpers import fault

from neuronpath.records.reading import (
    UNFINISHED,
    join,
    label_file,
    label_files,
    parse_lines,
    read_class,
    read_label,
    read_results,
)


def write(file: Path, *lines: object) -> Path:
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


@pytest.fixture
def file(tmp_path) -> Path:
    return label_file(tmp_path, "all", 3)


class TestFiles:
    def test_names(self, tmp_path):
        assert label_file(tmp_path, "a.b", 10) == tmp_path / "a.b-10.rlt.jsonl"
        assert UNFINISHED == ".partial"
        others = ("a.b-1.rlt.jsonl.partial", "a.b-x.rlt.jsonl", "a.b-.rlt.jsonl", "a.b-1.jsonl", "axb-5.rlt.jsonl")
        for name in (*others, "a.b-10.rlt.jsonl", "a.b-9.rlt.jsonl", "a.b--1.rlt.jsonl", "a.b-1.rlt.jsonlx"):
            (tmp_path / name).touch()
        assert list(label_files(tmp_path, "a.b").items()) == [(i, label_file(tmp_path, "a.b", i)) for i in (9, 10)]
        assert label_files(tmp_path / "nowhere", "a.b") == {}

    def test_the_default_prefix_and_where_there_are_none(self, tmp_path):
        write(label_file(tmp_path, "imgnet_all", 2), {"image": "a"})
        assert read_results(str(tmp_path)) == {2: [{"image": "a"}]}
        said = f"{tmp_path}: no records named x-<label>.rlt.jsonl there; check folder and prefix"
        assert fault(read_results, tmp_path, "x") == said

    def test_an_unfinished_file_is_refused(self, file):
        write(file, {"image": "a"})
        file.with_name(file.name + UNFINISHED).touch()
        said = f"{file}: an --overwrite run of it is unfinished; repeat that command without --overwrite"
        assert fault(read_label, file) == said


class TestLines:
    def test_numbers_and_places_in_bytes(self, file):
        file.write_bytes('{"ä": 1}\n[2]\r\n3\n'.encode())
        assert list(parse_lines(file)) == [(1, 10, {"ä": 1}), (2, 15, [2]), (3, 17, 3)]

    @pytest.mark.parametrize(
        ("content", "kept"),
        [
            (b"1\n2\n", [1, 2]),
            (b"1\n2", [1]),
            (b"1\n{", [1]),
            (b"1\n{\n", [1]),
            (b"1\n\xff\n", [1]),
            (b"1\n" + b"[" * 100_000 + b"\n", [1]),
            (b"2", []),
            (b"", []),
        ],
    )
    def test_a_torn_last_line_is_left_out_on_request(self, file, content, kept):
        file.write_bytes(content)
        assert [value for *_, value in parse_lines(file, tear=True)] == kept

    @pytest.mark.parametrize("tear", [False, True])
    def test_a_broken_line_says_where_and_what_to_do(self, file, tear):
        file.write_bytes(b"1\n{\n3\n")
        said = fault(lambda: list(parse_lines(file, tear)))
        assert said.startswith(f"{file}, line 2: not a record (")
        assert said.endswith("); mend or remove the line, or start anew with --overwrite")

    @pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
    def test_words_that_are_no_json(self, file, word):
        write(file, f'{{"prob": {word}}}')
        assert f"line 1: not a record ({word} is not JSON)" in fault(read_label, file)

    def test_an_unended_last_line_is_read_where_a_whole_file_is_expected(self, file):
        file.write_bytes(b'{"image": "a"}\n{"image": "b"}')
        assert [record["image"] for record in read_label(file)] == ["a", "b"]

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ([{"image": "a"}, 3], "line 2: neither a record nor a list of records"),
            ([{"image": "a"}, [{"image": "b"}, 3]], "line 2: neither a record nor a list of records"),
            ([{"image": "a"}, {"image": 3}], "line 2: an image whose name is no text; mend or remove the line"),
            ([{"image": "b"}, {"image": "a"}, {"image": "a"}], "line 3: a second record of a; mend or remove the line"),
            ([[{"image": "a"}, {"image": "a"}]], "line 1: a second record of a; mend or remove the line"),
        ],
    )
    def test_faults_of_a_label_file(self, file, lines, said):
        assert fault(read_label, write(file, *lines)) == f"{file}, {said}"


class TestClass:
    IMAGES = ("a", "b", "c")

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            (
                [{"image": "a"}, {"image": "x"}],
                "line 2: x: no image of label 3 in this data set; give the data set of the records, or remove the line",
            ),
            ([{"image": "a", "label": 2}], "line 1: a: its label is not 3; mend or remove the line"),
            ([{"image": "a"}, {"image": "b", "ja": 1}], "line 2: b: ja is bad"),
            ([{"image": "a"}, {"ja": 1}], "line 2: a record that names no image; mend or remove the line"),
            ([[{"image": "a"}, {"image": "c"}], {"image": "b", "ja": 1}], "line 2: b: ja is bad"),
        ],
    )
    def test_faults(self, file, lines, said):
        def check(record: dict) -> str:
            return "ja is bad" if "ja" in record else ""

        assert fault(read_class, write(file, *lines), 3, self.IMAGES, check) == f"{file}, {said}"

    def test_sound_records_are_by_image_in_the_files_order(self, file):
        lines = [{"image": "c", "label": 3}, {"image": "a"}]
        found = read_class(write(file, *lines), 3, self.IMAGES, lambda record: "")
        assert list(found.items()) == [("c", lines[0]), ("a", lines[1])]
        write(file)
        assert read_class(file, 3, self.IMAGES, lambda record: "it is bad") == {}

    def test_the_authors_are_joined_by_position(self, file):
        write(file, {"ja": [[1, 2]]}, {"ja": [[3, 4]]}, {"ja": [[5, 6]]})
        with pytest.warns(
            UserWarning, match=f"^{re.escape(str(file))}: its records name no images; they are joined by position$"
        ):
            found = read_class(file, 3, self.IMAGES, lambda record: "")
        assert found == {"a": {"ja": [[1], [2]]}, "b": {"ja": [[3], [4]]}, "c": {"ja": [[5], [6]]}}
        assert fault(read_class, file, 3, ["a", "b"], lambda record: "") == (
            f"{file}: its 3 records name no images and cannot be joined by position to the 2 images of this class; "
            "give the same images"
        )

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_the_authors_of_another_count_are_not_joined(self, count):
        assert f"here: its {count} records name no images" in fault(join, [{}] * count, self.IMAGES, "here")

    @pytest.mark.parametrize(
        ("records", "said"),
        [
            ([{"image": "a"}, {"image": "a"}], "a second record of a"),
            ([{"image": "a"}, {}], "a record that names no image"),
            ([{}, {"image": "a"}], "a record that names no image"),
            ([{"image": 3}], "a record that names no image"),
        ],
    )
    def test_without_lines_the_place_is_named(self, records, said):
        assert fault(join, records, self.IMAGES, "here") == f"here: {said}; mend or remove the line"

    def test_no_records_are_of_no_image(self, recwarn):
        assert join([], self.IMAGES, "here") == {}
        assert not recwarn


class TestReleased:
    @pytest.mark.parametrize(
        ("released", "ours"),
        [
            ({"ja": [[[5, 1]]], "ja_score": [[[0.5]]]}, [{"ja": [[5], [1]], "ja_score": 0.5}]),
            ({"ja": [[5, 1], [2, 3]], "ja_score": 1}, [{"ja": [[5, 1], [2, 3]], "ja_score": 1}]),
            ({"ja": [7]}, [{"ja": [[7]]}]),
            ({"ja": 7, "label": [[7]]}, [{"ja": [[7]], "label": 7}]),
            ({"ja": "x", "base": [True, 2]}, [{"ja": "x", "base": [True, [2]]}]),
            ({"ja_act": [[1, 2]], "margin": [1, 2]}, [{"ja_act": [1, 2], "margin": [1, 2]}]),
            ({"path": [[1.0, 2.0], [3.0, 4.0]]}, [{"path": [[1], [2]]}, {"path": [[3], [4]]}]),
            ({"path": [[1, 2], [3, 4]]}, [{"path": [[1, 2], [3, 4]]}]),
            ({"path": [[1.0, 2.5]]}, [{"path": [[1], 2.5]}]),
            (
                {"base": [0.5], "base_label": [3], "remove": 0.25, "remove_label": 1},
                [{"original": 0.5, "original_label": 3, "remove": 0.25, "remove_label": 1}],
            ),
            (
                {"base": [2, 3], "original": 0.5, "remove": 0.25},
                [{"base": [[2], [3]], "original": 0.5, "remove": 0.25}],
            ),
            ({"base": [2, 3], "base_label": 4}, [{"base": [[2], [3]], "base_label": 4}]),
            ({"remove": [0.25]}, [{"remove": 0.25}]),
        ],
    )
    def test_what_it_becomes(self, file, released, ours):
        assert read_label(write(file, released)) == ours
        assert read_label(write(file, [released])) == ours

    def test_ours_stay_as_they_are(self, file):
        ours = {"image": "a", "ja": [[3.0]], "base": [0.5], "remove": [0.25], "path": [[1.0, 2.0], [3.0, 4.0]]}
        assert read_label(write(file, ours)) == [ours]
