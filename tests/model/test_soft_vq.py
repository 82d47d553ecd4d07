"""Soft VQ-VAE against the paper: values and gradients in NumPy float64, limits, and the optimality claim."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import softmax

from softvq_cli.config import ModelConfig
from softvq_cli.model.bottlenecks import build_bottleneck
from softvq_cli.model.bottlenecks.soft_vq import SoftVQ, log_posterior
from softvq_cli.model.bottlenecks.vq import VQ

B, D, K, H = 5, 4, 6, 7


def soft_vq(**settings: object) -> SoftVQ:
    torch.manual_seed(0)
    bottleneck = build_bottleneck(ModelConfig(bottleneck="soft-vq", latent_dim=D, K=K, **settings), H)  # type: ignore[arg-type]
    assert isinstance(bottleneck, SoftVQ)
    return bottleneck.double()


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z_e = torch.randn(B, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return z_e, torch.randn(B, H, generator=generator, dtype=torch.float64)


def posterior_by_hand(z: np.ndarray, codebook: np.ndarray, log_sigma: np.ndarray, power: float) -> np.ndarray:
    """p(μ_k | z) from the definition, one density at a time."""
    log_sigma = np.broadcast_to(log_sigma, (len(z), len(codebook)))
    p = np.empty((len(z), len(codebook)))
    for b in range(len(z)):
        for k in range(len(codebook)):
            sigma = np.exp(log_sigma[b, k])
            p[b, k] = sigma**power * np.exp(-np.sum((z[b] - codebook[k]) ** 2) / (2 * sigma**2))
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("form", ["input", "codeword"])
@pytest.mark.parametrize(("power", "a"), [("-d", -D), ("1", 1.0), ("0", 0.0), ("-2.5", -2.5)])
def test_posterior_mean_is_the_papers_equation(form: str, power: str, a: float) -> None:
    bottleneck = soft_vq(sigma_form=form, sigma_power=power)
    if form == "codeword":
        torch.nn.init.normal_(bottleneck.log_sigma_vector, std=0.5)
    z_e, h = batch()
    with torch.no_grad():
        log_sigma = bottleneck.log_sigma(h).numpy()
        p = posterior_by_hand(z_e.detach().numpy(), bottleneck.codebook.numpy(), log_sigma, a)
        expected = p @ bottleneck.codebook.numpy()
        np.testing.assert_allclose(bottleneck(z_e, h).z_q.numpy(), expected, rtol=1e-12, atol=1e-14)
        bottleneck.config = dataclasses.replace(bottleneck.config, soft_weights="notebook")
        notebook = (np.exp(log_sigma) * p) @ bottleneck.codebook.numpy()  # σ_k · p_k, which do not sum to 1
        np.testing.assert_allclose(bottleneck(z_e, h).z_q.numpy(), notebook, rtol=1e-10)


def test_with_cosine_z_and_codes_are_of_norm_1_and_a_fixed_sigma_is_1() -> None:
    bottleneck = soft_vq(cosine=True, sigma_form="fixed", sigma_power="0")
    assert {name for name, _ in bottleneck.named_parameters()} == {"codebook"}
    z_e, h = batch()
    with torch.no_grad():
        z, codebook = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z_e.numpy(), bottleneck.codebook.numpy()))
        p = posterior_by_hand(z, codebook, np.zeros(K), 0.0)
        np.testing.assert_allclose(bottleneck(z_e, h).z_q.numpy(), p @ codebook, rtol=1e-12)
        assert bottleneck.assign(z_e, h).tolist() == p.argmax(1).tolist()


@pytest.mark.parametrize("gradient", ["copied", "attention"])
def test_the_decoders_gradient_is_copied_or_passes_through_the_softmax(gradient: str) -> None:
    bottleneck = soft_vq(soft_gradient=gradient)
    z_e, h = batch()
    direction = torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (bottleneck(z_e, h).z_q * direction).sum().backward()
    expected = direction.numpy()
    if gradient == "attention":  # d/dz Σ_k p_k a_k = Σ_k p_k (a_k − ā) (μ_k − z) / σ_k², with a_k = <μ_k, direction>
        codebook, log_sigma = bottleneck.codebook.detach().numpy(), bottleneck.log_sigma(h).detach().numpy()
        z = z_e.detach().numpy()
        p, a = posterior_by_hand(z, codebook, log_sigma, 1.0), direction.numpy() @ codebook.T
        weights = p * (a - (p * a).sum(1, keepdims=True)) * np.exp(-2 * log_sigma)
        expected = weights @ codebook - weights.sum(1, keepdims=True) * z
    np.testing.assert_allclose(z_e.grad.numpy(), expected, rtol=1e-9, atol=1e-12)
    reached = {name for name, weights in bottleneck.named_parameters() if weights.grad is not None}
    assert bool(reached) == (gradient == "attention")


def test_the_terms_are_equation_27_and_commitment_reaches_the_encoder_alone() -> None:
    bottleneck = soft_vq()
    z_e, h = batch()
    out = bottleneck(z_e, h)
    error = ((z_e - out.z_q) ** 2).mean().item()
    assert [out.losses[name].item() for name in ("codebook", "commitment")] == pytest.approx([error, error], rel=1e-12)
    assert bottleneck.term_weights(beta=2.5) == {"codebook": 1.0, "commitment": 2.5}
    out.losses["commitment"].backward()
    with torch.no_grad():
        torch.testing.assert_close(z_e.grad, 2 * (z_e - out.z_q) / (B * D))  # derived by hand
    assert all(p.grad is None for p in bottleneck.parameters())


def test_codebook_gradient_agrees_with_finite_differences_of_the_definition() -> None:
    """Of ‖sg(z) − ẑ_q‖²: the target is held fixed, while ẑ_q moves with codebook, sigma and z itself."""
    bottleneck = soft_vq(sigma_form="codeword", sigma_power="-d")
    torch.nn.init.normal_(bottleneck.log_sigma_vector, std=0.3)
    z_e, h = batch()
    bottleneck(z_e, h).losses["codebook"].backward()
    values = [z_e.detach().numpy(), bottleneck.codebook.detach().numpy(), bottleneck.log_sigma_vector.detach().numpy()]
    target = values[0].copy()

    def loss(z: np.ndarray, codebook: np.ndarray, log_sigma: np.ndarray) -> float:
        return float(np.mean((target - posterior_by_hand(z, codebook, log_sigma, -D) @ codebook) ** 2))

    grads = [z_e.grad, bottleneck.codebook.grad, bottleneck.log_sigma_vector.grad]
    for i, grad in enumerate(grads):
        assert grad is not None
        for index in np.ndindex(values[i].shape):
            up, down = [v.copy() for v in values], [v.copy() for v in values]
            up[i][index] += 1e-6
            down[i][index] -= 1e-6
            slope = (loss(*up) - loss(*down)) / 2e-6
            assert grad[index].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_small_sigma_makes_it_the_hard_vq_and_large_sigma_the_mean_of_the_codebook() -> None:
    bottleneck = soft_vq(sigma_form="codeword", sigma_power="0")
    torch.nn.init.constant_(bottleneck.log_sigma_vector, -8.0)
    hard = build_bottleneck(ModelConfig(bottleneck="vq", latent_dim=D, K=K), H).double()
    assert isinstance(hard, VQ)
    hard.load_state_dict({"codebook": bottleneck.codebook.detach()})
    z_e, h = batch()
    soft_out, hard_out = bottleneck(z_e, h), hard(z_e, h)
    torch.testing.assert_close(soft_out.z_q, hard_out.z_q)
    torch.testing.assert_close(soft_out.losses["commitment"], hard_out.losses["commitment"])
    assert bottleneck.summarise(soft_out.stats, B)["posterior_entropy_bits"] == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(bottleneck.assign(z_e, h), hard.assign(z_e, h))
    torch.nn.init.constant_(bottleneck.log_sigma_vector, 12.0)
    out = bottleneck(z_e, h)
    torch.testing.assert_close(out.z_q, bottleneck.codebook.mean(0).expand(B, D))
    assert bottleneck.summarise(out.stats, B)["posterior_entropy_bits"] == pytest.approx(np.log2(K))


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_posterior_mean_beats_the_nearest_centroid_when_codes_come_from_the_mixture(sigma: float) -> None:
    """The paper's optimality claim: no estimator of the centroid has a lower mean squared error."""
    random = np.random.default_rng(0)
    codebook = random.normal(size=(16, 8))
    true = codebook[random.integers(0, 16, 20_000)]
    z = torch.from_numpy(true + sigma * random.normal(size=true.shape))
    log_p = log_posterior(z, torch.from_numpy(codebook), torch.full((16,), np.log(sigma)), -8)
    soft = log_p.exp().numpy() @ codebook
    hard = codebook[((z.numpy()[:, None] - codebook) ** 2).sum(2).argmin(1)]
    soft_error, hard_error = ((soft - true) ** 2).mean(), ((hard - true) ** 2).mean()
    assert soft_error <= hard_error + 1e-12
    if sigma >= 0.3:  # below, the two agree on nearly every code
        assert soft_error < 0.9 * hard_error


def test_noise_is_added_to_the_code_but_not_to_the_straight_through_path() -> None:
    bottleneck = soft_vq(noise_std=0.5, sigma_form="codeword")
    z_e, h = batch()
    eps = torch.randn(B, D, dtype=torch.float64)
    noisy = bottleneck(z_e, h, eps)
    shifted = bottleneck((z_e + 0.5 * eps).detach(), h)
    torch.testing.assert_close(noisy.z_q, shifted.z_q)
    torch.testing.assert_close(noisy.losses["codebook"], shifted.losses["codebook"])
    (gradient,) = torch.autograd.grad(noisy.z_q.sum(), z_e)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("log_sigma", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("power", [-256.0, 0.0, 1.0])
def test_extremes_stay_finite_with_finite_gradients(
    dtype: torch.dtype, log_sigma: float, scale: float, power: float
) -> None:
    """σ → 0 and ∞, distances up to 1e8, duplicate centroids (scale 0), half precision."""
    generator = torch.Generator().manual_seed(0)
    z = (scale * torch.randn(3, D, generator=generator)).to(dtype).requires_grad_()
    codebook = (scale * torch.randn(K, D, generator=generator)).to(dtype).requires_grad_()
    sigma = torch.full((K,), log_sigma, dtype=dtype, requires_grad=True)
    log_p = log_posterior(z, codebook, sigma, power)
    quantised = log_p.exp() @ codebook
    quantised.float().square().mean().backward()
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(quantised).all()
    for tensor in (z, codebook, sigma):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_log_posterior_agrees_with_scipys_softmax_where_naive_exponentials_underflow() -> None:
    z, codebook = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[100.0, 0.0], [101.0, 0.0]]).double()
    log_sigma = torch.log(torch.tensor([0.5, 0.5], dtype=torch.float64))
    logits = -np.array([100.0**2, 101.0**2]) / (2 * 0.25)
    assert np.exp(logits).sum() == 0  # the naive form divides 0 by 0
    p = log_posterior(z, codebook, log_sigma, 0.0).exp().numpy()[0]
    np.testing.assert_allclose(p, softmax(logits), rtol=1e-9)
