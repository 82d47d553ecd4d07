"""The Python API: a checkpoint, its embeddings, and the scikit-learn estimators."""

from __future__ import annotations

import os

import numpy as np

from softvq_cli.devices import pick
from softvq_cli.estimators import AutoencoderEmbedder, KMeansManyStarts
from softvq_cli.estimators.pixels import as_images
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
        images: uint8 (N, H, W, C) or, for grey ones, (N, H, W).
        what: ``z_e`` (default), ``z_q``, ``indices``, ``reconstruction`` or ``pixels``;
            see :func:`softvq_cli.model.represent`.

    Returns:
        (N, d) float32, or as :func:`softvq_cli.model.represent` says.

    Raises:
        InputError: images of another type or shape than the model takes.
        UsageError: an unknown ``what``.
    """
    network = model.model if isinstance(model, Checkpoint) else model
    return represent(network, as_images(images), what)
