"""What every bottleneck is: from z_e to the decoder's input, with its loss terms and what is worth logging."""

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
"""Batches of (z_e (B·P, d), h (B·P, hidden_dim)) on the model's device, made without noise and without gradients."""


class Output(NamedTuple):
    """What a bottleneck makes of one batch."""

    z_q: Tensor
    """(B, d), the decoder's input."""
    losses: dict[str, Tensor]
    """The extra loss terms by name: scalars, means over the batch, without weights."""
    stats: dict[str, Tensor]
    """Sums over the batch, detached; added up over an interval they go to ``Bottleneck.summarise``."""
    state: Mapping[str, Tensor] = {}
    """What a training step makes of the buffers, detached, by name; see ``Bottleneck.advance``."""


class Bottleneck(nn.Module, ABC):
    """A pure function of (z_e, h, eps) with learned parameters and buffers.

    The noise comes from outside and what a step changes in the buffers is returned, so that a step can be repeated,
    compiled, stacked over seeds and captured in a CUDA graph. Of a grid it sees the B·P positions of a batch as rows; B
    stands for their number below, d for the numbers of one. A KL is a sum over the P positions of an image, and means
    stay means. ``eps`` is what ``noise`` draws, N(0, I) of z_e's
    shape unless a bottleneck says otherwise, or None for the deterministic map of evaluation.
    """

    stochastic: bool = False
    """Whether training draws an eps for it."""
    encodings_to_start: int = 0
    """How many encodings ``start`` is to be given before the first step; 0: it is not called."""
    term_names: ClassVar[tuple[str, ...]] = ()
    """The keys of ``Output.losses``, in the order of the log."""

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__()
        self.config = config
        self.hidden_dim = hidden_dim
        self.positions = max(1, config.grid) ** 2
        """P, the rows of an image."""

    @abstractmethod
    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        """The decoder's input for z_e (B, d), with the encoder's last hidden layer h (B, hidden_dim) for a second head;
        ``eps`` is as ``noise`` draws it, or None.
        """

    def noise(self, n: int, generator: torch.Generator) -> Tensor | None:
        """The eps of a training batch of ``n`` images, on the generator's device; None where training has none."""
        if not self.stochastic:
            return None
        return torch.randn(n * self.positions, self.config.latent_dim, generator=generator, device=generator.device)

    def start(self, z_e: Tensor, seed: int) -> None:
        """Look at ``encodings_to_start`` of the untrained encoder's outputs z_e (N, d) before the first step."""

    @torch.no_grad()
    def advance(self, state: Mapping[str, Tensor]) -> None:
        """Take over ``Output.state`` after a training step, in place and without waiting for the device."""
        for name, value in state.items():
            self.get_buffer(name).copy_(value)

    def reconstruction(self, nmse: Tensor) -> Tensor:
        """−log p(x | z) up to a constant and ``reconstruction_scale``: nMSE, for a Gaussian of fixed variance."""
        return nmse

    def term_weights(self, beta: float) -> dict[str, float | Tensor]:
        """The factor of each loss term inside the extra loss; ``beta`` weighs the term the method names so."""
        return dict.fromkeys(self.term_names, 1.0)

    def centroids(self) -> Tensor | None:
        """(K, d), the codebook, or None; of G stages (G, K, d)."""
        return None

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor | None:
        """(B,) int64: the most probable centroid of each row; of G stages (B, G); None without a codebook."""
        return None

    def decoded(self, codes: Tensor) -> Tensor | None:
        """(B, d), the decoder's input for codes (B,) or (B, G), the inverse of ``assign``; None without a codebook.

        Hard quantisers receive the same in training; the others are given the centroid itself, not a mean of several.
        """
        return None

    def sigma(self, h: Tensor) -> Tensor | None:
        """(B, K): the learned width σ_k of each centroid, or None where there is none."""
        return None

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """Figures for the log from ``stats`` summed over ``n`` images."""
        return {}

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        """What the bottleneck carries of a split of n images, whose codes come in order, once, as figures by name.

        ``bits_per_image`` says how much about an image X, drawn from those that are evaluated, is passed on. What can
        be said of it differs by bottleneck, and so does what the number means:

        =============  ======================================================================  ===========
        codebooks      I(X; k) for a codeword k drawn from the image's posterior p(k | x): the  exact
                       entropy of the mean posterior minus the mean entropy of the posteriors;
                       at most log2 K. Hard quantisation (vq, ema-vq, rotation-vq, fsq): the
                       entropy of the usage. sq-vae, gumbel-vq: as in training; here the decoder
                       receives the most probable codeword. The decoder of soft VQ-VAE receives
                       the posterior mean, a point between the codewords, which this number does
                       not count.
        vae, beta-vae  mean KL(q(z | x) ‖ N(0, I)) / ln 2 ≥ I(X; z): what bits-back coding      upper bound
                       would spend.
        info-dropout   a Gaussian of log |z| and a coin for the sign as the prior of each       upper bound
                       dimension: see ``bits``.
        ae             none: a real vector without noise has no finite rate.                    –
        =============  ======================================================================  ===========
        """
        return {}

    def usage(self, codes: Codes) -> CodebookUsage | None:
        """What the images of ``codes`` make of each codeword, or None without a codebook."""
        return None

    def stats_shapes(self) -> dict[str, torch.Size]:
        """The shape of each of ``Output.stats``."""
        held = itertools.chain(self.parameters(), self.buffers())
        like = next((tensor for tensor in held if tensor.is_floating_point()), torch.zeros(()))
        with torch.inference_mode():
            z_e, h = like.new_zeros(1, self.config.latent_dim), like.new_zeros(1, self.hidden_dim)
            stats: dict[str, Tensor] = self(z_e, h).stats
        return {name: value.shape for name, value in stats.items()}

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """What is wrong with a run whose last ``n`` images gave ``summary``, and what may help, in one line."""
        return None
