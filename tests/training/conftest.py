"""A small data set on disk and a configuration that trains in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import blobs


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 grey 8x8 images of three classes in a .npz file."""
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    dataset = blobs(120)
    np.savez(path, images=dataset.images, labels=dataset.labels)
    return path


@pytest.fixture
def small(npz: Path) -> dict[str, Any]:
    """Settings of a run of 30 iterations."""
    return {"data": str(npz), "latent_dim": 4, "K": 6, "iterations": 30, "batch_size": 16, "log_every": 10, "lr": 1e-3}
