"""How a codebook is used, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softvq_cli.config import ModelConfig
from softvq_cli.errors import InputError
from softvq_cli.evaluation.codebook import SIGMA_QUANTILES, codebook_use
from softvq_cli.model import Autoencoder, represent
from tests.conftest import blobs

SHAPE = (8, 8, 1)


def model_of(bottleneck: str, **settings: object) -> Autoencoder:
    torch.manual_seed(0)
    config = ModelConfig(bottleneck=bottleneck, latent_dim=3, K=7, **settings)  # type: ignore[arg-type]
    model = Autoencoder(config, SHAPE, 0.1).eval().requires_grad_(False)
    with torch.no_grad():
        if bottleneck in ("vq", "soft-vq"):
            model.bottleneck.codebook.mul_(0.2)
    return model


@pytest.fixture
def images() -> np.ndarray:
    return blobs(70).images


def reference_posterior(model: Autoencoder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(posterior (N, K), codebook (K, d), log σ (N, K)) by the formula of the paper."""
    z = represent(model, images, "z_e").astype(np.float64)
    codebook = model.bottleneck.codebook.numpy().astype(np.float64)
    with torch.inference_mode():
        _, h = model.encode(model.scale(torch.from_numpy(images)))
        log_sigma = model.bottleneck.log_sigma(h).double().numpy()
    distances = np.square(z[:, None] - codebook).sum(2)
    exponent = model.bottleneck.power * log_sigma - distances / (2 * np.exp(2 * log_sigma))
    weights = np.exp(exponent - exponent.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True), codebook, np.broadcast_to(log_sigma, weights.shape)


@pytest.mark.parametrize("settings", [{}, {"sigma_form": "codeword"}, {"sigma_power": "-d"}])
def test_soft_quantisation_against_numpy(settings, images):
    model = model_of("soft-vq", **settings)
    use = codebook_use(model, images, batch_size=32)
    p, codebook, log_sigma = reference_posterior(model, images)
    np.testing.assert_allclose(use.usage, p.mean(0), atol=1e-6)
    np.testing.assert_array_equal(use.counts, np.bincount(p.argmax(1), minlength=7))
    usage = p.mean(0)
    assert use.perplexity == pytest.approx(np.exp(-(usage * np.log(usage)).sum()), rel=1e-5)
    assert use.posterior_entropy_bits == pytest.approx(-(p * np.log2(p)).sum(1).mean(), rel=1e-5)
    apart = np.linalg.norm(p @ codebook - codebook[p.argmax(1)], axis=1)
    assert use.soft_hard_distance == pytest.approx(apart.mean(), rel=1e-4)
    norm = np.square(codebook[p.argmax(1)]).sum(1).mean()
    assert use.soft_hard_relative == pytest.approx(np.sqrt(np.square(apart).mean() / norm), rel=1e-4)
    np.testing.assert_allclose(use.sigma, np.quantile(np.exp(log_sigma), SIGMA_QUANTILES), rtol=1e-5)
    assert use.active + use.dead == 7


def test_hard_quantisation_is_certain_and_its_own_nearest_codeword(images):
    model = model_of("vq")
    use = codebook_use(model, images, batch_size=16)
    indices = represent(model, images, "indices")[:, 0]
    counts = np.bincount(indices, minlength=7)
    np.testing.assert_array_equal(use.counts, counts)
    share = counts[counts > 0] / 70
    assert use.perplexity == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert (use.posterior_entropy_bits, use.soft_hard_distance, use.sigma) == (0.0, 0.0, None)
    assert use.dead == 7 - len(share)


def test_the_result_does_not_depend_on_the_batches(images):
    model = model_of("soft-vq")
    one, many = codebook_use(model, images), codebook_use(model, images, batch_size=7)
    assert one.as_dict() == pytest.approx(many.as_dict(), rel=1e-5)


def test_a_model_without_codebook_is_refused(images):
    with pytest.raises(InputError, match="a vae model has no codebook"):
        codebook_use(model_of("vae"), images)
