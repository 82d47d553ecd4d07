"""Settings are checked on construction, and presets are those of the paper."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from softvq_cli.config import SECTIONS, SETTINGS, RunConfig, image_shape, parse_keep, parse_levels, pixel_range, resolve
from softvq_cli.errors import UsageError
from softvq_cli.presets import preset, unused_settings
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


def test_own_images_get_the_cnn_from_16_pixels_up_and_what_was_chosen_wins() -> None:
    assert resolve("flowers", (16, 40, 3), {}).model.arch == "cnn"
    assert resolve("flowers", (15, 40, 3), {}).model.arch == "mlp"
    config = resolve("mnist", MNIST, {"K": 7, "bottleneck": "vq", "lr": 1})
    assert (config.model.K, config.model.bottleneck, config.train.lr) == (7, "vq", 1.0)


def test_rvq_has_settings_of_its_own_for_vectors() -> None:
    vectors, images = (preset("own", shape, "rvq") for shape in ((300,), (28, 28, 1)))
    assert (vectors["latent_dim"], vectors["batch_size"], vectors["lr"]) == (32, 256, 1e-3)
    assert "lr" not in images and "lr" not in preset("own", (300,), "vq")


def test_a_default_batch_fits_the_data_and_a_chosen_one_stays() -> None:
    assert resolve("own", (300,), {"bottleneck": "rvq"}, 100).train.batch_size == 100
    assert resolve("own", (300,), {"bottleneck": "rvq"}, 1000).train.batch_size == 256
    assert resolve("own", (300,), {"bottleneck": "rvq", "batch_size": 200}, 100).train.batch_size == 200


def test_a_configuration_survives_the_way_to_json_and_back() -> None:
    for bottleneck in BOTTLENECKS:
        config = resolve("mnist", MNIST, {"bottleneck": bottleneck})
        assert RunConfig.from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("K", [0, "7", None]),
        ("latent_dim", [-3]),
        ("lr", [0, math.nan, math.inf]),
        ("test_fraction", [1.5]),
        ("batch_size", [2.5]),
        ("iterations", [True]),
        ("compile", ["yes"]),
        ("sigma_power", ["two"]),
        ("levels", ["5,2", "5,x", "", "1024,1024,1024"]),
        ("keep", ["0", "5,x", "-1"]),
        ("pixel_range", ["5,5", "1,2,3", "low,high"]),
        ("image_shape", ["3", "8,8,2", "0,8,1"]),
        ("arch", ["cn"]),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UsageError) as caught:
            resolve("mnist", MNIST, {name: value})
        assert caught.value.settings == (name,), value
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "near"), [("bottleneck", "sofvq", "soft-vq"), ("latent_dims", 3, "latent_dim")]
)
def test_the_nearest_name_is_proposed(name: str, value: Any, near: str) -> None:
    with pytest.raises(UsageError, match=f"'{near}'"):
        resolve("mnist", MNIST, {name: value})


def test_text_with_numbers_is_read() -> None:
    assert parse_levels("8, 5,3") == (8, 5, 3)
    assert (parse_keep("500,20,500"), parse_keep(" ")) == ((20, 500), ())
    assert (pixel_range("-1,2.5"), pixel_range("full")) == ((-1.0, 2.5), None)
    assert (image_shape("3,32,16"), image_shape("28,28")) == ((3, 32, 16), (28, 28, 1))


def test_every_setting_is_documented_has_one_section_and_a_default_in_its_range() -> None:
    assert all(setting.doc for setting in SETTINGS.values())
    assert sorted(f.name for kind in SECTIONS.values() for f in fields(kind)) == sorted(SETTINGS)
    assert RunConfig().data.data == "digits"


def test_settings_that_a_bottleneck_does_not_read_are_known() -> None:
    assert unused_settings("ae", {"K": 4, "lr": 1.0}) == ["K"]
    assert unused_settings("soft-vq", {"K": 4, "alpha_max": 0.5}) == ["alpha_max"]


@pytest.mark.parametrize(
    ("data", "chosen", "threads"),
    [
        ("mnist", {}, 1),
        ("svhn", {}, 2),
        ("mnist", {"batch_size": 128}, 2),
        ("mnist", {"arch": "cnn"}, 2),
        ("svhn", {"arch": "mlp", "threads": 5}, 5),
    ],
)
def test_threads_follow_from_the_network_and_the_batch_unless_they_are_given(data, chosen, threads):
    assert resolve(data, IMAGE_SHAPES[data], chosen).train.threads == threads
