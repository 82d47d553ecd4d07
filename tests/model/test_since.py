"""Later quantisers, compared with their papers' formulas in NumPy float64, limits, and vector-quantize-pytorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from softvq_cli.config import ModelConfig, parse_levels
from softvq_cli.errors import Message, UsageError
from softvq_cli.model.bottlenecks import Bottleneck, build_bottleneck
from softvq_cli.model.bottlenecks.codebook import CodebookBottleneck
from softvq_cli.model.bottlenecks.rotation_vq import rotated
from softvq_cli.words import BOTTLENECKS

B, D, K, H = 24, 4, 6, 10
F64 = torch.float64


def build(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return build_bottleneck(ModelConfig(bottleneck=name, latent_dim=D, K=K, **settings), H).double()


def draw(*shape: int, seed: int = 1, scale: float = 0.5) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def uniform(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


NO_H = torch.zeros(B, H, dtype=F64)


def step(bottleneck: Bottleneck, z: torch.Tensor, eps: torch.Tensor | None = None) -> Any:
    """One training step for the buffers only."""
    out = bottleneck(z, torch.zeros(len(z), H, dtype=z.dtype), eps)
    bottleneck.advance(out.state)
    return out


# ---- ema-vq


def test_the_moving_codebook_is_the_papers_ratio_of_moving_sums() -> None:
    """Equations 6 to 8 of the appendix, with the sums that the implementation avoids."""
    ours = build("ema-vq", decay=0.9, revive=0.0)
    count, centres = np.ones(K), ours.codebook.numpy().copy()
    sums = centres.copy()
    for t in range(30):
        z = draw(B, D, seed=t)
        step(ours, z)
        chosen = np.square(z.numpy()[:, None] - centres).sum(2).argmin(1)
        one_hot = np.eye(K)[chosen]
        count = 0.9 * count + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ z.numpy()
        centres = sums / count[:, None]
        np.testing.assert_allclose(ours.codebook.numpy(), centres, rtol=1e-10)
        np.testing.assert_allclose(ours.count.numpy(), count, rtol=1e-10)


def test_the_moving_codebook_is_that_of_vector_quantize_pytorch() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    ours = build("ema-vq", decay=0.8, revive=0.0)
    theirs = library.VectorQuantize(
        D, codebook_size=K, decay=0.8, eps=0.0, rotation_trick=False, learnable_codebook=False, commitment_weight=1.0
    ).double()
    theirs.codebook = ours.codebook.clone()
    theirs._codebook.embed_avg.copy_(ours.codebook[None])
    theirs.train()
    for t in range(5):
        z = draw(B, D, seed=t)
        quantised, indices, loss = theirs(z[None])
        out = step(ours, z)
        torch.testing.assert_close(out.z_q, quantised[0])
        torch.testing.assert_close(out.losses["commitment"], loss.squeeze(), check_dtype=False)
        assert len(set(indices.flatten().tolist())) > 1
        torch.testing.assert_close(ours.codebook, theirs.codebook, rtol=1e-6, atol=1e-8)


def test_dead_codes_move_to_codes_of_the_batch_and_the_others_do_not() -> None:
    ours = build("ema-vq", decay=0.5, revive=0.5)
    ours.codebook[:2] = 50.0
    z, u = draw(B, D), uniform(K)
    revived, as_it_is = ours(z, NO_H, u).state, ours(z, NO_H).state
    dead = as_it_is["count"].numpy() < 0.5 * B / K
    assert dead[:2].all() and not dead.all()
    rows = z.numpy()[(u.numpy() * B).astype(int)]
    np.testing.assert_allclose(revived["codebook"], np.where(dead[:, None], rows, as_it_is["codebook"].numpy()))
    np.testing.assert_allclose(revived["count"], np.where(dead, B / K, as_it_is["count"].numpy()))
    step(ours, z, u)
    dead_again = ours(z, NO_H, u).state["count"] == B / K
    assert not dead_again[:2].any()  # a revived one has time to find codes of its own
    assert ours.noise(B, torch.Generator()).shape == (K,)
    assert build("ema-vq", revive=0.0).noise(B, torch.Generator()) is None


def test_revival_ends_a_collapse() -> None:
    """No latent is near any centroid but one."""
    z = torch.cat([draw(B // 4, D, seed=s, scale=0.05) + 3 * torch.eye(D)[s] for s in range(4)])
    used = {}
    for revive in (0.0, 0.1):
        ours = build("ema-vq", decay=0.9, revive=revive)
        ours.codebook[1:] += 100.0
        for t in range(100):
            step(ours, z, uniform(K, seed=t) if revive else None)
        used[revive] = len(ours.assign(z, NO_H).unique())
    assert used[0.0] == 1
    assert used[0.1] >= 4


@pytest.mark.parametrize("name", ["ema-vq", "rotation-vq", "rvq"])
def test_after_a_k_means_the_counts_are_those_of_a_batch_and_nothing_is_dead(name: str) -> None:
    """With batches much larger than 10 K, counts match the clusters, and centroids stay."""
    ours, z = build(name, codebook_init="kmeans"), draw(100 * K, D)
    ours.start(z, 0)
    centres, codes = ours.codebook.clone(), ours.assign(z, z).reshape(len(z), -1)
    for part, n in ((z, 1.0), (z[: len(z) // 2], 0.5)):  # eps that would put any dead one on the first row
        state = ours(part, part, torch.zeros_like(ours.noise(1, torch.Generator()))).state
        torch.testing.assert_close(state["codebook"], centres, rtol=0, atol=0.05 * (n < 1))
        expected = 0.99 * n * np.stack([np.bincount(column, minlength=K) for column in codes.T])
        expected += 0.01 * np.stack([np.bincount(column, minlength=K) for column in codes[: len(part)].T])
        np.testing.assert_allclose(state["count"].reshape(len(expected), K), expected, rtol=1e-6)


# ---- rotation-vq


def rotation_by_hand(z: np.ndarray, q: np.ndarray) -> np.ndarray:
    """‖q‖/‖z‖ R of one pair, by its definition."""
    e, t = z / np.linalg.norm(z), q / np.linalg.norm(q)
    r = (e + t) / np.linalg.norm(e + t)
    R = np.eye(len(z)) - 2 * np.outer(r, r) + 2 * np.outer(t, e)
    np.testing.assert_allclose(R @ R.T, np.eye(len(z)), atol=1e-12)
    return np.linalg.norm(q) / np.linalg.norm(z) * R


def test_the_gradient_is_the_papers_rotation_and_the_value_is_the_centroid() -> None:
    ours = build("rotation-vq")
    z, g = draw(B, D).requires_grad_(), draw(B, D, seed=5)
    out = ours(z, NO_H)
    q = ours.codebook[ours.assign(z, NO_H)]
    torch.testing.assert_close(out.z_q, q, rtol=1e-14, atol=1e-14)
    (out.z_q * g).sum().backward()
    for i in range(B):
        matrix = rotation_by_hand(z[i].detach().numpy(), q[i].detach().numpy())
        np.testing.assert_allclose(matrix @ z[i].detach().numpy(), q[i].detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(z.grad[i].numpy(), matrix.T @ g[i].numpy(), rtol=1e-10)
    assert set(out.state) == {"codebook", "count"}  # it learns as that of ema-vq does


def test_the_rotation_is_that_of_vector_quantize_pytorch() -> None:
    library = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    z, q, g = draw(B, D), draw(B, D, seed=6), draw(B, D, seed=7)
    mine, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    values = rotated(mine, q), library.rotate_to(theirs, q)
    torch.testing.assert_close(*values)
    for value in values:
        (value * g).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("case", ["zero code", "zero centroid", "opposite", "equal"])
def test_the_rotation_is_finite_where_there_is_no_angle(case: str) -> None:
    z, q = torch.ones(1, D), torch.ones(1, D)
    z, q = {"zero code": (0 * z, q), "zero centroid": (z, 0 * q), "opposite": (z, -q), "equal": (z, q)}[case]
    z.requires_grad_()
    out = rotated(z, q)
    out.sum().backward()
    torch.testing.assert_close(out, q)
    assert torch.isfinite(z.grad).all()
    if case == "equal":
        torch.testing.assert_close(z.grad, torch.ones(1, D))


# ---- fsq


def plain(levels: str) -> Any:
    """An fsq whose projections are the identity."""
    d = len(levels.split(","))
    ours: Any = build_bottleneck(ModelConfig(bottleneck="fsq", latent_dim=d, levels=levels), H).double()
    for layer in (ours.project_in, ours.project_out):
        layer.weight.data = torch.eye(d, dtype=F64)
        layer.bias.data.zero_()
    return ours


@pytest.mark.parametrize("levels", ["8,5,4", "3", "7,6"])
def test_the_grid_is_the_papers(levels: str) -> None:
    ours, sizes = plain(levels), np.array(parse_levels(levels))
    z = draw(200, len(sizes), scale=2.0)
    out = ours(z, torch.zeros(200, H, dtype=F64))
    half = (sizes - 1) * 1.001 / 2
    offset = np.where(sizes % 2 == 0, 0.5, 0.0)
    bounded = np.tanh(z.numpy() + np.arctanh(offset / half)) * half - offset
    np.testing.assert_allclose(out.z_q.detach().numpy(), np.round(bounded) / (sizes // 2), atol=1e-12)
    digits = np.round(bounded).astype(int) + sizes // 2
    assert (digits.min(0) == 0).all() and (digits.max(0) == sizes - 1).all()  # every level is reached
    numbers = np.ravel_multi_index(tuple(digits.T), tuple(sizes), order="F")
    np.testing.assert_array_equal(ours.assign(z, NO_H).numpy(), numbers)
    np.testing.assert_allclose(ours.centroids().detach().numpy()[numbers], out.z_q.detach().numpy(), atol=1e-12)
    assert len(ours.centroids().unique(dim=0)) == np.prod(sizes) == ours.K
    np.testing.assert_array_equal(out.stats["counts"].numpy(), np.bincount(numbers, minlength=ours.K))


def test_the_grid_is_that_of_vector_quantize_pytorch() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    ours, theirs = plain("8,5,5"), library.FSQ([8, 5, 5], force_quantization_f32=False).double()
    z = draw(200, 3, scale=2.0) - 1
    ours.start(z, 0)
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    out = ours(mine, torch.zeros(200, H, dtype=F64))
    quantised, indices = theirs(torch.nn.functional.batch_norm(other, None, None, training=True, eps=1e-12)[None])
    torch.testing.assert_close(out.z_q, quantised[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ours.assign(z, NO_H).numpy(), indices[0].numpy())
    g = draw(200, 3, seed=9)
    (out.z_q * g).sum().backward()
    (quantised[0] * g).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_numbers_are_standardised_by_their_past() -> None:
    ours = build("fsq", levels="5,5", decay=0.9)
    z = draw(500, D) + 7
    ours.start(z, 0)
    u = ours.numbers(z).detach().numpy()
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(u.std(0), 1, rtol=1e-9)
    for _ in range(300):
        step(ours, 3 * z - 5)
    u = ours.numbers(3 * z - 5).detach().numpy()
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(u.std(0), 1, rtol=1e-6)


def test_a_push_that_all_codes_have_in_common_does_not_reach_the_encoder() -> None:
    ours = build("fsq", levels="5,5")
    z = (draw(B, D) + 7).requires_grad_()
    for push in (torch.ones(B, 2, dtype=F64), ours.numbers(z).detach()):  # a shift, and a scale
        ours.start(z.detach(), 0)
        (gradient,) = torch.autograd.grad((ours.numbers(z) * push).sum(), z)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)
    alone = z.detach()[:1].requires_grad_()  # a batch of one image has no gradient, and no NaN
    ours(alone, NO_H).z_q.sum().backward()
    assert (alone.grad == 0).all()


@pytest.mark.parametrize("levels", ["", "5,1", "5,-5", "5,,5", "2.5", "five", "1024,1024,2", "9" * 12])
def test_levels_are_whole_numbers_whose_grid_is_not_too_large(levels: str) -> None:
    with pytest.raises(UsageError, match="levels"):
        parse_levels(levels)


# ---- sq-vae, gumbel-vq


def log_posterior_by_hand(ours: Any, name: str, z: np.ndarray) -> np.ndarray:
    if name == "gumbel-vq":
        logits = z @ ours.logits.weight.detach().numpy().T + ours.logits.bias.detach().numpy()
    else:
        distances = np.square(z[:, None] - ours.codebook.detach().numpy()).sum(2)
        logits = -distances / (2 * math.exp(ours.log_variance.item()))
    return log_softmax(logits, axis=1)


@pytest.mark.parametrize("name", ["sq-vae", "gumbel-vq"])
def test_the_relaxed_draw_is_the_papers(name: str) -> None:
    ours = build(name, temperature=0.7, temperature_decay=0.01, temperature_min=0.1)
    ours.steps.fill_(25)
    z, u = draw(B, D), uniform(B, K)
    out = ours(z, NO_H, u)
    log_p = log_posterior_by_hand(ours, name, z.numpy())
    best = log_p.argmax(1)
    np.testing.assert_array_equal(ours.assign(z, NO_H), best)
    np.testing.assert_allclose(ours(z, NO_H).z_q.detach().numpy(), ours.codebook.detach().numpy()[best])
    codebook = ours.codebook.detach().numpy()
    weights = softmax((log_p - np.log(-np.log(u.numpy()))) / (0.7 * math.exp(-0.25)), axis=1)
    np.testing.assert_allclose(out.z_q.detach().numpy(), weights @ codebook, rtol=1e-6)
    if name == "sq-vae":
        nmse = torch.tensor(0.3, dtype=F64, requires_grad=True)
        ours.reconstruction(nmse).backward()
        assert nmse.grad.item() == pytest.approx(1 / 0.3)  # D/2 · this: ‖x − x̂‖² / 2σ² with σ² = the error
        assert ours.reconstruction(torch.zeros(())).isfinite()
    assert out.state["steps"] == 26
    ours.steps.fill_(10_000)
    assert ours.temperature().item() == pytest.approx(0.1)  # the floor


@pytest.mark.parametrize("name", ["sq-vae", "gumbel-vq"])
def test_at_a_low_temperature_it_is_a_draw_from_the_posterior(name: str) -> None:
    ours = build(name, temperature=1e-4, temperature_min=1e-5)
    n = 20_000
    z = draw(1, D).expand(n, D)
    z_q = ours(z, torch.zeros(n, H, dtype=F64), ours.noise(n, torch.Generator().manual_seed(0)).double()).z_q
    distance, drawn = torch.cdist(z_q.detach(), ours.codebook.detach()).min(1)
    assert (distance < 1e-6).double().mean() > 0.995  # the rest is between two
    p = np.exp(log_posterior_by_hand(ours, name, z[:1].numpy())[0])
    np.testing.assert_allclose(np.bincount(drawn, minlength=K) / n, p, atol=4 * 0.5 / math.sqrt(n))


@pytest.mark.parametrize("name", ["sq-vae", "gumbel-vq"])
@pytest.mark.parametrize(("u", "scale"), [(0.0, 0.0), (0.0, 1e3), (1 - 2**-24, 1.0), (1 - 2**-24, 1e3)])
def test_extremes_of_the_noise_and_of_the_codes_stay_finite(name: str, u: float, scale: float) -> None:
    ours = build(name, temperature=1e-3, temperature_min=1e-3).float()
    z = (scale * draw(B, D)).float().requires_grad_()
    noise = torch.full((B, K), 0.5)
    noise[:, 0] = u
    out = ours(z, NO_H.float(), noise)
    (out.z_q.square().sum() + sum(out.losses.values())).backward()
    assert torch.isfinite(out.z_q).all() and torch.isfinite(z.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in ours.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["sq-vae", "gumbel-vq"])
def test_a_posterior_that_is_the_same_for_every_image_is_a_collapse(name: str) -> None:
    ours = build(name)
    n = 100 * K
    flat = {"perplexity": float(K), "active_codes": K, "posterior_entropy_bits": math.log2(K)}
    assert all(word in str(ours.diagnose(flat, n)) for word in (" 0 bits", "reconstruction_scale"))
    assert ours.diagnose({**flat, "posterior_entropy_bits": 0.0}, n) is None
    assert ours.diagnose({"perplexity": 1.01, "active_codes": 1, "posterior_entropy_bits": 0.0}, n) is not None


# ---- all of them


SINCE = [name for name, entry in BOTTLENECKS.items() if entry.has_codebook]


@pytest.mark.parametrize("name", SINCE)
def test_a_collapse_is_diagnosed_with_settings_that_the_bottleneck_reads(name: str) -> None:
    ours = build(name)
    assert isinstance(ours, CodebookBottleneck)
    found = ours.diagnose({"perplexity": 1.0, "active_codes": 1, "posterior_entropy_bits": 0.0}, 100 * ours.K)
    own = {*BOTTLENECKS[name].settings, "lr", "seed", "reconstruction_scale"}
    assert isinstance(found, Message) and found.settings and {*found.settings} <= own


@pytest.mark.parametrize("name", [name for name in SINCE if "codebook_init" in BOTTLENECKS[name].settings])
def test_kmeans_puts_the_codewords_on_the_clusters_of_the_first_codes(name: str) -> None:
    ours = build(name, codebook_init="kmeans")
    assert ours.encodings_to_start == 8 * K
    centres = 5 * draw(K, D, seed=11)
    z = centres[torch.arange(8 * K) % K] + draw(8 * K, D, scale=0.01)
    ours.start(z, seed=3)
    found = ours.centroids().detach().reshape(-1, K, D)[0]  # of the first stage
    distance, nearest = torch.cdist(centres, found).min(1)
    assert len(nearest.unique()) == K
    assert distance.max() < 0.02
    again = build(name, codebook_init="kmeans")
    again.start(z, seed=3)
    assert torch.equal(again.centroids(), ours.centroids())
    assert build(name).encodings_to_start == 0
    again.start(torch.ones(10, D, dtype=F64), seed=2**63 - 1)  # fewer different rows than codewords: some repeat
    assert torch.isfinite(again.centroids()).all()
