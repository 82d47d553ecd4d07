"""A process that forks commands, and the small data set that they work on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import Zygote, save_blobs, shrunk_networks


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@pytest.fixture
def small_networks() -> Iterator[None]:
    """:func:`shrunk_networks` for one test."""
    with shrunk_networks():
        yield


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, of which one step after the other goes over few."""
    return save_blobs(tmp_path_factory.mktemp("data") / "blobs.npz")
