import numpy as np
import pytest
from helpers import NUM_CLASSES, Command, records
from PIL import Image


@pytest.fixture(scope="session")
def large(checkpoint, tmp_path_factory) -> Command:
    """The search command on 4 x 8 images; what it writes undisturbed is in its `out`."""
    root, rng = tmp_path_factory.mktemp("processes"), np.random.default_rng(3)
    for label in range(NUM_CLASSES):
        (root / f"images/class{label}").mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/class{label}/{i}.png")
    found = Command(checkpoint, root / "images", root / "out", steps=3)
    found()
    return found


@pytest.fixture(scope="session")
def expected(large) -> dict[str, dict]:
    """The records of an undisturbed run."""
    return records(large.out)
