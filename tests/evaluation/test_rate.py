"""Bits per image, against information that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from softvq_cli.evaluation.codebook import codebook_use
from softvq_cli.evaluation.rate import codeword_rate, gaussian_rate, kl_nats, log_normal_rate, rate
from softvq_cli.model import represent
from tests.conftest import blobs
from tests.evaluation.test_codebook import model_of, reference_posterior


@pytest.fixture
def images() -> np.ndarray:
    return blobs(70).images


def test_a_codebooks_rate_is_the_mutual_information_of_image_and_codeword(images):
    model = model_of("soft-vq")
    p = reference_posterior(model, images)[0] / len(images)  # (N, K), the joint distribution
    information = (p * np.log2(p / (p.sum(1, keepdims=True) * p.sum(0)))).sum()
    found = rate(model, images)
    assert found.bits == pytest.approx(information, abs=1e-5)
    assert not found.upper_bound
    assert 0 <= found.bits <= math.log2(7)


def test_a_hard_codebooks_rate_is_the_entropy_of_its_usage(images):
    model = model_of("vq")
    use = codebook_use(model, images)
    assert codeword_rate(use).bits == pytest.approx(math.log2(use.perplexity))
    assert rate(model, images).bits == pytest.approx(math.log2(use.perplexity))


def test_a_vaes_rate_is_its_kl_in_bits(images):
    model = model_of("vae")
    import torch

    with torch.inference_mode():
        z_e, h = model.encode(model.scale(torch.from_numpy(images)))
        m, log_var = z_e.double().numpy(), model.bottleneck.log_var(h).double().numpy()
    kl = 0.5 * (m**2 + np.exp(log_var) - 1 - log_var).sum(1).mean()
    assert kl_nats(model, images, batch_size=32) == pytest.approx(kl, rel=1e-5)
    assert rate(model, images).bits == pytest.approx(kl / math.log(2), rel=1e-5)
    assert rate(model, images).upper_bound
    assert gaussian_rate(math.log(2)).bits == pytest.approx(1.0)


def test_the_log_normal_bound_is_exact_for_log_normal_codes():
    # log z_e ~ N(0, 2²) and constant noise: a Gaussian channel, I = ½ log2(1 + 2² / α²) a dimension.
    random = np.random.default_rng(0)
    log_z = random.normal(size=(20_000, 3))
    log_z = 2 * (log_z - log_z.mean(0)) / log_z.std(0)
    alpha = np.full((20_000, 3), 0.5)
    assert log_normal_rate(np.exp(log_z), alpha).bits == pytest.approx(3 * 0.5 * math.log2(1 + 16), rel=1e-6)


def test_a_random_sign_is_worth_one_bit_more_a_dimension():
    random = np.random.default_rng(0)
    z, alpha = random.lognormal(size=(1000, 2)), np.full((1000, 2), 0.7)
    signs = np.where(np.arange(1000) % 2, 1.0, -1.0)[:, None]
    assert log_normal_rate(z * signs, alpha).bits == pytest.approx(log_normal_rate(z, alpha).bits + 2)


def test_the_log_normal_bound_is_not_below_the_information():
    # Two images, one dimension, log z_e = ±1: I is known by integrating the two densities of log z.
    alpha = 0.6
    grid = np.linspace(-8, 8, 20_001)
    step = grid[1] - grid[0]
    densities = [np.exp(-0.5 * ((grid - m) / alpha) ** 2) / (alpha * math.sqrt(2 * math.pi)) for m in (-1.0, 1.0)]
    mixture = sum(densities) / 2
    information = sum((d * np.log2(np.maximum(d, 1e-300) / mixture)).sum() * step / 2 for d in densities)
    bound = log_normal_rate(np.exp([[-1.0], [1.0]]), np.full((2, 1), alpha)).bits
    assert information <= bound <= information + 0.2


def test_information_dropout_has_a_finite_bound_and_a_plain_autoencoder_none(images):
    model = model_of("info-dropout")
    import torch

    with torch.inference_mode():
        _, h = model.encode(model.scale(torch.from_numpy(images)))
        alpha = 0.7 * torch.sigmoid(model.bottleneck.alpha_head(h)).numpy()
    expected = log_normal_rate(represent(model, images, "z_e"), alpha).bits
    assert rate(model, images, batch_size=33).bits == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)
    assert rate(model_of("ae"), images) is None
