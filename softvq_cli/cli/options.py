"""All options, each defined once: those that commands share, the settings of a run, and settings from a TOML file.

A setting is an option of every command with a parameter annotated :data:`Settings`. The command receives a dictionary
with the settings that the user gave, by name; the preset determines the others.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from softvq_cli.cli.output import option_name
from softvq_cli.cli.progress import Terminal
from softvq_cli.config import SECTIONS, SETTINGS, DataConfig, ModelConfig, Setting, check
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


def option(spellings: str, value: str | Sequence[str] | None, text: str, **more: Any) -> Any:
    """Define an option: ``--out -o``, the type of its value (or the allowed words, or None for a flag), its help text.

    It can also be set by an environment variable, SOFTVQ_OUT, unless ``allow_from_autoenv`` is False. A variable in
    ``envvar`` replaces that one if it starts with SOFTVQ; otherwise it has lower precedence.
    """
    if value is not None and not isinstance(value, str):
        more.setdefault("autocompletion", completion(value))
        value = "|".join(value)
    if more.get("allow_from_autoenv", True):
        named, long = more.get("envvar"), next(word for word in spellings.split() if word.startswith("--"))
        ours = [_PREFIX + long.partition("/")[0][2:].replace("-", "_").upper()]
        more["envvar"] = named if named and named.startswith(_PREFIX) else ours + [named] * bool(named)
    return typer.Option(*spellings.split(), metavar=value, help=text, show_envvar=False, **more)


def parameter(name: str, annotation: Any, option: Any, default: Any = None) -> inspect.Parameter:
    """One of the options of a bundle."""
    annotation = Annotated[annotation, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def metadata(annotation: Any) -> tuple[Any, ...]:
    """The metadata that ``Annotated`` adds to a type."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


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

CheckpointFile = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="The ckpt.pt of a run, or the run's folder.")
]
EmbeddingFile = Annotated[
    list[Path],
    typer.Argument(
        metavar="EMBEDDINGS",
        help="A .npy or .parquet file of rows, from softvq or another program, or several that are parts of one; - for "
        "a .npy from standard input.",
    ),
]
Labels = Annotated[
    Path | None,
    option("--labels", "FILE", "A .npy file with one integer label per row. Default: NAME.labels.npy."),
]
Perplexity = Annotated[
    float | None, option("--perplexity", "NUMBER", "t-SNE perplexity. Default: 30, or less if there are few rows.")
]
Out = Annotated[Path | None, option("--out -o", "DIR", "Folder of the run. Default: a new one in runs/.")]
Overwrite = Annotated[bool, option("--overwrite", None, "Overwrite existing output.")]
Resume = Annotated[bool, option("--resume", None, "Continue the run in the folder where it stopped.")]
Device = Annotated[str, option("--device", DEVICES, "Device to compute on.")]
Jobs = Annotated[
    int | None,
    option("--jobs -j", "INT", "Maximum number of CPU threads; the result does not depend on it. Default: all."),
]
Seed = Annotated[int, option("--seed -s", "INT", "Random seed.")]
Data = Annotated[
    str | None,
    option(
        "--data -d",
        "TEXT",
        "Use these data (a name or a path) instead of those of the training.",
        allow_from_autoenv=False,
    ),
]
DataDir = Annotated[str | None, option("--data-dir", "DIR", "Folder of the named data sets, if it has moved.")]


def _stream_parameters() -> list[inspect.Parameter]:
    options = {
        "as_json": option("--json", None, "Print one JSON document.", show_default=False),
        "quiet": option("--quiet -q", None, "Print no progress bars, notes or hints.", show_default=False),
        "debug": option("--debug", None, "Print the traceback of an error.", show_default=False),
    }
    return [parameter(name, bool, each, False) for name, each in options.items()]


def _terminal(given: dict[str, Any]) -> Terminal:
    """With torchrun, only the first process prints."""
    silent = (torchrun() or (0, 1))[0] > 0
    return Terminal(quiet=given["quiet"] or silent, as_json=given["as_json"])


Streams = Annotated[Terminal, Bundle(_stream_parameters, _terminal)]
"""Both streams. As a parameter, ``--json``, ``--quiet`` and ``--debug`` (which :mod:`softvq_cli.cli.app` reads)."""


# ---- a file of settings

_CONFIG = "config.json"
"""The settings of a run, in its folder."""


def read_config(path: Path) -> dict[str, Any]:
    """Read settings by name from a TOML file, at the top level or in the sections of ``config.json``, or from a run.

    Args:
        path: a TOML file, the ``config.json`` of a run, or its folder.

    Raises:
        InputError: the file cannot be read or is of another kind.
        UsageError: an unknown name, a wrong type, or a value out of range.
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
_SHORT = {"bottleneck": "-b", "data": "-d", "iterations": "-n", "seed": "-s"}


def _option(setting: Setting, *, variable: bool = True) -> tuple[Any, Any]:
    """The type and the Typer option of a setting. Values are text, because config checks them with its messages."""
    name, default = setting.name, _defaults(setting.name)
    more = {"rich_help_panel": f"{setting.section.capitalize()} settings", "allow_from_autoenv": variable}
    if setting.kind is bool:
        spelling = f"{option_name(name)}/--no-{option_name(name)[2:]}"
        return bool | None, option(spelling, None, setting.doc, show_default=default, **more)
    known = {"bottleneck": tuple(BOTTLENECKS), "data": tuple(IMAGE_SHAPES)}.get(name, setting.words)
    return str | None, option(
        f"{option_name(name)} {_SHORT.get(name, '')}",
        "|".join(setting.words) or {int: "INT", float: "NUMBER"}.get(setting.types[0], "TEXT"),
        setting.doc,
        envvar=_VARIABLES.get(name),
        show_default=default or False,
        autocompletion=completion(known) if known else None,
        **more,
    )


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
        text = "Read settings from a TOML file, a run folder or its config.json. Options override them."
        config = parameter("config", Path | None, option("--config -c", "PATH", text, show_default=False))
        return [config, *(parameter(name, *_option(SETTINGS[name])) for name in names)]

    def build(given: dict[str, Any]) -> dict[str, Any]:
        chosen = {} if given["config"] is None else read_config(given["config"])
        return chosen | _values(given, names)

    return Bundle(parameters, build)


READING = tuple(field.name for field in fields(DataConfig) if field.name not in ("data", "data_dir", "scale"))
"""The settings for reading data."""


def _reading_parameters() -> list[inspect.Parameter]:
    """Options without environment variables: these are for runs, and ``softvq data`` uses the options only for show."""
    return [parameter(name, *_option(SETTINGS[name], variable=False)) for name in READING]


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
