"""VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): the nearest centroid."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from softvq_cli.model.bottlenecks.codebook import hard_stats, squared_distances
from softvq_cli.model.bottlenecks.learned_codebook import VectorQuantiser


class VQ(VectorQuantiser):
    """ẑ_q = μ_k with k = argmin_k ‖z'_e − μ_k‖² (eq. 1 and 2 there): the limit σ → 0 of soft VQ-VAE.

    With ``cosine``, z_e and all μ_k are first divided by their norms, and the decoder receives unit vectors
    (Yu et al. 2021, arXiv 2110.04627, section 3.2).
    """

    def quantise(self, z: Tensor, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        indices = self.assign(z, h)
        return F.embedding(indices, self.centroids()), hard_stats(indices, self.K)

    def assign(self, z_e: Tensor, h: Tensor) -> Tensor:
        return squared_distances(self.prepared(z_e.detach()), self.centroids().detach()).argmin(1)
