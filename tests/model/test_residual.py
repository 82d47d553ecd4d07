"""Residual VQ, SimVQ, newer settings and the layers, compared with vector-quantize-pytorch and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from softvq_cli import layers
from softvq_cli.config import ModelConfig, resolve
from softvq_cli.errors import UsageError
from softvq_cli.model.bottlenecks import build_bottleneck


def build(bottleneck: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return build_bottleneck(ModelConfig(bottleneck=bottleneck, latent_dim=6, K=9, **more), 6)


def test_residual_codes_sums_and_losses_are_those_of_vector_quantize_pytorch() -> None:
    oracle = pytest.importorskip("vector_quantize_pytorch")
    theirs = oracle.ResidualVQ(dim=6, codebook_size=9, num_quantizers=3, rotation_trick=False).eval()
    ours = build("rvq", stages=3, revive=0.0)
    with torch.no_grad():
        for stage, layer in enumerate(theirs.layers):
            layer._codebook.embed.copy_(ours.codebook[stage][None])
    z = torch.randn(40, 6)
    quantised, indices, _ = theirs(z)
    out = ours(z, z)
    torch.testing.assert_close(out.z_q, quantised)
    assert torch.equal(ours.assign(z, z), indices)
    counts = torch.stack([torch.bincount(codes, minlength=9) for codes in indices.T])
    assert torch.equal(out.stats["counts"], counts.float())
    left, total = z, 0.0
    for stage in range(3):
        chosen = ours.codebook[stage][indices[:, stage]]
        total += F.mse_loss(left, chosen).item() / 3
        left = left - chosen
    assert out.losses["commitment"].item() == pytest.approx(total, rel=1e-5)
    usage = ours.usage([(z, z)])
    assert usage.counts.shape == (27,)
    rows = indices.numpy()
    alike = (rows[:, None] == rows).all(2).sum(1)
    assert usage.collisions == pytest.approx((alike > 1).mean())
    assert usage.bits_per_image == pytest.approx(np.log2(len(rows) / alike).mean())


def test_residual_stages_start_with_a_k_means_each_and_follow_their_residuals() -> None:
    ours = build("rvq", stages=3, codebook_init="kmeans")
    z = torch.randn(60, 6)
    before = (ours(z, z).z_q - z).square().mean()
    ours.start(z, 0)
    started = (ours(z, z).z_q - z).square().mean()
    for _ in range(30):
        ours.advance(ours(z, z, torch.rand(3, 9)).state)
    assert started < before / 2
    assert (ours(z, z).z_q - z).square().mean() < 1.1 * started
    z.requires_grad_()
    ours(z, z).z_q.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))  # straight through the sum


def test_residual_k_means_reaches_the_error_of_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    x = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    train, test = x[:3000], x[3000:]
    theirs = faiss.ResidualQuantizer(16, 3, 4)  # three codes of four bits
    theirs.train_type, theirs.max_beam_size = faiss.ResidualQuantizer.Train_default, 1
    theirs.train(train)
    ours = build_bottleneck(
        ModelConfig(bottleneck="rvq", latent_dim=16, K=16, stages=3, codebook_init="kmeans"), hidden_dim=16
    )
    ours.start(torch.from_numpy(train), 0)
    z = torch.from_numpy(test)
    error = np.square(ours(z, z).z_q.detach().numpy() - test).sum()
    assert error == pytest.approx(np.square(theirs.decode(theirs.compute_codes(test)) - test).sum(), rel=0.03)


def test_simvq_is_that_of_vector_quantize_pytorch() -> None:
    oracle = pytest.importorskip("vector_quantize_pytorch")
    theirs = oracle.SimVQ(dim=6, codebook_size=9, rotation_trick=False, commitment_weight=1.0)
    ours = build("simvq")
    with torch.no_grad():
        ours.codebook.copy_(theirs.frozen_codebook)
        ours.transform.copy_(theirs.code_transform.weight)
    z = torch.randn(40, 6)
    quantised, indices, loss = theirs(z)
    out = ours(z, z)
    torch.testing.assert_close(out.z_q, quantised)
    assert torch.equal(ours.assign(z, z), indices)
    beta = theirs.input_to_quantize_commit_loss_weight
    torch.testing.assert_close(out.losses["codebook"] + beta * out.losses["commitment"], loss)
    assert [name for name, _ in ours.named_parameters()] == ["transform"]


@pytest.mark.parametrize("bottleneck", ["vq", "ema-vq", "rotation-vq"])
def test_with_cosine_codes_and_codewords_lie_on_the_unit_sphere(bottleneck: str) -> None:
    ours = build(bottleneck, cosine=True)
    z = torch.randn(40, 6)
    out = ours(z, z, ours.noise(40, torch.Generator()))
    nearest = (F.normalize(z, dim=1) @ ours.centroids().T).argmax(1)
    assert torch.equal(ours.assign(z, z), nearest)
    torch.testing.assert_close(out.z_q, ours.centroids()[nearest])
    ours.advance(out.state)
    torch.testing.assert_close(ours.centroids().norm(dim=1), torch.ones(9))


def test_the_weight_of_gumbels_kl_falls_from_its_start_to_beta() -> None:
    ours = build("gumbel-vq", kl_start=100.0, kl_decay=500.0)
    for step, factor in ((0, 100.0), (500, 100 / math.e), (5000, 1.0)):
        ours.steps.fill_(step)
        assert float(ours.term_weights(2.0)["kl"]) == pytest.approx(2 * factor, rel=1e-5)
    assert build("gumbel-vq").term_weights(2.0) == {"kl": 2.0}


def test_a_recipe_is_data_and_only_for_its_data() -> None:
    config = resolve("cifar10", (32, 32, 3), {"bottleneck": "beta-vae", "recipe": "notebook"})
    assert (config.model.grid, config.loss.beta, config.loss.reconstruction_scale) == (2, 100 / 128, 1024)
    config = resolve("mnist", (28, 28, 1), {"bottleneck": "vq", "recipe": "notebook"})
    assert (config.train.batch_size, config.loss.latent_weight, config.loss.beta) == (64, 3.0, 2.5)
    config = resolve("mnist", (28, 28, 1), {"bottleneck": "gumbel-vq", "recipe": "tuned"})
    assert (config.train.lr, config.loss.beta, config.model.kl_start) == (1e-3, 0.1, 100.0)
    for data, bottleneck, recipe in (
        ("digits", "vae", "notebook"),
        ("mnist", "fsq", "notebook"),
        ("mnist", "ae", "tuned"),
    ):
        with pytest.raises(UsageError, match="recipe"):
            resolve(data, (8, 8, 1), {"bottleneck": bottleneck, "recipe": recipe})
    assert resolve("digits", (8, 8, 1), {"epochs": 2.0, "batch_size": 32}, 100).train.iterations == 7
    with pytest.raises(UsageError, match="epochs"):
        resolve("digits", (8, 8, 1), {"epochs": 2.0, "iterations": 5}, 100)


@pytest.mark.parametrize("name", [name for name in layers.__all__ if name != "Quantised"])
def test_a_layer_works_on_any_leading_shape_and_learns(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(layers, name)(6, **({"levels": "3,3"} if name == "FSQ" else {"K": 9}))
    z = torch.randn(3, 5, 6, requires_grad=True)
    z_q, codes, loss = layer(z)
    assert z_q.shape == z.shape
    assert codes.shape == ((3, 5, 3) if name == "RVQ" else (3, 5))
    (z_q.square().sum() + loss).backward()
    assert z.grad.abs().sum() > 0
    layer.eval()
    assert torch.equal(layer(z).z_q, layer(z).z_q)
    assert torch.equal(
        layer(z).codes.reshape(15, -1), torch.cat([layer(row).codes.reshape(1, -1) for row in z.view(15, 1, 6)])
    )
    alone = layer(z[0, 0])
    assert (alone.z_q.shape, alone.codes.shape) == ((6,), codes.shape[2:])


def test_a_layer_takes_the_settings_of_its_bottleneck_only() -> None:
    z = torch.randn(20, 8)
    torch.manual_seed(1)
    once = layers.VQ(8, K=8)
    torch.manual_seed(1)
    twice = layers.VQ(8, K=8, latent_weight=2.0)
    assert twice(z).loss.item() == pytest.approx(2 * once(z).loss.item())
    for layer, setting in (
        *((layers.VQ, name) for name in ("lr", "arch", "stages", "grid", "latent_dim", "seed", "bottleneck")),
        (layers.FSQ, "K"),
        (layers.SQVAE, "beta"),
    ):
        with pytest.raises(UsageError, match=setting):
            layer(8, **{setting: 3})
