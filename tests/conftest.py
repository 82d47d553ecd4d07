"""Fixtures for all tests: no network, and no writing outside a test's own folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from softvq_cli.datasets.dataset import Dataset
from tests import helpers
from tests.helpers import Zygote, blobs, save_blobs, shrunk_networks, zygote_in

# Before torch is loaded, here and in commands that tests start: the models are tiny, and threads of parallel tests
# would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where several threads are needed, as in t-SNE, they wait without using processor time of other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A shell's background job ignores Ctrl-C, and so would every command that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
helpers.trust_the_disk()

WORKER = "PYTEST_XDIST_WORKER" in os.environ
QUICK = (
    *("test_architecture.py", "test_config.py", "test_files.py", "test_results.py", "model", "results"),
    *(
        "evaluation/test_clustering.py",
        "evaluation/test_kmeans.py",
        "evaluation/test_probe.py",
        "evaluation/test_statistics.py",
    ),
    *("datasets/test_arrays.py", "datasets/test_splits.py", "datasets/test_named.py", "datasets/test_image_formats.py"),
    *("cli/test_settings.py", "experiments/test_formats.py", "experiments/test_paper.py"),
)
"""Files and folders whose tests are marked ``quick``: they need neither a trained model nor a second process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of :data:`QUICK`, except slow ones."""
    places = [Path(__file__).parent / name for name in QUICK]
    for item in items:
        if item.get_closest_marker("slow") is None and any(item.path.is_relative_to(place) for place in places):
            item.add_marker("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data next to the repository; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data are not on this machine")
    return folder


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by all workers of this test session."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if WORKER else folder


@pytest.fixture(scope="session")
def zygote(shared_folder: Path) -> Zygote:
    """One process that forks commands for all workers."""
    return zygote_in(shared_folder, owner=os.getppid() if WORKER else os.getpid())


@pytest.fixture
def small_networks() -> Iterator[None]:
    """:func:`shrunk_networks` for one test."""
    with shrunk_networks():
        yield


@pytest.fixture
def papers_networks() -> Iterator[None]:
    """The networks of the paper for one test among others that have small ones."""
    with helpers.papers_networks():
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store decoded images and downloads in a folder of the test session instead of the user's."""
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


@pytest.fixture(scope="module")
def forked_workers(zygote: Zygote) -> Iterator[None]:
    """Workers start immediately and have small networks, as this process then has."""
    from softvq_cli.experiments import backends, pool

    with (
        shrunk_networks(),
        mock.patch.object(backends, "METHOD", "forkserver"),
        mock.patch.object(pool, "READ_EVERY", 0),
    ):
        zygote.share_workers()
        yield
