"""What is gathered of a run's images does not depend on their order, and a sum is exact; broken files are one line."""

import math
from itertools import pairwise

import numpy as np
import pytest
from damage import FEW_AND_MANY, assert_one_line, damaged, damages, holds
from helpers import fault

from neuronpath.errors import UserError
from neuronpath.records.top_images import Gathered, read_gathered, read_top_images, write_part, write_top_images

SHAPE, N = (2, 3), 14
NAMES = ["é\u202e", "\udcff", "<img onerror=x>", *map(str, range(N - 3))]


def images(several: bool, seed: int = 0) -> list[tuple]:
    """Activations of sizes that no float64 sums up, with ties."""
    rng, found = np.random.default_rng(seed), []
    for place in range(N):
        values = rng.choice([1e-30, 0.7, 1e9, -1e9, 0.1], SHAPE).astype(np.float32)
        mean = (values * rng.choice([1.0, -1.0, 3.0], SHAPE)).astype(np.float32)
        token = rng.integers(0, 5, SHAPE) if several else None
        found.append((place, place % 4, values, mean, token))
    return found


def gathered(given, several: bool) -> Gathered:
    found = Gathered(N, SHAPE, several)
    for image in given:
        found.add(*image)
    return found


def written(file, found: Gathered) -> bytes:
    write_top_images(file, found, NAMES, list(range(N)), "made of")
    return file.read_bytes()


@pytest.mark.parametrize("several", [False, True])
def test_order_and_parts_change_nothing(several, tmp_path):
    given, rng = images(several), np.random.default_rng(1)
    expected = written(tmp_path / "0.npz", gathered(given, several))
    for i in range(1, 30):
        order = [given[j] for j in rng.permutation(N)]
        cuts = [0, *sorted(rng.integers(0, N + 1, 2)), N]
        parts = [gathered(order[a:b], several) for a, b in pairwise(cuts)]
        for part in parts[1:]:
            write_part(tmp_path / "part.npz", part, "made of")
            read = read_gathered(tmp_path / "part.npz", "made of", N, SHAPE, several)
            assert read is not None
            parts[0].merge(read)
        assert written(tmp_path / f"{i}.npz", parts[0]) == expected
    again = read_gathered(tmp_path / "0.npz", "made of", N, SHAPE, several)
    assert written(tmp_path / "again.npz", again) == expected
    assert read_gathered(tmp_path / "0.npz", "other", N, SHAPE, several) is None
    assert read_gathered(tmp_path / "none.npz", "made of", N, SHAPE, several) is None


def test_values(tmp_path):
    given = images(True)
    written(tmp_path / "x.npz", gathered(given, True))
    found = read_top_images(tmp_path / "x.npz")
    assert found.images == NAMES
    assert (found.count, found.labels.tolist()) == (N, list(range(N)))
    for at in np.ndindex(SHAPE):
        best = sorted(range(N), key=lambda i: (-given[i][2][at], i))[:9]
        assert found.image[at].tolist() == best
        assert found.value[at].tolist() == [given[i][2][at] for i in best]
        assert found.token[at].tolist() == [given[i][4][at] for i in best]
        means = [float(image[3][at]) for image in given]
        assert found.mean[at] == math.fsum(means) / N
        assert found.share[at] == sum(mean > 0 for mean in means) / N
    naive = sum(image[3].astype(float) for image in given)
    assert (naive / N != found.mean).any(), "a sum that needs no care would pass"


def test_an_image_that_is_counted_twice():
    one = gathered(images(False)[:3], False)
    with pytest.raises(ValueError, match="image 2 is counted twice"):
        one.merge(gathered(images(False)[2:], False))


def test_what_is_not_there_or_of_another_shape(tmp_path):
    assert "no such file; make it with scripts/top_images.py" in fault(read_top_images, tmp_path / "x.npz")
    written(tmp_path / "x.npz", gathered(images(False), False))
    for sizes in ((N + 1, SHAPE, False), (N, (3, 2), False), (N, SHAPE, True)):
        assert "is not as in a file of top images" in fault(read_gathered, tmp_path / "x.npz", "made of", *sizes)
    for name, value in (("image", 99), ("image", -2)):
        with np.load(tmp_path / "x.npz") as arrays:
            changed = dict(arrays)
        changed[name][0, 0, 0] = value
        np.savez(tmp_path / "y.npz", **changed)
        assert "its images are not as in" in fault(read_top_images, tmp_path / "y.npz")
    np.savez(tmp_path / "y.npz", **{**changed, "images": np.array([{}], object)})
    assert "not a file of top images" in fault(read_top_images, tmp_path / "y.npz")


@FEW_AND_MANY
def test_damage(tmp_path, many):
    """It is read, or refused in one line."""
    data = written(tmp_path / "x.npz", gathered(images(True), True))

    def body(damage) -> None:
        (tmp_path / "y.npz").write_bytes(damaged(data, damage))
        for call in (read_top_images, lambda file: read_gathered(file, "made of", N, SHAPE, True)):
            try:
                call(tmp_path / "y.npz")
            except UserError as e:
                assert_one_line(e, tmp_path / "y.npz")

    holds(body, 60, many, damages(data, b"PK", b"NUMPY"))
