"""The options that reproduce and sweep share."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args

import typer

from softvq_cli.cli.options import Bundle
from softvq_cli.cli.settings import Settings

_ALL: Bundle = next(one for one in get_args(Settings) if isinstance(one, Bundle))


def settings_without(*names: str) -> Any:
    """The options of a run but for those that a grid decides; a parameter's annotation like ``Settings``."""

    def parameters() -> list[inspect.Parameter]:
        return [one for one in _ALL.parameters() if one.name not in names]

    def build(values: dict[str, Any]) -> dict[str, Any]:
        built: dict[str, Any] = _ALL.build(values | dict.fromkeys(names))
        return built

    return Annotated[dict[str, Any], Bundle(parameters, build)]


Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="INT",
        help="Cells side by side, one thread each; no number depends on it. Default: one a core; one on a GPU.",
    ),
]
