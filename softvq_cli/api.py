"""The Python API: a checkpoint, its embeddings, and the scikit-learn estimators."""

from __future__ import annotations

import math
import os

import numpy as np

from softvq_cli.datasets.vectors import checked
from softvq_cli.devices import pick
from softvq_cli.errors import InputError
from softvq_cli.estimators import AutoencoderEmbedder, KMeansManyStarts
from softvq_cli.estimators.pixels import Numbers, as_images, check_bytes
from softvq_cli.model import Autoencoder, represent
from softvq_cli.training import Checkpoint, checkpoint

__all__ = ["AutoencoderEmbedder", "KMeansManyStarts", "embed", "load"]


def load(path: str | os.PathLike[str], device: str = "cpu") -> Checkpoint:
    """Read a checkpoint; its ``.model`` is ready for :func:`embed`.

    Args:
        path: a ``ckpt.pt`` that ``softvq train`` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: missing, damaged, or not a softvq checkpoint. Nothing in the file is executed.
        UsageError: no such device.
    """
    return checkpoint.load(path, pick(device))


def embed(model: Checkpoint | Autoencoder, images: np.ndarray, what: str = "z_e") -> np.ndarray:
    """A representation of ``images``, without noise.

    Args:
        model: a loaded checkpoint, or an autoencoder in evaluation mode.
        images: uint8 (N, H, W, C) or, for grey ones, (N, H, W), 0 black and 255 white. For a checkpoint that was
            trained on other numbers than bytes also such numbers, in the units of the training: they are mapped as
            there, but neither rounded nor cut off. For one that was trained on rows also rows (N, H*W*C).
        what: ``z_e`` (default), ``z_q``, ``codes``, ``reconstruction`` or ``pixels``;
            see :func:`softvq_cli.model.represent`.

    Returns:
        (N, d) float32, or as :func:`softvq_cli.model.represent` says.

    Raises:
        InputError: images of another type or shape than the model takes.
        UsageError: an unknown ``what``.
    """
    if isinstance(model, Checkpoint):
        return represent(model.model, _bytes_or_scaled(images, model), what)
    if model.of_vectors:
        return represent(model, checked(images, "the array"), what)
    return represent(model, _bytes(images, "an autoencoder knows no range: give its checkpoint, or uint8"), what)


def _bytes_or_scaled(images: np.ndarray, trained: Checkpoint) -> np.ndarray:
    """(N, H, W, C), black 0 and white 255, by the range that the checkpoint's training had."""
    if trained.model.of_vectors:
        return checked(images, "the array")
    numbers = Numbers.of(trained.config, trained.model.image_shape)
    if numbers is None:
        return _bytes(images, f"{trained.path} takes bytes: give uint8 from 0, black, to 255, white")
    if numbers.of_rows and images.ndim == 2:
        if images.shape[1] != math.prod(numbers.shape):
            raise InputError(
                f"{trained.path} takes rows of {math.prod(numbers.shape)}, and these have {images.shape[1]}"
            )
        return numbers.images(images)
    return numbers.of_images(as_images(images))


def _bytes(images: np.ndarray, otherwise: str) -> np.ndarray:
    check_bytes(images, otherwise)
    return as_images(images)
