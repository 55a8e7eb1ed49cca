"""The handwritten digits as an image folder."""

import io
import json
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from helpers import fault, random_model
from PIL import Image
from sklearn.datasets import load_digits

from neuronpath.data.digits import NOISE, write_images
from neuronpath.data.images import open_dataset
from neuronpath.data.loading import load_images
from neuronpath.models.configs import CONFIGS

#: Of all pixels with the default noise in scikit-learn's order of the images, wherever they are made.
PIXELS = "48438fdc16209e501642bcfe4ba6ea71c09c14d7423c79753fccdf1ebe474d12"


def written(root: Path) -> dict[int, Path]:
    """By scikit-learn's index."""
    return {int(file.stem): file for file in root.rglob("*.png")}


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        assert image.mode == "L"
        return np.asarray(image)


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def times(root: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in root.rglob("*")}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made") / "digits"
    assert write_images(root) == ""
    return root


@pytest.fixture
def few(monkeypatch):
    """Ten images of each digit, in the same order."""
    both = load_digits()
    kept = [i for label in range(10) for i in np.flatnonzero(both.target == label)[:10]]
    both.images, both.target = both.images[kept], both.target[kept]
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: both)


def test_every_fifth_of_a_class_is_held_out(made):
    digits, counts, files = load_digits(), [0] * 10, written(made)
    assert sorted(files) == list(range(1797))
    for i, label in enumerate(digits.target):
        part = "val" if counts[label] % 5 == 4 else "train"
        counts[label] += 1
        assert files[i] == made / f"{part}/{label}/{i:04d}.png"
    source = open_dataset("digits", made / "val", 10)
    assert len(source.items) == 355
    assert min(sum(item.label == label for item in source.items) for label in range(10)) >= 34


def test_noise_is_added_to_each_pixel_then_clipped_and_rounded(made):
    random, digits, files = np.random.default_rng(0), load_digits(), written(made)
    digest, clipped = sha256(), 0
    for i, image in enumerate(digits.images):
        found = pixels(files[i])
        expected = np.zeros((8, 8), np.uint8)
        for row in range(8):
            for column in range(8):
                value = image[row, column] / 16 + 0.35 * random.standard_normal()
                clipped += not 0 <= value <= 1
                expected[row, column] = round(255 * min(max(value, 0), 1))
        assert np.array_equal(found, expected), i
        digest.update(found.tobytes())
    assert clipped == 46966, "otherwise clipping was not tried"
    assert json.loads((made / "made.json").read_text()) == {"noise": 0.35, "sha256": digest.hexdigest()}
    assert digest.hexdigest() == PIXELS


def test_without_noise_they_are_the_very_pixels_byte_for_byte(tmp_path):
    write_images(tmp_path / "digits", 0)
    digits, files = load_digits(), written(tmp_path)
    for i, image in enumerate(digits.images):
        buffer = io.BytesIO()
        Image.fromarray(np.round(255 * image / 16).astype(np.uint8)).save(buffer, "PNG")
        assert files[i].read_bytes() == buffer.getvalue()


@pytest.mark.usefixtures("few")
class TestWhatIsThere:
    def test_it_is_kept_where_it_was_made_in_the_same_way(self, tmp_path):
        root = tmp_path / "digits"
        assert (write_images(root), len(written(root))) == ("", 100)
        before = times(tmp_path)
        assert write_images(root) == ""
        assert write_images(root, 0.35) == ""
        assert times(tmp_path) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["digits"]

    @pytest.mark.parametrize("said", [None, "", "[1]", "[" * 100_000, '{"noise": 0.35, "sha256": "0"}', "{}"])
    def test_an_earlier_versions_is_made_anew(self, said, tmp_path):
        root, new = tmp_path / "digits", tmp_path / "new"
        write_images(root, 0)
        write_images(new)
        (root / "made.json").unlink()
        if said is not None:
            (root / "made.json").write_text(said)
        assert write_images(root) == "made by an earlier version"
        assert contents(root) == contents(new)
        assert write_images(root) == ""

    def test_other_noise(self, tmp_path):
        root = tmp_path / "digits"
        write_images(root, 0.2)
        for noise in (0.35, 0, 0.2):
            before = contents(root)
            assert write_images(root, noise) == "made with other noise"
            assert contents(root).keys() == before.keys()
            assert contents(root) != before

    @pytest.mark.parametrize("part", ["train", "val"])
    def test_a_part_that_was_lost(self, part, tmp_path):
        root = tmp_path / "digits"
        write_images(root)
        (root / part).rename(tmp_path / "lost")
        assert write_images(root) == f"{part}/ is missing"
        assert len(written(root)) == 100

    def test_files_of_others_are_not_lost(self, tmp_path):
        root = tmp_path / "digits"
        write_images(root, 0)
        (root / "train/3/.hidden").touch()
        (root / "train/3/mine.png").touch()
        before = times(root)
        said = fault(write_images, root)
        assert said == f"{root}/train/3/mine.png: none of the digits that are to be made anew; move it out of {root}"
        assert times(root) == before
        (root / "train/3/mine.png").unlink()
        assert write_images(root) == "made with other noise"

    def test_through_a_link(self, tmp_path):
        (tmp_path / "far").mkdir()
        write_images(tmp_path / "far/digits", 0)
        (tmp_path / "digits").symlink_to(tmp_path / "far/digits")
        assert write_images(tmp_path / "digits") == "made with other noise"
        assert (tmp_path / "digits").is_symlink()
        assert json.loads((tmp_path / "far/digits/made.json").read_text())["noise"] == 0.35

    @pytest.mark.parametrize("there", [False, True])
    @pytest.mark.parametrize(("killed", "calls"), [("save", 70), ("replace", 0), ("replace", 1), ("replace", 2)])
    def test_a_killed_run_leaves_all_of_the_old_ones_or_none(self, killed, calls, there, tmp_path, monkeypatch):
        """Killed in writing an image, the note, or in renaming folders."""
        root, place = tmp_path / "a/digits", Image.Image if killed == "save" else Path
        for folder, noise in ((tmp_path / "b/digits", NOISE), *([(root, 0.1)] if there else [])):
            folder.parent.mkdir()
            write_images(folder, noise)
        root.parent.mkdir(exist_ok=True)
        before, usual, left = contents(root), getattr(place, killed), iter(range(calls))

        def until_killed(*args, **kwargs):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return usual(*args, **kwargs)

        monkeypatch.setattr(place, killed, until_killed)
        whole = (killed, calls, there) == ("replace", 2, False)  # nothing is left to rename then
        with nullcontext() if whole else pytest.raises(KeyboardInterrupt):
            write_images(root)
        monkeypatch.setattr(place, killed, usual)
        after = contents(tmp_path / "b/digits")
        assert contents(root) == (after if whole else {} if calls == 2 else before)
        write_images(root)
        assert contents(root) == after
        assert [path.name for path in root.parent.iterdir()] == ["digits"]


class TestTheDefault:
    """Whoever opens it, by whichever name, is told where it is an earlier version's."""

    @pytest.fixture
    def default(self, few, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr("neuronpath.data.images.ROOT", tmp_path)
        (tmp_path / "dataset").mkdir()
        write_images(tmp_path / "dataset/digits")
        return tmp_path / "dataset/digits"

    def test_plain_digits_are_refused(self, default, monkeypatch):
        model = random_model(CONFIGS["ViT-digits"].with_(depth=1))
        for part, count in (("train", 80), ("val", 20)):
            assert len(open_dataset("digits", default / part, 10).items) == count
            assert len(load_images(default / part, model)[0]) == count
        (default / "made.json").unlink()
        monkeypatch.chdir(default)
        for root in (default / "train", default / "val", Path("val"), default / "train/../val"):
            said = (
                f"{root}: the plain digits of an earlier version; make them anew with: python scripts/train_digits.py"
            )
            assert fault(open_dataset, "digits", root, 10) == said
            assert fault(open_dataset, "imagefolder", root, 10) == said
            assert fault(load_images, root, model) == said

    def test_other_folders_need_not_say_how_they_were_made(self, default):
        (default / "made.json").unlink()
        other = default.rename(default.with_name("others"))
        assert len(open_dataset("digits", other / "val", 10).items) == 20
