"""A small data set on disk, and cells on it that are done in a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import SoftVQError
from softvq_cli.experiments.cell import Cell, complete
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.material import Material, look_at
from softvq_cli.experiments.tables import BASIC
from softvq_cli.pipeline.run import ChainObserver
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
def material(npz: Path) -> Material:
    return look_at(DataConfig(data=str(npz)))


@pytest.fixture
def make_cell(material: Material, tmp_path: Path) -> Callable[..., Cell]:
    """A cell of a few iterations in the test's own folder."""

    def make(row: str = "ae", seed: int = 0, parts: tuple[str, ...] = (BASIC,), **settings: Any) -> Cell:
        small = {"latent_dim": 4, "K": 6, "iterations": 4, "batch_size": 16, "log_every": 2}
        bottleneck = row if row not in ("raw", "pca", "untrained") else "ae"
        config = RunConfig.from_flat(
            {**small, "data": material.config.data, "bottleneck": bottleneck, "seed": seed, **settings}
        )
        folder = tmp_path / f"{row}-s{seed}"
        return Cell(folder, row, "blobs", config, material.fingerprints, material.pixels, parts)

    return make


def do(cell: Cell, observer: ChainObserver | None = None, stop: threading.Event | None = None) -> Evaluation:
    """Complete a cell in this process."""
    [(_, result)] = complete(
        [cell],
        device="cpu",
        jobs=1,
        observers=[observer or ChainObserver()],
        stop=stop or threading.Event(),
        saving=threading.Lock(),
    )
    if isinstance(result, SoftVQError):
        raise result
    return result
