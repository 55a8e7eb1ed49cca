"""scripts/check.py, line by line: level, what was checked, and what is said of it."""

import re
import runpy
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, random_model, tiny_config
from PIL import Image

from neuronpath.models.checkpoint import save

main = runpy.run_path(str(ROOT / "scripts/check.py"))["main"]


@pytest.fixture
def lines(checkpoint, image_folder, capsys):
    """The lines of a check, those of faults last, and its exit code."""

    def lines(*more, **changes) -> list[str]:
        given = {"--dataset": "imagefolder", "--dataset_path": image_folder, "--pretrain_weight": checkpoint}
        given |= {"--num_workers": 0, "--ig_total_step": 1}
        words = [str(word) for pair in (given | changes).items() for word in pair] + [str(word) for word in more]
        capsys.readouterr()
        lines.code = main(words)
        stdout, stderr = capsys.readouterr()
        faults = [line for line in re.split(r"[\r\n]", stderr) if line.startswith("check.py: ")]
        return [*stdout.splitlines(), *faults]

    lines.images, lines.checkpoint = image_folder, checkpoint
    return lines


SHAPE = "6 layers of 28 neurons, 9 pixels, 4 classes"
CLS = "the head reads the CLS token (a ViT): path/joint_attr.py"


def test_weights_and_data_that_are_right(lines, tmp_path):
    found = lines("--checks", "weights", "data", "images")
    assert found == [
        f"ok       weights   {lines.checkpoint}: {SHAPE}; {CLS}",
        f"ok       data      {lines.images}: 11 images of 4 classes",
        "ok       images    all 11 can be read",
    ]
    assert lines.code == 0
    file = tmp_path / "mean.pth"
    save(random_model(tiny_config("mean"), dtype=torch.float32), file)
    mae = "the head reads the mean patch token (a fine-tuned MAE): path/joint_attr_mae.py"
    assert lines("--checks", "weights", **{"--pretrain_weight": file}) == [f"ok       weights   {file}: {SHAPE}; {mae}"]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("ViT-B_16-224.npz", "86,567,656"),
        ("ViT-B_32.npz", "88,297,192"),
        ("ViT-L_32.npz", "306,632,680"),
        ("mae_finetuned_vit_base.pth", "86,567,656"),
    ],
)
def test_a_file_with_a_public_name_has_the_published_number_of_parameters(lines, tmp_path, name, published):
    pool = "mean" if name.startswith("mae") else "cls"
    model = random_model(tiny_config(pool), dtype=torch.float32)
    save(model, tmp_path / name)
    count = sum(x.numel() for x in model.state_dict().values())
    text = f"{tmp_path}/{name}: {count:,} parameters, not the published {published}; delete it and download it again"
    assert lines("--checks", "weights", **{"--pretrain_weight": tmp_path / name}) == [
        f"check.py: FAULT    weights   {text}"
    ]
    assert lines.code == 2


@pytest.mark.parametrize(("target", "code"), [("3", 0), ("4", 2)])
def test_a_target_beyond_the_classes(lines, target, code):
    found = lines("--checks", "weights", "--target", target)
    fault = "check.py: FAULT    weights   --target 4: the model's classes are 0 to 3"
    assert (lines.code, found[1:]) == (code, [fault] if code else [])


def test_classes_without_images_and_unreadable_ones(lines):
    (lines.images / "class1/00.png").unlink()
    (lines.images / "class3/01.png").write_text("no image")
    for skip in (False, True):
        more = ("--on_bad_image", "skip") if skip else ()
        *found, named, total = lines("--checks", "data", "images", *more)
        assert (
            found[-1] == f"WARNING  data      {lines.images}: classes 1 (class1) have no images; is the copy complete?"
        )
        start = "WARNING  images   " if skip else "check.py: FAULT    images   "
        assert named.startswith(f"{start} {lines.images}/class3/01.png: cannot be read (")
        doing = "they will be skipped" if skip else "replace them or use --on_bad_image skip"
        assert total == f"{start} 1 of 10 cannot be read; {doing}"
        assert lines.code == (0 if skip else 2)
    assert not [line for line in lines("--checks", "data", "--labels", "0,2") if "class1" in line]


@pytest.mark.parametrize(("bad", "named"), [(20, 20), (21, 20)])
def test_twenty_unreadable_images_are_named(lines, bad, named):
    for i in range(bad):
        (lines.images / f"class1/x{i:02d}.png").write_text("no image")
    *found, total = [line for line in lines("--checks", "data", "images") if "FAULT" in line]
    assert len(found) == named
    rest = ", the first 20 of them named above" if bad > named else ""
    assert total.endswith(f"{bad} of {11 + bad} cannot be read{rest}; replace them or use --on_bad_image skip")


def test_accuracy_with_either_preprocessing(lines, tmp_path):
    """A model that always says class 3: of 11 images 5, whatever the preprocessing."""
    model = random_model(tiny_config(depth=1), dtype=torch.float32)
    model.head.bias[3] = 1e3
    save(model, tmp_path / "three.npz")
    given = {"--pretrain_weight": tmp_path / "three.npz"}
    for preprocess, other in (("paper", "native"), ("native", "paper")):
        (found,) = (x for x in lines("--checks", "accuracy", "--preprocess", preprocess, **given) if "top-1" in x)
        assert found == f"ok       accuracy  top-1 is 45.5 % of 11 images (45.5 % with --preprocess {other})"
    for i in range(10):
        Image.new("RGB", (9, 9), (9 * i, 5, 5)).save(lines.images / f"class0/z{i}.png")
    (found,) = (x for x in lines("--checks", "accuracy", "--labels", "0", **given) if "top-1" in x)
    assert found.startswith(
        "WARNING  accuracy  top-1 is 0.0 % of 13 images, no better than guessing: it should be 62 %"
    )


def test_room_for_records(lines, tmp_path, monkeypatch):
    out, free = tmp_path / "a/b", SimpleNamespace(free=5 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    assert lines("--checks", "output", "--output_dir", out)[1:] == [
        f"ok       output    {out}: 5 GiB are free on its disk",
    ]
    free.free = 2**30 - 2**28
    assert lines("--checks", "output", "--output_dir", out)[1:] == [
        f"WARNING  output    {out}: only 0.75 GiB are free on its disk; make room",
    ]
    free.free = 2**30
    assert lines("--checks", "output", "--output_dir", out)[1].startswith("ok ")
    assert not out.parent.exists()
    (tmp_path / "a").touch()
    assert lines("--checks", "output", "--output_dir", out)[1:] == [
        f"check.py: FAULT    output    {out}: cannot be written; choose another --output_dir",
    ]


def test_memory_and_time(lines, tmp_path):
    memory, time = lines("--checks", "cost", "--internal_batch_size", 7, "--device", "cpu")[-2:]
    assert re.fullmatch(
        r"ok       memory    at most \d\.\d\d of \d+\.\d GiB on cpu with --internal_batch_size 7", memory
    )
    each = r"\d+ s"
    jobs = ", ".join(
        f"{name} {each}" for name in ("joint_attr", "influence_pattern", "edit", "top-5 joint_attr", "pruning")
    )
    words = rf"ok       time      tiny, 11 images on cpu: about {each} of computing for all jobs \({jobs}\)"
    assert re.fullmatch(words, time)


def test_checks_of_the_data_are_made_once_and_those_of_the_weights_for_each(lines, tmp_path):
    file = tmp_path / "mean.pth"
    save(random_model(tiny_config("mean"), dtype=torch.float32), file)
    found = lines("--pretrain_weight", lines.checkpoint, file)
    what = [line.split()[1] for line in found]
    assert what == ["weights"] * 2 + [
        "data",
        "images",
        "accuracy",
        "memory",
        "time",
        "accuracy",
        "memory",
        "time",
        "output",
    ]
