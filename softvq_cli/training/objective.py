"""The training loss: the one place where the terms get their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softvq_cli.config import LossConfig
from softvq_cli.model import Autoencoder


class Objective(NamedTuple):
    """The loss of one batch."""

    loss: Tensor
    """Scalar: reconstruction_scale · (nMSE, or what the bottleneck makes of it) + latent_weight · Σ (factor · term)."""
    terms: dict[str, Tensor]
    """``nmse`` and the bottleneck's terms, unweighted scalars."""
    stats: dict[str, Tensor]
    """The bottleneck's sums over the batch."""
    state: Mapping[str, Tensor]
    """The bottleneck's buffers after the step."""

    def row(self) -> Tensor:
        """(1 + number of terms,), detached: the loss and its terms, as a line of the interval's record."""
        return torch.stack([self.loss, *self.terms.values()]).detach()


def objective(model: Autoencoder, x: Tensor, eps: Tensor | None, weights: LossConfig) -> Objective:
    """The loss of scaled images x (B, C, H, W) with the bottleneck's noise ``eps`` (B, d) or None.

    For the codebook bottlenecks it is eq. (27) with −log p(x | ẑ_q) as nMSE and the two latent terms as means:
    a common factor in front of each, as in the authors' notebooks, so that weights do not depend on D and d.
    """
    out = model(x, eps)
    nmse = model.nmse(x, out.x_hat)
    losses = out.bottleneck.losses
    factors = model.bottleneck.term_weights(weights.beta)
    loss = weights.reconstruction_scale * model.bottleneck.reconstruction(nmse)
    for name, term in losses.items():
        loss = loss + weights.latent_weight * factors[name] * term
    return Objective(loss, {"nmse": nmse, **losses}, out.bottleneck.stats, out.bottleneck.state)


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
