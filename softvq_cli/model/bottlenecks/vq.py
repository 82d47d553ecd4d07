"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): the nearest centroid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck, counts_of, squared_distances


class VQ(CodebookBottleneck):
    """ẑ_q = μ_k with k = argmin_k ‖z'_e − μ_k‖² (eq. 1 and 2 there): the limit σ → 0 of soft VQ-VAE."""

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        indices = self.assign(z, h)
        counts = counts_of(indices, self.config.K)
        entropy = torch.zeros((), device=z.device)  # all the mass is on one centroid
        return F.embedding(indices, self.codebook), {"usage": counts, "counts": counts, "entropy": entropy}

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return squared_distances(z_e.detach(), self.codebook.detach()).argmin(1)
