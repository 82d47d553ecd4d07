"""Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): a grid in place of a codebook."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig, parse_levels
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Codes, Output
from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck, hard_stats, straight_through
from softvq_cli.model.bottlenecks.usage import CodebookUsage

MARGIN = 1e-3
"""The bound is this share wider than the outermost levels, so that they are reached. Ours: the paper's is narrower by
a small share, so that they are reached only by rounding."""
WIDEST = 0.25
"""And at most so much wider: half a level more would be rounded to a level that is not there."""

SMALLEST = 1e-10
"""Below this a variance is taken for this."""


class FSQ(CodebookBottleneck):
    """A few numbers u, each bounded and rounded to one of L_i levels; the codebook is the grid of all ∏ L_i.

        f(u) = min((L − 1)(1 + 10⁻³)/2, (L − 1)/2 + ¼) · tanh(u + s) − o,   û = round f(u) / ⌊L/2⌋

    where o is ½ for even L and 0 for odd, and s makes f(0) = 0 (section 3.1; the paper's listing has 1 − ε in place of
    1 + 10⁻³, and tan, where we take the inverse of tanh). Two levels
    cannot be had: one of them is never left. Rounding passes the gradient straight through. There is nothing to learn
    in the codebook, hence no extra loss.

    Linear layers project z_e (d) to as many numbers as there are levels, and û back to d, as the authors do with the
    last layer of an encoder and the first of a decoder. Ours: each of the numbers is standardised, as in batch
    normalisation, but by the running mean and variance (their share of the past is ``decay``), so that a code does not
    depend on the batch. The gradient is that of batch normalisation: while the decoder learns the mean image, all codes
    are pushed the same way, and nothing of that may pass. If it does, one direction of z_e grows until float32 holds
    no other beside it, and all the numbers are the same one.
    """

    encodings_to_start = 1024

    mean: Tensor
    variance: Tensor
    levels: Tensor
    """(number of levels,), as every buffer in float32: L."""
    place: Tensor
    """What each digit of a codeword's number stands for; the first one counts ones."""

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        sizes = parse_levels(config.levels)
        super().__init__(config, hidden_dim, math.prod(sizes))
        self.project_in = nn.Linear(config.latent_dim, len(sizes))
        self.project_out = nn.Linear(len(sizes), config.latent_dim)
        self.register_buffer("mean", torch.zeros(len(sizes)))
        self.register_buffer("variance", torch.ones(len(sizes)))
        for name, values in (("levels", sizes), ("place", [math.prod(sizes[:i]) for i in range(len(sizes))])):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    @torch.no_grad()
    def start(self, z_e: Tensor, seed: int) -> None:
        projected = self.project_in(z_e)
        self.mean.copy_(projected.mean(0))
        self.variance.copy_(projected.var(0, correction=0))

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        quantised, stats = self.quantise(z_e, h)
        with torch.no_grad():
            projected, keep = self.project_in(z_e), self.config.decay
            mean = keep * self.mean + (1 - keep) * projected.mean(0)
            variance = keep * self.variance + (1 - keep) * (projected - self.mean).square().mean(0)
        return Output(quantised, {}, stats, {"mean": mean, "variance": variance})

    def numbers(self, z: Tensor) -> Tensor:
        """u, (B, number of levels), of z (B, d)."""
        projected = self.project_in(z)
        of_batch = standardised(projected, projected.mean(0), projected.var(0, correction=0))
        return straight_through(of_batch, standardised(projected, self.mean, self.variance))

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        bounded = self.bound(self.numbers(z))
        rounded = straight_through(bounded, bounded.round())
        return self.project_out(rounded / (self.levels // 2)), hard_stats(self.number(bounded.detach()), self.K)

    def bound(self, u: Tensor) -> Tensor:
        """f(u), (B, number of levels): its nearest whole numbers are L."""
        half = ((self.levels - 1) * (1 + MARGIN) / 2).minimum((self.levels - 1) / 2 + WIDEST)
        offset = 0.5 * (self.levels % 2 == 0)
        return torch.tanh(u + torch.atanh(offset / half)) * half - offset

    def number(self, bounded: Tensor) -> Tensor:
        """(B,) int64: which of the ∏ L_i codewords is nearest to f(u), (B, number of levels)."""
        digits = bounded.round() + self.levels // 2
        return (digits * self.place).sum(1).long()

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return self.number(self.bound(self.numbers(z_e)).detach())

    def centroids(self) -> Tensor:
        """(∏ L_i, d): what the decoder receives for each codeword."""
        numbers = torch.arange(self.K, device=self.levels.device)[:, None]
        digits = numbers // self.place % self.levels
        codewords: Tensor = self.project_out((digits - self.levels // 2) / (self.levels // 2))
        return codewords

    def usage(self, codes: Codes) -> CodebookUsage:
        # Every code is its codeword: what was measured between them is the rounding of the projection.
        return dataclasses.replace(super().usage(codes), soft_hard_distance=0.0, soft_hard_relative=0.0)

    def remedy(self) -> str:
        return Message("fewer or smaller {levels}, a smaller {lr} or another {seed}")


def standardised(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """x (B, n) with mean 0 and variance 1, where ``mean`` and ``variance`` (n,) are its own."""
    return (x - mean) / variance.clamp_min(SMALLEST).sqrt()
