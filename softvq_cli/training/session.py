"""A run in memory: model, optimiser, data on the device, random state, and how to advance by some steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softvq_cli.config import RunConfig
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import uses_bfloat16
from softvq_cli.model import Autoencoder
from softvq_cli.training.batches import Batches, derived_seed
from softvq_cli.training.chunk import STEPS, Chunk
from softvq_cli.training.interval import Interval
from softvq_cli.training.objective import Objective, objective
from softvq_cli.training.restore import check_state

VALIDATION_IMAGES = 1024
"""At most this many, evenly spaced over the test split: an estimate that costs about ten steps."""


class Session:
    """Everything that a training step reads and changes.

    Args:
        config: of the run.
        dataset: the training split.
        validation: the test split, for ``val_nmse``.
        device: where to train.
        note: is told in one line when ``torch.compile`` was asked for and cannot be had.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        validation: Dataset,
        device: torch.device,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config, self.device = config, device
        self.step = 0
        self.diagnosis: str | None = None
        """What the last report says against the run, in one line."""
        seed = config.train.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, 0))
            model = Autoencoder(config.model, dataset.image_shape, pixel_variance(dataset.images))
        # Convolutions: tensor cores read channels last; on a CPU the copies that it needs cost more than it saves.
        self._layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self._layout)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=config.train.lr, fused=device.type != "mps", capturable=device.type == "cuda"
        )
        self._chunk: Chunk | None = None
        self.images = as_tensor(dataset.images).to(device)
        self._bfloat16 = uses_bfloat16(config.train.precision, device)
        self._objective = compiled(objective, note) if config.train.compile else objective
        self.batches = Batches(len(dataset), config.train.batch_size, seed)
        self.noise = torch.Generator(device).manual_seed(derived_seed(seed, 2))
        names = ("loss", "nmse", *self.model.bottleneck.term_names)
        self.interval = Interval(names, config.train.log_every, device)
        rows = np.linspace(0, len(validation) - 1, min(len(validation), VALIDATION_IMAGES)).round().astype(np.int64)
        self.validation = as_tensor(validation.images[rows]).to(device)

    def advance(self, limit: int = 1) -> int:
        """Take at least one and at most ``limit`` optimiser steps; returns how many.

        On the CPU it is one. On a GPU it is a captured chunk of many where the limit allows.
        """
        steps = 1
        if self.device.type == "cuda" and limit >= STEPS:
            self._chunk = self._chunk or Chunk(self)
            self._chunk.run()
            steps = self._chunk.steps
        else:
            self.interval.add(self.optimise(self.batches.indices(self.step).to(self.device)))
        self.step += steps
        return steps

    def optimise(self, indices: Tensor) -> Objective:
        """One step of Adam on the images at ``indices`` (B,), without recording it."""
        images = self.images[indices]
        eps = None
        if self.model.bottleneck.stochastic:
            eps = torch.randn(len(images), self.config.model.latent_dim, generator=self.noise, device=self.device)
        self.optimiser.zero_grad(set_to_none=True)
        x = self.model.scale(images).contiguous(memory_format=self._layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            result = self._objective(self.model, x, eps, self.config.loss)
        result.loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return result

    def validation_nmse(self) -> float:
        """nMSE of the deterministic reconstruction of the validation images."""
        parts = torch.split(self.validation, 256)
        with torch.inference_mode():
            scaled = (self.model.scale(images).contiguous(memory_format=self._layout) for images in parts)
            errors: list[float] = torch.stack([self.model.nmse(x, self.model(x).x_hat) for x in scaled]).tolist()
        return sum(error * len(images) for error, images in zip(errors, parts, strict=True)) / len(self.validation)

    def report(self) -> dict[str, float]:
        """The figures of the interval that ends here, and a new interval."""
        interval = self.interval
        line = {"step": self.step, **interval.means(), "val_nmse": self.validation_nmse()}
        images = interval.steps * self.config.train.batch_size
        line |= self.model.bottleneck.summarise({name: sums.cpu() for name, sums in interval.stats.items()}, images)
        self.diagnosis = self.model.bottleneck.diagnose(line, images)
        interval.clear()
        return line

    def not_finite(self) -> str | None:
        """Which number is NaN or infinite, first of the recorded losses, then of the state; None if all are finite.

        Only a state without any is worth a checkpoint.
        """
        found = self.interval.first_not_finite()
        if found is not None:
            offset, term = found
            return f"the loss was not finite at step {self.step - self.interval.steps + offset + 1} (first in {term})"
        weights = dict(self.model.named_parameters())
        # Not Adam's count of steps: it is always finite, and on some devices lies elsewhere.
        moments = [state[name] for state in self.optimiser.state.values() for name in ("exp_avg", "exp_avg_sq")]
        if _all_finite([*weights.values(), *moments]):
            return None
        name = next((name for name, weight in weights.items() if not _all_finite([weight])), None)
        what = f"the weights were not finite (first in {name})" if name else "a gradient was too large for its square"
        return f"{what} after step {self.step}"

    def is_finite(self) -> bool:
        """Whether every number is."""
        return self.not_finite() is None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model and the step."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "noise": self.noise.get_state(),
            "interval": self.interval.state_dict(),
        }

    def load_state_dict(self, step: int, model: Autoencoder, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: the state is not one of a session like this; nothing was changed.
        """
        check_state(self, step, state)
        self._chunk = None  # it holds the old tensors
        self.step = step
        self.model.load_state_dict(model.state_dict())
        groups = self.optimiser.state_dict()["param_groups"]  # ours: they follow from the configuration
        self.optimiser.load_state_dict({"state": state["optimiser"]["state"], "param_groups": groups})
        for weights, moments in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):  # fused Adam pairs them with the weights as they lie in memory
                moments[name] = torch.empty_like(weights).copy_(moments[name])
        self.noise.set_state(state["noise"])
        self.interval.load_state_dict(state["interval"])


def compiled(function: Callable[..., Objective], note: Callable[[str], None]) -> Callable[..., Objective]:
    """``function`` through torch.compile; if that or the first call fails, a note, and eager from then on."""
    chosen: Callable[..., Objective] | None = None

    def call(*args: Any) -> Objective:
        nonlocal chosen
        if chosen is not function:
            try:
                chosen = chosen or torch.compile(function)
                return chosen(*args)
            except Exception as error:  # no compiler, an unsupported operator, … : nothing that stops a training
                note(f"torch.compile is not available here, going on without it: {_first_line(error)}")
                chosen = function
        return function(*args)

    return call


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _all_finite(tensors: Sequence[Tensor]) -> bool:
    """With one synchronisation for all of them."""
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())


def as_tensor(images: np.ndarray) -> Tensor:
    """The uint8 array as a tensor over the same memory, which may be a read-only map: it is never written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")
        return torch.from_numpy(images)


def pixel_variance(images: np.ndarray) -> float:
    """The variance of all pixels of uint8 ``images`` on [0, 1], exactly, from their histogram."""
    counts = np.zeros(256)
    rows = max(1, (16 << 20) // max(1, images[0].size))  # bincount makes eight bytes of each
    for start in range(0, len(images), rows):
        counts += np.bincount(images[start : start + rows].reshape(-1), minlength=256)
    values = np.arange(256) / 255.0
    share = counts / counts.sum()
    mean = float(share @ values)
    return max(float(share @ (values - mean) ** 2), 1e-12)  # all pixels equal: keep the division finite
