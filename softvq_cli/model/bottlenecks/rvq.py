"""Residual vector quantisation (Zeghidour et al. 2021, arXiv 2107.03312): each stage quantises the residual."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.config import ModelConfig
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Codes, Output
from softvq_cli.model.bottlenecks.codebook import (
    CodebookBottleneck,
    counts_of,
    perplexity,
    squared_distances,
    straight_through,
)
from softvq_cli.model.bottlenecks.ema_vq import first_counts, followed
from softvq_cli.model.bottlenecks.learned_codebook import encodings_to_start, kmeans
from softvq_cli.model.bottlenecks.usage import CodebookUsage, entropy_bits


@dataclass(frozen=True)
class StagedUsage(CodebookUsage):
    """Codebook usage of all stages: ``counts`` and ``usage`` have G·K entries, stage by stage."""

    stages: int = 1
    joint_bits: float = 0.0
    """Joint entropy of all codes of an image, in bits, over the images of the split."""
    collisions: float = 0.0
    """Fraction of images that share all codes with another image."""

    @property
    def perplexities(self) -> list[float]:
        """The effective number of codewords of each stage."""
        return [perplexity(torch.from_numpy(usage)) for usage in self.usage.reshape(self.stages, -1)]

    @property
    def perplexity(self) -> float:
        """The mean perplexity of the stages."""
        return float(np.mean(self.perplexities))

    @property
    def bits_per_image(self) -> float:
        """I(X; k) of all codes together; it equals their entropy because the image determines the codes."""
        return self.joint_bits

    def figures(self) -> dict[str, float]:
        """Also the perplexity of each stage, and the collisions."""
        stages = {f"perplexity_{stage}": value for stage, value in enumerate(self.perplexities, 1)}
        return {**super().figures(), **stages, "collisions": self.collisions}


class RVQ(CodebookBottleneck):
    """ẑ_q = Σ_g q_g, where q_g is the centroid of stage g nearest to the residual r_g = z_e − Σ_{j<g} q_j.

    The centroids of each stage are moving averages of their residuals, and dead ones are moved to a residual of that
    stage, as in :class:`~softvq_cli.model.bottlenecks.ema_vq.EMAVQ`; training draws ``eps`` (G, K), uniform on [0, 1).
    The decoder's gradient passes straight through the sum. Extra loss ``commitment``: ‖r_g − sg(q_g)‖², averaged over
    the stages, the batch and the d dimensions, with weight beta. Each stage starts from K-means of its residuals.
    """

    term_names, beta_term = ("commitment",), "commitment"
    codebook: Tensor
    count: Tensor

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim, config.K)
        limit = math.sqrt(3.0 / config.latent_dim)
        drawn = torch.empty(config.stages, config.K, config.latent_dim).uniform_(-limit, limit)
        self.register_buffer("codebook", drawn)
        self.register_buffer("count", torch.ones(config.stages, config.K))  # N_k
        self.stochastic = config.revive > 0
        self.encodings_to_start = encodings_to_start(config)

    def noise(self, n: int, generator: torch.Generator) -> Tensor | None:
        if not self.stochastic:
            return None
        return torch.rand(self.config.stages, self.K, generator=generator, device=generator.device)

    @torch.no_grad()
    def start(self, z_e: Tensor, seed: int) -> None:
        residual = z_e
        for stage in range(self.config.stages):
            self.codebook[stage].copy_(kmeans(residual, self.K, seed + stage))
            indices = squared_distances(residual, self.codebook[stage]).argmin(1)
            self.count[stage].copy_(first_counts(indices, self.K))
            residual = residual - F.embedding(indices, self.codebook[stage])

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        indices, residuals = self.encoded(z_e.detach())
        codewords = self.codewords(indices)  # (B, G, d)
        left = z_e[:, None] - (codewords.cumsum(1) - codewords)  # r_g, with the gradient of z_e
        losses = {"commitment": (left - codewords).square().mean()}
        noise = [None] * self.config.stages if eps is None else eps
        stages = zip(self.codebook, self.count, residuals.unbind(1), indices.unbind(1), noise, strict=True)
        moved = [followed(*stage, self.config) for stage in stages]
        codebook, count = map(torch.stack, zip(*moved, strict=True))
        state = {"codebook": codebook, "count": count}
        return Output(straight_through(z_e, codewords.sum(1)), losses, self.stats(indices), state)

    def encoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The codes (B, G) of z (B, d), and the input residual of each stage (B, G, d)."""
        residual, codes, residuals = z, [], []
        for stage in self.codebook:
            indices = squared_distances(residual, stage).argmin(1)
            codes.append(indices)
            residuals.append(residual)
            residual = residual - F.embedding(indices, stage)
        return torch.stack(codes, 1), torch.stack(residuals, 1)

    def codewords(self, indices: Tensor) -> Tensor:
        """The codeword of each stage for codes (B, G): (B, G, d)."""
        return self.codebook[torch.arange(self.config.stages, device=indices.device), indices]

    def decoded(self, codes: Tensor) -> Tensor:
        return self.codewords(codes).sum(1)

    def stats(self, indices: Tensor) -> dict[str, Tensor]:
        """The statistics of codes (B, G); ``usage`` and ``counts`` are (G, K)."""
        counts = torch.stack([counts_of(codes, self.K) for codes in indices.unbind(1)])
        return {"usage": counts, "counts": counts, "entropy": torch.zeros((), device=indices.device)}

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        indices = self.assign(z, h)
        return self.decoded(indices), self.stats(indices)

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return self.encoded(z_e.detach())[0]

    def centroids(self) -> Tensor:
        return self.codebook

    def summarise(self, stats: Mapping[str, Tensor], n: int) -> dict[str, float]:
        """The perplexity of each stage and their mean, and the number of active codewords of all stages."""
        stages = [perplexity(usage) for usage in stats["usage"]]
        named = {f"perplexity_{stage}": value for stage, value in enumerate(stages, 1)}
        used = int((stats["counts"] > 0).sum())
        return {"perplexity": float(np.mean(stages)), "active_codes": used, "posterior_entropy_bits": 0.0, **named}

    def usage(self, codes: Codes) -> CodebookUsage:
        stages = self.config.stages
        indices = np.concatenate([self.assign(z_e, h).cpu().numpy() for z_e, h in codes])  # (B, G)
        counts = np.stack([np.bincount(indices[:, stage], minlength=self.K) for stage in range(stages)])
        images = indices.reshape(-1, self.positions * stages)
        _, items = np.unique(images, axis=0, return_counts=True)
        return StagedUsage(
            counts=counts.reshape(-1).astype(np.int64),
            usage=counts.reshape(-1) / counts.sum(),
            posterior_entropy_bits=0.0,
            soft_hard_distance=0.0,
            soft_hard_relative=0.0,
            stages=stages,
            joint_bits=entropy_bits(items / items.sum()),
            collisions=float(items[items > 1].sum() / len(images)),
        )

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """Detect a stage whose perplexity is less than K/4."""
        stages = {s: summary.get(f"perplexity_{s}", summary["perplexity"]) for s in range(1, self.config.stages + 1)}
        worst = min(stages, key=stages.__getitem__)
        spread = stages[worst]
        if self.K < 4 or n < 10 * self.K or spread >= self.K / 4:
            return None
        return Message(
            "stage {} of {} has {} codes but uses only about {:.3g} (perplexity); try {}",
            *(worst, self.config.stages, self.K, spread, self.remedy()),
        )

    def remedy(self) -> str:
        return Message("a smaller {K}, fewer {stages} or a larger {beta}")
