"""How files of records are read, ours and the authors' released ones."""

import json
from pathlib import Path

import pytest
from helpers import write_lines
from made import FIRST, KNOWN, LAST, lines, record

from neuronpath.errors import UserError
from neuronpath.records.reading import join, label_files, read_label, read_results


class TestReading:
    def test_a_prefix_that_ends_like_another_is_not_that_one(self, done):
        for name in ("my-all", "all-old", "all-0"):
            for label in (0, 7):
                (done / f"{name}-{label}.rlt.jsonl").write_text(json.dumps(record(KNOWN[0], 9)) + "\n")
        assert label_files(done, "all") == {label: done / f"all-{label}.rlt.jsonl" for label in (0, 2)}
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}

    RELEASED = (
        {"ja": [[5, 1, 4]], "ja_score": [0.5], "base": [[2, 0, 3]], "base_score": [[0.25]], "label": 0},
        {"ja": [6, 2, 5], "ja_score": 0.5, "base": [[[2, 0, 3]]], "base_score": [0.125], "label": [0]},
    )
    NORMALISED = (
        {"ja": [[5], [1], [4]], "ja_score": 0.5, "base": [[2], [0], [3]], "base_score": 0.25, "label": 0},
        {"ja": [[6], [2], [5]], "ja_score": 0.5, "base": [[2], [0], [3]], "base_score": 0.125, "label": 0},
    )

    def write(self, directory: Path, *values, label: int = 0) -> Path:
        file = directory / f"all-{label}.rlt.jsonl"
        write_lines(file, values)
        return file

    def test_our_records_are_read_as_they_are(self, done):
        assert read_results(done, "all") == {0: lines(FIRST), 2: lines(LAST)}

    def test_our_records_are_joined_by_image(self, done):
        found = join(read_label(done / "all-0.rlt.jsonl"), ["whatever"], "here")
        assert found == {item.image: record(item) for item in FIRST}

    def test_path_of_several_neurons_per_layer_stays(self, tmp_path):
        ours = {"image": "a.png", "ja": [[3, 1, 2], [0, 1, 5]], "ja_score": 0.5}
        assert read_label(self.write(tmp_path, ours)) == [ours]

    def test_labels_ascend(self, tmp_path):
        for label in (10, 2, 100):
            self.write(tmp_path, {"image": f"{label}.png"}, label=label)
        assert list(read_results(tmp_path, "all")) == [2, 10, 100]

    @pytest.mark.parametrize("as_list", [False, True])
    def test_released_records(self, tmp_path, as_list):
        values = [list(self.RELEASED)] if as_list else self.RELEASED
        assert read_label(self.write(tmp_path, *values)) == list(self.NORMALISED)

    @pytest.mark.parametrize("batch", [1, 2])
    def test_released_influence_patterns_hold_floats_and_a_batch_in_one(self, tmp_path, batch):
        """influence_pattern.py writes `path.tolist()` of a NumPy array (batch, layers), the MAE's also `score`."""
        path = [[0.0, 1.0, 27.0], [4.0, 3.0, 0.0]][:batch]
        lines = [{"path": path}, {"path": path, "score": [[0.25], [0.5]][:batch]}]
        paths = [[[0], [1], [27]], [[4], [3], [0]]][:batch]
        scores = [0.25, 0.5][:batch]
        found = read_label(self.write(tmp_path, *lines))
        expected = [{"path": p} for p in paths]
        assert found == [*expected, *({"path": p, "score": s} for p, s in zip(paths, scores, strict=True))]
        assert all(type(unit) is int for record in found for layer in record["path"] for unit in layer)

    def test_released_top_k_and_scores(self, tmp_path):
        """topK/path/joint_attr.py writes one record per line, ip_analysis_parallel.py a batch of them."""
        top = {"ja": [[1, 2], [3, 4]], "ja_score": [[0.5]], "base": [[5, 6], [7, 8]], "base_score": [[0.25]]}
        batch = [{"ja": [[1, 2]], "ja_score": [0.5]}, {"ja": [[3, 4]], "ja_score": [0.75]}]
        found = read_label(self.write(tmp_path, top, batch))
        assert found == [
            {"ja": [[1, 2], [3, 4]], "ja_score": 0.5, "base": [[5, 6], [7, 8]], "base_score": 0.25},
            {"ja": [[1], [2]], "ja_score": 0.5},
            {"ja": [[3], [4]], "ja_score": 0.75},
        ]

    def test_a_fraction_is_no_unit(self, tmp_path):
        assert read_label(self.write(tmp_path, {"path": [0.5, 1.0]})) == [{"path": [0.5, [1]]}]

    def test_a_second_record_of_an_image_names_file_and_line(self, done):
        file = done / "all-0.rlt.jsonl"
        first, *rest = file.read_text().splitlines()
        file.write_text("\n".join([first, *rest, first]) + "\n")
        for read_them in (lambda: read_label(file), lambda: read_results(done, "all")):
            with pytest.raises(UserError, match="line 4: a second record of ä/0"):
                read_them()

    def test_released_edits(self, tmp_path):
        released = {"method": "ja", "path": [[4, 7]], "base": [0.5], "remove": [[0.25]], "enhance": 0.75}
        expected = {"method": "ja", "path": [[4], [7]], "original": 0.5, "remove": 0.25, "enhance": 0.75}
        assert read_label(self.write(tmp_path, [released])) == [expected]

    def test_released_records_are_joined_by_position_with_a_warning(self, tmp_path):
        found = read_label(self.write(tmp_path, list(self.RELEASED)))
        with pytest.warns(UserWarning, match=r"here.*position"):
            assert join(found, ["x.png", "y.png"], "here") == dict(zip(["x.png", "y.png"], found, strict=True))

    @pytest.mark.parametrize("images", [["x.png"], ["x.png", "y.png", "z.png"], []])
    def test_released_records_of_another_count_are_not_joined(self, tmp_path, images):
        found = read_label(self.write(tmp_path, list(self.RELEASED)))
        with pytest.raises(UserError, match=rf"here.* 2 .*{len(images)}"):
            join(found, images, "here")

    @pytest.mark.parametrize("line", ["", "{", '{"image": "a.png", "prob": NaN}', "3", '[{"image": "a.png"}, 3]'])
    def test_broken_line(self, done, line):
        file = done / "all-0.rlt.jsonl"
        first, *rest = file.read_text().splitlines()
        file.write_text("\n".join([first, line, *rest]) + "\n")
        with pytest.raises(UserError) as caught:
            read_label(file)
        assert f"{file}, line 2" in str(caught.value)

    def test_torn_last_line_is_not_passed_over(self, done):
        file = done / "all-0.rlt.jsonl"
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(UserError, match="line 3"):
            read_label(file)

    def test_no_records(self, tmp_path, done):
        for directory, prefix in ((tmp_path / "nowhere", "all"), (done, "other"), (done, "al")):
            with pytest.raises(UserError, match=f"{directory.name}.*{prefix}"):
                read_results(directory, prefix)
