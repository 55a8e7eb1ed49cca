"""Runs on ImageNet as people have it: in one folder with a truth file, some classes of it, under other names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import EditCommand, random_model, records, run_file, settings, tiny_config
from PIL import Image
from timm.data import ImageNetInfo

from neuronpath.models.checkpoint import save
from neuronpath.records.args import Args
from neuronpath.runs.extraction import JointAttribution

SYNSETS = ImageNetInfo("imagenet-1k").label_names()
LABELS = {"ILSVRC2012_val_00000001": 232, "ILSVRC2012_val_00000002": 0, "ILSVRC2012_val_00000003": 232}


@pytest.fixture(scope="module")
def thousand(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("ckpt") / "thousand.npz"
    save(random_model(tiny_config(num_classes=1000), dtype=torch.float32), file)
    return file


@pytest.fixture
def imagenet(thousand, tmp_path) -> EditCommand:
    """The commands on an empty folder."""
    (tmp_path / "val").mkdir()
    return EditCommand(thousand, tmp_path / "val", tmp_path, more=("--dataset", "imagenet1k"))


def fill(root: Path, names) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / name, "JPEG")


def truth(file: Path, labels: dict[str, int]) -> Path:
    rows = [f"{name},{SYNSETS[label]} 1 2 3 4\n" for name, label in labels.items()]
    file.write_text("ImageId,PredictionString\n" + "".join(rows))
    return file


def test_one_folder_with_a_truth_file_from_search_to_edits(imagenet, tmp_path):
    fill(imagenet.images, [f"{name}.JPEG" for name in LABELS])
    words = ("--truth", truth(tmp_path / "truth.csv", LABELS))
    imagenet(*words, kind=JointAttribution, out=imagenet.ja)
    assert {name: r["label"] for name, r in records(imagenet.ja).items()} == {f"{n}.JPEG": x for n, x in LABELS.items()}
    assert len(settings(imagenet.ja)["label_table"]) == 64
    imagenet(*words)
    assert imagenet.result.warnings == []
    assert [record["label"] for record in records(imagenet.out).values()] == [0, 232, 232]
    # The same table in another order and file is the same; another one is not.
    again = ("--truth", truth(tmp_path / "again.csv", dict(sorted(LABELS.items(), reverse=True))))
    assert "0 new" in imagenet(*again, kind=JointAttribution, out=imagenet.ja)
    other = ("--truth", truth(tmp_path / "other.csv", LABELS | {"ILSVRC2012_val_00000009": 5}))
    assert "label_table" in imagenet(*other, kind=JointAttribution, out=imagenet.ja, code=2)
    pictures = ("--results", imagenet.ja, "--dataset_path", imagenet.images, "--output", tmp_path / "p")
    run_file("scripts/plot_paths.py", *pictures, *words).expect()
    assert "give --truth FILE" in run_file("scripts/plot_paths.py", *pictures).fault
    copied = ("--classes", 232, "--output_dir", tmp_path / "copied", *pictures[:-2], *words)
    found = run_file("experiments/similarity/name2img.py", *copied).expect().stdout
    assert found.startswith(f"images      2 in {(tmp_path / 'copied').resolve()}/232_{SYNSETS[232]}")


def test_without_a_truth_file(imagenet):
    fill(imagenet.images, [f"{name}.JPEG" for name in LABELS])
    assert "give --truth FILE: Kaggle's LOC_val_solution.csv" in imagenet.refused(kind=JointAttribution)


def test_some_classes_have_the_labels_of_all(imagenet):
    fill(imagenet.images, [f"{SYNSETS[label]}/{name}.JPEG" for name, label in LABELS.items()])
    imagenet(kind=JointAttribution, out=imagenet.ja)
    assert {(name[:9], r["label"]) for name, r in records(imagenet.ja).items()} == {(SYNSETS[i], i) for i in (0, 232)}
    assert "label_table" not in settings(imagenet.ja)
    imagenet("--labels", 232)
    assert len(records(imagenet.out)) == 2


def test_a_thousand_other_names_are_refused_unless_a_map_tells_them(imagenet, tmp_path):
    fill(imagenet.images, [f"{i:03d}/a.jpg" for i in range(1000)])
    said = imagenet.refused(kind=JointAttribution)
    assert "its class folder: '000' is no synset of ImageNet-1k" in said
    (tmp_path / "map.csv").write_text("".join(f"{i:03d},{999 - i}\n" for i in range(1000)))
    imagenet("--class_map", tmp_path / "map.csv", "--labels", "998-999", kind=JointAttribution)
    assert {name: r["label"] for name, r in records(imagenet.out).items()} == {"000/a.jpg": 999, "001/a.jpg": 998}


def test_the_check_of_some_classes(imagenet):
    fill(imagenet.images, [f"{SYNSETS[label]}/{name}.JPEG" for name, label in LABELS.items()])
    words = ("--dataset", "imagenet1k", "--dataset_path", imagenet.images, "--pretrain_weight", imagenet.checkpoint)
    found = run_file("scripts/check.py", *words, "--checks", "data", "images", "--num_workers", 0).expect()
    assert f"{imagenet.images}: 3 images of 2 classes" in found.stdout
    assert "2 of ImageNet's 1000 synsets, which are the labels 0 to 999" in found.stdout
    assert "WARNING" not in found.stdout


def test_tables_tell_other_labels_apart():
    first, second = (Args("ja", {"label_table": x}) for x in ("a", "b"))
    assert second.unlike(first) == "label_table a → b"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--dataset", "digits", "--truth", "x"), "--truth: it tells ImageNet's labels, but --dataset is digits"),
        (("--dataset", "cifar10", "--class_map", "x"), "--class_map: --dataset cifar10 has no class folders"),
        (("--dataset", "images", "--class_map", "x"), "--class_map: --dataset images has no class folders"),
        (("--truth", "x", "--class_map", "x"), "--truth, --class_map: both tell the labels"),
        (("--images", "x.png"), "--images: --dataset imagenet1k is a whole data set; give --dataset images"),
        (("--dataset", "images"), "--dataset images: name the files, as in --images a.jpg b.jpg"),
    ],
)
def test_options_that_contradict_each_other(imagenet, words, says):
    for kind in (JointAttribution, EditCommand.kind):
        assert says in imagenet.refused(*words, kind=kind)
