"""SimVQ (Zhu et al. 2024, arXiv 2411.02038): a fixed codebook under a learned linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.vq import VQ


class SimVQ(VQ):
    """VQ-VAE with centroids μ_k = W c_k, where W (d, d) is learned and the c_k keep their initial random values.

    Each step moves all centroids together, so that no centroid stays unused. W is initialised as the identity, so the
    initial codebook is that of VQ-VAE. The loss terms are those of eq. (27).
    """

    by_gradient = False

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.transform = nn.Parameter(torch.eye(config.latent_dim))

    def centroids(self) -> Tensor:
        return self.codebook @ self.transform.T
