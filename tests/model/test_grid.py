"""Grids of codes: each bottleneck at P = 4 positions, compared with NumPy in float64; and the codes of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from softvq_cli.config import LossConfig, ModelConfig
from softvq_cli.errors import UsageError
from softvq_cli.model import Autoencoder, decode, represent
from softvq_cli.model.bottlenecks.fsq import FSQ
from softvq_cli.training.objective import objective
from softvq_cli.words import BOTTLENECKS

B, P, C, K = 5, 4, 3, 7


def build(bottleneck: str, **more: Any) -> Autoencoder:
    torch.manual_seed(0)
    config = ModelConfig(arch="cnn", bottleneck=bottleneck, latent_dim=P * C, K=K, grid=2, levels="3,4", **more)
    return Autoencoder(config, (32, 32, 3)).double()


def expected_terms(model: Autoencoder, z: np.ndarray, h: np.ndarray, eps: np.ndarray | None) -> dict[str, float]:
    """The loss terms of z (B, P, C) and h (B, P, 9·512), image by image and position by position."""
    bottleneck, weights = model.bottleneck, {n: w.detach().numpy() for n, w in model.bottleneck.state_dict().items()}
    name = model.config.bottleneck

    def head(of: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{of}.weight"].T + weights[f"{of}.bias"]

    if name in ("vae", "beta-vae"):
        log_var = head("log_var_head", h)
        return {"kl": float(0.5 * (z**2 + np.exp(log_var) - 1 - log_var).sum((1, 2)).mean())}
    if name == "info-dropout":
        return {"information": float(-np.log(1 / (1 + np.exp(-head("alpha_head", h))) + 0.001).mean())}
    if name == "rvq":
        total, left = 0.0, z.reshape(-1, C)
        for codebook in weights["codebook"]:
            nearest = codebook[((left[:, None] - codebook) ** 2).sum(2).argmin(1)]
            left = left - nearest
            total += float((left**2).mean())
        return {"commitment": total / len(weights["codebook"])}
    if name in ("ae", "fsq"):
        return {}
    codebook = bottleneck.centroids().detach().numpy()
    distances = ((z[:, :, None] - codebook) ** 2).sum(3)  # (B, P, K)
    if name in ("gumbel-vq", "sq-vae"):
        variance = math.exp(float(weights.get("log_variance", 0.0)))
        logits = head("logits", z) if name == "gumbel-vq" else -0.5 * distances / variance
        p = softmax(logits, -1)
        kl = float((p * np.log(p) + p * math.log(K)).sum((1, 2)).mean())
        if name == "gumbel-vq":
            return {"kl": kl}
        mixed = p if eps is None else softmax(logits - np.log(-np.log(eps)), -1)  # at temperature 1
        apart = (z - (mixed @ codebook if eps is not None else codebook[p.argmax(2)])) ** 2
        return {"kl_discrete": kl, "kl_continuous": float(apart.sum((1, 2)).mean() / 2 / variance)}
    if name == "soft-vq":
        log_sigma = head("log_sigma_head", h)
        quantised = softmax(log_sigma - 0.5 * distances * np.exp(-2 * log_sigma), -1) @ codebook
    else:
        quantised = codebook[distances.argmin(2)]
    error = float(((z - quantised) ** 2).mean())
    return dict.fromkeys(bottleneck.term_names, error)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_terms_and_weights_at_four_positions_are_those_of_numpy(bottleneck: str) -> None:
    model = build(bottleneck)
    x = torch.rand(B, 3, 32, 32, dtype=torch.float64) - 0.5
    z, h = model.encode(x)
    eps = model.bottleneck.noise(B, torch.Generator().manual_seed(1))
    eps = None if eps is None else eps.double()
    if eps is not None and bottleneck in ("sq-vae", "gumbel-vq", "vae", "beta-vae", "info-dropout"):
        assert len(eps) == B * P
    out = model.bottleneck(z, h, eps)
    numbers = (tensor.detach().numpy().reshape(B, P, -1) for tensor in (z, h))
    uniform = eps.numpy().reshape(B, P, K) if bottleneck in ("sq-vae", "gumbel-vq") else None
    expected = expected_terms(model, *numbers, uniform)
    assert out.losses.keys() == expected.keys()
    for name, value in expected.items():
        assert out.losses[name].item() == pytest.approx(value, rel=1e-9), name
    assert out.z_q.shape == (B * P, C)


def test_the_heads_are_the_convolutions_of_the_notebook() -> None:
    model = build("vae")
    x = torch.rand(B, 3, 32, 32, dtype=torch.float64) - 0.5
    z, h = model.encode(x)
    features = model.encoder(x)
    torch.testing.assert_close(z, model.to_latent(features).permute(0, 2, 3, 1).reshape(B * P, C))
    head = model.bottleneck.log_var_head
    convolution = nn.Conv2d(512, C, 3, padding=1).double()
    with torch.no_grad():
        convolution.weight.copy_(head.weight.view(C, 512, 3, 3))
        convolution.bias.copy_(head.bias)
    torch.testing.assert_close(head(h), convolution(features).permute(0, 2, 3, 1).reshape(B * P, C))


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_an_image_has_its_positions_side_by_side(bottleneck: str) -> None:
    model = build(bottleneck).float().eval().requires_grad_(False)
    images = np.random.default_rng(0).integers(0, 256, (B, 32, 32, 3), dtype=np.uint8)
    x = model.scale(torch.from_numpy(images))
    z, h = model.encode(x)
    assert (represent(model, images) == z.reshape(B, P * C).numpy()).all()
    whole = represent(model, images, "reconstruction")
    of_inputs = decode(model, represent(model, images, "z_q"))
    np.testing.assert_allclose(of_inputs.reshape(B, -1), whole, atol=1e-6)
    assert np.allclose(whole, model.unscale(model.decoder(model.flat(model.bottleneck(z, h).z_q))).flatten(1))
    figures = model.evaluate(images)
    if BOTTLENECKS[bottleneck].has_codebook:
        codes = represent(model, images, "codes")
        assert codes.dtype == np.int64
        assert codes.shape == (B, P * (model.config.stages if bottleneck == "rvq" else 1))
        of_codes = decode(model, codes)
        assert of_codes.shape == images.shape
        if bottleneck != "soft-vq":  # whose decoder receives a mean of codewords
            np.testing.assert_allclose(of_codes.reshape(B, -1), whole, atol=1e-6)
        usage = model.codebook_usage(images)
        assert usage.counts.sum() == codes.size
        assert 0 <= figures["bits_per_image"] <= P * 3 * math.log2(12)
        if bottleneck in ("vq", "ema-vq", "rotation-vq", "fsq", "simvq"):
            shares = [np.unique(column, return_counts=True)[1] / B for column in codes.T]
            expected = sum(float(-(share * np.log2(share)).sum()) for share in shares)
            assert figures["bits_per_image"] == pytest.approx(expected, abs=1e-6)
        alike = model.evaluate(images[:1].repeat(8, axis=0))  # the position alone says nothing about the image
        assert alike["bits_per_image"] == pytest.approx(0, abs=1e-5)
    elif bottleneck in ("vae", "beta-vae"):
        kl = objective(model, x, None, LossConfig()).terms["kl"].item()
        assert figures["kl_nats"] == pytest.approx(kl, rel=1e-5)
        assert figures["bits_per_image"] == pytest.approx(kl / math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "shape", "name"),
    [
        ({"arch": "mlp", "grid": 2}, (32, 32, 3), "grid"),
        ({"arch": "cnn", "grid": 3}, (32, 32, 3), "grid"),
        ({"arch": "cnn", "grid": 2}, (32, 48, 3), "grid"),
        ({"arch": "cnn", "grid": 2, "latent_dim": 10}, (32, 32, 3), "latent_dim"),
        ({"arch": "cnn"}, (15, 16, 1), "arch"),
        ({"arch": "cnn"}, (40,), "arch"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_by_name(
    settings: dict[str, Any], shape: tuple[int, ...], name: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Autoencoder(ModelConfig(bottleneck="ae", **settings), shape)
    assert name in refused.value.settings


def test_large_images_have_a_small_network_and_small_batches() -> None:
    with torch.device("meta"):
        large = Autoencoder(ModelConfig(arch="cnn", latent_dim=256, K=32), (224, 224, 3))
        paper = Autoencoder(ModelConfig(arch="cnn", latent_dim=256, K=32), (64, 64, 3))
    assert sum(weight.numel() for weight in large.parameters()) < 10e6
    assert large.encoder.hidden_dim == 256 * 4 * 4
    assert paper.encoder.hidden_dim == 512 * 4 * 4
    assert (paper.batch_size, large.batch_size) == (512, 41)


@pytest.mark.parametrize("level", [3, 4, 1001, 1002, 4000])
def test_every_level_of_fsq_is_reached_and_no_other(level: int) -> None:
    fsq = FSQ(ModelConfig(bottleneck="fsq", levels=str(level), latent_dim=2), 2)
    u = torch.linspace(-20, 20, 400_001, dtype=torch.float64)[:, None]
    numbers = fsq.double().number(fsq.bound(torch.cat([u, torch.atanh(u[(u.abs() < 1)[:, 0]])])))
    assert (numbers.min(), numbers.max()) == (0, level - 1)
    with pytest.raises(UsageError, match="levels"):
        FSQ(ModelConfig(bottleneck="fsq", levels="2,3"), 2)
