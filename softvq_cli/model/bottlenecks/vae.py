"""VAE (Kingma and Welling 2014, arXiv 1312.6114): a Gaussian latent regularised towards N(0, I).

β-VAE (Higgins et al. 2017) is the same with a larger beta in the preset: 20 on MNIST, 100 on SVHN and CIFAR-10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from softvq_cli.config import ModelConfig
from softvq_cli.errors import Message
from softvq_cli.model.bottlenecks.base import Bottleneck, Codes, Output

COLLAPSED = 0.01
"""A posterior with a smaller KL divergence, in nats, has collapsed to the prior."""
LOG_VAR_LIMIT = 20.0
"""Limit of |log s²|, so that its exponential and the KL divergence are finite in float32."""


class VAE(Bottleneck):
    """z = m + s ⊙ ε, where m = z_e, and a second linear head of h predicts log s².

    Extra loss ``kl``: KL(N(m, diag s²) ‖ N(0, I)) = ½ Σ_d (m² + s² − 1 − log s²), in nats, summed over the
    d dimensions and averaged over the batch (Appendix B there), with weight beta.
    """

    stochastic = True
    term_names, beta_term = ("kl",), "kl"

    def __init__(self, config: ModelConfig, hidden_dim: int) -> None:
        super().__init__(config, hidden_dim)
        self.log_var_head = nn.Linear(hidden_dim, config.latent_dim)

    def forward(self, z_e: Tensor, h: Tensor, eps: Tensor | None = None) -> Output:
        log_var = self.log_var(h)  # (B, d)
        z = z_e if eps is None else z_e + torch.exp(0.5 * log_var) * eps
        kl = 0.5 * (z_e.square() + log_var.exp() - 1.0 - log_var).sum(1).mean() * self.positions
        return Output(z, {"kl": kl}, {})

    def log_var(self, h: Tensor) -> Tensor:
        """(B, d): log s² of the Gaussian head."""
        log_var: Tensor = self.log_var_head(h).clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT)
        return log_var

    def evaluate(self, codes: Codes, n: int) -> dict[str, float]:
        """The mean KL divergence over all images, in nats (``kl_nats``) and in bits."""
        total = 0.0
        for z_e, h in codes:
            total += self(z_e, h).losses["kl"].item() * (len(z_e) // self.positions)
        return {"bits_per_image": total / n / math.log(2), "kl_nats": total / n}

    def diagnose(self, summary: Mapping[str, float], n: int) -> str | None:
        """Detect a collapsed posterior: it equals the prior for every image."""
        if summary["kl"] > COLLAPSED:
            return None
        return Message(
            "the posterior has collapsed: its KL to the prior is {:.2g} nats, so the latents say nothing "
            "about the image; try a smaller {beta} or a larger {reconstruction_scale}",
            summary["kl"],
        )
