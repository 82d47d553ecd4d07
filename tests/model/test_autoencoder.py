"""Networks, scaling of pixels, and representations of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from softvq_cli.config import ModelConfig
from softvq_cli.errors import InputError, UsageError
from softvq_cli.model import Autoencoder, decode, represent, representations
from softvq_cli.words import BOTTLENECKS, REPRESENTATIONS


def model(arch: str, shape: tuple[int, int, int], bottleneck: str = "soft-vq", d: int = 8) -> Autoencoder:
    torch.manual_seed(0)
    config = ModelConfig(arch=arch, bottleneck=bottleneck, latent_dim=d, K=5)  # type: ignore[arg-type]
    return Autoencoder(config, shape).eval()


def images(shape: tuple[int, int, int], n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


CNN_SHAPES = [(16, 16, 1), (17, 17, 3), (19, 33, 1), (45, 30, 3)]


@pytest.mark.parametrize(
    ("arch", "shape"), [("cnn", s) for s in CNN_SHAPES] + [("mlp", (1, 1, 1)), ("mlp", (8, 8, 1)), ("mlp", (5, 9, 3))]
)
def test_reconstruction_has_the_inputs_shape(arch: str, shape: tuple[int, int, int]) -> None:
    ae = model(arch, shape)
    x = ae.scale(torch.from_numpy(images(shape)))
    out = ae(x)
    assert out.x_hat.shape == x.shape == (3, shape[2], shape[0], shape[1])
    assert out.z_e.shape == (3, 8)


def test_networks_have_the_papers_layers() -> None:
    mlp = model("mlp", (28, 28, 1), "ae", d=64)
    widths = [tuple(p.shape) for name, p in mlp.named_parameters() if name.endswith("weight")]
    assert widths == [(500, 784), (500, 500), (2000, 500), (64, 2000), (2000, 64), (500, 2000), (500, 500), (784, 500)]
    cnn = model("cnn", (32, 32, 3), "ae", d=256)
    kernels = [tuple(p.shape) for name, p in cnn.named_parameters() if p.ndim == 4]
    assert [k[0] for k in kernels[:4]] == [64, 128, 256, 512]
    assert all(k[2:] == (3, 3) for k in kernels)
    assert cnn.encoder.hidden_dim == 2048


def test_weights_are_glorot_uniform_with_zero_biases() -> None:
    linear = model("mlp", (28, 28, 1)).encoder.layers[0]
    limit = np.sqrt(6 / (784 + 500))
    assert linear.weight.abs().max().item() == pytest.approx(limit, rel=1e-3)
    assert linear.weight.std().item() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert linear.bias.abs().sum().item() == 0


@pytest.mark.parametrize(("arch", "low", "high"), [("mlp", 0.0, 1.0), ("cnn", -0.5, 0.5)])
def test_pixels_are_scaled_to_the_papers_range_and_back(arch: str, low: float, high: float) -> None:
    shape = (16, 16, 3)
    ae = model(arch, shape)
    raw = images(shape)
    x = ae.scale(torch.from_numpy(raw))
    assert ae.scale(torch.tensor([[[[0, 255, 255]]]], dtype=torch.uint8)).flatten().tolist() == [low, high, high]
    np.testing.assert_allclose(ae.unscale(x).numpy(), raw / 255.0, atol=1e-6)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_each_representation_has_its_documented_shape_and_type(bottleneck: str) -> None:
    ae = model("mlp", (8, 8, 1), bottleneck)
    raw = images((8, 8, 1), n=4)
    for wrong, error in (({"what": "zq"}, UsageError), ({"images": raw[:0]}, InputError)):
        with pytest.raises(error):
            represent(**{"model": ae, "images": raw, **wrong})
    with pytest.raises(InputError):
        represent(ae, images((9, 8, 1)))
    for what in REPRESENTATIONS:
        if what == "codes" and ae.bottleneck.centroids() is None:
            with pytest.raises(InputError, match="codebook"):
                represent(ae, raw, what)
            continue
        rows = represent(ae, raw, what)
        width = {"z_e": 8, "z_q": 8, "codes": 3 if bottleneck == "rvq" else 1}.get(what, 64)
        assert rows.shape == (4, width)
        assert rows.dtype == (np.int64 if what == "codes" else np.float32)
    pixels = represent(ae, raw, "pixels")
    np.testing.assert_allclose(pixels, raw.reshape(4, -1) / 255.0, atol=1e-6)


def test_rows_do_not_depend_on_the_batch_they_come_in() -> None:
    ae = model("cnn", (16, 16, 3))
    raw = images((16, 16, 3), n=7)
    alone = np.concatenate([represent(ae, raw[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(represent(ae, raw), alone, rtol=1e-4, atol=1e-6)
    stream = []
    for rows in representations(ae, raw, "z_e", 3):
        weight = torch.ones(8, requires_grad=True)  # gradients can be taken between two batches
        (torch.from_numpy(rows) @ weight).sum().backward()
        stream.append(rows)
    assert [len(rows) for rows in stream] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(stream), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("bottleneck", "rows"),
    [
        ("ae", np.zeros((2, 1), int)),  # it has no codebook
        ("vq", np.array([[0], [5]])),
        ("vq", np.array([-1, 0])),
        ("vq", np.zeros((2, 2), int)),
        ("vq", np.zeros((0, 1), int)),
        ("rvq", np.zeros(2, int)),
        ("vq", np.zeros((2, 7), np.float32)),
        ("vq", np.full((2, 8), np.nan)),
        ("vq", np.full((2, 8), 1e300)),
        ("vq", np.zeros((2, 8), bool)),
    ],
)
def test_what_cannot_be_decoded_is_refused(bottleneck: str, rows: np.ndarray) -> None:
    ae = model("mlp", (8, 8, 1), bottleneck)
    with pytest.raises(InputError):
        decode(ae, rows)


def encoder_and_decoder(d: int = 8, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    n = math.prod(shape)
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(n, 20), nn.BatchNorm1d(20), nn.ReLU()),
        nn.Sequential(nn.Linear(d, n), nn.Sigmoid(), nn.Unflatten(1, shape)),
    )


def test_modules_of_ones_own_keep_their_weights_and_are_copied() -> None:
    networks = encoder_and_decoder()
    ae = Autoencoder(ModelConfig(arch="own", latent_dim=8, K=5), (8, 8, 3), networks=networks).eval()
    assert ae.hidden_dim == 20 and ae.encoder is not networks[0] and networks[0].training
    x = ae.scale(torch.from_numpy(images((8, 8, 3))))
    assert (x.min() >= 0) and (x.max() <= 1)
    torch.testing.assert_close(ae.encode(x)[1], networks[0].eval()(x))
    assert ae(x).x_hat.shape == x.shape


@pytest.mark.parametrize(
    ("arch", "networks"),
    [
        ("own", None),
        ("mlp", encoder_and_decoder()),
        ("own", encoder_and_decoder(d=9)),
        ("own", encoder_and_decoder(shape=(3, 8, 9))),
        ("own", (nn.Identity(), encoder_and_decoder()[1])),
        ("own", (encoder_and_decoder()[0], nn.Identity())),
    ],
)
def test_modules_that_do_not_fit_are_refused(arch: Any, networks: Any) -> None:
    with pytest.raises(UsageError):
        Autoencoder(ModelConfig(arch=arch, latent_dim=8, K=5), (8, 8, 3), networks=networks)


@pytest.mark.parametrize("shape", [(8, 8, 3), (12,)])
def test_without_a_network_z_is_the_input(shape: tuple[int, ...]) -> None:
    d = math.prod(shape)
    ae = Autoencoder(ModelConfig(arch="none", bottleneck="ae", latent_dim=d), shape).eval()
    x = torch.rand(4, *(shape if len(shape) == 1 else (3, 8, 8)))
    out = ae(x)
    torch.testing.assert_close(out.x_hat, x)
    torch.testing.assert_close(out.z_e, x if len(shape) == 1 else x.permute(0, 2, 3, 1).flatten(1))
    with pytest.raises(UsageError, match="latent_dim"):
        Autoencoder(ModelConfig(arch="none", bottleneck="ae", latent_dim=d + 1), shape)


@pytest.mark.parametrize("arch", ["mlp", "cnn"])
def test_encoder_and_decoder_start_alike_whatever_is_between_them(arch):
    """Otherwise, differences between bottlenecks for the same seed would include different initial weights."""

    def start(bottleneck):
        torch.manual_seed(5)
        return Autoencoder(ModelConfig(arch=arch, bottleneck=bottleneck, latent_dim=4, K=6), (16, 16, 1)).state_dict()

    plain = start("ae")
    for bottleneck in BOTTLENECKS:
        found = start(bottleneck)
        assert all(torch.equal(found[name], weights) for name, weights in plain.items())
