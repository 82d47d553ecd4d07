"""The subject of an evaluation: the model of a checkpoint, or a control, on both splits of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli.config import RunConfig
from softvq_cli.datasets.dataset import blocks
from softvq_cli.datasets.vectors import standard_of
from softvq_cli.devices import inference
from softvq_cli.errors import InputError
from softvq_cli.evaluation.numerics import axes_of_few, largest_eigenvectors
from softvq_cli.reporter import Reporter
from softvq_cli.words import CHANCE, PCA, RAW, UNTRAINED, Split

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.model import Autoencoder
    from softvq_cli.training.checkpoint import Checkpoint

FILE = "file"
"""The kind of a control whose rows another program computed from the same images."""
REPRESENTATIONS: Mapping[str, str] = {RAW: "pixels", PCA: "pca", CHANCE: "random", FILE: "file"}
"""Kind of a control → the representation in its rows; for all other subjects it is z_e."""
_BLOCK = 64 << 20
"""Bytes of images processed at a time, as float64."""
_LARGEST_PCA = 20_000
"""Maximum number of values per image; the covariance matrix then has 3 GB."""


@dataclass(frozen=True)
class Rows:
    """One vector per image, for both splits."""

    train: np.ndarray
    """float32 (N, d)."""
    train_labels: np.ndarray | None
    """int64 (N,)."""
    test: np.ndarray
    """float32 (M, d)."""
    test_labels: np.ndarray | None
    """int64 (M,)."""


@dataclass(frozen=True)
class Encoding:
    """The output of a model for the M images of a split, without noise."""

    z: np.ndarray
    """float32 (M, d): z_e."""
    errors: np.ndarray
    """float64 (M,): mean squared error of the pixels divided by their variance in training; the mean is the nMSE."""
    numbers: Mapping[str, float]
    """``nmse``, and the results of :meth:`~softvq_cli.model.bottlenecks.Bottleneck.evaluate`."""
    reconstructions: np.ndarray
    """uint8 (m, H, W, C) or float32 (m, D), for the requested rows."""
    codes: np.ndarray | None
    """int64 (M, codes per image): the most probable codewords."""
    codeword_distances: np.ndarray | None
    """float64 (M,): the distance ‖z_e − μ_k‖ from that codeword."""
    usage: np.ndarray | None
    """float64 (K,): the mean posterior probability of each codeword."""

    @property
    def codewords(self) -> np.ndarray | None:
        """The codeword of each image, int64 (M,), if an image has only one."""
        return self.codes[:, 0] if self.codes is not None and self.codes.shape[1] == 1 else None


@dataclass(frozen=True)
class Control:
    """A row of a comparison without a trained model."""

    kind: str
    """RAW, PCA, UNTRAINED, CHANCE or FILE."""
    config: RunConfig
    """PCA uses its latent dimension, CHANCE also the seed, UNTRAINED the model and the seed."""
    path: str | None = None
    """For FILE: an embedding file with one row per image, in the order of all images."""


class Subject:
    """A model or a control on a training and a test split. Each split is loaded and encoded once, on first use.

    ``load`` returns a split by name; ``fingerprints`` are those of both splits, if already known. ``shown`` maps the
    number of test images to the rows whose reconstructions :attr:`encoding` stores.
    """

    def __init__(
        self,
        model: Checkpoint | Control,
        load: Callable[[Split], Dataset],
        *,
        fingerprints: tuple[str, str] | None = None,
        shown: Callable[[int], np.ndarray] = lambda n: np.arange(0),
        reporter: Reporter | None = None,
    ) -> None:
        self.control = model if isinstance(model, Control) else None
        self.checkpoint = None if isinstance(model, Control) else model
        self._load, self._fingerprints, self._shown = load, fingerprints, shown
        self._reporter = reporter or Reporter()

    @cached_property
    def train(self) -> Dataset:
        """The training split."""
        return self._load("train")

    @cached_property
    def test(self) -> Dataset:
        """The test split."""
        return self._load("test")

    @property
    def representation(self) -> str:
        """The representation in its rows: ``z_e``, ``pixels``, ``pca``, …"""
        return REPRESENTATIONS.get(self.control.kind, "z_e") if self.control else "z_e"

    @property
    def key(self) -> dict[str, Any]:
        """The key of an evaluation; two evaluations measure the same if and only if their keys are equal."""
        train, test = self._fingerprints or (self.train.fingerprint, self.test.fingerprint)
        key: dict[str, Any] = {"train": train, "test": test}
        if self.checkpoint is not None:
            return {"row": self.checkpoint.config.model.bottleneck, **key, "checkpoint_sha256": self.checkpoint.sha256}
        assert self.control is not None
        kind, config = self.control.kind, self.control.config
        if kind in (PCA, CHANCE):
            key["components"] = config.model.latent_dim
        if kind == CHANCE:
            key["seed"] = config.train.seed
        if kind == FILE:
            with open(str(self.control.path), "rb") as file:
                key["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if kind == UNTRAINED:
            key |= {"model": asdict(config.model), "seed": config.train.seed}
        return {"row": kind, **key}

    @cached_property
    def train_z(self) -> np.ndarray:
        """z_e of the training split, float32 (N, d). It may be assigned if it is stored in a file."""
        return represent(self._model, self.train.images, "z_e", self._reporter)

    @cached_property
    def encoding(self) -> Encoding:
        """The output of the checkpoint's model for the test split."""
        images = self.test.images
        return encode(self._model, images, self._shown(len(images)), reporter=self._reporter)

    @cached_property
    def rows(self) -> Rows:
        """z_e, or the representation of a control."""
        if self.checkpoint is not None:
            return self._rows(self.train_z, self.encoding.z)
        assert self.control is not None
        images = self.train.images, self.test.images
        if self.train.of_vectors and self.control.kind != UNTRAINED:  # scaled as for a model
            standard = standard_of(images[0], self.control.config.data.scale)
            images = (images[0] - standard.mean) / standard.spread, (images[1] - standard.mean) / standard.spread
        if self.control.kind == RAW:
            return self._rows(_pixels(images[0]), _pixels(images[1]))
        if self.control.kind == PCA:
            train, test, self._nmse = _principal_components(*images, self.control.config.model.latent_dim)
            return self._rows(train, test)
        if self.control.kind == CHANCE:
            rng, d = np.random.default_rng(self.control.config.train.seed), self.control.config.model.latent_dim
            return self._rows(*(rng.standard_normal((len(split), d), np.float32) for split in (self.train, self.test)))
        if self.control.kind == FILE:
            return self._file_rows(Path(str(self.control.path)))
        return self.representation_rows("z_e")

    @property
    def numbers(self) -> Mapping[str, float]:
        """Numbers of the reconstruction and the code; for controls only the nMSE of PCA."""
        if self.checkpoint is not None:
            return {"iterations": self.checkpoint.step, **self.encoding.numbers}
        _ = self.rows  # computes the nMSE of PCA
        return {"test_nmse": self._nmse} if self.representation == "pca" else {}

    def compared_with(self, model: Checkpoint | Control) -> Subject:
        """A subject with another model or control on the same splits."""
        return Subject(model, lambda split: self.train if split == "train" else self.test, reporter=self._reporter)

    def representation_rows(self, what: str) -> Rows:
        """Another representation of both splits, see :func:`softvq_cli.model.represent`."""
        splits = self.train.images, self.test.images
        return self._rows(*(represent(self._model, images, what, self._reporter) for images in splits))

    def _file_rows(self, path: Path) -> Rows:
        """The rows of a file, split like the images (InputError: the number of rows or the labels differ)."""
        from softvq_cli import embeddings
        from softvq_cli.datasets.dataset import training_rows

        assert self.control is not None
        embedding, count = embeddings.read(path), len(self.train) + len(self.test)
        if len(embedding) != count:
            raise InputError(
                "{} has {} rows, but the data have {} images: it needs one row per image, in the order of {split} all",
                *(path, len(embedding), count),
            )
        order = np.arange(count)
        if self.train.drawn:
            labels = self._load("all").labels
            train = training_rows(count, labels, None, self.control.config.data)
            order = np.concatenate([np.flatnonzero(train), np.flatnonzero(~train)])
        if embedding.labels is not None and self.train.labels is not None and self.test.labels is not None:
            labels = np.concatenate([self.train.labels, self.test.labels])
            pairs = np.unique(np.stack([labels, embedding.labels[order]]), axis=1)
            if any(len(np.unique(side)) < len(side) for side in pairs):
                raise InputError(
                    f"the labels of {path} are not those of the data: it has other images, or another order"
                )
        z = np.asarray(embedding.z, dtype=np.float32)[order]
        return self._rows(z[: len(self.train)], z[len(self.train) :])

    def _rows(self, train: np.ndarray, test: np.ndarray) -> Rows:
        return Rows(train, self.train.labels, test, self.test.labels)

    @cached_property
    def _model(self) -> Autoencoder:
        from softvq_cli.training.session import initial_model

        if self.checkpoint is not None:
            return self.checkpoint.model
        assert self.control is not None
        return initial_model(self.control.config, self.train).eval().requires_grad_(False)


def represent(model: Autoencoder, images: np.ndarray, what: str, reporter: Reporter) -> np.ndarray:
    """The same as :func:`softvq_cli.model.represent`, with progress."""
    from softvq_cli.model import represent

    return represent(model, images, what, lambda done: reporter.progress("encoding", done, len(images)))


def encode(model: Autoencoder, images: np.ndarray, shown: np.ndarray, *, reporter: Reporter | None = None) -> Encoding:
    """Process ``images``, uint8 (M, H, W, C), M > 0, once by the model, which is in evaluation mode.

    The reconstructions of the rows ``shown``, int (m,), are stored.
    """
    import torch

    from softvq_cli.model.represent import Filled

    reporter = reporter or Reporter()
    centroids = model.bottleneck.centroids()
    wanted = np.zeros(len(images), dtype=bool)
    wanted[shown] = True
    filled, n, n_shown = Filled(), len(images), int(wanted.sum())
    usage: Any = None
    nmse, without, apart, done = 0.0, 0.0, 0.0, 0
    staged = centroids is not None and centroids.dim() == 3

    def codes() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the encodings for the bottleneck's measures, and collect all other results."""
        nonlocal usage, nmse, without, apart, done
        for x in model.batches(images):
            z_e, h = model.encode(x)
            output = model.bottleneck(z_e, h)
            x_hat = model.decoder(output.z_q)
            nmse += model.nmse(x, x_hat).item() * len(x)
            squares = (x - x_hat).double().square().flatten(1).mean(1) / model.pixel_variance.double()
            filled.add("errors", squares.cpu().numpy(), n)
            filled.add("z", model.flat(z_e).cpu().numpy(), n)
            kept = torch.from_numpy(wanted[done : done + len(x)]).to(x.device)
            filled.add("pixels", _bytes(model, x_hat[kept]), n_shown)
            if centroids is not None:
                usage = output.stats["usage"].double() + (0 if usage is None else usage)
                index = model.codes(z_e, h)
                assert index is not None  # the model has centroids
                filled.add("codes", index.cpu().numpy(), n)
                if not staged and index.shape[1] == 1:
                    apart_from = (z_e - centroids[index[:, 0]]).double().norm(dim=1)
                    filled.add("distances", apart_from.cpu().numpy(), n)
            if staged:
                without += model.nmse(x, model.decoder(z_e)).item() * len(x)
                apart += (z_e - output.z_q).double().square().sum().item()
            done += len(x)
            reporter.progress("encoding", done, n)
            yield z_e, h

    with inference(model.pixel_variance.device):
        batches = codes()
        carried = model.bottleneck.evaluate(batches, n)
        for _ in batches:  # for bottlenecks that do not consume the encodings
            pass
    if staged:
        rows = filled.arrays["z"].reshape(-1, model.config.latent_dim // model.positions)
        spread = float(rows.var(axis=0, dtype=np.float64).sum()) * len(rows)
        carried = {
            **carried,
            "unquantised_nmse": without / n,
            "quantisation_error": apart / spread if spread > 0 else 0.0,
        }
    return Encoding(
        z=filled.arrays["z"],
        errors=filled.arrays["errors"],
        numbers={"test_nmse": nmse / n, **carried},
        reconstructions=filled.arrays["pixels"],
        codes=filled.arrays.get("codes"),
        codeword_distances=filled.arrays.get("distances"),
        usage=None if usage is None else (usage.flatten() / (n * model.positions)).cpu().numpy(),
    )


def decoded_codewords(model: Autoencoder, numbers: np.ndarray) -> np.ndarray:
    """Decode the codewords with indices ``numbers``, int (S,), to images, uint8 (S, H, W, C)."""
    import torch

    centroids = model.bottleneck.centroids()
    assert centroids is not None
    with inference(model.pixel_variance.device):
        codewords = centroids.flatten(0, -2)[numbers]
        parts = torch.split(codewords, max(1, model.batch_size // model.positions))
        return np.concatenate([_bytes(model, model.decode_codewords(part)) for part in parts])


def _bytes(model: Autoencoder, x_hat: Any) -> np.ndarray:
    """Convert reconstructions (B, C, H, W) to uint8 (B, H, W, C); vectors stay float32 (B, D)."""
    if model.of_vectors:
        return np.asarray(model.unscale(x_hat).cpu().numpy())
    return np.asarray((255 * model.unscale(x_hat)).round().byte().cpu().numpy())


def _pixels(images: np.ndarray) -> np.ndarray:
    """Images as float32 (N, D) in [0, 1]; vectors unchanged."""
    rows = np.asarray(images).reshape(len(images), -1)
    return np.asarray(rows / np.float32(255) if rows.dtype == np.uint8 else rows, np.float32)


def _principal_components(train: np.ndarray, test: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Both splits in the ``d`` principal components of the training pixels, and the resulting nMSE of the test split.

    There are fewer components if there are fewer than ``d`` pixels, or fewer images. Components are not whitened.
    """
    D = train[0].size
    if D > _LARGEST_PCA:
        raise InputError(
            "no PCA of images with {} values each: at most {}; smaller images ({image_size}) do", D, _LARGEST_PCA
        )
    mean = sum((block.sum(axis=0) for block in _blocks(train)), np.zeros(D)) / len(train)
    axes, squares = (_axes_of_few if len(train) < D else _axes)(train, mean, d)

    def projected(images: np.ndarray) -> np.ndarray:
        return np.concatenate([(block - mean) @ axes for block in _blocks(images)]).astype(np.float32)

    # The variance of all training pixels, as in the models' nMSE.
    variance = max(squares / (len(train) * D) - float(mean.mean()) ** 2, 1e-12)
    residual = sum(
        float(np.square(centred - centred @ axes @ axes.T).sum())
        for centred in (block - mean for block in _blocks(test))
    )
    return projected(train), projected(test), residual / (len(test) * D) / variance


def _axes(images: np.ndarray, mean: np.ndarray, d: int) -> tuple[np.ndarray, float]:
    """The principal axes (D, d), largest first, and the sum of all squared pixels.

    They are eigenvectors of the covariance matrix, which is summed block by block in float64. That is exact, and memory
    is needed neither for all pixels as floats nor for their singular value decomposition.
    """
    products = np.zeros((len(mean), len(mean)))
    for block in _blocks(images):
        products += block.T @ block
    squares = float(np.trace(products))
    products /= len(images)
    for row, value in enumerate(mean):  # row by row, because the matrix can have gigabytes
        products[row] -= value * mean
    return largest_eigenvectors(products, d)[1], squares


def _axes_of_few(images: np.ndarray, mean: np.ndarray, d: int) -> tuple[np.ndarray, float]:
    """The same for fewer images than pixels."""
    centred = np.concatenate([block - mean for block in _blocks(images)])
    _, axes, squares = axes_of_few(centred, d)
    return axes, squares + len(images) * float(mean @ mean)


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield blocks of ``images`` as float64 (B, D): uint8 (N, H, W, C) scaled to [0, 1], vectors unchanged."""
    for block in blocks(images, _BLOCK // 8 * images.dtype.itemsize):
        yield block.astype(np.float64) if block.ndim == 2 else block.reshape(len(block), -1) / 255.0
