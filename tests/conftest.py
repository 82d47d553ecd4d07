"""Fixtures for all tests: no network, no writing outside the test's own folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from softvq_cli.datasets.dataset import Dataset
from tests.helpers import blobs, save_blobs

# Before torch is loaded, here and in the commands that tests start: the models are tiny, and threads of
# several tests side by side would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background job ignores Ctrl-C, and so would every command that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data are not on this machine")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images and downloads go to a folder of the test session, not to the user's."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SOFTVQ_CACHE", str(folder / "decoded"))
    monkeypatch.setenv("SOFTVQ_DATA", str(folder / "data"))


@pytest.fixture
def small_dataset() -> Dataset:
    """64 grey 8x8 images of three classes."""
    return blobs()


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 grey 8x8 images of three classes in a .npz file; a fifth of them is the test split."""
    return save_blobs(tmp_path_factory.mktemp("data") / "blobs.npz", 150)
