"""softvq data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softvq_cli.cli.options import Json, completion
from softvq_cli.cli.output import Streams
from softvq_cli.words import IMAGE_SHAPES

if TYPE_CHECKING:
    from softvq_cli.datasets import Status

_ACTIONS = ("list", "fetch", "check")


def data(
    *,
    action: Annotated[
        str,
        typer.Argument(
            metavar="list|fetch|check",
            help="list: what is known and where it lies (as without a word). fetch: download what is missing or "
            "damaged. check: the same list, and exit code 3 if something is damaged or only partly there, or if a NAME "
            "that was given is not there.",
            autocompletion=completion(_ACTIONS),
        ),
    ] = "list",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Of these data sets. Default: all.", autocompletion=completion(tuple(IMAGE_SHAPES))
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where the data sets lie. Default: $SOFTVQ_DATA, else the user's cache folder.",
        ),
    ] = None,
    as_json: Json = False,
    terminal: Streams,
) -> None:
    """List, fetch and check the data sets that are known by name.

    Your own images need no such step: give train a folder with one folder a class, a .zip or .tar of one,
    or an array in a .npz or .npy file.
    """
    from softvq_cli import datasets
    from softvq_cli.cli.tables import data_table
    from softvq_cli.errors import InputError, UsageError, unknown_name

    if action not in _ACTIONS:
        raise UsageError(unknown_name("action", action, _ACTIONS))
    if action == "fetch" and not names:
        raise UsageError(f"which data sets? known are {', '.join(datasets.names())}")
    chosen = names or list(datasets.names())
    with terminal.bars() as bars:
        if action == "fetch":
            for name in chosen:
                datasets.fetch(name, data_dir, bars.report)
        states = [datasets.describe(name, data_dir) for name in chosen]
    folder = str(datasets.data_folder(data_dir))
    document = {"data_dir": folder, "data": [_as_dict(state) for state in states]}
    terminal.result(document, lambda: data_table(folder, states), as_json=as_json)
    bad = [
        f"{state.name} ({state.problem if state.present else 'not here'})"
        for state in states
        if (state.problem if state.present else names)
    ]
    if action == "check" and bad:
        raise InputError(f"not usable as they are: {', '.join(bad)}; 'softvq data fetch NAME' mends them")
    where = [] if data_dir is None else ["--data-dir", data_dir]
    missing = [state.name for state in states if not state.complete] if names else []
    if missing:
        terminal.hint("softvq", "data", "fetch", *missing, *where)
    else:
        terminal.hint("softvq", "train", "--data", names[0] if names else "digits", *where)


def _as_dict(state: Status) -> dict[str, Any]:
    return {**dataclasses.asdict(state), "path": None if state.path is None else str(state.path)}
