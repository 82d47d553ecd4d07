"""β-VAE (Higgins et al. 2017): the VAE with a larger weight of the KL divergence."""

from __future__ import annotations

from softvq_cli.model.bottlenecks.vae import VAE


class BetaVAE(VAE):
    """The VAE with a larger weight beta of the KL term in the preset: 20 on MNIST, 100 on SVHN and CIFAR-10."""
