"""What several folders of tests use."""

import os
from pathlib import Path

import pytest

# Two workers share two cores, and threads of the same sums would wait for each other. What a test starts inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of test data that is no part of the project; skips where it is absent."""
    folder = Path(os.environ.get("VIDUNMASK_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip("no shared test data: set VIDUNMASK_SHARED")
    return folder
