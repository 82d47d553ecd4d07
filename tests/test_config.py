"""Settings are checked when they are built, and presets are the paper's."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from softvq_cli.config import SECTIONS, SETTINGS, DataConfig, RunConfig, resolve
from softvq_cli.errors import UsageError
from softvq_cli.presets import unused_settings
from softvq_cli.words import BOTTLENECKS, IMAGE_SHAPES

MNIST, SVHN = (28, 28, 1), (32, 32, 3)


@pytest.mark.parametrize(
    ("data", "shape", "bottleneck", "expected"),
    [
        ("mnist", MNIST, "soft-vq", {"arch": "mlp", "latent_dim": 64, "K": 128, "iterations": 40_000}),
        ("mnist", MNIST, "soft-vq", {"batch_size": 32, "lr": 3e-4, "latent_weight": 3.0, "beta": 2.5}),
        ("mnist", MNIST, "beta-vae", {"beta": 20.0, "reconstruction_scale": 1568.0}),
        ("mnist", MNIST, "vae", {"beta": 1.0, "reconstruction_scale": 784.0}),
        ("mnist", MNIST, "info-dropout", {"latent_weight": 0.5, "reconstruction_scale": 784.0, "alpha_max": 0.7}),
        ("svhn", SVHN, "soft-vq", {"arch": "cnn", "latent_dim": 256, "K": 32, "iterations": 10_000}),
        ("svhn", SVHN, "soft-vq", {"latent_weight": 2.0, "beta": 7.5}),
        ("cifar10", SVHN, "vq", {"K": 512, "iterations": 40_000}),
        ("cifar10", SVHN, "beta-vae", {"beta": 100.0, "reconstruction_scale": 2048.0}),
    ],
)
def test_presets_are_the_papers(
    data: str, shape: tuple[int, int, int], bottleneck: str, expected: dict[str, Any]
) -> None:
    flat = resolve(data, shape, {"bottleneck": bottleneck}).flat()
    assert {name: flat[name] for name in expected} == expected


def test_own_images_get_the_cnn_from_16_pixels_up() -> None:
    assert resolve("flowers", (16, 40, 3), {}).model.arch == "cnn"
    assert resolve("flowers", (15, 40, 3), {}).model.arch == "mlp"


def test_what_was_chosen_wins_over_the_preset() -> None:
    config = resolve("mnist", MNIST, {"K": 7, "bottleneck": "vq", "lr": 1})
    assert (config.model.K, config.model.bottleneck, config.train.lr) == (7, "vq", 1.0)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_configuration_survives_the_way_to_json_and_back(bottleneck: str) -> None:
    config = resolve("mnist", MNIST, {"bottleneck": bottleneck})
    assert RunConfig.from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("K", 0, "^K must be at least 1, not 0"),
        ("latent_dim", -3, "^latent_dim must be at least 1"),
        ("lr", 0, "^lr must be above 0"),
        ("lr", math.nan, "^lr must be"),
        ("lr", math.inf, "^lr must be finite"),
        ("test_fraction", 1.5, "^test_fraction must be at most"),
        ("batch_size", 2.5, "^batch_size takes a whole number"),
        ("iterations", True, "^iterations takes a whole number"),
        ("compile", "yes", "^compile takes true or false"),
        ("sigma_power", "two", "^sigma_power must be -d or a number"),
        ("bottleneck", "sofvq", "did you mean 'soft-vq'"),
        ("arch", "cn", "did you mean 'cnn'"),
        ("latent_dims", 3, "did you mean 'latent_dim'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        resolve("mnist", MNIST, {name: value})
    assert "\n" not in str(caught.value)


def test_every_setting_is_documented_and_every_default_is_in_its_range() -> None:
    for name, setting in SETTINGS.items():
        assert setting.doc, name
    RunConfig()
    assert DataConfig().data == "digits"


def test_sections_share_no_setting_name() -> None:
    names = [f.name for kind in SECTIONS.values() for f in fields(kind)]
    assert sorted(names) == sorted(SETTINGS)


def test_settings_that_a_bottleneck_does_not_read_are_known() -> None:
    assert unused_settings("ae", {"K": 4, "lr": 1.0}) == ["K"]
    assert unused_settings("soft-vq", {"K": 4, "alpha_max": 0.5}) == ["alpha_max"]


@pytest.mark.parametrize(
    ("data", "chosen", "threads"),
    [
        ("mnist", {}, 1),
        ("digits", {}, 1),
        ("svhn", {}, 2),
        ("mnist", {"batch_size": 128}, 2),
        ("mnist", {"arch": "cnn"}, 2),
        ("svhn", {"arch": "mlp"}, 1),
        ("svhn", {"threads": 5}, 5),
    ],
)
def test_threads_follow_from_the_network_and_the_batch_unless_they_are_given(data, chosen, threads):
    assert resolve(data, IMAGE_SHAPES[data], chosen).train.threads == threads
