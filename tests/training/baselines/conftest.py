"""The rivals' tests share one made-up pack with both splits, which they only read."""

import pytest


@pytest.fixture(scope="session")
def pack(split_pack):
    """Eight faces to train on and four to measure on."""
    return split_pack
