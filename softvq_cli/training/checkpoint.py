"""The checkpoint: a run's whole state in one file that rebuilds the model by itself, and going on from it.

All but the tensors is read without importing PyTorch.
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
    """What a checkpoint remembers of the split that it was trained on."""

    name: str
    fingerprint: str
    n: int
    image_shape: tuple[int, ...]
    """(H, W, C), or (D,) of vectors."""
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Names of the columns of a table, where it was one and they have names."""

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetInfo:
        """Describe a loaded split; reads all of it once, for the fingerprint."""
        return cls(dataset.name, dataset.fingerprint, len(dataset), dataset.image_shape, dataset.class_names)

    def difference(self, other: DatasetInfo) -> str:
        """How ``other``, which has another fingerprint, differs as far as these descriptions tell."""
        from softvq_cli.datasets.naming import shorten  # here, since info of a run reads no data

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
    """All of a checkpoint but its tensors."""

    path: Path
    sha256: str
    """The seal of the file: the SHA-256 of its content."""
    config: RunConfig
    dataset: DatasetInfo
    step: int
    finished: bool
    metrics: dict[str, float]
    """The last line of the log."""


@dataclass(frozen=True)
class Checkpoint(Header):
    """A checkpoint, read, checked and rebuilt."""

    model: Autoencoder = field(repr=False)
    """In evaluation mode, without gradients."""
    training: dict[str, Any] = field(repr=False)
    """Optimiser, random state and interval, as the session left them; empty in an exported model."""

    def decode(self, rows: Any) -> np.ndarray:
        """The images or vectors that the decoder makes of codes or latents.

        Args:
            rows: whole numbers are codes, (N, codes of an image), or (N,) where an image has one; floats are z, (N, d),
                which are decoded as they stand.

        Returns:
            As the data are: uint8 (N, H, W, C), or float32 in the units of the training where its images had other
            numbers; float32 (N, D) of vectors.

        Raises:
            InputError: another shape, a code that is not in the codebook, or codes for a model without a codebook.
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
        """Write all but the training state: an ONNX model to a file ``.onnx``, else weights as safetensors, which
        ``load`` reads too. SoftVQError: it could not be written, or a package that it needs is not installed.
        """
        from softvq_cli.training import export

        if Path(path).suffix == ".onnx":
            export.write_onnx(path, {**self.description(), "checkpoint_sha256": self.sha256}, self.model)
        else:
            export.write_safetensors(path, self.description(), self.model.state_dict())

    def description(self) -> dict[str, Any]:
        """All of it that is neither tensors nor training state and may be shared, as plain values."""
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
    """Write a checkpoint atomically (SoftVQError: it could not be; the previous one is unchanged)."""
    content = _description(config, dataset, step, metrics)
    archive.write(path, {**content, "model": model.state_dict(), "training": training})


def _description(config: RunConfig, dataset: DatasetInfo, step: int, metrics: dict[str, float]) -> dict[str, Any]:
    """All of a checkpoint that is not tensors, as plain values."""
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

    ``networks``, an encoder and a decoder like those of the training, are for a model of the network ``own``: a
    checkpoint has their weights, and never code. InputError: missing, damaged, of another program or a newer format, or
    inconsistent with itself; or ``networks`` are missing or not asked for.
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
    """All of a checkpoint but its tensors, and how many parameters its model has; without importing PyTorch if it can.

    InputError as ``load``, but weights that do not fit the settings are not noticed.
    """
    path = Path(path)
    if not archive.is_safetensors(path):
        content, seal = archive.read_plain(path)
        header = _header(path, content, seal)
        # Adam has moments of each parameter, once it has taken a step.
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
    """What is wrong with the values of a file that has the right checksum is an InputError."""
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
    """The model with the stored weights; shapes are compared before anything of their size is allocated."""
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


def restore(
    session: Session, step: int, weights: Mapping[str, Any], state: Mapping[str, Any], *, reported: bool = False
) -> None:
    """Put a new session where another one like it was after ``step`` steps, when its model had these ``weights``.

    With ``reported`` that was the end of a training: all its steps are reported, and the images may be others.
    ValueError: the state is not one of a session like this; nothing was changed. Moments are replaced, so nothing may
    hold on to them yet, as a captured graph would: RuntimeError if the session has taken steps.
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
    """One row per step since the last report, and what one batch of the bottleneck would add up.

    A run that was lengthened reported its former last step, too.
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
    """ValueError: not a tensor of that shape and type (None: that of weights)."""
    import torch

    dtype = dtype or torch.get_default_dtype()
    if not isinstance(value, torch.Tensor) or value.dtype != dtype or tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} is not {dtype} of shape {tuple(shape)}")


def _get(values: Any, name: str) -> Any:
    if not isinstance(values, Mapping) or name not in values:
        raise ValueError(f"it has no {name}")
    return values[name]
