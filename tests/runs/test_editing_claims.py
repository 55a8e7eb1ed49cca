"""The edit jobs: which paths they take, and what they say of those that do not fit, word for word."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from helpers import random_model, tiny_config

from neuronpath import edit, enhance, load, load_images, remove
from neuronpath.attribution.controls import random_units
from neuronpath.errors import UserError
from neuronpath.models.checkpoint import save
from neuronpath.runs import job
from neuronpath.runs.editing import Edit
from neuronpath.runs.extraction import JointAttribution
from neuronpath.runs.pruning import TopKEdit

IMAGES = [f"class{label}/{i:02d}.png" for label, n in enumerate((3, 1, 2, 5)) for i in range(n)]


@pytest.fixture
def run(checkpoint, image_folder, tmp_path):
    def run(*more, of=Edit, out: str | None = "out", **changes):
        given = {"--dataset": "imagefolder", "--dataset_path": image_folder, "--pretrain_weight": checkpoint}
        given |= {"--num_workers": 0} | ({"--output_dir": tmp_path / out} if out else {})
        if of is not JointAttribution and changes.pop("ja", True):
            given |= {"--ja_path": tmp_path / "ja"}
        words = [str(word) for pair in (given | changes).items() for word in pair] + [str(word) for word in more]
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            report = job.main(of("cls"), "", words)
        run.warned = [str(w.message) for w in found]
        return report

    run.root, run.images, run.checkpoint = tmp_path, image_folder, checkpoint
    return run


def said(run, *more, **named) -> str:
    with pytest.raises(UserError) as e:
        run(*more, **named)
    return str(e.value)


def records(out: Path, prefix: str = "imgnet_all") -> dict[str, dict]:
    files = sorted(out.glob(f"{prefix}-*.rlt.jsonl"))
    return {r["image"]: r for file in files for r in map(json.loads, file.read_text().splitlines())}


def write_paths(folder: Path, k: int = 1, key: str = "ja", units: int = 28, first: int = 0) -> dict[str, list]:
    """Of image i the units i, i + 1, … of every layer, by `first` more."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        image: [[(first + i + j + layer) % units for j in range(k)] for layer in range(6)]
        for i, image in enumerate(IMAGES)
    }
    for label in range(4):
        lines = [{"image": i, "label": label, key: paths[i]} for i in IMAGES if int(i[5]) == label]
        (folder / f"imgnet_all-{label}.rlt.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


class TestPaths:
    @pytest.mark.parametrize(
        ("of", "method", "name", "option"),
        [
            (Edit, "ja", "ja", "--ja_path"),
            (Edit, "base", "ja", "--ja_path"),
            (Edit, "random", "ja", "--ja_path"),
            (Edit, "influence_pattern", "influence_pattern", "--influence_pattern_path"),
            (TopKEdit, "ja", "ja_top4", "--ja_path"),
            (TopKEdit, "influence_pattern", "influence_pattern", "--influence_pattern_path"),
        ],
    )
    def test_they_are_looked_for_beside_the_results(self, run, monkeypatch, of, method, name, option):
        monkeypatch.setattr("neuronpath.files.ROOT", run.root)
        more = ("--topK", 4) if of is TopKEdit else ()
        message = said(run, "--method", method, *more, of=of, ja=False)
        folder = run.root / "results" / name / "tiny"
        assert message == f"{folder}: no such folder; run the search first, or give {option}"

    def test_an_image_without_a_path(self, run):
        write_paths(run.root / "ja")
        (run.root / "ja/imgnet_all-2.rlt.jsonl").unlink()
        words = f"no path for it in {run.root}/ja (imgnet_all); run the search on it, or use --on_bad_image skip"
        assert said(run) == f"class2/00.png: {words}"
        assert run("--on_bad_image", "skip").code == 3
        assert list(records(run.root / "out")) == [image for image in IMAGES if not image.startswith("class2")]
        listed = (run.root / "out/imgnet_all.skipped.jsonl").read_text().splitlines()
        entries = [{"image": f"class2/0{i}.png", "label": 2, "error": f"class2/0{i}.png: {words}"} for i in range(2)]
        assert [json.loads(line) for line in listed] == entries

    def test_a_path_that_is_none(self, run):
        write_paths(run.root / "ja", units=29)
        file = run.root / "ja/imgnet_all-0.rlt.jsonl"
        file.write_text(json.dumps({"image": IMAGES[1], "ja": [[28]] * 6}) + "\n")
        words = "its ja is not 6 lists of distinct units, each 0 to 27; give the records of ja for this model"
        assert said(run) == f"{file}, line 1: {IMAGES[1]}: {words}"
        words = "its base is not 6 lists of distinct units, each 0 to 27; give the records of ja for this model"
        assert said(run, "--method", "base") == f"{file}, line 1: {IMAGES[1]}: {words}"

    def test_paths_of_other_lengths_are_named_with_their_images(self, run):
        write_paths(run.root / "ja", k=2)
        file = run.root / "ja/imgnet_all-1.rlt.jsonl"
        file.write_text(json.dumps({"image": "class1/00.png", "label": 1, "ja": [[3, 4, 5]] * 6}) + "\n")
        message = said(run)
        assert message.endswith(" and class1/00.png: paths of 2 and 3 neurons per layer; edit one K")
        assert message.count("class") == 2

    def test_the_control_needs_as_many_units_again(self, run):
        write_paths(run.root / "ja", k=15)
        words = "--method random: paths of 15 of 28 neurons per layer leave too few to draw from"
        assert said(run, "--method", "random") == words
        write_paths(run.root / "ja", k=14)
        assert run("--method", "random").code == 0

    def test_other_weights_and_other_settings(self, run):
        run("--labels", "0,1", "--ig_total_step", 1, of=JointAttribution, out="ja")
        other = run.root / "other.npz"
        save(random_model(tiny_config(), seed=1, dtype=torch.float32), other)
        args = f"{run.root}/ja/imgnet_all.args.json"
        message = said(run, "--labels", "0,1", **{"--pretrain_weight": other})
        assert message.startswith(f"{args}: its paths were found on other weights (checkpoint_sha256 ")
        assert message.endswith("); search with these weights, or give --allow_other_weights")
        assert "model_" not in message
        run("--labels", "0,1", "--allow_other_weights", **{"--pretrain_weight": other})
        (warned,) = (w for w in run.warned if "other settings" in w)
        assert warned.startswith(f"{args}: its paths were found with other settings (checkpoint_sha256 ")
        run("--labels", "0,1", "--precision", "fp64", "--seed", 9, out="precise")
        found = [w for w in run.warned if "other settings" in w]
        assert found == [f"{args}: its paths were found with other settings (precision fp32 → fp64)"]
        run("--labels", "0,1", out="same")
        assert not [w for w in run.warned if "settings" in w]

    def test_records_of_other_paths_are_not_gone_on_from(self, run):
        write_paths(run.root / "ja")
        run()
        write_paths(run.root / "ja", first=1)
        message = said(run)
        assert f"{run.root}/out/imgnet_all-0.rlt.jsonl, line 1" in message
        assert "its path is not the one that is now read for this image" in message


class TestEdits:
    def test_removed_is_zeroed_and_enhanced_is_doubled(self, run):
        paths = write_paths(run.root / "ja", k=2)
        run("--precision", "fp64", "--gain", 0.5, 2)
        model = load(run.checkpoint, dtype=torch.float64)
        x, labels = load_images(run.images, model)
        path = torch.tensor(list(paths.values()))
        p = [z.softmax(-1) for z in edit(model, x, None, remove(model, path), enhance(model, path))]
        for i, (image, record) in enumerate(records(run.root / "out").items()):
            own = [q[i, labels[i]].item() for q in p]
            predicted = [q[i].argmax().item() for q in p]
            assert record["image"] == image == IMAGES[i]
            assert [record[key] for key in ("original", "remove", "enhance")] == pytest.approx(own, rel=1e-9)
            assert [record[f"{key}_label"] for key in ("original", "remove", "enhance")] == predicted
            assert record["gain"][1] == pytest.approx(own[2], rel=1e-9)
            assert (record["pred"], record["prob"], record["method"]) == (predicted[0], record["original"], "ja")

    def test_a_gain_that_goes_beyond_numbers_names_the_image(self, run):
        write_paths(run.root / "ja", k=9)
        words = "the probabilities are not finite; check the checkpoint, or use --precision fp64"
        assert said(run, "--gain", 3e38, "--batch_size", 2) == f"class0/00.png: {words}"

    def test_top_k_cuts_paths_to_their_best_and_refuses_shorter_ones(self, run):
        paths = write_paths(run.root / "ja", k=3)
        run("--edit_operation", "remove", "--topK", 2, of=TopKEdit)
        found = records(run.root / "out")
        assert {i: r["path"] for i, r in found.items()} == {i: [x[:2] for x in p] for i, p in paths.items()}
        assert all("remove" in r and "enhance" not in r for r in found.values())
        words = "its path has 3 neurons per layer; lower --topK 4, or search with it"
        assert said(run, "--edit_operation", "remove", "--topK", 4, of=TopKEdit) == f"class0/00.png: {words}"


class TestPrune:
    def test_the_first_images_select_and_the_others_are_evaluated(self, run):
        paths = write_paths(run.root / "ja", k=2)
        run("--topK", 2, of=TopKEdit)
        (warned,) = run.warned
        words = "classes of one image, of which nothing is left to evaluate: 1"
        assert warned == f"{run.images}: left out, {words}"
        found = records(run.root / "out")
        assert list(found) == ["class0/02.png", "class2/01.png", "class3/04.png"]
        # Of class 0, images 0 and 1: units 0, 1 and 1, 2; of class 3, images 6 to 9: 6, 7, 7, 8, 8, 9, 9, 10.
        assert found["class0/02.png"]["path"] == [[1 + layer, layer] for layer in range(6)]
        assert found["class2/01.png"]["path"] == paths["class2/00.png"]
        assert found["class3/04.png"]["path"] == [[7 + layer, 8 + layer] for layer in range(6)]
        assert {r["method"] for r in found.values()} == {"ja"}

    def test_units_drawn_uniformly_are_of_seed_and_class(self, run):
        run("--method", "random", "--topK", 3, "--seed", 7, of=TopKEdit, ja=False)
        for record in records(run.root / "out").values():
            assert record["path"] == random_units(7, record["label"], 6, 28, 3)

    @pytest.mark.parametrize("depth", [0, 1, 6])
    def test_as_many_layers_as_the_model_has_may_be_pruned(self, run, depth):
        write_paths(run.root / "ja")
        assert run("--topK", 1, "--depth_prune", depth, of=TopKEdit).code == 0
        found = records(run.root / "out").values()
        assert all((r["prune"] == r["original"]) == (depth == 0) for r in found)

    def test_what_does_not_fit_is_named(self, run):
        write_paths(run.root / "ja")
        assert said(run, "--depth_prune", 7, of=TopKEdit) == "--depth_prune 7: this model has 6 layers"
        assert said(run, "--topK", 29, of=TopKEdit) == "--topK 29: a layer of this model has 28 neurons"
        few = "label 2, layer 0: its paths hold 1 distinct units, fewer than 2; lower --topK, or give more selection "
        assert said(run, "--topK", 2, "--labels", 2, of=TopKEdit) == few + (
            "images or records of more neurons per layer"
        )
        alone = "classes of one image, of which nothing is left to evaluate: 1; give classes of two images or more"
        assert said(run, "--labels", 1, of=TopKEdit) == f"{run.images}: {alone}"
        (run.root / "ja/imgnet_all-2.rlt.jsonl").unlink()
        none = "label 2: none of its selection images has a path; leave it out with --labels"
        assert said(run, "--topK", 1, "--on_bad_image", "skip", of=TopKEdit) == none

    def test_what_an_earlier_run_selected_is_compared(self, run):
        write_paths(run.root / "ja")
        run("--topK", 1, of=TopKEdit)
        write_paths(run.root / "ja", first=3)
        message = said(run, "--topK", 1, of=TopKEdit)
        assert "its retained units are not those that are now selected for its class" in message


def test_the_defaults_that_the_help_promises():
    for of, expected in (
        (Edit, {"method": "ja", "gain": [], "allow_other_weights": False, "input_prefix": "imgnet_all"}),
        (
            TopKEdit,
            {"method": "ja", "edit_operation": "prune", "mask_proportion": 1.0, "depth_prune": None, "topK": 5}
            | {"select_fraction": 0.8, "prune_tokens": "cls", "allow_other_weights": False},
        ),
    ):
        found = vars(job.parser_of(of("cls"), "").parse_args(["--pretrain_weight", "x"]))
        assert expected.items() <= found.items()
