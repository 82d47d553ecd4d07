"""The autoencoders as a scikit-learn transformer."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from softvq_cli.config import BATCH, SETTINGS, RunConfig, resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import pick
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.estimators.pixels import Rows, as_images
from softvq_cli.estimators.seeds import seed_of
from softvq_cli.model import represent
from softvq_cli.training import Checkpoint, Observer, checkpoint, train_in_memory
from softvq_cli.training.checkpoint import DatasetInfo

_ARGUMENTS = ("bottleneck", "arch", "latent_dim", "K", "iterations", "batch_size", "lr", "seed")
"""Settings that are arguments of the estimator; the others of the network and its training are in ``settings``."""


class _Notes(Observer):
    """Keeps what the user should know."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def noted(self, text: str) -> None:
        self.heard.append(text)


class AutoencoderEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Any of the autoencoders as a scikit-learn transformer: ``fit`` trains, ``transform`` gives z_e.

    X is images, uint8 (N, H, W, C) or (N, H, W), or a table of finite numbers (N, H*W*C): an array, a data frame. The
    range of a table's numbers is learned in ``fit``, one for all columns, and nothing is rounded; uint8 is 0 … 255.

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
        image_shape: (H, W) or (H, W, C) of a row of a table; None: one line, (1, H*W*C, 1).
        random_state: instead of ``seed`` where it is not None: a seed, or a ``RandomState`` to draw one from.

    Attributes:
        model_: the trained :class:`~softvq_cli.model.Autoencoder`, after ``fit``.
        config_: the resolved :class:`~softvq_cli.config.RunConfig`.
        history_: the figures of each report, as in ``metrics.jsonl``.
        n_features_in_: H*W*C.
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
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
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
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> AutoencoderEmbedder:
        """Train on images or rows; ``y`` is ignored.

        What there is to say against the run (a collapsed codebook, no ``torch.compile``) is a ``UserWarning``.

        Raises:
            UsageError: a setting is unknown or out of range, or a batch larger than X. A ``ValueError`` too.
            InputError: X is not such an array, or all its pixels are equal. A ``ValueError`` too.
            SoftVQError: the loss was not finite.
        """
        rows: Rows | None = None
        if _are_images(X):
            images = as_images(X)
            self.__dict__.pop("feature_names_in_", None)
        else:
            X = validate_data(self, X, ensure_min_samples=2)
            rows = Rows.learned(X, self.image_shape)
            images = rows.images(X)
        dataset = Dataset("X", "train", images, None, ())
        for name in self.settings or {}:
            if name in SETTINGS and SETTINGS[name].section == "data":
                raise UsageError(f"{param(name)} says how files are read: the estimator's settings are a model's")
        chosen = {name: getattr(self, name) for name in _ARGUMENTS if getattr(self, name) is not None}
        chosen |= {
            "data": dataset.name,  # not the default, which a command would read for a saved model
            "seed": seed_of(self.random_state, 0 if self.seed is None else self.seed),
            **(rows.settings() if rows else {}),
        }
        self.config_ = resolve("array", dataset.image_shape, {**(self.settings or {}), **chosen})
        notes = _Notes()
        self.model_, self.history_ = train_in_memory(self.config_, dataset, pick(self.device), notes)
        self.dataset_ = DatasetInfo.of(dataset)
        self.n_features_in_ = int(np.prod(dataset.image_shape))
        for text in notes.heard:
            warnings.warn(text, stacklevel=2)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """z_e, float32 (N, d), of images or rows of the shape that was fitted."""
        return represent(self._fitted(), self._images(X))

    def reconstruct(self, X: Any) -> np.ndarray:
        """The reconstruction, float32: of images in [0, 1] and of their shape, of rows (N, H*W*C) in their units."""
        return self._restored(represent(self._fitted(), self._images(X), "reconstruction"), as_rows=not _are_images(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """What the decoder makes of z (N, d), float32, in the form of what was fitted: images in [0, 1] or rows.

        z is decoded as it stands: not every bottleneck can quantise it without the image that it came from, which is
        what :meth:`reconstruct` has.

        Raises:
            ValueError: X has another width than the latents, or numbers that are not finite.
        """
        model = self._fitted()
        z = check_array(X, dtype=np.float32)
        if z.shape[1] != self._n_features_out:
            raise InputError(f"the latents have {self._n_features_out} dimensions, and these rows {z.shape[1]}")
        with torch.inference_mode():
            parts = (
                torch.from_numpy(z[i : i + BATCH]).to(model.pixel_variance.device) for i in range(0, len(z), BATCH)
            )
            decoded = [model.unscale(model.decoder(part)).flatten(1).cpu().numpy() for part in parts]
        return self._restored(np.concatenate(decoded), as_rows=Rows.of(self.config_) is not None)

    def score(self, X: Any, y: Any = None) -> float:
        """The negative nMSE of the reconstruction: 0 is perfect, -1 what the mean of the training pixels has."""
        return -float(self._fitted().evaluate(self._images(X))["nmse"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint that :meth:`load`, :func:`softvq_cli.load` and the commands read; it cannot be resumed.

        Names of columns are not kept; a pickle keeps them.

        Raises:
            SoftVQError: it could not be written.
        """
        model, config = self._fitted(), self.config_
        checkpoint.save(
            path,
            config=config,
            dataset=self.dataset_,
            step=config.train.iterations,
            finished=True,
            metrics=self.history_[-1],
            model=model,
            training={},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> AutoencoderEmbedder:
        """The fitted estimator of a checkpoint: of :meth:`save`, or of ``softvq train``.

        ``history_`` has the last report only.

        Raises:
            InputError: missing, damaged, or not a softvq checkpoint; or of rows whose channels come first. Nothing in
                the file is executed.
            UsageError: no such device.
        """
        return cls._of(checkpoint.load(path, pick(device)), device)

    @classmethod
    def _of(cls, read: Checkpoint, device: str) -> AutoencoderEmbedder:
        flat, rows = read.config.flat(), Rows.of(read.config)
        others = [n for n, spec in SETTINGS.items() if spec.section != "data" and n not in _ARGUMENTS]
        if rows and rows.shape != read.dataset.image_shape:
            raise InputError(f"{read.path} was trained on rows whose channels come first: read it with softvq_cli.load")
        fitted = cls(
            **{name: flat[name] for name in _ARGUMENTS},
            device=device,
            settings={name: flat[name] for name in others},
            image_shape=rows.shape if rows else None,
        )
        fitted.model_, fitted.config_, fitted.history_ = read.model, read.config, [read.metrics]
        fitted.dataset_, fitted.n_features_in_ = read.dataset, int(np.prod(read.dataset.image_shape))
        return fitted

    def _fitted(self) -> Any:
        check_is_fitted(self, "model_")
        return self.model_

    def _images(self, X: Any) -> np.ndarray:
        """X as the model takes it."""
        if _are_images(X):
            return as_images(X)
        return self._rows().images(validate_data(self, X, reset=False))

    def _rows(self) -> Rows:
        """How rows become images: as fitted; bytes, for a model of images."""
        config: RunConfig = self.config_
        return Rows.of(config) or Rows(self.model_.image_shape)

    def _restored(self, flat: np.ndarray, *, as_rows: bool) -> np.ndarray:
        return self._rows().numbers(flat) if as_rows else flat.reshape(len(flat), *self.model_.image_shape)

    @property
    def _n_features_out(self) -> int:
        return int(self.config_.model.latent_dim)

    def __sklearn_tags__(self) -> Tags:
        """z_e is float32 whatever X is."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _are_images(X: Any) -> bool:
    """An array of more than two dimensions; whatever else it is, it is for scikit-learn to judge."""
    return isinstance(X, np.ndarray) and X.ndim > 2
