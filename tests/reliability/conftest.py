"""A very small data set, on which networks are trained hundreds of times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import save_blobs


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, so that an epoch has few steps."""
    return save_blobs(tmp_path_factory.mktemp("data") / "blobs.npz")
