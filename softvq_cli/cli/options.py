"""All options, each defined once: those that commands share, the settings of a run, and settings from a TOML file.

A setting is an option of every command with a parameter annotated :data:`Settings`. The command receives a dictionary
with the settings that the user gave, by name; the preset determines the others.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

from softvq_cli.cli.output import option_name
from softvq_cli.cli.progress import Terminal
from softvq_cli.config import SECTIONS, SETTINGS, DataConfig, ModelConfig, Setting, check, is_complete
from softvq_cli.devices import torchrun
from softvq_cli.errors import InputError, UsageError, one_line, param, shown, unknown_name
from softvq_cli.files import is_address
from softvq_cli.presets import preset, unused_settings
from softvq_cli.words import BOTTLENECKS, DEVICES, IMAGE_SHAPES

_PREFIX = "SOFTVQ_"


@dataclass(frozen=True)
class Bundle:
    """Several options that a command receives as one value; see :func:`softvq_cli.cli.app.command`."""

    parameters: Callable[[], list[inspect.Parameter]]
    build: Callable[[dict[str, Any]], Any]
    """Converts the values of the options, by parameter name, to that value."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Bundle:
        """The options are the parameters of a function (or class), which makes the value."""
        return cls(
            lambda: list(inspect.signature(function, eval_str=True).parameters.values()),
            lambda given: function(**given),
        )


def option(default: Any, text: str, *spellings: str, value: str | Sequence[str] | None = None, **more: Any) -> Any:
    """Define an option, as the default of a parameter of a command; :func:`filled_in` adds the rest.

    Args:
        default: its default; ``...`` if it is required.
        text: its help text.
        *spellings: a short form, ``-o``, and the long form if it differs from the parameter's name.
        value: what its value is, or the allowed words. By default it follows from the type of the parameter.
        **more: further arguments of ``typer.Option``.
    """
    return typer.Option(default, *spellings, help=text, show_envvar=False, **_value_of(value), **more)


def argument(value: str | Sequence[str], text: str, default: Any = ..., **more: Any) -> Any:
    """Define an argument, as the default of a parameter of a command."""
    return typer.Argument(default, help=text, **_value_of(value), **more)


def _value_of(value: str | Sequence[str] | None) -> dict[str, Any]:
    """The text for a value and, if the allowed words are given, their completion."""
    if value is None or isinstance(value, str):
        return {"metavar": value}
    return {"metavar": "|".join(value), "autocompletion": completion(value)}


def parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """A parameter for keywords only."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def filled_in(parameter: inspect.Parameter) -> inspect.Parameter:
    """Add what follows from the name and type of a parameter: the long form, the kind of value, the variable.

    An option can also be set by an environment variable, SOFTVQ_OUT, unless ``allow_from_autoenv`` is False. A variable
    in ``envvar`` replaces that one if it starts with SOFTVQ; otherwise it has lower precedence.
    """
    info, kind = copy.copy(parameter.default), parameter.annotation
    while inner := [each for each in get_args(kind) if each is not NoneType]:
        kind = inner[0]
    if kind is Path:
        info.parser = local_path
    if isinstance(info, OptionInfo):
        words = tuple(info.param_decls or ())
        if not any(word.startswith("--") for word in words):
            words = (option_name(parameter.name), *words)
        info.param_decls = words
        info.metavar = info.metavar or {int: "INT", float: "NUMBER", str: "TEXT"}.get(kind)
        if info.allow_from_autoenv and not str(info.envvar).startswith(_PREFIX):
            long = next(word for word in words if word.startswith("--"))
            ours = _PREFIX + long.partition("/")[0][2:].replace("-", "_").upper()
            info.envvar = [ours, info.envvar] if isinstance(info.envvar, str) else [ours]
    return parameter.replace(default=info, kind=inspect.Parameter.KEYWORD_ONLY)


def local_path(text: str | Path) -> Path:
    """Interpret the text of any option as a path on this machine; ``~`` is the home folder."""
    text = os.fspath(text)
    if not text.strip():
        raise typer.BadParameter("a path is needed, and this is empty")
    if is_address(text):
        raise typer.BadParameter(f"{text} is an address, and files are read and written on this machine: give a path")
    return Path(os.path.expanduser(text))


def completion(words: Sequence[str]) -> Callable[[str], list[str]]:
    """Shell completion to one of ``words``."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


def list_completion(words: Sequence[str]) -> Callable[[str], list[str]]:
    """Shell completion of the last word in ``a,b`` to one of ``words`` that does not occur yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last) and word not in before.split(",")]

    return complete


def words_of(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` into words."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


# ---- shared by several commands

CHECKPOINT = argument("CHECKPOINT", "The ckpt.pt of a run, or the run's folder.")
EMBEDDINGS = argument(
    "EMBEDDINGS",
    "A .npy or .parquet file of rows, from softvq or another program, or several that are parts of one; - for "
    "a .npy from standard input.",
)
LABELS = option(None, "A .npy file with one integer label per row. Default: NAME.labels.npy.", value="FILE")
PERPLEXITY = option(None, "t-SNE perplexity. Default: 30, or less if there are few rows.")
OUT = option(None, "Folder of the run. Default: a new one in runs/.", "-o", value="DIR")
OVERWRITE = option(False, "Overwrite existing output.")
RESUME = option(False, "Continue the run in the folder where it stopped.")
DEVICE = option("auto", "Device to compute on.", value=DEVICES)
JOBS = option(None, "Maximum number of CPU threads; the result does not depend on it. Default: all.", "-j")
SEED = option(0, "Random seed.", "-s")
DATA = option(
    None, "Use these data (a name or a path) instead of those of the training.", "-d", allow_from_autoenv=False
)
DATA_DIR = option(None, "Folder of the named data sets, if it has moved.", value="DIR")


def _terminal(
    as_json: bool = option(False, "Print one JSON document.", "--json", show_default=False),
    quiet: bool = option(False, "Print no progress bars, notes or hints.", "-q", show_default=False),
    debug: bool = option(False, "Print the traceback of an error.", show_default=False),  # read by softvq_cli.cli.app
) -> Terminal:
    """With torchrun, only the first process prints."""
    return Terminal(quiet=quiet or (torchrun() or (0, 1))[0] > 0, as_json=as_json)


Streams = Annotated[Terminal, Bundle.of(_terminal)]
"""Both streams. As a parameter, ``--json``, ``--quiet`` and ``--debug``."""


# ---- a file of settings

_CONFIG = "config.json"
"""The settings of a run, in its folder."""


def read_config(path: Path) -> dict[str, Any]:
    """Read settings by name from a TOML file, the ``config.json`` of a run, or its folder.

    In a TOML file they stand at the top level or in the sections of ``config.json``. InputError: the file cannot be
    read or is of another kind. UsageError: an unknown name, a wrong type, or a value out of range.
    """
    path = path / _CONFIG if path.is_dir() else path
    content = _settings_of_run(path) if path.suffix == ".json" else _toml(path)
    sections = {"": {key: value for key, value in content.items() if not isinstance(value, dict)}}
    sections |= {key: value for key, value in content.items() if isinstance(value, dict)}
    values: dict[str, Any] = {}
    for section, entries in sections.items():
        if section and section not in SECTIONS:
            raise UsageError(f"{path}: {unknown_name('section', section, SECTIONS)}")
        allowed = [field.name for field in fields(SECTIONS[section])] if section else SETTINGS
        where = f"setting in [{section}]" if section else "setting"
        for key, value in entries.items():
            name = key.replace("-", "_")
            try:
                if name not in allowed:
                    raise UsageError(unknown_name(where, key, allowed))
                if name in values:
                    raise UsageError(f"the setting {name!r} stands there twice")
                values[name] = check(name, value)
            except UsageError as error:
                raise UsageError("{}: {}", path, error.message) from error
    return values


def _text_of(path: Path) -> str:
    """The text of a file, without the byte order mark that some editors write."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is not UTF-8, but UTF-16 or another encoding: save it as UTF-8")
    return text


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    text = _text_of(path).replace("\r\n", "\n")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: also for a number of 5 000 digits
        raise InputError(f"{path} is not a TOML file: {one_line(error)}") from error


def _settings_of_run(path: Path) -> dict[str, Any]:
    """The sections of a ``config.json``, without settings that its bottleneck does not use."""
    text = _text_of(path)
    try:
        content = json.loads(text)
        given = {name: {n: v for n, v in content[name].items() if v is not None} for name in SECTIONS}
        settings = {n: v for section in given.values() for n, v in section.items()}
        unused = unused_settings(settings["bottleneck"], settings)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the {_CONFIG} of a run: {one_line(error)}") from error
    return {name: {n: v for n, v in section.items() if n not in unused} for name, section in given.items()}


# ---- the settings of a run

_VARIABLES = {"data": "SOFTVQ_DATASET"}
"""Environment variables with other names than their option: SOFTVQ_DATA is the folder of the named data sets."""
_SHORT = {"bottleneck": ["-b"], "data": ["-d"], "iterations": ["-n"], "seed": ["-s"]}


def _option(setting: Setting, *, variable: bool = True) -> inspect.Parameter:
    """The option of a setting. Its value is text, because config checks it with its messages."""
    name, default = setting.name, _defaults(setting.name)
    more: dict[str, Any] = {
        "rich_help_panel": f"{setting.section.capitalize()} settings",
        "allow_from_autoenv": variable,
    }
    if setting.kind is bool:
        spelling = f"{option_name(name)}/--no-{option_name(name)[2:]}"
        return parameter(name, bool | None, option(None, setting.doc, spelling, show_default=default, **more))
    known = {"bottleneck": tuple(BOTTLENECKS), "data": tuple(IMAGE_SHAPES)}.get(name, setting.words)
    text = option(
        None,
        setting.doc,
        *_SHORT.get(name, ()),
        value="|".join(setting.words) or {int: "INT", float: "NUMBER"}.get(setting.types[0], "TEXT"),
        envvar=_VARIABLES.get(name),
        show_default=default or False,
        autocompletion=completion(known) if known else None,
        **more,
    )
    return parameter(name, str | None, text)


def _defaults(name: str) -> str:
    """The defaults by data set: ``digits: 32; mnist: 128; svhn, cifar10: 32 (vq 512)``."""
    texts = _grouped({data: _default_on(data, name) for data in IMAGE_SHAPES})
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())


def _default_on(data_name: str, name: str) -> str:
    """The preset's value for the default bottleneck, and in brackets the bottlenecks with other values."""
    readers = [bottleneck for bottleneck in BOTTLENECKS if not unused_settings(bottleneck, {name: None})]
    values = {bottleneck: _text(_presets()[data_name, bottleneck][name]) for bottleneck in readers}
    base = values.get(ModelConfig.bottleneck, next(iter(values.values())))
    others = _grouped({bottleneck: value for bottleneck, value in values.items() if value != base})
    if [len(names) for names in others.values()] == [len(values) - 1] and len(values) > 2:
        return f"{base} (others {next(iter(others))})"
    exceptions = "; ".join(f"{', '.join(names)} {value}" for value, names in others.items())
    return f"{base} ({exceptions})" if exceptions else base


def _grouped(values: Mapping[str, str]) -> dict[str, list[str]]:
    """Value → the names that have it."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    return names


@functools.cache
def _presets() -> dict[tuple[str, str], dict[str, Any]]:
    """(Data set, bottleneck) → all settings by name, for the help pages."""
    plain = {name: setting.default for name, setting in SETTINGS.items()}
    return {
        (data_name, bottleneck): {**plain, **preset(data_name, shape, bottleneck)}
        for data_name, shape in IMAGE_SHAPES.items()
        for bottleneck in BOTTLENECKS
    }


def _text(value: Any) -> str:
    """A value as the user would type it; empty if there is none or if it disables something."""
    if value is None or isinstance(value, bool):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(name: str, text: str | bool) -> Any:
    """Check the text and convert it to the setting's type."""
    for number, words in ((int, "a whole number"), (float, "a number")):
        if isinstance(text, str) and number in SETTINGS[name].types:
            try:
                value = number(text)
            except ValueError as error:
                raise UsageError("{} takes {}, not {}", param(name), words, shown(text)) from error
            return check(name, value)
    return check(name, text)


def _values(given: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _value(name, given[name]) for name in names if given[name] is not None}


def settings_without(*left_out: str) -> Bundle:
    """The options of a run except those that a study determines, and ``--config``."""
    names = [name for name in SETTINGS if name not in left_out]

    def parameters() -> list[inspect.Parameter]:
        text = (
            "Read settings from a TOML file, a run folder or its config.json. Options override them; with another "
            "bottleneck than that of the run, the weights of the loss terms are its own."
        )
        config = parameter("config", Path | None, option(None, text, "-c", value="PATH", show_default=False))
        return [config, *(_option(SETTINGS[name]) for name in names)]

    def build(given: dict[str, Any]) -> dict[str, Any]:
        typed, stored = _values(given, names), {} if given["config"] is None else read_config(given["config"])
        if is_complete(stored):
            if typed.get("recipe", stored["recipe"]) != stored["recipe"]:
                raise UsageError("{} has all settings of a run, which {recipe} does not change", given["config"])
            if typed.get("bottleneck", stored["bottleneck"]) != stored["bottleneck"]:
                stored = {name: value for name, value in stored.items() if SETTINGS[name].section != "loss"}
        length = {"iterations", "epochs"}
        if length & typed.keys():
            stored = {name: value for name, value in stored.items() if name not in length}
        return stored | typed

    return Bundle(parameters, build)


READING = tuple(field.name for field in fields(DataConfig) if field.name not in ("data", "data_dir", "scale"))
"""The settings for reading data."""


def _reading_parameters() -> list[inspect.Parameter]:
    """Options without environment variables: these are for runs, and ``softvq data`` uses the options only for show."""
    return [_option(SETTINGS[name], variable=False) for name in READING]


Reading = Annotated[dict[str, Any], Bundle(_reading_parameters, lambda given: _values(given, READING))]
"""Settings for reading data that the user gave, by name. As a parameter, the options for reading data."""
Settings = Annotated[dict[str, Any], settings_without()]
"""The settings that the user gave, by name: ``{"K": 32}``. As a parameter, all options of a run."""


def note_unused(settings: Mapping[str, Any], terminal: Terminal) -> None:
    """Report the settings given by the user that have no effect, because the bottleneck does not use them."""
    bottleneck = settings.get("bottleneck", ModelConfig.bottleneck)
    unused = [option_name(name) for name in unused_settings(bottleneck, settings)]
    if unused:
        terminal.note(f"the bottleneck {bottleneck} does not use {', '.join(unused)}: no effect")
