"""The training loss, the only place where terms are weighted, and its record between two reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softvq_cli.config import LossConfig
from softvq_cli.errors import one_line
from softvq_cli.model import Autoencoder
from softvq_cli.model.bottlenecks import Bottleneck, Output


class Objective(NamedTuple):
    """The loss of one batch."""

    loss: Tensor
    """Scalar: reconstruction_scale · (nMSE or the bottleneck's function of it) + latent_weight · Σ (factor · term)."""
    terms: dict[str, Tensor]
    """``nmse`` and the terms of the bottleneck, unweighted scalars."""
    stats: dict[str, Tensor]
    """The statistics of the bottleneck, summed over the batch."""
    state: Mapping[str, Tensor]
    """The buffers of the bottleneck after the step."""

    def row(self) -> Tensor:
        """The loss and its terms as one row of the interval's record, (1 + number of terms,), detached."""
        return torch.stack([self.loss, *self.terms.values()]).detach()


def objective(model: Autoencoder, x: Tensor, eps: Tensor | None, weights: LossConfig) -> Objective:
    """The loss of scaled images x (B, C, H, W), with the bottleneck's noise ``eps`` (B, d) or None.

    For codebook bottlenecks it is eq. (27), with nMSE for −log p(x | ẑ_q) and means for the two latent terms. As in the
    authors' notebooks, means replace sums, so that the weights do not depend on D and d.
    """
    out = model(x, eps)
    return weighted(model.bottleneck, model.nmse(x, out.x_hat), out.bottleneck, weights)


def weighted(bottleneck: Bottleneck, nmse: Tensor, output: Output, weights: LossConfig) -> Objective:
    """The loss of a batch with this nMSE and this output of the bottleneck."""
    factors = bottleneck.term_weights(weights.beta)
    loss = weights.reconstruction_scale * bottleneck.reconstruction(nmse)
    for name, term in output.losses.items():
        loss = loss + weights.latent_weight * factors[name] * term
    return Objective(loss, {"nmse": nmse, **output.losses}, output.stats, output.state)


def compiled(function: Callable[..., Objective], note: Callable[[str], None]) -> Callable[..., Objective]:
    """Compile ``function`` with torch.compile; if that or the first call fails, write a note and run it eagerly."""
    chosen: Callable[..., Objective] | None = None

    def call(*args: Any) -> Objective:
        nonlocal chosen
        if chosen is not function:
            try:
                chosen = chosen or torch.compile(function)
                return chosen(*args)
            except Exception as error:  # no compiler, an unsupported operator, …: the training must not fail
                note(f"torch.compile is not available here; training continues without it: {one_line(error)}")
                chosen = function
        return function(*args)

    return call


def add_stats(total: dict[str, Tensor], stats: Mapping[str, Tensor]) -> None:
    """Add the sums of a batch to the total, in place."""
    for name, value in stats.items():
        if name in total:
            total[name] += value
        else:
            total[name] = value.clone()


class Interval:
    """The loss terms of each step and the summed statistics since the last report, on the device, so that no step waits
    for the host."""

    def __init__(self, names: Sequence[str], capacity: int, device: torch.device) -> None:
        self.names = tuple(names)  # loss, nmse and the terms of the bottleneck
        self.rows = torch.zeros(capacity, len(self.names), device=device)
        self.stats: dict[str, Tensor] = {}
        self.steps = 0

    def add(self, rows: Tensor, stats: Mapping[str, Tensor]) -> None:
        """Record steps: ``rows`` (steps, columns) and their summed statistics."""
        self.rows[self.steps : self.steps + len(rows)] = rows
        add_stats(self.stats, stats)
        self.steps += len(rows)

    def means(self) -> dict[str, float]:
        """The mean of each column over the recorded steps."""
        mean = self.rows[: self.steps].cpu().double().mean(0).tolist()
        return dict(zip(self.names, mean, strict=True))

    def first_not_finite(self) -> tuple[int, str] | None:
        """(step in the interval, first bad column, terms before the loss); None if all values are finite."""
        bad = ~torch.isfinite(self.rows[: self.steps]).cpu()
        steps = bad.any(1).nonzero()
        if not len(steps):
            return None
        step = int(steps[0])
        columns = [name for name, is_bad in zip(self.names, bad[step].tolist(), strict=True) if is_bad]
        return step, next((name for name in columns if name != "loss"), "loss")

    def clear(self) -> None:
        """Start the next interval."""
        self.steps, self.stats = 0, {}

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, so that a run resumed between two reports gives the same means."""
        return {"rows": self.rows[: self.steps].clone(), "stats": dict(self.stats)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.steps = len(state["rows"])
        self.rows[: self.steps] = state["rows"]
        self.stats = {name: value.to(self.rows.device) for name, value in state["stats"].items()}
