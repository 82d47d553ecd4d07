"""The real files, where they are on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from softvq_cli.config import DataConfig
from softvq_cli.datasets import describe, load


def test_mnist_is_the_published_one(shared_data: Path) -> None:
    config = DataConfig(data="mnist", data_dir=str(shared_data))
    train, test = load(config, "train"), load(config, "test")
    assert train.images.shape == (60_000, 28, 28, 1) and test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert round(float(train.images.mean()) / 255, 4) == 0.1307  # the mean that everybody normalises with
    assert test.fingerprint == "14ce741f169d447672cc038e81dc4341c9e6b991fbfbdfb388695b4a4fab40a6"
    status = describe("mnist", shared_data)
    assert status.complete and status.intact


@pytest.mark.slow
def test_cifar10_as_jpeg_in_a_zip(shared_data: Path) -> None:
    config = DataConfig(data=str(shared_data / "cifar10-jpeg.zip"))
    train, test = load(config, "train"), load(config, "test")
    assert train.name == "cifar10-jpeg" and train.class_names[:3] == ("airplane", "automobile", "bird")
    assert train.images.shape == (50_000, 32, 32, 3) and np.bincount(train.labels).tolist() == [5000] * 10
    assert test.images.shape == (10_000, 32, 32, 3) and np.bincount(test.labels).tolist() == [1000] * 10
    mean = train.images.mean(axis=(0, 1, 2)) / 255
    assert np.abs(mean - [0.4914, 0.4822, 0.4465]).max() < 0.005  # CIFAR-10's own, JPEG or not
