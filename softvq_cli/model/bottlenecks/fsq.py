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
"""Relative margin of the bound beyond the outermost levels, so that they are reached. In the paper the bound is
slightly smaller, so that they are reached only by rounding."""
WIDEST = 0.25
"""Maximum of this margin: values more than half a level outside would be rounded to a level that does not exist."""

SMALLEST = 1e-10
"""Minimum of a variance."""


class FSQ(CodebookBottleneck):
    """Bounds a few numbers u and rounds each to one of L_i levels; the codebook is the grid of all ∏ L_i combinations.

        f(u) = min((L − 1)(1 + 10⁻³)/2, (L − 1)/2 + ¼) · tanh(u + s) − o,   û = round f(u) / ⌊L/2⌋

    where o is ½ for even L and 0 for odd L, and s makes f(0) = 0 (section 3.1; the paper's listing has 1 − ε in place
    of 1 + 10⁻³, and tan in place of the inverse of tanh). L = 2 is excluded: a number would stay on one of the two
    levels. Rounding passes the gradient straight through. The codebook has no parameters, hence no extra loss.

    Linear layers project z_e (d) to one number per entry of ``levels``, and û back to d, as the authors do with the
    last layer of an encoder and the first layer of a decoder. Not in the paper: the numbers are standardised as in
    batch normalisation, but by the running mean and variance (with decay rate ``decay``), so that a code does not
    depend on the batch. The gradient is that of batch normalisation, which removes the component common to all latents.
    While the decoder learns the mean image, this component is large; otherwise one direction of z_e would grow until
    float32 could not represent the others, and all latents would have the same code.
    """

    encodings_to_start = 1024

    mean: Tensor
    variance: Tensor
    levels: Tensor
    """L, (number of levels,), float32 like every buffer."""
    place: Tensor
    """The place value of each digit in the index of a codeword; the first digit counts ones."""

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
        """u of z (B, d): (B, number of levels)."""
        projected = self.project_in(z)
        of_batch = standardised(projected, projected.mean(0), projected.var(0, correction=0))
        return straight_through(of_batch, standardised(projected, self.mean, self.variance))

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        bounded = self.bound(self.numbers(z))
        rounded = straight_through(bounded, bounded.round())
        return self.project_out(rounded / (self.levels // 2)), hard_stats(self.number(bounded.detach()), self.K)

    def bound(self, u: Tensor) -> Tensor:
        """f(u), (B, number of levels); rounding it gives L different values."""
        half = ((self.levels - 1) * (1 + MARGIN) / 2).minimum((self.levels - 1) / 2 + WIDEST)
        offset = 0.5 * (self.levels % 2 == 0)
        return torch.tanh(u + torch.atanh(offset / half)) * half - offset

    def number(self, bounded: Tensor) -> Tensor:
        """The index of the codeword nearest to f(u) (B, number of levels), out of ∏ L_i: int64 (B,)."""
        digits = bounded.round() + self.levels // 2
        return (digits * self.place).sum(1).long()

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return self.number(self.bound(self.numbers(z_e)).detach())

    def centroids(self) -> Tensor:
        """The decoder's input for each codeword: (∏ L_i, d)."""
        numbers = torch.arange(self.K, device=self.levels.device)[:, None]
        digits = numbers // self.place % self.levels
        codewords: Tensor = self.project_out((digits - self.levels // 2) / (self.levels // 2))
        return codewords

    def usage(self, codes: Codes) -> CodebookUsage:
        # A latent equals its codeword; the measured distance is only the rounding error of the projection.
        return dataclasses.replace(super().usage(codes), soft_hard_distance=0.0, soft_hard_relative=0.0)

    def remedy(self) -> str:
        return Message("fewer or smaller {levels}, a smaller {lr} or another {seed}")


def standardised(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Standardise x (B, n) with its ``mean`` and ``variance`` (n,)."""
    return (x - mean) / variance.clamp_min(SMALLEST).sqrt()
