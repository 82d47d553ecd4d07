"""The bottlenecks as plain layers for other people's networks: ``z_q, codes, loss = layer(z)`` on (…, dim).

from softvq_cli.layers import SoftVQ

quantise = SoftVQ(64, K=128)
z_q, codes, loss = quantise(encoder(x))
total = reconstruction_error(decoder(z_q), x) + loss
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softvq_cli.config import LossConfig, RunConfig
from softvq_cli.model.bottlenecks import build_bottleneck

__all__ = ["EMAVQ", "FSQ", "RVQ", "SQVAE", "VQ", "GumbelVQ", "Quantised", "RotationVQ", "SimVQ", "SoftVQ"]


class Quantised(NamedTuple):
    """What a layer makes of z (…, dim)."""

    z_q: Tensor
    """(…, dim): for the decoder; its gradient reaches z."""
    codes: Tensor
    """(…,) int64, or (…, stages): the most probable codewords."""
    loss: Tensor
    """Scalar: the layer's loss terms, weighed; to be added to the loss of the network."""


class _Layer(nn.Module):
    """One bottleneck on rows of ``dim`` numbers.

    In training mode a call draws noise from PyTorch's global generator and moves what follows by averages; in
    evaluation mode it is a function of z alone.

    Args:
        dim: numbers of a row, d.
        K: codewords.
        beta: weight of the term that the method names so: commitment, or the KL.
        settings: others of ``softvq train`` by name, for example ``sigma_form="codeword"``.

    Raises:
        UsageError: a setting is unknown or out of range.
    """

    bottleneck_name = ""

    def __init__(self, dim: int, K: int = 128, *, beta: float = 0.25, **settings: Any) -> None:
        super().__init__()
        chosen = {"bottleneck": self.bottleneck_name, "latent_dim": dim, "K": K, "beta": beta, **settings}
        config = RunConfig.from_flat(chosen)
        self.dim, self.config = dim, config.model
        self.bottleneck = build_bottleneck(config.model, hidden_dim=dim)
        self.factors = LossConfig.latent_weight, config.loss.beta

    def start(self, z: Tensor, seed: int = 0) -> None:
        """Place the codewords by a K-means of the network's first encodings z (…, dim), at least K of them."""
        self.bottleneck.start(z.detach().reshape(-1, self.dim), seed)

    def forward(self, z: Tensor) -> Quantised:
        """Quantise z (…, dim)."""
        rows = z.reshape(-1, self.dim)
        eps = None
        if self.training:
            seed = int(torch.randint(2**31, ()))
            eps = self.bottleneck.noise(len(rows), torch.Generator(z.device).manual_seed(seed))
        output = self.bottleneck(rows, rows, eps)
        weight, beta = self.factors
        factors = self.bottleneck.term_weights(beta)
        loss = weight * sum((factors[name] * term for name, term in output.losses.items()), rows.new_zeros(()))
        with torch.no_grad():
            codes = self.bottleneck.assign(rows, rows)
        assert codes is not None  # each of them has a codebook
        if self.training:
            self.bottleneck.advance(output.state)
        return Quantised(output.z_q.view_as(z), codes.view(*z.shape[:-1], *codes.shape[1:]), loss)


class SoftVQ(_Layer):
    """The posterior mean of the centroids; σ_k is predicted from z itself, or learned per codeword."""

    bottleneck_name = "soft-vq"


class VQ(_Layer):
    """The nearest centroid, learned by gradient."""

    bottleneck_name = "vq"


class EMAVQ(_Layer):
    """The nearest centroid, which follows its codes by moving averages."""

    bottleneck_name = "ema-vq"


class RotationVQ(_Layer):
    """The same with the rotation trick's gradient."""

    bottleneck_name = "rotation-vq"


class SimVQ(_Layer):
    """The nearest of fixed centroids under a learned linear map."""

    bottleneck_name = "simvq"


class RVQ(_Layer):
    """The sum of the nearest centroids of several ``stages``, each for what the ones before leave."""

    bottleneck_name = "rvq"


class FSQ(_Layer):
    """Finite scalar quantisation; ``levels="5,5,5"`` in place of K."""

    bottleneck_name = "fsq"


class SQVAE(_Layer):
    """A relaxed draw from the posterior of a Gaussian mixture."""

    bottleneck_name = "sq-vae"


class GumbelVQ(_Layer):
    """A relaxed draw from a categorical code."""

    bottleneck_name = "gumbel-vq"
