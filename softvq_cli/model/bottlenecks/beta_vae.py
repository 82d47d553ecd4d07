"""β-VAE (Higgins et al. 2017): the VAE with a heavier KL."""

from __future__ import annotations

from softvq_cli.model.bottlenecks.vae import VAE


class BetaVAE(VAE):
    """The VAE; only the preset's weight beta of the KL differs (20 on MNIST, 100 on SVHN and CIFAR-10)."""
