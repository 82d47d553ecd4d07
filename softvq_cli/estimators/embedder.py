"""The autoencoders as a scikit-learn transformer."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from softvq_cli.config import SETTINGS, RunConfig, image_shape, resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import pick
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.estimators.many_starts import seed_of
from softvq_cli.estimators.pixels import Numbers, are_images, as_images, check_bytes, row_shape
from softvq_cli.model import decode, represent
from softvq_cli.reporter import Reporter, Reporters
from softvq_cli.training import checkpoint
from softvq_cli.training.checkpoint import DatasetInfo
from softvq_cli.training.run import TrainedInMemory, networks_of, train_in_memory

_ARGUMENTS = ("bottleneck", "arch", "latent_dim", "K", "iterations", "batch_size", "lr", "seed")
"""Settings that are arguments of the estimator; all other settings are passed in ``settings``."""
_NAME = "X"
"""The name of the data set."""
_EVERY = 0.2
"""Minimum seconds between two updates of the progress line."""


class _Told(Reporter):
    """Collects notes for the user and, if ``verbose``, prints a progress line on standard error."""

    def __init__(self, functions: Sequence[Callable[[Mapping[str, float]], Any]], verbose: bool) -> None:
        self.notes: list[str] = []
        self._functions, self._verbose, self._said, self._loss = functions, verbose, 0.0, ""

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        now, over = time.monotonic(), total is not None and done >= total
        if self._verbose and (over or now - self._said >= _EVERY):
            self._said = now
            amount = f"{done:.0f}" if total is None else f"{done:.0f}/{total}"
            end = "\n" if over else ""
            sys.stderr.write(f"\r{name} {amount}{self._loss}{end}")
            sys.stderr.flush()

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        if metrics:
            self._loss = f", loss {metrics['loss']:.3g}, nMSE {metrics['nmse']:.3g}"
            for function in self._functions:
                function(metrics)


class AutoencoderEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The autoencoders as a scikit-learn transformer: ``fit`` trains a model, ``transform`` computes z_e.

    X is images (N, H, W, C) or (N, H, W), or a table (N, H*W*C), as an array or a data frame. uint8 values range from
    0 to 255. For other types, ``fit`` learns one value range for all of X, without rounding; values must be finite.

    Args:
        bottleneck: a name as in ``softvq train --bottleneck``.
        arch: ``mlp`` or ``cnn``; None chooses by the image size.
        latent_dim: d. None, here and in the next four arguments: the value of the preset.
        K: number of centroids in the codebook.
        iterations: number of optimiser steps.
        batch_size: images per step.
        lr: Adam's learning rate.
        seed: seed of weights, batches and noise; the same seed on the same machine gives the same latents.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        settings: any other settings of a run by name, for example ``{"beta": 5.0}``.
        image_shape: (H, W) or (H, W, C) of the image in each row of a table; None: (1, H*W*C, 1).
        random_state: replaces ``seed`` unless it is None: a seed, or a ``RandomState`` from which one is drawn.
        verbose: whether ``fit`` prints its progress on standard error.
        encoder: a custom module, which is copied: x (B, C, H, W) with pixels in [0, 1] → (B, any width).
        decoder: a custom module, required with ``encoder``: (B, latent_dim) → (B, C, H, W).
        callbacks: functions that receive the metrics of each report, as in ``metrics.jsonl``; or
            ``softvq_cli.reporter.Reporter`` objects, which receive all events.

    Attributes:
        model_: the trained ``Autoencoder``, after ``fit``.
        config_: the resolved ``RunConfig``.
        history_: the metrics of each report, as in ``metrics.jsonl``.
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
        verbose: bool = False,
        callbacks: Sequence[Any] = (),
        encoder: Any = None,
        decoder: Any = None,
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
        self.verbose = verbose
        self.callbacks = callbacks
        self.encoder = encoder
        self.decoder = decoder

    def fit(self, X: Any, y: Any = None) -> AutoencoderEmbedder:
        """Train on images or rows; ``y`` is ignored.

        Problems of the training (a collapsed codebook, no ``torch.compile``) are reported as a ``UserWarning``.

        Raises:
            UsageError: a setting is unknown or out of range, or the batch is larger than X. Also a ``ValueError``.
            InputError: X has a wrong shape or type, or all its values are equal. Also a ``ValueError``.
            SoftVQError: the loss is not finite.
        """
        numbers, images = self._learned(X)
        return self._train(images, self._resolved(images.shape[1:], numbers.settings() if numbers else {}), None)

    def partial_fit(self, X: Any, y: Any = None) -> AutoencoderEmbedder:
        """Continue the training on X for ``iterations`` steps; the first call is a ``fit``.

        Weights, Adam's moments and the noise continue from the last ``fit`` or ``partial_fit``, and so does the step
        count in ``history_`` and ``config_.train.iterations``: two calls on the same X equal one with twice as many
        steps. All other settings, the value range and the pixel variance of the nMSE remain those of the first call. A
        loaded checkpoint can be continued too, on the type of device on which it was trained.

        Raises:
            InputError: the model was exported and has no training state. Also all errors of ``fit``.
        """
        if not hasattr(self, "model_"):
            return self.fit(X)
        images, before = self._images(X), self.config_
        if images.shape[1:] != self.model_.image_shape:
            raise InputError(f"the model takes images of shape {self.model_.image_shape}, not {images.shape[1:]}")
        steps = self._resolved(images.shape[1:], {}).train.iterations
        config = replace(before, train=replace(before.train, iterations=before.train.iterations + steps))
        return self._train(images, config, TrainedInMemory(before, self.model_, self._state, self.history_))

    def _learned(self, X: Any) -> tuple[Numbers | None, np.ndarray]:
        """Learn the value range of X (None for uint8 images) and convert X to training images."""
        if not are_images(X):
            rows = validate_data(self, X, ensure_min_samples=2)
            numbers = Numbers.learned(rows, row_shape(self.image_shape, rows.shape[1]), of_rows=True)
            return numbers, numbers.images(rows)
        images = as_images(X)
        if images.dtype == np.uint8:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = int(np.prod(images.shape[1:]))
            return None, images
        rows = validate_data(self, images.reshape(len(images), -1), ensure_min_samples=2)
        numbers = Numbers.learned(rows, images.shape[1:], of_rows=False)
        return numbers, numbers.images(rows)

    def _resolved(self, image_shape: tuple[int, ...], data: dict[str, str]) -> RunConfig:
        """The configuration from the arguments of the estimator."""
        for name in self.settings or {}:
            if name in SETTINGS and SETTINGS[name].section == "data":
                raise UsageError("{} is a setting for reading files, which an estimator does not do", param(name))
        chosen = {name: getattr(self, name) for name in _ARGUMENTS if getattr(self, name) is not None}
        if networks_of(self.encoder, self.decoder):
            chosen["arch"] = "own"
        chosen["data"] = _NAME  # not the default data set, which a command would load for a saved model
        chosen["seed"] = seed_of(self.random_state, 0 if self.seed is None else self.seed)
        return resolve("array", image_shape, {**(self.settings or {}), **chosen, **data})

    def _train(self, images: np.ndarray, config: RunConfig, after: TrainedInMemory | None) -> AutoencoderEmbedder:
        reporters = [each for each in self.callbacks if isinstance(each, Reporter)]
        told = _Told([each for each in self.callbacks if not isinstance(each, Reporter)], self.verbose)
        dataset, networks = Dataset(_NAME, "train", images, None, ()), networks_of(self.encoder, self.decoder)
        trained = train_in_memory(config, dataset, pick(self.device), Reporters(told, *reporters), after, networks)
        self.config_, self.model_, self.history_ = config, trained.model, trained.history
        self._state = trained.state
        columns = tuple(map(str, getattr(self, "feature_names_in_", ())))
        self.dataset_ = replace(DatasetInfo.of(dataset), columns=columns)
        for text in told.notes:
            warnings.warn(text, stacklevel=3)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Compute z_e, float32 (N, d), of images or rows with the shape of those in ``fit``."""
        return represent(self._fitted(), self._images(X))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Reconstruct X: float32 in the shape of X; in [0, 1] for uint8 images, otherwise in the units of X."""
        flat = represent(self._fitted(), self._images(X), "reconstruction")
        if not (are_images(X) and X.dtype == np.uint8):
            flat = self._numbers().restored(flat)
        return flat.reshape(np.shape(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode latents X (N, d): float32 in the shape and units of the data in ``fit``; in [0, 1] for uint8 images.

        The latents are decoded without quantisation, because some bottlenecks can only quantise them together with the
        image that they come from. ``reconstruct`` quantises.

        Raises:
            ValueError: X is not (N, d), or has values that are not finite.
        """
        model = self._fitted()
        decoded = decode(model, check_array(X, dtype=np.float32))
        flat, numbers = decoded.reshape(len(decoded), -1), Numbers.of(self.config_, model.image_shape)
        restored = numbers.restored(flat) if numbers else flat
        return restored if numbers and numbers.of_rows else restored.reshape(-1, *model.image_shape)

    def score(self, X: Any, y: Any = None) -> float:
        """The negative nMSE: 0 is a perfect reconstruction, -1 as bad as the mean of the training pixels."""
        return -float(self._fitted().evaluate(self._images(X))["nmse"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint for ``load``, ``softvq_cli.load`` and the commands.

        Raises:
            SoftVQError: the file cannot be written.
        """
        model, config = self._fitted(), self.config_
        checkpoint.save(
            path,
            config=config,
            dataset=self.dataset_,
            step=config.train.iterations,
            metrics=self.history_[-1],
            model=model,
            training=dict(self._state),
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str = "cpu", *, encoder: Any = None, decoder: Any = None
    ) -> AutoencoderEmbedder:
        """Load a fitted estimator from a checkpoint written by ``save`` or ``softvq train``.

        ``history_`` has only the last report. Column names are restored. A model with custom modules needs ``encoder``
        and ``decoder`` with the same architecture.

        Raises:
            InputError: the file is missing, damaged or not a softvq checkpoint (nothing in it is executed), or the
                model was trained on rows with the channels first.
            UsageError: the device is not available.
        """
        read = checkpoint.load(path, pick(device), networks_of(encoder, decoder))
        flat, shape, row = read.config.flat(), read.dataset.image_shape, read.config.data.image_shape
        if row is not None and image_shape(row) != shape:
            raise InputError(f"{path} was trained on rows whose channels come first: read it with softvq_cli.load")
        others = [name for name, spec in SETTINGS.items() if spec.section != "data" and name not in _ARGUMENTS]
        fitted = cls(
            **{name: flat[name] for name in _ARGUMENTS},
            device=device,
            settings={name: flat[name] for name in others},
            image_shape=None if row is None else shape,
            encoder=encoder,
            decoder=decoder,
        )
        fitted.model_, fitted.config_, fitted.history_ = read.model, read.config, [read.metrics]
        fitted.dataset_, fitted._state, fitted.n_features_in_ = read.dataset, read.training, int(np.prod(shape))
        if read.dataset.columns:
            fitted.feature_names_in_ = np.array(read.dataset.columns, object)
        return fitted

    def _fitted(self) -> Any:
        check_is_fitted(self, "model_")
        return self.model_

    def _images(self, X: Any) -> np.ndarray:
        """Convert X to the input of the model."""
        if not are_images(X):
            return self._numbers().images(validate_data(self, X, reset=False))
        images = as_images(X)
        if Numbers.of(self.config_, self.model_.image_shape) is None:
            check_bytes(images, "the estimator was fitted on 8-bit images: give uint8 from 0 (black) to 255 (white)")
        if images.dtype != np.uint8:
            images = check_array(images.reshape(len(images), -1)).reshape(images.shape)
        return self._numbers().of_images(images)  # the model refuses images of another shape

    def _numbers(self) -> Numbers:
        """The learned conversion of numbers to images; for a model of uint8 images, 0 to 255."""
        return Numbers.of(self.config_, self.model_.image_shape) or Numbers(self.model_.image_shape)

    @property
    def _n_features_out(self) -> int:
        return int(self.config_.model.latent_dim)

    def __sklearn_tags__(self) -> Tags:
        """Declare that z_e is float32 for every dtype of X."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
