"""Fixtures for all tests: no network, no writing outside the test's own folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.dataset import Dataset

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


def blobs(n: int = 64, shape: tuple[int, int, int] = (8, 8, 1), classes: int = 3, seed: int = 0) -> Dataset:
    """Images of a few classes: a fixed random pattern each, with noise."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).uniform(30, 220, (classes, *shape))
    labels = np.arange(n) % classes
    images = np.clip(patterns[labels] + random.normal(0, 20, (n, *shape)), 0, 255).astype(np.uint8)
    return Dataset("blobs", "train", images, labels.astype(np.int64), tuple(f"c{i}" for i in range(classes)))


@pytest.fixture
def small_dataset() -> Dataset:
    """64 grey 8x8 images of three classes."""
    return blobs()
