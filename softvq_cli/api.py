"""The Python API: a checkpoint, its embeddings, and the models as a scikit-learn transformer."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from softvq_cli.config import resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import pick
from softvq_cli.errors import InputError
from softvq_cli.model import Autoencoder, represent
from softvq_cli.training import Checkpoint, Observer, checkpoint, train_in_memory


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
    return represent(network, _as_images(images), what)


class _Notes(Observer):
    """Keeps what the user should know."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def noted(self, text: str) -> None:
        self.heard.append(text)


class AutoencoderEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Any of the autoencoders as a scikit-learn transformer: ``fit`` trains, ``transform`` gives z_e.

    Args:
        bottleneck: a name as in ``softvq train --bottleneck``.
        arch: ``mlp`` or ``cnn``; None picks by the image size.
        latent_dim: d; None for the preset's, as for the next four.
        K: centroids in the codebook.
        iterations: optimiser steps.
        batch_size: images a step.
        lr: Adam's learning rate.
        seed: of weights, batches and noise; the same seed on the same machine gives the same latents.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        settings: any other setting of a run by name, for example ``{"beta": 5.0}``.

    Attributes:
        model_: the trained :class:`~softvq_cli.model.Autoencoder`, after ``fit``.
        config_: the resolved :class:`~softvq_cli.config.RunConfig`.
        history_: the figures of each report, as in ``metrics.jsonl``.
    """

    def __init__(
        self,
        bottleneck: str = "soft-vq",
        *,
        arch: str | None = None,
        latent_dim: int | None = None,
        K: int | None = None,
        iterations: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        device: str = "auto",
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.bottleneck = bottleneck
        self.arch = arch
        self.latent_dim = latent_dim
        self.K = K
        self.iterations = iterations
        self.batch_size = batch_size
        self.lr = lr
        self.seed = seed
        self.device = device
        self.settings = settings

    def fit(self, X: np.ndarray, y: Any = None) -> AutoencoderEmbedder:
        """Train on uint8 images (N, H, W, C) or (N, H, W); ``y`` is ignored.

        What there is to say against the run (a collapsed codebook, no ``torch.compile``) is a ``UserWarning``.

        Raises:
            UsageError: a setting is unknown or out of range, or a batch larger than X.
            InputError: X is not such an array, or all its pixels are equal.
            SoftVQError: the loss was not finite.
        """
        images = _as_images(X)
        dataset = Dataset("X", "train", images, None, ())
        named = ("bottleneck", "arch", "latent_dim", "K", "iterations", "batch_size", "lr", "seed")
        chosen = {name: getattr(self, name) for name in named if getattr(self, name) is not None}
        self.config_ = resolve("array", dataset.image_shape, {**(self.settings or {}), **chosen})
        notes = _Notes()
        self.model_, self.history_ = train_in_memory(self.config_, dataset, pick(self.device), notes)
        for text in notes.heard:
            warnings.warn(text, stacklevel=2)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """z_e, float32 (N, d), of images of the shape that was fitted."""
        check_is_fitted(self, "model_")
        return embed(self.model_, X)

    def reconstruct(self, X: np.ndarray) -> np.ndarray:
        """The reconstruction, float32 in [0, 1], of the images' shape."""
        check_is_fitted(self, "model_")
        flat = embed(self.model_, X, "reconstruction")
        return flat.reshape(len(flat), *self.model_.image_shape)


def _as_images(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) with C 1 or 3."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise InputError(
            f"images must be a uint8 array of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), N at least 1, "
            f"not {images.dtype} of shape {images.shape}"
        )
    return images
