"""A configuration that trains in a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import shrunk_networks


@pytest.fixture(scope="module", autouse=True)
def small_by_default() -> Iterator[None]:
    """Networks are small."""
    with shrunk_networks():
        yield


@pytest.fixture
def small(npz: Path) -> dict[str, Any]:
    """Settings of a run of 30 iterations."""
    return {"data": str(npz), "latent_dim": 4, "K": 6, "iterations": 30, "batch_size": 16, "log_every": 10, "lr": 1e-3}
