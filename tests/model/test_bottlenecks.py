"""Every bottleneck in the registry, and the formulas of those that are not from the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks import Bottleneck, build_bottleneck
from softvq_cli.model.bottlenecks.codebook import perplexity
from softvq_cli.words import BOTTLENECKS

B, D, K, H = 6, 4, 8, 10


def build(name: str, **settings: object) -> Bottleneck:
    torch.manual_seed(0)
    return build_bottleneck(ModelConfig(bottleneck=name, latent_dim=D, K=K, **settings), H).double()  # type: ignore[arg-type]


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(B, D).requires_grad_(), draw(B, H), draw(B, D)


def noise(bottleneck: Bottleneck) -> torch.Tensor | None:
    eps = bottleneck.noise(B, torch.Generator().manual_seed(2))
    return None if eps is None else eps.double()


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_every_bottleneck_keeps_the_shape_and_passes_a_gradient_to_the_encoder(name: str) -> None:
    z_e, h, _ = batch()
    bottleneck = build(name, noise_std=0.1)
    out = bottleneck(z_e, h, noise(bottleneck))
    assert out.z_q.shape == (B, D)
    (out.z_q.square().sum() + sum(out.losses.values())).backward()
    assert z_e.grad is not None
    assert z_e.grad.abs().sum() > 0
    assert tuple(out.losses) == bottleneck.term_names == tuple(bottleneck.term_weights(1.0))


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_without_noise_every_bottleneck_is_deterministic_and_changes_nothing(name: str) -> None:
    z_e, h, _ = batch()
    bottleneck = build(name)
    before = {key: value.clone() for key, value in bottleneck.state_dict().items()}
    torch.testing.assert_close(bottleneck(z_e, h).z_q, bottleneck(z_e, h).z_q, rtol=0, atol=0)
    assert all(torch.equal(before[key], value) for key, value in bottleneck.state_dict().items())


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_stochastic_ones_differ_with_the_noise_and_the_others_ignore_it(name: str) -> None:
    z_e, h, eps = batch()
    bottleneck = build(name)
    if "revive" in BOTTLENECKS[name].settings:  # the noise says where dead codes go
        bottleneck.count.zero_()  # type: ignore[union-attr, operator]
    with_noise, without = bottleneck(z_e, h, noise(bottleneck) if bottleneck.stochastic else eps), bottleneck(z_e, h)
    moved = not torch.equal(with_noise.z_q, without.z_q)
    moved |= any(not torch.equal(value, without.state[name]) for name, value in with_noise.state.items())
    assert moved == bottleneck.stochastic


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_noise_is_repeatable_and_what_a_step_changes_are_buffers(name: str) -> None:
    z_e, h, _ = batch()
    bottleneck = build(name)
    first, again = noise(bottleneck), noise(bottleneck)
    assert (first is None) == (not bottleneck.stochastic)
    if first is not None:
        torch.testing.assert_close(first, again, rtol=0, atol=0)
    out = bottleneck(z_e, h, first)
    before = {key: value.clone() for key, value in bottleneck.state_dict().items()}
    places = {key: value.data_ptr() for key, value in bottleneck.named_buffers()}
    assert not any(value.requires_grad for value in out.state.values())
    bottleneck.advance(out.state)
    for key, value in bottleneck.state_dict().items():
        torch.testing.assert_close(value, out.state.get(key, before[key]), rtol=0, atol=0)
    assert places == {key: value.data_ptr() for key, value in bottleneck.named_buffers()}  # a CUDA graph holds them


@pytest.mark.parametrize("name", ["vae", "beta-vae"])
def test_vae_samples_its_gaussian(name: str) -> None:
    z_e, h, eps = batch()
    bottleneck = build(name)
    torch.nn.init.normal_(bottleneck.log_var_head.bias)  # type: ignore[union-attr, arg-type]
    s = torch.exp(0.5 * bottleneck.log_var_head(h))  # type: ignore[operator]
    torch.testing.assert_close(bottleneck(z_e, h, eps).z_q, z_e + s * eps)
    assert bottleneck.term_weights(20.0) == {"kl": 20.0}


def test_information_dropout_multiplies_by_log_normal_noise() -> None:
    z_e, h, eps = batch()
    bottleneck = build("info-dropout", alpha_max=0.7)
    head = bottleneck.alpha_head  # type: ignore[attr-defined]
    alpha = 0.7 / (1 + np.exp(-(h.numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy())))
    z = bottleneck(z_e, h, eps).z_q.detach().numpy()
    np.testing.assert_allclose(z, z_e.detach().numpy() * np.exp(alpha * eps.numpy()), rtol=1e-12)


@pytest.mark.parametrize("name", ["vq", "ema-vq", "rotation-vq", "fsq"])
def test_images_of_one_codeword_give_the_decoder_the_same_numbers_to_the_last_bit(name: str) -> None:
    bottleneck = build(name).float()
    generator = torch.Generator().manual_seed(0)
    z_e, h = 3 * torch.randn(400, D, generator=generator), torch.randn(400, H, generator=generator)
    with torch.no_grad():
        indices, z_q = bottleneck.assign(z_e, h), bottleneck(z_e, h).z_q
        centroids = bottleneck.centroids()
    assert indices is not None and centroids is not None
    assert len(z_q.unique(dim=0)) == len(indices.unique()) > 1
    torch.testing.assert_close(z_q, centroids[indices], rtol=0, atol=1e-6 if name == "fsq" else 0)


def test_hard_vq_and_its_gradients_are_those_of_equation_27_by_hand() -> None:
    z_e, h, _ = batch()
    bottleneck = build("vq")
    out = bottleneck(z_e, h)
    indices = bottleneck.assign(z_e, h)
    codebook = bottleneck.centroids().detach().numpy()  # type: ignore[union-attr]
    nearest = ((z_e.detach().numpy()[:, None] - codebook) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(indices, nearest)
    np.testing.assert_allclose(out.z_q.detach(), codebook[nearest])
    beta = 2.5
    (out.losses["codebook"] + beta * out.losses["commitment"]).backward()
    with torch.no_grad():
        difference = z_e - bottleneck.centroids()[indices]  # type: ignore[index]
        torch.testing.assert_close(z_e.grad, beta * 2 * difference / (B * D))
        expected = torch.zeros(K, D, dtype=torch.float64).index_add(0, indices, -2 * difference / (B * D))
    torch.testing.assert_close(bottleneck.codebook.grad, expected)  # type: ignore[union-attr]


def test_codebook_is_drawn_by_uniform_unit_scaling() -> None:
    config = ModelConfig(bottleneck="vq", latent_dim=64, K=512)
    codebook = build_bottleneck(config, H).centroids()
    assert codebook is not None
    limit = math.sqrt(3 / 64)
    assert codebook.abs().max().item() <= limit
    assert codebook.square().sum(1).mean().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("name", ["vq", "soft-vq"])
def test_codebook_figures_count_what_the_batches_used(name: str) -> None:
    bottleneck = build(name)
    z_e = torch.cat([bottleneck.centroids()[[2]], bottleneck.centroids()[[5]]]).repeat(4, 1).detach()  # type: ignore[index]
    if name == "soft-vq":
        torch.nn.init.zeros_(bottleneck.log_sigma_head.weight)  # type: ignore[union-attr, arg-type]
        torch.nn.init.constant_(bottleneck.log_sigma_head.bias, -6.0)  # type: ignore[union-attr, arg-type]
    figures = bottleneck.summarise(bottleneck(z_e, torch.zeros(8, H, dtype=torch.float64)).stats, 8)
    assert figures["perplexity"] == pytest.approx(2.0)
    assert figures["active_codes"] == 2
    assert figures["posterior_entropy_bits"] == pytest.approx(0.0, abs=1e-9)


def test_perplexity_is_the_exponential_of_the_entropy() -> None:
    assert perplexity(torch.ones(16)) == pytest.approx(16)
    assert perplexity(torch.tensor([0.0, 3.0])) == pytest.approx(1)
    p = np.array([0.5, 0.25, 0.25])
    assert perplexity(torch.from_numpy(p * 40)) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
