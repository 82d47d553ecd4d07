"""Categorical codes by Gumbel-softmax (Jang et al. 2017, arXiv 1611.01144), with a codebook as in dVAE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks.relaxed_codebook import RelaxedCodebook


class GumbelVQ(RelaxedCodebook):
    """p(k | x) = softmax(W z_e + b), a linear head of z_e; only the decoder receives the codewords.

    Extra loss ``kl``: KL(p ‖ uniform) = log K − H(p) in nats, averaged over the batch, with weight beta. With the
    squared error summed over the image, the loss is the ELBO of dVAE (Ramesh et al. 2021, arXiv 2102.12092). At step t,
    beta is multiplied by max(1, ``kl_start`` · e^(−t / ``kl_decay``)): a large weight at first spreads the posterior
    over all codes, before it becomes specific to each image.
    K-means does not initialise the codewords, because p does not depend on distances to them.
    """

    term_names = ("kl",)

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.logits = nn.Linear(config.latent_dim, config.K)
        self.encodings_to_start = 0

    def log_posterior(self, z: Tensor) -> Tensor:
        return torch.log_softmax(self.logits(z), dim=1)

    def terms(self, z_e: Tensor, z_q: Tensor, log_p: Tensor) -> dict[str, Tensor]:
        return {"kl": self.divergence(log_p)}

    def term_weights(self, beta: float) -> dict[str, float | Tensor]:
        start, decay = self.config.kl_start, self.config.kl_decay
        return {"kl": beta if start == 1 else beta * (start * torch.exp(-self.steps / decay)).clamp_min(1.0)}
