"""The settings of a run as options and as a TOML file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from softvq_cli.cli.app import command
from softvq_cli.cli.errors import describe
from softvq_cli.cli.options import Settings, read_config
from softvq_cli.cli.output import option_name
from softvq_cli.config import SETTINGS, resolve
from softvq_cli.errors import InputError, UsageError


@pytest.fixture
def chosen_by():
    """The dictionary that a command with ``settings: Settings`` receives for the words of a command line."""
    received = []

    def show(*, settings: Settings) -> None:
        received.append(settings)

    app = typer.Typer()
    app.command()(command(show))

    def run(*words: str) -> dict:
        typer.main.get_command(app).main(list(words), standalone_mode=False)
        return received[-1]

    return run


@pytest.fixture
def toml(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


def as_shown(error: BaseException) -> str:
    """The error message of the command line."""
    return describe(error)[1]


def test_only_what_was_given_is_chosen(chosen_by):
    assert chosen_by() == {}
    assert chosen_by("--K", "64", "--lr", "1e-3", "--sigma-power", "-1", "--no-compile", "-b", "vq") == {
        "K": 64,
        "lr": 0.001,
        "sigma_power": "-1",
        "compile": False,
        "bottleneck": "vq",
    }


def test_every_setting_is_an_option(chosen_by):
    sample = {"int": "3", "float": "0.5", "bool": None}
    written = {"image_shape": "8,8,1", "keep": "2000,5000", "kl_start": "2"}
    for name, setting in SETTINGS.items():
        default = setting.default if isinstance(setting.default, str) else written.get(name, "name")
        text = written.get(name) or sample.get(getattr(setting.types[0], "__name__", ""), default)
        words = [option_name(name)] if text is None else [option_name(name), text]
        assert list(chosen_by(*words)) == [name]


@pytest.mark.parametrize(
    ("option", "value", "way_on"),
    [
        ("--K", "many", ""),
        ("--K", "1.5", ""),
        ("--K", "0", "1"),
        ("--latent-dim", "-3", "1"),
        ("--lr", "nan", ""),
        ("--lr", "fast", ""),
        ("--arch", "cn", "cnn"),
        ("--bottleneck", "softvq", "soft-vq"),
    ],
)
def test_a_wrong_value_names_the_option_the_value_and_what_it_takes(chosen_by, option, value, way_on):
    with pytest.raises(UsageError) as caught:
        chosen_by(option, value)
    assert all(word in as_shown(caught.value) for word in (option.removeprefix("--"), value, way_on))


def test_a_file_may_use_dashes_underscores_and_sections_and_options_win(toml, chosen_by):
    path = toml('data = "mnist"\nlatent-dim = 10\nlr = 1\n[model]\nK = 7\nsigma_power = 0\n[train]\nbatch-size = 4\n')
    expected = {"data": "mnist", "latent_dim": 10, "lr": 1.0, "K": 7, "sigma_power": "0", "batch_size": 4}
    assert read_config(path) == expected
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))  # as some editors write it
    assert chosen_by("--config", str(path), "--K", "8") == {**expected, "K": 8}


def test_with_the_settings_of_a_run_another_bottleneck_keeps_its_own_weights(tmp_path, chosen_by):
    vq = resolve("mnist", (28, 28, 1), {"bottleneck": "vq", "K": 9, "data": "mnist"})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(vq.as_dict()))
    assert resolve("mnist", (28, 28, 1), chosen_by("-c", str(path))) == vq
    soft = resolve("mnist", (28, 28, 1), chosen_by("-c", str(path), "-b", "soft-vq"))
    assert (soft.model.K, soft.loss.latent_weight, soft.loss.beta) == (9, 3.0, 2.5)
    one_epoch = resolve("mnist", (28, 28, 1), chosen_by("-c", str(path), "--epochs", "1"), images=320)
    assert (one_epoch.train.iterations, one_epoch.train.epochs) == (10, 1.0)
    with pytest.raises(UsageError) as caught:
        chosen_by("-c", str(path), "--recipe", "notebook")
    assert caught.value.message.settings == ("recipe",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latent_dims = 3", ("'latent_dims'", "'latent_dim'")),
        ("[modell]\nK = 3", ("'modell'", "'model'")),
        ("[train]\nK = 3", ("[train]", "'K'")),
        ("K = 3\n[model]\nK = 4", ("'K'",)),
        ("K = 0", ("--K", "1", "0")),
        ('K = "3"', ("--K", "'3'")),
        ("K = true", ("--K", "True")),
        ("K = [3]", ("--K", "[3]")),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_file_and_setting(toml, text, words):
    path = toml(text)
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert all(word in as_shown(caught.value) for word in words)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        *[("settings.toml", content, "settings.toml") for content in (b"K = ", b"\xff", b"[" * 5000, b"K = 1\nK = 2")],
        *[("settings.toml", "K = 3".encode(code), "UTF-16") for code in ("utf-16", "utf-16-le", "utf-16-be")],
        *[("config.json", content, "config.json") for content in (b"", b"[]", b'{"model": {}}', b"[" * 100_000)],
        ("none.toml", None, "none.toml"),
    ],
)
def test_a_file_of_no_settings_is_bad_input(tmp_path, name, content, cause):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert name in str(caught.value) and cause in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


def test_the_settings_of_a_run_are_read_from_its_folder(tmp_path):
    config = resolve("digits", (8, 8, 1), {"bottleneck": "vae", "latent_dim": 5})
    (tmp_path / "config.json").write_text(json.dumps({"softvq": "0", "data_path": "/x", **config.as_dict()}))
    values = read_config(tmp_path)
    assert values == read_config(tmp_path / "config.json")
    assert (values["bottleneck"], values["latent_dim"]) == ("vae", 5)
    assert not {"K", "levels", "data_dir"} & {*values}
    assert resolve("digits", (8, 8, 1), values) == config
