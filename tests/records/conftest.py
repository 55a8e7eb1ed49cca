from pathlib import Path

import pytest
from made import run_store


@pytest.fixture
def done(tmp_path) -> Path:
    """A folder with a finished run."""
    run_store(tmp_path / "out")
    return tmp_path / "out"
