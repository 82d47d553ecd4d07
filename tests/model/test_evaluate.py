"""Codebook usage, σ, KL and bits, compared with NumPy in float64 and with known information."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from softvq_cli.config import ModelConfig
from softvq_cli.errors import InputError
from softvq_cli.model import Autoencoder, autoencoder, represent
from softvq_cli.model.bottlenecks.info_dropout import bits
from softvq_cli.model.bottlenecks.soft_vq import SIGMA_IMAGES, SIGMA_QUANTILES
from softvq_cli.words import BOTTLENECKS
from tests.helpers import blobs

SHAPE = (8, 8, 1)
K = 7


def model_of(bottleneck: str, **settings: object) -> Autoencoder:
    torch.manual_seed(0)
    config = ModelConfig(bottleneck=bottleneck, latent_dim=3, K=K, **settings)  # type: ignore[arg-type]
    model = Autoencoder(config, SHAPE, 0.1).eval().requires_grad_(False)
    codebook = model.bottleneck.centroids()
    if codebook is not None:
        codebook.mul_(0.2)
    return model


@pytest.fixture
def images() -> np.ndarray:
    return blobs(70).images


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are processed 32 at a time: 70 are two full batches and a partial one."""
    monkeypatch.setattr(Autoencoder.batches, "__defaults__", (32,))


def encode(model: Autoencoder, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return model.encode(model.scale(torch.from_numpy(images)))


def reference_posterior(model: Autoencoder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(posterior (N, K), codebook (K, d), log σ (N, K)) by the formula of the paper."""
    z_e, h = encode(model, images)
    z = z_e.numpy().astype(np.float64)
    codebook = model.bottleneck.codebook.numpy().astype(np.float64)
    log_sigma = model.bottleneck.log_sigma(h).double().numpy()
    distances = np.square(z[:, None] - codebook).sum(2)
    exponent = model.bottleneck.power * log_sigma - distances / (2 * np.exp(2 * log_sigma))
    return softmax(exponent, 1), codebook, np.broadcast_to(log_sigma, exponent.shape)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_the_error_is_that_of_the_reconstruction_over_the_training_variance(bottleneck, images, small_batches):
    model = model_of(bottleneck)
    error = np.square(represent(model, images, "reconstruction").astype(np.float64) - images.reshape(70, -1) / 255)
    assert model.evaluate(images)["nmse"] == pytest.approx(error.mean() / 0.1, rel=1e-5)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_the_figures_do_not_depend_on_the_batches(bottleneck, images, monkeypatch):
    model = model_of(bottleneck)
    one = model.evaluate(images)
    monkeypatch.setattr(Autoencoder.batches, "__defaults__", (7,))
    assert model.evaluate(images) == pytest.approx(one, rel=1e-5, abs=1e-6)
    assert all(type(value) in (int, float) for value in one.values())  # for JSON


@pytest.mark.parametrize("settings", [{}, {"sigma_form": "codeword"}, {"sigma_power": "-d"}])
def test_soft_quantisation_against_numpy(settings, images, small_batches):
    model = model_of("soft-vq", **settings)
    use, figures = model.codebook_usage(images), model.evaluate(images)
    p, codebook, log_sigma = reference_posterior(model, images)
    np.testing.assert_allclose(use.usage, p.mean(0), atol=1e-6)
    np.testing.assert_array_equal(use.counts, np.bincount(p.argmax(1), minlength=K))
    usage = p.mean(0)
    assert figures["perplexity"] == pytest.approx(np.exp(-(usage * np.log(usage)).sum()), rel=1e-5)
    assert figures["posterior_entropy_bits"] == pytest.approx(-(p * np.log2(p)).sum(1).mean(), rel=1e-5)
    joint = p / len(images)  # (N, K)
    information = (joint * np.log2(joint / (joint.sum(1, keepdims=True) * joint.sum(0)))).sum()
    assert figures["bits_per_image"] == pytest.approx(information, abs=1e-5)
    apart = np.linalg.norm(p @ codebook - codebook[p.argmax(1)], axis=1)
    assert figures["soft_hard_distance"] == pytest.approx(apart.mean(), rel=1e-4)
    norm = np.square(codebook[p.argmax(1)]).sum(1).mean()
    assert figures["soft_hard_relative"] == pytest.approx(np.sqrt(np.square(apart).mean() / norm), rel=1e-4)
    sigma = np.quantile(np.exp(log_sigma), list(SIGMA_QUANTILES.values()))
    np.testing.assert_allclose([figures[name] for name in SIGMA_QUANTILES], sigma, rtol=1e-5)
    assert figures["active_codes"] + figures["dead_codes"] == K


def test_sigma_is_that_of_images_evenly_spaced_over_the_split(monkeypatch):
    monkeypatch.setattr("softvq_cli.model.bottlenecks.soft_vq.SIGMA_IMAGES", 9)
    model, images = model_of("soft-vq"), blobs(70).images
    monkeypatch.setattr(Autoencoder.batches, "__defaults__", (8,))  # a batch has one of the nine, or two, or none
    rows = [0, 9, 17, 26, 34, 43, 52, 60, 69]
    _, _, log_sigma = reference_posterior(model, images[rows])
    figures = model.evaluate(images)
    expected = np.exp(np.quantile(log_sigma, list(SIGMA_QUANTILES.values())))
    np.testing.assert_allclose([figures[name] for name in SIGMA_QUANTILES], expected, rtol=1e-5)
    assert SIGMA_IMAGES == 2048


def test_hard_quantisation_is_certain_and_its_own_nearest_codeword(images, small_batches):
    model = model_of("vq")
    figures = model.evaluate(images)
    indices = represent(model, images, "codes")[:, 0]
    counts = np.bincount(indices, minlength=K)
    np.testing.assert_array_equal(model.codebook_usage(images).counts, counts)
    share = counts[counts > 0] / 70
    assert figures["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert (figures["posterior_entropy_bits"], figures["soft_hard_distance"]) == (0.0, 0.0)
    assert not set(SIGMA_QUANTILES) & set(figures)
    assert figures["dead_codes"] == K - len(share)
    assert figures["bits_per_image"] == pytest.approx(math.log2(figures["perplexity"]))
    with pytest.raises(InputError):
        model_of("vae").codebook_usage(images)


def test_the_log_normal_bound_is_exact_for_log_normal_codes():
    # log z_e ~ N(0, 2²) and constant noise: a Gaussian channel, I = ½ log2(1 + 2² / α²) a dimension.
    random = np.random.default_rng(0)
    log_z = random.normal(size=(20_000, 3))
    log_z = 2 * (log_z - log_z.mean(0)) / log_z.std(0)
    alpha = np.full((20_000, 3), 0.5)
    assert bits(np.exp(log_z), alpha) == pytest.approx(3 * 0.5 * math.log2(1 + 16), rel=1e-6)
    signs = np.where(np.arange(20_000) % 2, 1.0, -1.0)[:, None]  # a random sign is worth one bit more a dimension
    assert bits(np.exp(log_z) * signs, alpha) == pytest.approx(bits(np.exp(log_z), alpha) + 3)


def test_the_log_normal_bound_is_not_below_the_information():
    # Two images, one dimension, log z_e = ±1: I is known by integrating the two densities of log z.
    alpha = 0.6
    grid = np.linspace(-8, 8, 20_001)
    step = grid[1] - grid[0]
    densities = [np.exp(-0.5 * ((grid - m) / alpha) ** 2) / (alpha * math.sqrt(2 * math.pi)) for m in (-1.0, 1.0)]
    mixture = sum(densities) / 2
    information = sum((d * np.log2(np.maximum(d, 1e-300) / mixture)).sum() * step / 2 for d in densities)
    bound = bits(np.exp([[-1.0], [1.0]]), np.full((2, 1), alpha))
    assert information <= bound <= information + 0.2


def test_information_dropout_has_a_finite_bound_and_a_plain_autoencoder_none(images, small_batches):
    model = model_of("info-dropout")
    _, h = encode(model, images)
    alpha = 0.7 * torch.sigmoid(model.bottleneck.alpha_head(h)).numpy()
    expected = bits(represent(model, images, "z_e"), alpha)
    assert model.evaluate(images)["bits_per_image"] == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)
    assert set(model_of("ae").evaluate(images)) == {"nmse"}


@pytest.mark.parametrize("n", [1, 5, 6, 13])
def test_batches_are_the_scaled_images_in_order(n):
    model, images = model_of("ae"), blobs(13).images[:n]
    batches = list(model.batches(images, 6))
    assert [len(x) for x in batches] == [6] * (n // 6) + [n % 6] * (n % 6 > 0)
    torch.testing.assert_close(torch.cat(batches), model.scale(torch.from_numpy(images)), rtol=0, atol=0)
    assert autoencoder.BATCH == 512
