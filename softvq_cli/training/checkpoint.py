"""The checkpoint: a run's whole state in one file that rebuilds the model by itself."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from softvq_cli.config import RunConfig
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import InputError, SoftVQError, one_line
from softvq_cli.model import Autoencoder
from softvq_cli.training import archive, export
from softvq_cli.version import __version__

FORMAT = "softvq-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class DatasetInfo:
    """What a checkpoint remembers of the split that it was trained on."""

    name: str
    fingerprint: str
    n: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Names of the columns of a table, where it was one and they have names."""

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetInfo:
        """Describe a loaded split; reads all of it once, for the fingerprint."""
        return cls(dataset.name, dataset.fingerprint, len(dataset), dataset.image_shape, dataset.class_names)

    def difference(self, other: DatasetInfo) -> str:
        """What ``other``, with another fingerprint, has otherwise, as far as these descriptions tell."""
        found = []
        if other.n != self.n:
            found.append(f"{other.n} training images instead of {self.n}")
        if other.image_shape != self.image_shape:
            found.append(f"images of {_by(other.image_shape)} instead of {_by(self.image_shape)}")
        changes = (("new", other.class_names, self.class_names), ("missing", self.class_names, other.class_names))
        for what, names, those in changes:
            only = [one_line(name, 40) for name in names if name not in those]
            if only:
                more = f" and {len(only) - 3} more" if len(only) > 3 else ""
                found.append(f"{what} classes: {', '.join(only[:3])}{more}")
        return (
            f"its fingerprint differs: {'; '.join(found) or 'as many images and the same classes, but other content'}"
        )


def _by(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read, checked and rebuilt."""

    path: Path
    sha256: str
    """The seal of the file: the SHA-256 of its content."""
    config: RunConfig
    dataset: DatasetInfo
    step: int
    finished: bool
    metrics: dict[str, float]
    """The last line of the log."""
    model: Autoencoder
    """In evaluation mode, without gradients."""
    training: dict[str, Any]
    """Optimiser, random state and interval, as the session left them; empty in an exported model."""

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write all but the training state as a ``.safetensors`` file, which :func:`load` reads too.

        Raises:
            SoftVQError: it could not be written, or the safetensors package is not installed.
        """
        export.write(path, self.description(), self.model.state_dict())

    def description(self) -> dict[str, Any]:
        """All of it that is neither tensors nor training state and may be shared, as plain values."""
        return _content(self.config.shared(), self.dataset, self.step, self.finished, self.metrics)


def save(
    path: str | os.PathLike[str],
    *,
    config: RunConfig,
    dataset: DatasetInfo,
    step: int,
    finished: bool,
    metrics: dict[str, float],
    model: Autoencoder,
    training: dict[str, Any],
) -> None:
    """Write a checkpoint atomically.

    Raises:
        SoftVQError: it could not be written; the previous checkpoint is unchanged.
    """
    content = _content(config, dataset, step, finished, metrics)
    archive.write(path, {**content, "model": model.state_dict(), "training": training})


def _content(
    config: RunConfig, dataset: DatasetInfo, step: int, finished: bool, metrics: dict[str, float]
) -> dict[str, Any]:
    """All of a checkpoint that is not tensors, as plain values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "softvq": __version__,
        "config": config.as_dict(),
        "dataset": _plain(dataset),
        "step": step,
        "finished": finished,
        "metrics": metrics,
    }


def _plain(dataset: DatasetInfo) -> dict[str, Any]:
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(dataset).items()}
    return values if dataset.columns else {name: value for name, value in values.items() if name != "columns"}


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Checkpoint:
    """Read a checkpoint, or a model exported from one, and rebuild it on ``device``.

    Raises:
        InputError: missing, damaged, of another program or a newer format, or inconsistent with itself.
    """
    path = Path(path)
    content, seal = export.read(path) if export.is_export(path) else archive.read(path)
    _check_header(path, content)
    try:
        config = RunConfig.from_dict(content["config"])
        dataset = _dataset_info(content["dataset"])
        step, finished = _typed(content, "step", int), _typed(content, "finished", bool)
        if not 0 <= step <= config.train.iterations or finished != (step == config.train.iterations):
            raise ValueError(f"step {step} of {config.train.iterations}")
        metrics = {_text(name): _number(value) for name, value in _typed(content, "metrics", dict).items()}
        model = _rebuild(config, dataset, _typed(content, "model", dict))
        training = _typed(content, "training", dict)
    except (SoftVQError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:
        raise InputError(f"the checkpoint {path} is not consistent with itself: {one_line(error)}") from error
    model.to(device).eval().requires_grad_(False)
    return Checkpoint(path, seal, config, dataset, step, finished, metrics, model, training)


def _check_header(path: Path, content: Any) -> None:
    name, version = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if not isinstance(name, str) or name != FORMAT or not isinstance(version, int):
        raise InputError(f"{path} is not a softvq checkpoint")
    if version != VERSION:
        raise InputError(
            f"{path} has checkpoint format {version!r} and this softvq {__version__} reads {VERSION}: "
            f"use the softvq that made it, or update"
        )


def _dataset_info(value: dict[str, Any]) -> DatasetInfo:
    height, width, channels = _typed(value, "image_shape", list)
    if not all(type(side) is int for side in (height, width, channels)):
        raise TypeError("image_shape is not of whole numbers")
    if not (1 <= height <= 1 << 16 and 1 <= width <= 1 << 16 and channels in (1, 3)):
        raise ValueError(f"images of shape {(height, width, channels)}")
    names = tuple(_text(name) for name in _typed(value, "class_names", list))
    columns = tuple(_text(name) for name in _typed({"columns": [], **value}, "columns", list))
    if columns and len(columns) != height * width * channels:
        raise ValueError(f"{len(columns)} names of columns for {height * width * channels} values")
    return DatasetInfo(
        _typed(value, "name", str),
        _typed(value, "fingerprint", str),
        _typed(value, "n", int),
        (height, width, channels),
        names,
        columns,
    )


def _rebuild(config: RunConfig, dataset: DatasetInfo, state: dict[str, Any]) -> Autoencoder:
    """The model with the stored weights; shapes are compared before anything of their size is allocated."""
    with torch.device("meta"):
        model = Autoencoder(config.model, dataset.image_shape)
    expected = model.state_dict()
    if state.keys() != expected.keys():
        raise ValueError(f"its weights are not those of {config.model.bottleneck} with the network {config.model.arch}")
    for name, value in state.items():
        want = expected[name]
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.shape != want.shape or value.dtype != want.dtype:
            raise ValueError(f"the weight {name} is not {want.dtype} of shape {tuple(want.shape)}")
        # Convolutions keep their weights channels last.
        if not (value.is_contiguous() or value.is_contiguous(memory_format=torch.channels_last)):
            raise ValueError(f"the weight {name} is not stored in full")
    model.load_state_dict(state, assign=True)
    return model


def _typed(values: dict[str, Any], name: str, kind: type) -> Any:
    value = values[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is not {kind.__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode("utf-8", "surrogateescape")  # UnicodeEncodeError for what no file can be called, in any locale
    return value


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return value
    raise TypeError(f"{value!r} is not a finite number")
