"""Edits that go on, and the paths that they read: what fits, and what is said of the rest."""

import json
from pathlib import Path

import oracle
import pytest
import torch
from helpers import (
    IMAGES,
    LABELS,
    assert_same_edits,
    change_line,
    contents,
    random_model,
    read_lines,
    records,
    run_job,
    tiny_config,
    write_lines,
)
from made import write_paths

from neuronpath.models.checkpoint import save
from neuronpath.records.args import Args
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import InfluencePattern, JointAttribution


class TestGoingOn:
    def test_after_a_kill(self, edits):
        write_paths(edits.ja)
        more = ("--method", "random", "--gain", 0.5)
        edits(*more)
        before, file = records(edits.out), edits.out / "imgnet_all-3.rlt.jsonl"
        whole = contents(edits.out)
        assert "0 new, 11 from earlier" in edits(*more)
        assert contents(edits.out) == whole
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:2]) + lines[2][:50])
        (edits.out / "imgnet_all-1.rlt.jsonl").unlink()
        assert "4 new, 7 from earlier" in edits(*more, "--batch_size", 3)
        assert_same_edits(records(edits.out), before)

    def test_selection_grows(self, edits, tmp_path):
        write_paths(edits.ja)
        edits(out=tmp_path / "whole")
        edits("--images_per_class", 1)
        assert list(records(edits.out)) == [f"class{label}/00.png" for label in range(4)]
        assert "7 new, 4 from earlier" in edits()
        assert_same_edits(records(edits.out), records(tmp_path / "whole"))

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--method", "base"), "method ja → base"),
            (("--gain", "0.5"), "gain [3.0] → [0.5]"),
            (("--gain", "3", "0.5"), "gain [3.0] → [3.0, 0.5]"),
            ((), "gain [3.0] → None"),
            (("--gain", "3", "--seed", "1"), "seed 42 → 1"),
            (("--gain", "3", "--precision", "fp64"), "precision fp32 → fp64"),
        ],
    )
    def test_other_settings_are_refused(self, edits, more, words):
        write_paths(edits.ja)
        edits("--gain", 3)
        if "base" in more:
            write_paths(edits.ja, "base")
            more = (*more, "--gain", "3")
        before = contents(edits.out)
        message = edits(*more, code=2)
        assert words in message
        assert "\n" not in message
        assert contents(edits.out) == before
        edits(*more, "--overwrite")
        assert list(records(edits.out)) == IMAGES

    @pytest.mark.parametrize("method", ["ja", "random"])
    def test_other_paths_are_refused(self, edits, method):
        paths = write_paths(edits.ja)
        edits("--method", method)
        before, other = contents(edits.out), [[(layer[0] + 1) % 28] for layer in paths["class3/01.png"]]
        change_line(edits.ja / "imgnet_all-3.rlt.jsonl", 1, ja=other)
        message = edits("--method", method, code=2)
        assert f"{edits.out / 'imgnet_all-3.rlt.jsonl'}, line 2" in message
        assert "path" in message
        assert contents(edits.out) == before
        edits("--method", method, "--labels", "0-2")
        edits("--method", method, "--overwrite")
        assert records(edits.out)["class3/01.png"]["path"] == other

    def test_folder_of_the_search_is_refused(self, edits):
        edits.search()
        before = contents(edits.ja)
        for more in ((), ("--overwrite",)):
            assert "joint_attr" in edits(*more, out=edits.ja, code=2)
        assert contents(edits.ja) == before

    @pytest.mark.parametrize("key", ["remove", "enhance_label", "path", "method", "original"])
    def test_records_that_lack_something(self, edits, key):
        write_paths(edits.ja)
        edits()
        file = edits.out / "imgnet_all-0.rlt.jsonl"
        lines = read_lines(file)
        del lines[1][key]
        write_lines(file, lines)
        message = edits(code=2)
        assert f"{file}, line 2" in message
        assert key in message


class TestPaths:
    """What is read of the search, and what is said when it does not fit."""

    def test_image_without_a_path(self, edits):
        paths = write_paths(edits.ja)
        file = edits.ja / "imgnet_all-3.rlt.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:1] + lines[2:]))
        message = edits.refused()
        assert "class3/01.png" in message
        assert str(edits.ja) in message
        assert "--on_bad_image skip" in message
        listed = edits.out / "imgnet_all.skipped.jsonl"
        for _ in range(2):
            assert str(listed) in edits("--on_bad_image", "skip", code=3)
            found = records(edits.out)
            assert list(found) == [image for image in IMAGES if image != "class3/01.png"]
            assert all(record["path"] == paths[image] for image, record in found.items())
            (entry,) = (json.loads(line) for line in listed.read_text().splitlines())
            assert (entry["image"], entry["label"]) == ("class3/01.png", 3)
            assert str(edits.ja) in entry["error"]
        write_paths(edits.ja)
        assert "1 new, 10 from earlier" in edits("--on_bad_image", "skip")
        assert list(records(edits.out)) == IMAGES
        assert not listed.exists()

    def test_unreadable_image_and_image_without_a_path(self, edits):
        write_paths(edits.ja)
        (edits.ja / "imgnet_all-1.rlt.jsonl").unlink()
        (edits.images / "class3" / "02.png").write_text("no image")
        edits("--on_bad_image", "skip", "--batch_size", 2, code=3)
        skipped = (edits.out / "imgnet_all.skipped.jsonl").read_text().splitlines()
        assert [json.loads(line)["image"] for line in skipped] == ["class1/00.png", "class3/02.png"]
        assert list(records(edits.out)) == [i for i in IMAGES if i not in ("class1/00.png", "class3/02.png")]

    def test_label_file_missing(self, edits):
        write_paths(edits.ja)
        (edits.ja / "imgnet_all-2.rlt.jsonl").unlink()
        message = edits.refused()
        assert "class2/00.png" in message
        assert str(edits.ja) in message
        edits("--on_bad_image", "skip", code=3)
        assert list(records(edits.out)) == [image for image in IMAGES if LABELS[image] != 2]

    @pytest.mark.parametrize(
        ("method", "option", "name"),
        [("ja", "--ja_path", "ja"), ("base", "--ja_path", "ja"), ("random", "--ja_path", "ja"),
         ("influence_pattern", "--influence_pattern_path", "influence")],
    )  # fmt: skip
    def test_folder_missing(self, edits, method, option, name):
        write_paths({"ja": edits.influence, "influence": edits.ja}[name])
        message = edits.refused("--method", method)
        assert str(edits.influence if name == "influence" else edits.ja) in message
        assert option in message

    def test_empty_folder(self, edits):
        edits.ja.mkdir()
        assert IMAGES[0] in edits.refused()
        edits("--on_bad_image", "skip", code=3)
        assert not list(edits.out.glob("*.rlt.jsonl"))

    @pytest.mark.parametrize(
        "path",
        [
            [[1]] * 5,
            [[1]] * 7,
            [[1]] * 5 + [[28]],
            [[1]] * 5 + [[-1]],
            [[1]] * 5 + [[3, 3]],
            [[1]] * 5 + [[]],
            [[1]] * 5 + [["1"]],
            [[1]] * 5 + [[1.0]],
            [[1]] * 5 + [[True]],
            [[1]] * 5 + [3],
            [1] * 6,
            "path",
            None,
            {},
        ],
        ids=str,
    )
    def test_bad_path(self, edits, path):
        write_paths(edits.ja)
        file = edits.ja / "imgnet_all-2.rlt.jsonl"
        change_line(file, 1, ja=path)
        for method in ("ja", "random"):
            message = edits.refused("--method", method)
            assert str(file) in message
            assert "class2/01.png" in message
        assert str(file) in edits.refused("--on_bad_image", "skip")
        edits("--labels", "0,1,3")

    @pytest.mark.parametrize("method", ["ja", "random"])
    @pytest.mark.parametrize("where", ["layers", "images"])
    def test_paths_of_several_lengths_are_no_traceback(self, edits, method, where):
        """Edited each as it is, or refused in one line."""
        paths = write_paths(edits.ja, k=2)
        path = paths["class2/01.png"]
        path = [*path[:-1], path[-1][:1]] if where == "layers" else [layer[:1] for layer in path]
        change_line(edits.ja / "imgnet_all-2.rlt.jsonl", 1, ja=path)
        result = run_job(Edit, *edits.words("--method", method))
        assert result.code == 0 or "class2/01.png" in result.fault

    def test_paths_that_leave_too_few_units_for_the_control(self, edits):
        """28 units, 15 of them the path's: 13 cannot stand for 15."""
        write_paths(edits.ja, k=15)
        edits("--method", "ja")
        edits("--method", "random", out=edits.out / "random", code=2)

    def test_records_of_another_search(self, edits):
        write_paths(edits.ja, "path")
        write_paths(edits.influence, "ja")
        for method, folder in (("ja", edits.ja), ("base", edits.ja), ("influence_pattern", edits.influence)):
            assert str(folder) in edits.refused("--method", method)

    @pytest.mark.parametrize("line", ["", "{", "3", '{"image": "class2/01.png", "ja": NaN}'])
    def test_broken_line(self, edits, line):
        write_paths(edits.ja)
        file = edits.ja / "imgnet_all-2.rlt.jsonl"
        first, _ = file.read_text().splitlines()
        file.write_text(f"{first}\n{line}\n")
        assert f"{file}, line 2" in edits.refused()

    def released(self, edits, label: int, paths: list) -> Path:
        """A label file as the authors' scripts write it: one list, no images, flat paths."""
        file = edits.ja / f"imgnet_all-{label}.rlt.jsonl"
        lines = [{"label": [label], "ja": [[u for (u,) in path]], "ja_score": [[0.5]]} for path in paths]
        file.write_text(json.dumps(lines) + "\n")
        return file

    def test_released_records_are_joined_by_position(self, edits, tmp_path):
        paths = write_paths(edits.ja)
        edits(out=tmp_path / "ours")
        for label in (0, 1, 3):
            file = self.released(edits, label, [paths[image] for image in IMAGES if LABELS[image] == label])
        edits()
        assert_same_edits(records(edits.out), records(tmp_path / "ours"))
        warned = [line for line in edits.stderr.splitlines() if "warning" in line]
        assert sum("position" in line for line in warned) == 3
        assert any(str(file) in line for line in warned)

    def test_released_records_and_a_part_of_the_images(self, edits):
        paths = write_paths(edits.ja)
        self.released(edits, 3, [paths[image] for image in IMAGES if LABELS[image] == 3])
        edits("--images_per_class", 2)
        found = records(edits.out)
        assert all(record["path"] == paths[image] for image, record in found.items())
        assert sum(image.startswith("class3") for image in found) == 2

    @pytest.mark.parametrize("count", [0, 4, 6])
    def test_released_records_of_another_count_are_refused(self, edits, count):
        paths = write_paths(edits.ja)
        own = [paths[image] for image in IMAGES if LABELS[image] == 3]
        file = self.released(edits, 3, (own * 2)[:count])
        if count:
            message = edits.refused()
            assert str(file) in message
            assert "position" in message
        else:
            assert "class3/00.png" in edits.refused()

    def test_found_in_other_circumstances(self, edits, tmp_path):
        edits.search()
        edits()
        assert "warning" not in edits.stderr
        edits("--preprocess", "native", "--img_size", 12, out=tmp_path / "other")
        (warned,) = (line for line in edits.stderr.splitlines() if "warning" in line and "other settings" in line)
        assert "preprocess paper → native" in warned
        assert "model_img_size 9 → 12" in warned
        assert str(edits.ja) in warned

    def test_found_on_other_images_or_for_another_target(self, edits, tmp_path):
        edits.search(JointAttribution, edits.ja, "--target", "pred")
        edits("--dataset", "digits")
        (warned,) = (line for line in edits.stderr.splitlines() if "other settings" in line)
        assert "dataset imagefolder → digits" in warned
        assert "target pred → label" in warned
        paths = Args.read(edits.out / "imgnet_all.args.json").paths
        assert {"target": "pred", "quadrature": "right", "ig_total_step": 2}.items() <= paths.items()

    @pytest.mark.parametrize("method", ["ja", "random", "influence_pattern"])
    def test_found_on_other_weights(self, edits, tmp_path, method):
        kind, folder = (
            (InfluencePattern, edits.influence) if method == "influence_pattern" else (JointAttribution, edits.ja)
        )
        edits.search(kind, folder)
        other = tmp_path / "other.npz"
        save(random_model(tiny_config(), seed=1, dtype=torch.float32), other)
        message = edits.refused("--method", method, checkpoint=other)
        assert "other weights" in message
        assert "--allow_other_weights" in message
        assert str(folder) in message
        edits("--method", method, "--allow_other_weights", checkpoint=other)
        assert any("checkpoint_sha256" in line for line in edits.stderr.splitlines() if "warning" in line)
        assert list(records(edits.out)) == IMAGES

    def test_another_precision_or_data_set_is_refused_on_resuming(self, edits):
        write_paths(edits.ja)
        edits("--labels", "0,1")
        assert "precision fp32 → fp64" in edits("--precision", "fp64", code=2)
        assert "dataset imagefolder → digits" in edits("--dataset", "digits", code=2)

    def test_a_control_that_was_drawn_by_rank_is_not_gone_on_from(self, edits):
        write_paths(edits.ja)
        edits("--method", "random", "--labels", "0,1")
        file = edits.out / "imgnet_all.args.json"
        made = json.loads(file.read_text())
        assert made["settings"].pop("control") == "weight"
        file.write_text(json.dumps(made))
        assert "control rank → weight" in edits("--method", "random", code=2)
        edits("--method", "random", "--overwrite")
        assert all("control_ratio" in record for record in records(edits.out).values())

    def test_records_of_a_control_that_does_not_tell_how_well_it_matches(self, edits):
        write_paths(edits.ja)
        edits("--method", "random", "--labels", "0,1")
        file = edits.out / "imgnet_all-0.rlt.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        del lines[1]["control_ratio"]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert "control_ratio is missing" in edits("--method", "random", code=2)

    def test_search_that_is_being_overwritten(self, edits):
        write_paths(edits.ja)
        (edits.ja / "imgnet_all-1.rlt.jsonl.partial").touch()
        assert "imgnet_all-1.rlt.jsonl" in edits.refused()


class TestTopK:
    @pytest.mark.parametrize("operation", ["remove", "enhance"])
    @pytest.mark.parametrize("k", [2, 5])
    def test_remove_and_enhance_the_first_k(self, topk, tmp_path, operation, k):
        topk("--edit_operation", operation, "--topK", k, out=tmp_path)
        model, images = topk.loaded()
        paths, factor = records(topk.ja), {"remove": 0, "enhance": 2}[operation]
        other = {"remove": "enhance", "enhance": "remove"}[operation]
        for image, record in records(tmp_path).items():
            path = [layer[:k] for layer in paths[image]["ja"]]
            expected = oracle.edited(model, images[image], oracle.path_factors(model, path, factor))
            assert record["path"] == path
            assert other not in record
            assert record[operation] == pytest.approx(expected[record["label"]].item(), rel=1e-9)
            assert record[f"{operation}_label"] == expected.argmax().item()

    def test_paths_shorter_than_k(self, topk, tmp_path):
        message = topk("--edit_operation", "remove", "--topK", 6, out=tmp_path, code=2)
        assert "5 neurons per layer" in message
