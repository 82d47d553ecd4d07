"""Codewords sampled from the posterior, with a differentiable relaxation (Gumbel-softmax)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Output
from softvq_cli.model.bottlenecks.codebook import posterior_stats
from softvq_cli.model.bottlenecks.learned_codebook import LearnedCodebook

SMALLEST = 1e-30
"""Minimum of a uniform random number, so that its logarithm is finite."""
SILENT = 0.1
"""A posterior with fewer bits of information about the image has collapsed."""


class RelaxedCodebook(LearnedCodebook):
    """In training ẑ_q = Σ_k w_k μ_k, w = softmax((log p + g) / τ) with Gumbel noise g; else the most probable μ_k.

    As τ → 0, w becomes a one-hot sample from p (Jang et al. 2017, arXiv 1611.01144; Maddison et al. 2017). τ decreases
    with the training step t: τ = max(``temperature_min``, ``temperature`` · e^(−``temperature_decay`` · t)). Training
    draws ``eps`` (B, K), uniform on [0, 1), and g = −log(−log ε). Subclasses define p and the loss terms.
    """

    stochastic = True
    steps: Tensor

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.register_buffer("steps", torch.zeros(()))  # t, exact up to 2^24

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n * self.positions, self.K, generator=generator, device=generator.device)

    @abstractmethod
    def log_posterior(self, z: Tensor) -> Tensor:
        """log p(μ_k | z), (B, K), for z (B, d)."""

    @abstractmethod
    def terms(self, z_e: Tensor, z_q: Tensor, log_p: Tensor) -> dict[str, Tensor]:
        """The loss terms for z_e (B, d), the decoder's input z_q (B, d) and the posterior log_p (B, K)."""

    def temperature(self) -> Tensor:
        """τ, a scalar."""
        config = self.config
        fallen = config.temperature * torch.exp(-config.temperature_decay * self.steps)
        return fallen.clamp_min(config.temperature_min)

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        log_p = self.log_posterior(z_e)
        if eps is None:
            z_q = F.embedding(log_p.argmax(1), self.codebook)
        else:
            gumbel = -torch.log(-torch.log(eps.clamp_min(SMALLEST)))
            z_q = torch.softmax((log_p + gumbel) / self.temperature(), dim=1) @ self.codebook
        return Output(z_q, self.terms(z_e, z_q, log_p), self.stats(log_p), {"steps": self.steps + 1})

    def stats(self, log_p: Tensor) -> dict[str, Tensor]:
        """The statistics for the log, of a batch with posterior log_p (B, K)."""
        return posterior_stats(log_p)

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        log_p = self.log_posterior(z)
        return F.embedding(log_p.argmax(1), self.codebook), self.stats(log_p)

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return self.log_posterior(z_e.detach()).argmax(1)

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """Also detect a posterior that is the same for all images."""
        bits = math.log2(summary["perplexity"]) - summary["posterior_entropy_bits"]
        if self.K == 1 or n < 10 * self.K or bits > SILENT:
            return super().diagnose(summary, n)
        return Message(
            "the posterior has collapsed: the choice among {} codes carries only {:.2g} bits about the image; try {}",
            *(self.K, max(0.0, bits), self.remedy()),
        )

    def divergence(self, log_p: Tensor) -> Tensor:
        """KL of the posterior log_p (B, K) from the uniform prior, log K − H(p), in nats, averaged over the images."""
        return ((log_p.exp() * log_p).sum(1).mean() + math.log(self.K)) * self.positions

    def remedy(self) -> str:
        return Message("a larger {reconstruction_scale}, a smaller {K} or another {seed}")
