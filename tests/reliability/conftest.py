"""A data set that is smaller still: networks are trained on it hundreds of times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import save_blobs


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, of which one step after the other goes over few."""
    return save_blobs(tmp_path_factory.mktemp("data") / "blobs.npz")
