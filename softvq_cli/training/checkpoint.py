"""Checkpoints: one file with the state of a run, which rebuilds the model and continues the training.

Everything except the tensors is read without importing PyTorch.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.config import RunConfig, pixel_range
from softvq_cli.errors import InputError, SoftVQError, one_line
from softvq_cli.training import archive
from softvq_cli.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.model import Autoencoder, Networks
    from softvq_cli.training.session import Session

FORMAT = "softvq-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class DatasetInfo:
    """The description of the training split in a checkpoint."""

    name: str
    fingerprint: str
    n: int
    image_shape: tuple[int, ...]
    """(H, W, C), or (D,) for vectors."""
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Column names, if the data are a table with names."""

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetInfo:
        """Describe a loaded split; computing the fingerprint reads all of it."""
        return cls(dataset.name, dataset.fingerprint, len(dataset), dataset.image_shape, dataset.class_names)

    def difference(self, other: DatasetInfo) -> str:
        """Explain how ``other``, whose fingerprint differs, is different according to these descriptions."""
        from softvq_cli.datasets.naming import shorten  # imported here, because info of a run reads no data

        differences = []
        if other.n != self.n:
            differences.append(f"{other.n} training images instead of {self.n}")
        if other.image_shape != self.image_shape:
            shapes = ("x".join(map(str, shape)) for shape in (other.image_shape, self.image_shape))
            differences.append("images of {} instead of {}".format(*shapes))
        for kind, here, there in (("new", other, self), ("missing", self, other)):
            if only := [name for name in here.class_names if name not in there.class_names]:
                differences.append(f"{kind} classes: {shorten(only, 3)}")
        return "its fingerprint differs: " + ("; ".join(differences) or "as many images, but other content")


@dataclass(frozen=True)
class Header:
    """The content of a checkpoint without its tensors."""

    path: Path
    sha256: str
    """The seal: SHA-256 of the file's content."""
    config: RunConfig
    dataset: DatasetInfo
    step: int
    finished: bool
    metrics: dict[str, float]
    """The last line of the log."""


@dataclass(frozen=True)
class Checkpoint(Header):
    """A checkpoint that was read and verified, with its model rebuilt."""

    model: Autoencoder = field(repr=False)
    """In evaluation mode, without gradients."""
    training: dict[str, Any] = field(repr=False)
    """State of optimiser, random numbers and log interval; empty in an exported model."""

    def decode(self, rows: Any) -> np.ndarray:
        """Decode codes or latents.

        Args:
            rows: integers are codes, (N, codes per image), or (N,) for one code per image; floats are latents (N, d),
                which are decoded without quantisation.

        Returns:
            In the form of the data: images are uint8 (N, H, W, C), or float32 in the units of the training data if
            these were not 8-bit; vectors are float32 (N, D).

        Raises:
            InputError: a wrong shape, a code that is not in the codebook, or codes for a model without a codebook.
        """
        import numpy as np

        from softvq_cli.model import decode

        decoded = decode(self.model, np.asarray(rows))
        limits = pixel_range(self.config.data.pixel_range)
        if self.model.of_vectors:
            return decoded
        if limits is None:
            return np.asarray(np.rint(255 * decoded), np.uint8)
        low, high = limits
        return np.asarray(low + decoded.astype(np.float64) * (high - low), np.float32)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the model without its training state: ONNX if ``path`` ends in ``.onnx``, otherwise safetensors, which
        ``load`` also reads. SoftVQError: the file cannot be written, or a required package is not installed.
        """
        from softvq_cli.training import export

        if Path(path).suffix == ".onnx":
            export.write_onnx(path, {**self.description(), "checkpoint_sha256": self.sha256}, self.model)
        else:
            export.write_safetensors(path, self.description(), self.model.state_dict())

    def description(self) -> dict[str, Any]:
        """The shareable content without tensors and training state, as plain values."""
        return _description(self.config.shared(), self.dataset, self.step, self.metrics)


def save(
    path: str | os.PathLike[str],
    *,
    config: RunConfig,
    dataset: DatasetInfo,
    step: int,
    metrics: dict[str, float],
    model: Autoencoder,
    training: dict[str, Any],
) -> None:
    """Write a checkpoint atomically (SoftVQError: it cannot be written; the old one is unchanged)."""
    content = _description(config, dataset, step, metrics)
    archive.write(path, {**content, "model": model.state_dict(), "training": training})


def _description(config: RunConfig, dataset: DatasetInfo, step: int, metrics: dict[str, float]) -> dict[str, Any]:
    """The content of a checkpoint without tensors, as plain values."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(dataset).items()}
    if not dataset.columns:
        del values["columns"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "softvq": __version__,
        "config": config.as_dict(),
        "dataset": values,
        "step": step,
        "finished": step == config.train.iterations,
        "metrics": metrics,
    }


def load(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", networks: Networks | None = None
) -> Checkpoint:
    """Read a checkpoint, or a model exported from one, and rebuild it on ``device``.

    ``networks``, for the network ``own``, are an encoder and a decoder with the architecture used in training, because
    a checkpoint has their weights but no code. InputError: the file is missing, damaged, inconsistent, of another
    program or of a newer format; or ``networks`` are missing or not needed.
    """
    path = Path(path)
    if archive.is_safetensors(path):
        from softvq_cli.training import export

        content, seal = export.read_safetensors(path)
    else:
        content, seal = archive.read(path)
    header = _header(path, content, seal)
    if (header.config.model.arch == "own") != (networks is not None):
        if networks is not None:
            raise InputError("{} has networks of its own: leave encoder and decoder out", path)
        call = "softvq_cli.load(path, encoder=…, decoder=…)"
        raise InputError("{} needs modules like the encoder and the decoder of its training: {}", path, call)
    with _consistent(path):
        model = _rebuild(header.config, header.dataset, _typed(content, "model", dict), networks)
        training = _typed(content, "training", dict)
    model.to(device).eval().requires_grad_(False)
    return Checkpoint(**vars(header), model=model, training=training)


def read_header(path: str | os.PathLike[str]) -> tuple[Header, int]:
    """Read a checkpoint without tensors, and its number of parameters; without importing PyTorch if possible.

    InputError as in ``load``, except that weights are not compared with the settings.
    """
    path = Path(path)
    if not archive.is_safetensors(path):
        content, seal = archive.read_plain(path)
        header = _header(path, content, seal)
        # Adam has two moments per parameter after its first step.
        with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):
            optimiser = content["training"]["optimiser"]
            numbers = optimiser["param_groups"][0]["params"]
            return header, sum(int(optimiser["state"][number]["exp_avg"].numel) for number in numbers)
    loaded = load(path)
    return loaded, sum(weights.numel() for weights in loaded.model.parameters())


def _header(path: Path, content: Any, seal: str) -> Header:
    if not isinstance(content, dict) or content.get("format") != FORMAT or type(content.get("version")) is not int:
        raise InputError(f"{path} is not a softvq checkpoint")
    if content["version"] != VERSION:
        raise InputError(
            f"{path} has checkpoint format {content['version']}, but this softvq {__version__} reads {VERSION}: "
            f"use the softvq version that wrote it"
        )
    with _consistent(path):
        config, dataset = RunConfig.from_dict(content["config"]), _dataset_info(content["dataset"])
        step, finished = _typed(content, "step", int), _typed(content, "finished", bool)
        if not 0 <= step <= config.train.iterations or finished != (step == config.train.iterations):
            raise ValueError(f"step {step} of {config.train.iterations}")
        metrics = {_text(name): _number(value) for name, value in _typed(content, "metrics", dict).items()}
    return Header(path, seal, config, dataset, step, finished, metrics)


@contextlib.contextmanager
def _consistent(path: Path) -> Iterator[None]:
    """Convert errors about the values of a file with a correct checksum to InputError."""
    try:
        yield
    except (SoftVQError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:
        raise InputError(f"the checkpoint {path} is not consistent with itself: {one_line(error)}") from error


def _dataset_info(value: dict[str, Any]) -> DatasetInfo:
    shape = tuple(_typed(value, "image_shape", list))
    largest = 1 << (24 if len(shape) == 1 else 16)
    if not all(type(side) is int and 1 <= side <= largest for side in shape):
        raise TypeError("image_shape is not of whole numbers")
    if len(shape) != 1 and not (len(shape) == 3 and shape[2] in (1, 3)):
        raise ValueError(f"images of shape {shape}")
    names = tuple(map(_text, _typed(value, "class_names", list)))
    columns = tuple(map(_text, _typed({"columns": [], **value}, "columns", list)))
    if columns and len(columns) != math.prod(shape):
        raise ValueError(f"{len(columns)} names of columns for {math.prod(shape)} values")
    name, fingerprint = _typed(value, "name", str), _typed(value, "fingerprint", str)
    return DatasetInfo(name, fingerprint, _typed(value, "n", int), shape, names, columns)


def _rebuild(config: RunConfig, dataset: DatasetInfo, state: dict[str, Any], networks: Networks | None) -> Autoencoder:
    """Build the model with the stored weights; shapes are checked before memory is allocated."""
    import torch

    from softvq_cli.model import Autoencoder

    with torch.device("meta") if networks is None else contextlib.nullcontext():
        model = Autoencoder(config.model, dataset.image_shape, networks=networks)
    expected = model.state_dict()
    if state.keys() != expected.keys():
        raise ValueError(f"its weights are not those of {config.model.bottleneck} with the network {config.model.arch}")
    for name, value in state.items():
        want = expected[name]
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.shape != want.shape or value.dtype != want.dtype:
            raise ValueError(f"the weight {name} is not {want.dtype} of shape {tuple(want.shape)}")
        # Convolution weights are stored channels last.
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
    value.encode("utf-8", "surrogateescape")  # UnicodeEncodeError: not a possible file name in any locale
    return value


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return value
    raise TypeError(f"{value!r} is not a finite number")


def restore(
    session: Session, step: int, weights: Mapping[str, Any], state: Mapping[str, Any], *, reported: bool = False
) -> None:
    """Set a new session to the state after ``step`` steps of a similar one, with these model ``weights``.

    ``reported``: the training had ended, so all steps were reported, and the images may now be different ones.
    ValueError: the state does not fit the session, which is then unchanged. Adam's moments are replaced, so nothing may
    hold references to them, as a captured graph would. RuntimeError: the session has already taken steps.
    """
    if session.step or session.optimiser.state:
        raise RuntimeError("only a session that has not taken a step can be restored")
    if not state:
        raise ValueError("it is an exported model, without the state of its training")
    noise, moments = _get(state, "noise"), _get(_get(state, "optimiser"), "state")
    if getattr(noise, "shape", None) != session.noise.get_state().shape:
        device = session.device.type
        raise ValueError(f"its random state is not one of {device}: resume on the kind of device on which it began")
    _check_tensor("its random state", noise, noise.shape, session.noise.get_state().dtype)
    _check_moments(list(session.model.parameters()), step, moments)
    if not reported:
        _check_interval(session, step, _get(state, "interval"))
    session.step = step
    session.model.load_state_dict(weights)
    session.optimiser.load_state(moments)
    session.noise.set_state(noise)
    if not reported:
        session.interval.load_state_dict(state["interval"])


def _check_moments(parameters: list[Tensor], step: int, state: Any) -> None:
    fits = isinstance(state, dict) and set(state) <= set(range(len(parameters)))
    if not fits or bool(state) != (step > 0 and bool(parameters)):
        raise ValueError("its optimiser is that of another model")
    for number, moments in state.items():
        shape = parameters[number].shape
        for name, size in (("step", ()), ("exp_avg", shape), ("exp_avg_sq", shape)):
            _check_tensor(f"the optimiser's {name}", _get(moments, name), size)


def _check_interval(session: Session, step: int, interval: Any) -> None:
    """Check for one row per step since the last report, and the statistics of the bottleneck.

    A run with added iterations also has a report at its former last step.
    """
    rows, stats = _get(interval, "rows"), _get(interval, "stats")
    done = min(step % session.config.train.log_every, rows.shape[0] if hasattr(rows, "shape") and rows.shape else 0)
    _check_tensor("the loss terms", rows, (done, len(session.interval.names)))
    expected = session.model.bottleneck.stats_shapes() if done else {}
    if not isinstance(stats, dict) or set(stats) != set(expected):
        raise ValueError("its sums since the last report are those of another bottleneck")
    for name, size in expected.items():
        _check_tensor(name, stats[name], size)


def _check_tensor(name: str, value: Any, shape: tuple[int, ...], dtype: Any = None) -> None:
    """Raise ValueError unless ``value`` is a tensor with this shape and dtype (None: the dtype of weights)."""
    import torch

    dtype = dtype or torch.get_default_dtype()
    if not isinstance(value, torch.Tensor) or value.dtype != dtype or tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} is not {dtype} of shape {tuple(shape)}")


def _get(values: Any, name: str) -> Any:
    if not isinstance(values, Mapping) or name not in values:
        raise ValueError(f"it has no {name}")
    return values[name]
