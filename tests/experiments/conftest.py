"""A small data set on disk, and jobs on it that are done in a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import SoftVQError
from softvq_cli.experiments.completion import complete
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.study import StudyData, load_data
from softvq_cli.pipeline.observer import RunObserver
from softvq_cli.pipeline.result import BASIC, Evaluation
from tests.conftest import blobs


def write_blobs(path: Path, n: int = 150, seed: int = 0) -> Path:
    """8x8 grey images of three classes in a .npz; a fifth of them is the test split."""
    dataset = blobs(n, seed=seed)
    np.savez(path, images=dataset.images, labels=dataset.labels)
    return path


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs.npz")


@pytest.fixture(scope="session")
def data(npz: Path) -> StudyData:
    return load_data(DataConfig(data=str(npz)))


@pytest.fixture
def make_job(data: StudyData, tmp_path: Path) -> Callable[..., Job]:
    """A job of a few iterations in the test's own folder."""

    def make(row: str = "ae", seed: int = 0, parts: tuple[str, ...] = (BASIC,), **settings: Any) -> Job:
        small = {"latent_dim": 4, "K": 6, "iterations": 4, "batch_size": 16, "log_every": 2}
        bottleneck = row if row not in ("raw", "pca", "untrained") else "ae"
        config = RunConfig.from_flat(
            {**small, "data": data.config.data, "bottleneck": bottleneck, "seed": seed, **settings}
        )
        folder = tmp_path / f"{row}-s{seed}"
        return Job(folder, row, row, "blobs", config, data.fingerprints, data.pixels, parts)

    return make


def do(job: Job, observer: RunObserver | None = None, stop: threading.Event | None = None) -> Evaluation:
    """Complete a job in this process."""
    [(_, result)] = complete(
        [job],
        device="cpu",
        threads=1,
        observers=[observer or RunObserver()],
        stop=stop or threading.Event(),
    )
    if isinstance(result, SoftVQError):
        raise result
    return result
