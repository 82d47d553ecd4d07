"""A training in memory: model, optimiser, data on the device, random state, and one training step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.datasets.dataset import Dataset, evenly_spaced
from softvq_cli.datasets.vectors import standard_of
from softvq_cli.devices import as_tensor, uses_bfloat16
from softvq_cli.errors import InputError, UsageError
from softvq_cli.model import Autoencoder, Networks
from softvq_cli.process import threads
from softvq_cli.training.batches import Batches, derived_seed, source_of
from softvq_cli.training.objective import Interval, Objective, compiled, objective
from softvq_cli.training.ranks import Ranks

BETAS, EPS = (0.9, 0.999), 1e-8
MOMENTS = ("exp_avg", "exp_avg_sq")
VALIDATION_IMAGES = 1024
"""Maximum number of validation images, evenly spaced over the test split; one validation costs about ten steps."""


class _Drawn(TorchFunctionMode):
    """Within the block, random numbers that this thread draws without a generator come from ``generator``.

    PyTorch's layers initialise their weights this way. Its global generator is shared by all threads.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        more = dict(kwargs or {})
        if func.__name__ in _DRAWING and more.get("generator") is None:
            more["generator"] = self._generator
        return func(*args, **more)


_DRAWING = {
    *("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"),
    *("uniform_", "normal_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"),
    *("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "trunc_normal_", "orthogonal_"),
}
"""PyTorch functions that accept a generator; initialisers draw outside of this mode if they get none."""


def initial_model(config: RunConfig, dataset: Dataset, networks: Networks | None = None) -> Autoencoder:
    """The initial model, on the CPU, for a run of ``config`` on the training split ``dataset``.

    The global random state is not changed.
    """
    with _Drawn(torch.Generator().manual_seed(derived_seed(config.train.seed, 0))):
        if not dataset.of_vectors:
            if config.data.scale != DataConfig.scale:
                raise UsageError("{scale} is for vectors, but {} holds images", dataset.name)
            variance = float(dataset.remembered("pixel_variance", lambda: pixel_variance(dataset.images)))
            return Autoencoder(config.model, dataset.image_shape, variance, networks)
        standard = standard_of(dataset.images, config.data.scale)
        model = Autoencoder(config.model, dataset.image_shape, standard.variance, networks)
        model.mean.copy_(torch.from_numpy(standard.mean))
        model.spread.copy_(torch.from_numpy(standard.spread))
        return model


class Adam:
    """Adam (Kingma and Ba 2015) by PyTorch's fused kernel. It has the defaults and the state of ``torch.optim.Adam``,
    but does not import ``torch._dynamo``, as that class does on first use.

    ``state`` has ``step``, ``exp_avg`` and ``exp_avg_sq`` for each parameter, from its first gradient.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters, self.lr = list(parameters), lr
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        gradients = {parameter: parameter.grad for parameter in self.parameters if parameter.grad is not None}
        if not gradients:
            return
        for parameter in gradients:
            if parameter not in self.state:
                self.state[parameter] = _moments(parameter)
        states = [self.state[parameter] for parameter in gradients]
        steps, means, squares = ([state[name] for state in states] for name in ("step", *MOMENTS))
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            *(list(gradients), list(gradients.values()), means, squares, [], steps),
            amsgrad=False,
            lr=self.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state by parameter index, and the settings, in the format of ``torch.optim.Adam``."""
        numbers = {parameter: number for number, parameter in enumerate(self.parameters)}
        group = {"lr": self.lr, "betas": list(BETAS), "eps": EPS, "params": list(numbers.values())}
        states = {numbers[parameter]: state for parameter, state in self.state.items()}
        return {"state": states, "param_groups": [group]}

    def load_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Copy moments and steps by parameter index."""
        self.state = {self.parameters[number]: _moments(self.parameters[number]) for number in state}
        for number, moments in state.items():
            for name, value in self.state[self.parameters[number]].items():
                value.copy_(moments[name])


def _moments(parameter: Tensor) -> dict[str, Tensor]:
    """Zero moments, in the memory layout of the weights, as the kernel requires."""
    zeros = {name: torch.zeros_like(parameter.detach()) for name in MOMENTS}
    return {"step": torch.zeros((), device=parameter.device), **zeros}


class Session:
    """Everything that a training step reads and changes.

    A stepper (:mod:`softvq_cli.training.steppers`) performs its steps; :mod:`softvq_cli.training.checkpoint` restores
    it from a checkpoint. ``note`` receives one line if ``torch.compile`` was requested but is not available.
    ``networks`` are a custom encoder and decoder, for the network ``own``. With several ``ranks``, this process trains
    on its part of each batch.
    UsageError: a batch is larger than the training split. InputError: all its pixels are equal.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        validation: Dataset,
        device: torch.device,
        note: Callable[[str], None] = lambda text: None,
        networks: Networks | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        _check_data(config, dataset, ranks)
        self.config, self.device = config, device
        self.step = 0
        self.diagnosis: str | None = None
        """The problem that the last report shows, in one line."""
        # Convolutions: tensor cores need channels last; on a CPU, the copies cost more than they save.
        self._layout = (
            torch.channels_last if device.type == "cuda" and not dataset.of_vectors else torch.contiguous_format
        )
        self.model = initial_model(config, dataset, networks).to(device).to(memory_format=self._layout)
        self.optimiser = Adam(self.model.parameters(), config.train.lr)
        self._bfloat16 = uses_bfloat16(config.train.precision, device)
        self._ranks, self.divided = ranks, ranks is not None
        loss = functools.partial(ranks.objective, config.train.batch_size) if ranks else objective
        self._objective = compiled(objective, note) if config.train.compile else loss
        stream = len(dataset), config.train.batch_size, config.train.seed
        self.batches = Batches(*stream)
        part = Batches(*stream, ranks.part(config.train.batch_size)) if ranks else self.batches
        self.source = source_of(dataset.images, part, device)
        self.noise = torch.Generator(device).manual_seed(derived_seed(config.train.seed, 2))
        names = ("loss", "nmse", *self.model.bottleneck.term_names)
        self.interval = Interval(names, config.train.log_every, device)
        rows = evenly_spaced(len(validation), VALIDATION_IMAGES)
        self.validation = as_tensor(validation.images[rows]).to(device)
        self._start(dataset.images)

    def _start(self, images: np.ndarray) -> None:
        """Initialise the bottleneck with encodings of the first batches, if it needs them."""
        bottleneck, n = self.model.bottleneck, len(images)
        wanted = min(n, -(-bottleneck.encodings_to_start // bottleneck.positions))
        if not wanted:
            return
        if n * bottleneck.positions < self.config.model.K:
            raise UsageError(
                "{codebook_init} kmeans needs at least as many images as codes: there are {} images, and {K} is {}",
                *(n, self.config.model.K),
            )
        batches = [self.batches.indices(step) for step in range(-(-wanted // self.batches.batch_size))]
        rows = torch.cat(batches)[:wanted].numpy()
        with threads(self.config.train.threads), torch.no_grad():
            z_e = torch.cat([self.model.encode(x)[0] for x in self.model.batches(images[rows])])
            bottleneck.start(z_e, derived_seed(self.config.train.seed, 3))

    def optimise(self, images: Tensor) -> Objective:
        """One step of Adam on ``images``, uint8 (B, H, W, C) on the device, which is not recorded.

        With several ranks, ``images`` are this rank's part of the batch, and the noise is that of the whole batch.
        """
        rows = self.batches.batch_size if self._ranks else len(images)
        eps = self.model.bottleneck.noise(rows, self.noise)
        self.optimiser.zero_grad()
        x = self.model.scale(images).contiguous(memory_format=self._layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            result = self._objective(self.model, x, eps, self.config.loss)
        if result.loss.requires_grad:  # without a network, there may be no parameters
            result.loss.backward()  # type: ignore[no-untyped-call]
        if self._ranks:
            self._ranks.sum_gradients(self.optimiser.parameters)
        self.optimiser.step()
        self.model.bottleneck.advance(result.state)
        return result

    def validation_nmse(self) -> float:
        """nMSE of the validation images, reconstructed without noise."""
        parts = torch.split(self.validation, min(256, self.model.batch_size))
        self.model.eval()  # a custom network may have dropout or batch normalisation
        with torch.inference_mode():
            scaled = (self.model.scale(images).contiguous(memory_format=self._layout) for images in parts)
            errors: list[float] = torch.stack([self.model.nmse(x, self.model(x).x_hat) for x in scaled]).tolist()
        self.model.train()
        return sum(error * len(images) for error, images in zip(errors, parts, strict=True)) / len(self.validation)

    def report(self) -> dict[str, float]:
        """The metrics of the current interval; starts a new interval."""
        interval = self.interval
        line = {"step": self.step, **interval.means(), "test_nmse": self.validation_nmse()}
        images = interval.steps * self.config.train.batch_size
        line |= self.model.bottleneck.summarise({name: sums.cpu() for name, sums in interval.stats.items()}, images)
        self.diagnosis = self.model.bottleneck.diagnose(line, images)
        interval.clear()
        return line

    def not_finite(self) -> str | None:
        """Find the first NaN or infinity, in the recorded losses or else in the state; None if all values are finite.

        Only a finite state is saved as a checkpoint.
        """
        if bad := self.interval.first_not_finite():
            step = self.step - self.interval.steps + bad[0] + 1
            return f"the loss was not finite at step {step} (first in {bad[1]})"
        weights = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        # Adam's step count is excluded: it is always finite, and on a different device in some cases.
        moments = [state[name] for state in self.optimiser.state.values() for name in MOMENTS]
        # One synchronisation for all values.
        if torch.stack([torch.isfinite(tensor).all() for tensor in (*weights.values(), *moments)]).all():
            return None
        name = next((name for name, weight in weights.items() if not torch.isfinite(weight).all()), None)
        cause = f"the weights were not finite (first in {name})" if name else "a gradient was too large for its square"
        return f"{cause} after step {self.step}"

    def state_dict(self) -> dict[str, Any]:
        """The content of a checkpoint besides the model and the step."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "noise": self.noise.get_state(),
            "interval": self.interval.state_dict(),
        }


def _check_data(config: RunConfig, dataset: Dataset, ranks: Ranks | None) -> None:
    batch_size, images = config.train.batch_size, dataset.images
    if ranks and config.train.compile:
        raise UsageError("{compile} is for a training by one process, and torchrun started {}", ranks.size)
    if ranks and batch_size < ranks.size:
        raise UsageError("{batch_size} {} is less than an image for each of {} processes", batch_size, ranks.size)
    # Both loops end at the first difference.
    if dataset.of_vectors:
        equal = all((row == images[0]).all() for row in images)
    else:
        equal = all(image.min() == image.max() == images[0].min() for image in images)
    if equal:
        numbers = "vectors" if dataset.of_vectors else "pixels"
        raise InputError(f"all {numbers} of {dataset.name}'s training split are equal: there is nothing to learn")
    if batch_size > len(dataset):
        raise UsageError(
            "{batch_size} {} is larger than the training split of {}, which has {} images",
            *(batch_size, dataset.name, len(dataset)),
        )


def pixel_variance(images: np.ndarray) -> float:
    """Variance of all pixels, scaled to [0, 1]: for uint8 exact, from the histogram; for floats in float64."""
    if images.dtype != np.uint8:
        return max(float(images.var(dtype=np.float64)) / 255.0**2, 1e-12)
    counts = np.zeros(256)
    rows = max(1, (16 << 20) // max(1, images[0].size))  # bincount uses eight bytes per value
    for start in range(0, len(images), rows):
        counts += np.bincount(images[start : start + rows].reshape(-1), minlength=256)
    values = np.arange(256) / 255.0
    share = counts / counts.sum()
    mean = float(share @ values)
    return max(float(share @ (values - mean) ** 2), 1e-12)  # if all pixels are equal, the division stays finite
