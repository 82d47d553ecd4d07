"""The interface of all bottlenecks: z_e to the decoder's input, loss terms and statistics for the log."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.usage import CodebookUsage

Codes = Iterable[tuple[Tensor, Tensor]]
"""Batches of (z_e (B·P, d), h (B·P, hidden_dim)) on the model's device, computed without noise or gradients."""


class Output(NamedTuple):
    """The output of a bottleneck for one batch."""

    z_q: Tensor
    """(B, d): the decoder's input."""
    losses: dict[str, Tensor]
    """The extra loss terms by name: scalars, means over the batch, unweighted."""
    stats: dict[str, Tensor]
    """Sums over the batch, detached. ``Bottleneck.summarise`` receives their totals over a log interval."""
    state: Mapping[str, Tensor] = {}
    """The new values of buffers after a training step, detached, by name; see ``Bottleneck.advance``."""


class Bottleneck(nn.Module, ABC):
    """A pure function of (z_e, h, eps) with learned parameters and buffers.

    The caller draws the noise, and new values of buffers are returned, so that a step can be repeated, compiled,
    stacked over seeds and captured in a CUDA graph. With a grid, the B·P positions of a batch are the rows of the
    input; below, B is the number of rows and d the dimension of one row. A KL divergence is summed over the P positions
    of an image; other means are over all rows. ``eps`` is drawn by ``noise``: N(0, I) with the shape of z_e, unless a
    bottleneck says otherwise. In evaluation it is None, which makes the bottleneck deterministic.
    """

    stochastic: bool = False
    """Whether training draws noise ``eps``."""
    encodings_to_start: int = 0
    """How many encodings ``start`` receives before the first step; 0: it is not called."""
    term_names: ClassVar[tuple[str, ...]] = ()
    """The keys of ``Output.losses``, in the order in which they are logged."""
    beta_term: ClassVar[str] = ""
    """The term that has the weight β in the paper."""

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__()
        self.config = config
        self.hidden_dim = hidden_dim
        self.positions = max(1, config.grid) ** 2
        """P, the number of rows per image."""

    @abstractmethod
    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        """Compute the decoder's input for z_e (B, d). The encoder's last hidden layer h (B, hidden_dim) is the input of
        a second head; ``eps`` is the noise drawn by ``noise``, or None.
        """

    def noise(self, n: int, generator: torch.Generator) -> Tensor | None:
        """Draw ``eps`` for a training batch of ``n`` images, on the generator's device; None without noise."""
        if not self.stochastic:
            return None
        return torch.randn(n * self.positions, self.config.latent_dim, generator=generator, device=generator.device)

    def start(self, z_e: Tensor, seed: int) -> None:
        """Initialise from ``encodings_to_start`` outputs z_e (N, d) of the untrained encoder, before the first step."""

    @torch.no_grad()
    def advance(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``Output.state`` to the buffers after a training step, in place, without a device synchronisation."""
        for name, value in state.items():
            self.get_buffer(name).copy_(value)

    def reconstruction(self, nmse: Tensor) -> Tensor:
        """−log p(x | z), up to a constant and ``reconstruction_scale``: nMSE for a Gaussian with fixed variance."""
        return nmse

    def term_weights(self, beta: float) -> dict[str, float | Tensor]:
        """The weight of each term in the extra loss: ``beta`` for :attr:`beta_term`, 1 for all others."""
        return {name: beta if name == self.beta_term else 1.0 for name in self.term_names}

    def centroids(self) -> Tensor | None:
        """The codebook (K, d), or (G, K, d) for G stages; None without a codebook."""
        return None

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor | None:
        """The most probable centroid of each row, int64 (B,), or (B, G) for G stages; None without a codebook."""
        return None

    def decoded(self, codes: Tensor) -> Tensor | None:
        """The decoder's input (B, d) for codes (B,) or (B, G): the inverse of ``assign``. None without a codebook.

        For hard quantisers this equals the decoder's input in training; for others it is one centroid, not a mean.
        """
        return None

    def sigma(self, h: Tensor) -> Tensor | None:
        """The learned width σ_k of each centroid, (B, K); None without one."""
        return None

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """Compute log metrics from ``stats`` summed over ``n`` images."""
        return {}

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        """Measure the information in the bottleneck for a split of n images, whose ``codes`` are read once, in order.

        ``bits_per_image`` is the information about an image X, drawn from the split, that the bottleneck transmits. How
        it is computed, and whether it is exact, depends on the bottleneck:

        =============  ======================================================================  ===========
        codebooks      I(X; k) for a codeword k drawn from the image's posterior p(k | x): the  exact
                       entropy of the mean posterior minus the mean entropy of the posteriors;
                       at most log2 K. Hard quantisation (vq, ema-vq, rotation-vq, fsq): the
                       entropy of the usage. sq-vae, gumbel-vq: k as drawn in training; in
                       evaluation the decoder receives the most probable codeword. soft-vq:
                       the decoder receives the posterior mean, a point between codewords,
                       whose information this number does not include. With a grid: the sum
                       over the positions, an upper bound for all codes of an image.
        rvq            the entropy of all codes of an image together.                          exact
        vae, beta-vae  mean KL(q(z | x) ‖ N(0, I)) / ln 2 ≥ I(X; z): the cost of bits-back      upper bound
                       coding.
        info-dropout   with a Gaussian prior of log |z| and a Bernoulli prior of the sign, per  upper bound
                       dimension: see ``bits``.
        ae             none: a real vector without noise has no finite rate.                    –
        =============  ======================================================================  ===========
        """
        return {}

    def usage(self, codes: Codes) -> CodebookUsage | None:
        """How the images of ``codes`` use each codeword; None without a codebook."""
        return None

    def stats_shapes(self) -> dict[str, torch.Size]:
        """The shape of each entry of ``Output.stats``."""
        held = itertools.chain(self.parameters(), self.buffers())
        like = next((tensor for tensor in held if tensor.is_floating_point()), torch.zeros(()))
        with torch.inference_mode():
            z_e, h = like.new_zeros(1, self.config.latent_dim), like.new_zeros(1, self.hidden_dim)
            stats: dict[str, Tensor] = self(z_e, h).stats
        return {name: value.shape for name, value in stats.items()}

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """A one-line warning with a remedy if ``summary``, of the last ``n`` images, shows a failed training."""
        return None
