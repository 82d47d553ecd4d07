"""A configuration that trains in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small(npz: Path) -> dict[str, Any]:
    """Settings of a run of 30 iterations."""
    return {"data": str(npz), "latent_dim": 4, "K": 6, "iterations": 30, "batch_size": 16, "log_every": 10, "lr": 1e-3}
