"""Jobs on a small data set that take only a moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.study import StudyData, load_data
from softvq_cli.results.evaluate import BASIC


@pytest.fixture(scope="module", autouse=True)
def workers(forked_workers: None) -> None:
    """Forked workers; tests of how workers start request others."""


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
        return Job(folder, row, row, "blobs", config, data.fingerprints, math.prod(data.image_shape), parts)

    return make
