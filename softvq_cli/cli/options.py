"""Every option, written once: those that commands share, the settings of a run, and a TOML file of them.

A setting is an option of every command that has a parameter annotated with :data:`Settings`. The command receives a
dictionary with the settings that the user gave, by name; the others are the preset's to decide.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
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


@dataclass(frozen=True)
class Bundle:
    """Several options that a command receives as one value; see :func:`softvq_cli.cli.app.command`."""

    parameters: Callable[[], list[inspect.Parameter]]
    build: Callable[[dict[str, Any]], Any]
    """From the options' values by parameter name."""


def local_path(text: str | Path) -> Path:
    """The path that was typed as one on this machine, whichever option it belongs to; ``~`` is the user's home."""
    text = os.fspath(text)
    if not text.strip():
        raise typer.BadParameter("a path is needed, and this is empty")
    if is_address(text):
        raise typer.BadParameter(f"{text} is an address, and files are read and written on this machine: give a path")
    return Path(os.path.expanduser(text))


def metadata(annotation: Any) -> tuple[Any, ...]:
    """What ``Annotated`` adds to a type."""
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def parameter(name: str, annotation: Any, option: Any, default: Any = None) -> inspect.Parameter:
    """One of a bundle's options."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )


def completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete to one of ``words`` in the shell."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def list_completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete the last word of ``a,b`` to one of ``words`` that is not there yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last) and word not in before.split(",")]

    return complete


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
EmbeddingFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="EMBEDDINGS",
        help="A .npy or .parquet file of rows, one per panel, from any program; - for standard input.",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="FILE", help="A .npy file with one integer label per row. Default: NAME.labels.npy."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run. Default: a new one in runs/.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the folder where it stopped.")]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="|".join(DEVICES), help="Device to compute on.", autocompletion=completion(DEVICES)
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="INT",
        help="Maximum number of CPU threads; the result does not depend on it. Default: all.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", "-s", metavar="INT", help="Random seed.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="INT", min=1, help="Number of images per batch.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        metavar="TEXT",
        help="Use these data (a name or a path) instead of those of the training.",
        allow_from_autoenv=False,
    ),
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the named data sets, if it has moved.")
]


def _stream_parameters() -> list[inspect.Parameter]:
    as_json = typer.Option("--json", help="Print one JSON document.", show_default=False)
    quiet = typer.Option("--quiet", "-q", help="Print no progress bars, notes or hints.", show_default=False)
    debug = typer.Option("--debug", help="Print the traceback of an error.", show_default=False)
    options = {"as_json": as_json, "quiet": quiet, "debug": debug}
    return [parameter(name, bool, option, False) for name, option in options.items()]


def _silent() -> bool:
    """Whether another process of torchrun's speaks for this one."""
    return (torchrun() or (0, 1))[0] > 0


Streams = Annotated[
    Terminal,
    Bundle(_stream_parameters, lambda given: Terminal(quiet=given["quiet"] or _silent(), as_json=given["as_json"])),
]
"""Both streams. As a parameter, ``--json``, ``--quiet`` and ``--debug`` (which :mod:`softvq_cli.cli.app` reads)."""


_CONFIG = "config.json"
"""A run's settings, in its folder."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings by name, in a TOML file, at its top or in the sections of ``config.json``, or in a run's own file.

    Args:
        path: of a TOML file, of a run's ``config.json``, or of its folder.

    Raises:
        InputError: the file cannot be read or is neither.
        UsageError: an unknown name, a wrong type, or a value out of range.
    """
    path = path / _CONFIG if path.is_dir() else path
    text = _text_of(path)
    content = _settings_of_run(path, text) if path.suffix == ".json" else _toml(path, text)
    values: dict[str, Any] = {}
    for section, key, value in _entries(path, content):
        name = key.replace("-", "_")
        allowed = [f.name for f in fields(SECTIONS[section])] if section else SETTINGS
        where = f"setting in [{section}]" if section else "setting"
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
    """With or without the byte order mark that some editors write."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        found = "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "not UTF-8"
        raise InputError(f"{path} is {found}: save it as UTF-8") from error


def _toml(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    if "\0" in text:
        raise InputError(f"{path} holds zero bytes, as UTF-16 does: save it as UTF-8")
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file: {one_line(error)}") from error


def _settings_of_run(path: Path, text: str) -> dict[str, Any]:
    """The sections of a ``config.json`` without what its bottleneck does not read."""
    try:
        content = json.loads(text)
        sections = {name: content[name] for name in SECTIONS}
        bottleneck = sections["model"]["bottleneck"]
        given = {name: {n: v for n, v in section.items() if v is not None} for name, section in sections.items()}
        unused = unused_settings(bottleneck, {n: v for section in given.values() for n, v in section.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not the {_CONFIG} of a run: {one_line(error)}") from error
    return {name: {n: v for n, v in section.items() if n not in unused} for name, section in given.items()}


def _entries(path: Path, content: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(section or nothing, key, value) of all that a file says."""
    for key, value in content.items():
        if not isinstance(value, dict):
            yield "", key, value
        elif key not in SECTIONS:
            raise UsageError(f"{path}: {unknown_name('section', key, SECTIONS)}")
        else:
            yield from ((key, inner, inner_value) for inner, inner_value in value.items())


def _parameters() -> list[inspect.Parameter]:
    """One option a setting, and ``--config``."""
    config = typer.Option(
        "--config",
        "-c",
        metavar="PATH",
        help="Read settings from a TOML file, a run folder or its config.json. Options override them.",
        show_default=False,
    )
    parameters = [parameter("config", Path | None, config)]
    return parameters + [parameter(name, *_option(setting)) for name, setting in SETTINGS.items()]


def _option(setting: Setting, *, variable: bool = True) -> tuple[Any, Any]:
    """The type and the Typer option of a setting. Values arrive as text: the checks are config's, in its words."""
    name, doc = setting.name, setting.doc
    words = _words(setting)
    panel = f"{setting.section.capitalize()} settings"
    if setting.kind is bool:
        spelling = f"{option_name(name)}/--no-{option_name(name)[2:]}"
        return bool | None, typer.Option(
            spelling, help=doc, rich_help_panel=panel, show_default=_defaults(name), allow_from_autoenv=variable
        )
    return str | None, typer.Option(
        option_name(name),
        *_SHORT.get(name, ()),
        help=doc,
        metavar=_metavar(setting),
        envvar=_VARIABLES.get(name),
        allow_from_autoenv=variable,
        rich_help_panel=panel,
        show_default=_defaults(name) or False,
        autocompletion=completion(words) if words else None,
    )


_VARIABLES = {"data": "SOFTVQ_DATASET"}
"""Environment variables that are not called as the option is: SOFTVQ_DATA is the folder of the named data sets."""
_SHORT: dict[str, tuple[str, ...]] = {"bottleneck": ("-b",), "data": ("-d",), "iterations": ("-n",), "seed": ("-s",)}


def _metavar(setting: Setting) -> str:
    """What to type: ``INT``, ``NUMBER``, ``TEXT``, ``mlp|cnn``."""
    if setting.words:
        return "|".join(setting.words)
    return {int: "INT", float: "NUMBER"}.get(setting.types[0], "TEXT")


def _words(setting: Setting) -> tuple[str, ...]:
    """The words that a setting may be, or that are at least known."""
    known: dict[str, Iterable[str]] = {"bottleneck": BOTTLENECKS, "data": IMAGE_SHAPES}
    return tuple(known.get(setting.name, setting.words))


def _defaults(name: str) -> str:
    """What holds without the option, by data set: ``digits: 32; mnist: 128; svhn, cifar10: 32 (vq 512)``."""
    texts: dict[str, list[str]] = {}
    for data_name in IMAGE_SHAPES:
        texts.setdefault(_default_on(data_name, name), []).append(data_name)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())


def _default_on(data_name: str, name: str) -> str:
    """The preset's value for the default bottleneck, with the bottlenecks that have another one in brackets."""
    values = {}
    for bottleneck in BOTTLENECKS:
        if not unused_settings(bottleneck, {name: None}):
            values[bottleneck] = _text(_presets()[data_name, bottleneck][name])
    base = values.get(ModelConfig.bottleneck, next(iter(values.values())))
    others: dict[str, list[str]] = {}
    for bottleneck, value in values.items():
        if value != base:
            others.setdefault(value, []).append(bottleneck)
    if list(map(len, others.values())) == [len(values) - 1] and len(values) > 2:
        return f"{base} (others {next(iter(others))})"
    exceptions = "; ".join(f"{', '.join(names)} {value}" for value, names in others.items())
    return f"{base} ({exceptions})" if exceptions else base


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
    """A value as it would be typed; nothing where there is none or an off switch."""
    if value is None or isinstance(value, bool):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _build(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of the file, then those of the options, each as its type and checked."""
    chosen = read_config(values["config"]) if values["config"] is not None else {}
    return chosen | {name: _value(name, values[name]) for name in SETTINGS if values[name] is not None}


def _value(name: str, text: str | bool) -> Any:
    for number, words in ((int, "a whole number"), (float, "a number")):
        if isinstance(text, str) and number in SETTINGS[name].types:
            try:
                value = number(text)
            except ValueError as error:
                raise UsageError("{} takes {}, not {}", param(name), words, shown(text)) from error
            return check(name, value)
    return check(name, text)


def note_unused(settings: Mapping[str, Any], terminal: Terminal) -> None:
    """Tell which of the settings that the user gave change nothing, for the bottleneck does not read them."""
    bottleneck = settings.get("bottleneck", ModelConfig.bottleneck)
    unused = [option_name(name) for name in unused_settings(bottleneck, settings)]
    if unused:
        terminal.note(f"the bottleneck {bottleneck} does not use {', '.join(unused)}: no effect")


def _reading_parameters() -> list[inspect.Parameter]:
    """Without environment variables: those are for runs, and ``softvq data`` takes these options with show alone."""
    return [parameter(name, *_option(SETTINGS[name], variable=False)) for name in READING]


READING = tuple(field.name for field in fields(DataConfig) if field.name not in ("data", "data_dir", "scale"))
"""The settings that say how data are read."""
Reading = Annotated[
    dict[str, Any],
    Bundle(_reading_parameters, lambda values: {n: _value(n, values[n]) for n in READING if values[n] is not None}),
]
"""Those of them that the user gave, by name. As a parameter, the options that say how data are read."""
Settings = Annotated[dict[str, Any], Bundle(_parameters, _build)]
"""The settings that the user gave, by name: ``{"K": 32}``. As a parameter, all options of a run."""
