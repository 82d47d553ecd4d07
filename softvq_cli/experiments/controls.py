"""The rows under the paper's: what the evaluation gives without a trained encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.experiments.measures import Latents, labels_of

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.model import Autoencoder

_BLOCK = 64 << 20
"""Bytes of images at a time, as float64."""
_LARGEST_PCA = 20_000
"""Values of an image; the covariance matrix has 3 GB then."""


def untrained(config: RunConfig, train: Dataset) -> Autoencoder:
    """The model that ``config`` starts from, before the first step."""
    from softvq_cli.training import initial_model

    return initial_model(config, train).eval().requires_grad_(False)


def pixels(train: Dataset, test: Dataset) -> Latents:
    """The images themselves, in [0, 1]."""

    def of(dataset: Dataset) -> np.ndarray:
        rows = np.empty((len(dataset), dataset.images[0].size), np.float32)
        for start, block in _blocks(dataset.images):
            rows[start : start + len(block)] = block
        return rows

    return Latents(of(train), labels_of(train), of(test), labels_of(test))


def principal_components(train: Dataset, test: Dataset, d: int) -> tuple[Latents, float]:
    """The ``d`` principal components of the training pixels, fewer where the images have fewer pixels.

    The eigenvectors of the covariance matrix, summed block by block in float64: exact, and neither the pixels as
    floats nor their singular value decomposition has to fit into memory.

    Returns:
        The projections of both splits, not whitened, and the nMSE of reconstructing the test split from them.

    Raises:
        InputError: the images are too large.
    """
    D = train.images[0].size
    if D > _LARGEST_PCA:
        raise InputError(
            "no PCA of images with {} values each: at most {}; smaller images ({image_size}) do", D, _LARGEST_PCA
        )
    total, products = np.zeros(D), np.zeros((D, D))
    for _, block in _blocks(train.images):
        total += block.sum(axis=0)
        products += block.T @ block
    mean = total / len(train)
    covariance = products / len(train) - np.outer(mean, mean)
    axes = np.linalg.eigh(covariance)[1][:, ::-1][:, :d]  # (D, d), the largest first

    def of(dataset: Dataset) -> np.ndarray:
        return np.concatenate([(block - mean) @ axes for _, block in _blocks(dataset.images)]).astype(np.float32)

    # The variance of all training pixels, as in the models' nMSE.
    variance = max(float(np.trace(products) / (len(train) * D) - mean.mean() ** 2), 1e-12)
    residual = sum(
        float(np.square(centred - centred @ axes @ axes.T).sum())
        for centred in (block - mean for _, block in _blocks(test.images))
    )
    projected = Latents(of(train), labels_of(train), of(test), labels_of(test))
    return projected, residual / (len(test) * D) / variance


def _blocks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float64 (B, D) in [0, 1]) of ``images``, uint8 (N, H, W, C), in turn."""
    rows = max(1, _BLOCK // (8 * images[0].size))
    for start in range(0, len(images), rows):
        block = images[start : start + rows]
        yield start, block.reshape(len(block), -1) / 255.0
