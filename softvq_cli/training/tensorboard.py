"""TensorBoard: scalars at every report, images at every checkpoint, the latents for the projector at the end."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softvq_cli.datasets.dataset import Dataset, evenly_spaced
from softvq_cli.devices import as_tensor
from softvq_cli.errors import SoftVQError, optional
from softvq_cli.model import represent
from softvq_cli.reporter import Reporter
from softvq_cli.training import run_directory
from softvq_cli.training.session import Session

FOLDER = "tensorboard"
"""The subfolder of the run folder."""
_RECONSTRUCTIONS = 16
"""Number of images that are shown with their reconstructions."""
_CENTROIDS = 256
"""Maximum number of decoded codewords; of a larger codebook the first ones are drawn."""
_PROJECTED = 5000
"""Maximum number of images in the projector; larger sets are subsampled evenly. Its files are text."""
_LARGEST_SPRITE = 8192
"""Maximum side in pixels of the projector's sprite image."""


class TensorBoard(Reporter):
    """Writes event files to the run folder. After a resume, the new file marks invalid steps of older ones.

    The run's log must already be truncated to the session's step; ``validation`` is the test split.
    """

    def __init__(self, folder: Path, session: Session, validation: Dataset) -> None:
        self._path, self._validation = folder / FOLDER, validation
        if session.step == 0:
            shutil.rmtree(self._path, ignore_errors=True)
        begun = self._path.exists()
        with self._writing():
            writer = require().SummaryWriter
            self._writer: Any = writer(str(self._path), purge_step=session.step + 1 if begun else None)
            for line in [] if begun else run_directory.read_metrics(folder):  # the first logging of this run
                self._scalars(line)

    def step(self, metrics: Mapping[str, float], session: Session | None = None) -> None:
        with self._writing(), torch.inference_mode():
            if metrics:
                self._scalars(metrics)
            if session is not None and not session.model.of_vectors:
                self._pictures(session)
            if session is not None and session.step == session.config.train.iterations:
                self._project(session)
            self._writer.flush()

    def close(self) -> None:
        """Flush all files to disk."""
        with self._writing():
            self._writer.close()

    def _scalars(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(metrics["step"]))

    def _pictures(self, session: Session) -> None:
        """Write reconstructions and decoded codewords."""
        model = session.model
        x = model.scale(session.validation[:_RECONSTRUCTIONS])
        pictures = {"reconstructions": torch.cat([model.unscale(x), model.unscale(model(x).x_hat)], dim=2)}
        centroids = model.bottleneck.centroids()
        if centroids is not None:
            pictures["codebook"] = model.unscale(model.decode_codewords(centroids.flatten(0, -2)[:_CENTROIDS]))
        for name, images in pictures.items():
            self._writer.add_images(name, images.cpu(), session.step, dataformats="NHWC")

    def _project(self, session: Session) -> None:
        """Write z_e of the test split with classes and thumbnails."""
        data = self._validation
        rows = evenly_spaced(len(data), _PROJECTED)
        images = np.ascontiguousarray(data.images[rows])
        labels = None if data.labels is None else [data.class_names[label] for label in data.labels[rows]]
        shutil.rmtree(self._path / str(session.step).zfill(5), ignore_errors=True)  # from an end that was not saved
        with contextlib.redirect_stdout(io.StringIO()):  # TensorBoard prints a warning
            self._writer.add_embedding(
                torch.from_numpy(represent(session.model, images)),
                metadata=labels,
                label_img=None if data.of_vectors else _thumbnails(images),
                global_step=session.step,
                tag="z_e",
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SoftVQError(f"cannot write {self._path}: {error.strerror or error}") from error


def _thumbnails(images: np.ndarray) -> Tensor:
    """Thumbnails, float32 (N, 3, S, S) in [0, 1], padded with black, small enough for the sprite image."""
    from torch.nn import functional as F

    pixels = as_tensor(images).permute(0, 3, 1, 2).float() / 255
    side = max(pixels.shape[2:])
    pixels = F.pad(pixels, (0, side - pixels.shape[3], 0, side - pixels.shape[2])).expand(-1, 3, -1, -1)
    largest = _LARGEST_SPRITE // int(np.ceil(np.sqrt(len(images))))
    return pixels if side <= largest else F.interpolate(pixels, (largest, largest), mode="area")


def require() -> Any:
    """Import TensorBoard (SoftVQError naming the extra if it is not installed)."""
    return optional("torch.utils.tensorboard", "tensorboard", "tensorboard")
