"""The command ``softvq data``: list, download and check the named data sets; show how data are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from softvq_cli.cli.options import OVERWRITE, Reading, Streams, argument, completion, option
from softvq_cli.cli.output import option_words, refuse_existing
from softvq_cli.cli.progress import Terminal
from softvq_cli.words import IMAGE_SHAPES

_ACTIONS = ("list", "fetch", "check", "show")


def data(
    *,
    action: str = argument(
        _ACTIONS,
        "list (the default): list the named data sets and where they are. fetch: download missing or damaged "
        "files. check: as list, with exit code 3 if files are damaged, incomplete or, for a given NAME, "
        "missing. show: read one data set or path and describe it.",
        default="list",
    ),
    names: list[str] | None = argument(
        "NAME",
        "Data sets. Default: all. With show: a name or a path.",
        default=None,
        autocompletion=completion(tuple(IMAGE_SHAPES)),
    ),
    out: Path | None = option(
        None,
        "With show: also draw a sheet of example images of every class (.png, .pdf, .svg).",
        "-o",
        value="FILE",
        allow_from_autoenv=False,
    ),
    reading: Reading,
    data_dir: str | None = option(
        None, "Folder of the named data sets. Default: $SOFTVQ_DATA, else the user's cache folder.", value="DIR"
    ),
    overwrite: bool = OVERWRITE,
    terminal: Streams,
) -> None:
    """List, download and check the named data sets; show how any data are read.

    Your own data need no such step: give train a folder with one folder per class, a .zip or .tar of it, a table or
    an array. show counts what train would see and says what was skipped, mapped or rounded.

    Examples:
      softvq data
      softvq data fetch mnist
      softvq data show photos/ -o sheet.png
    """
    from softvq_cli import datasets
    from softvq_cli.cli.tables import data_table
    from softvq_cli.errors import InputError, UsageError, param, unknown_name

    if action not in _ACTIONS:
        raise UsageError(unknown_name("action", action, _ACTIONS))
    if action == "fetch" and not names:
        raise UsageError(f"which data sets? Give names from {', '.join(datasets.names())}")
    if action == "show":
        if names is None or len(names) != 1:
            raise UsageError("show takes one data set: softvq data show DATA")
        _show(names[0], out, {**reading, "data_dir": data_dir}, terminal, overwrite=overwrite)
        return
    if out is not None or reading:
        given = "out" if out is not None else next(iter(reading))
        raise UsageError("{} works only with show: softvq data show DATA", param(given))
    chosen = names or list(datasets.names())
    if action == "fetch":
        for name in chosen:
            datasets.fetch(name, data_dir, terminal)
    states = [datasets.describe(name, data_dir) for name in chosen]
    document = {
        "data_dir": str(datasets.data_folder(data_dir)),
        "data": [{**dataclasses.asdict(state), "path": state.path and str(state.path)} for state in states],
    }
    terminal.result(document, lambda: data_table(document))
    problems = {
        state.name: state.problem if state.present else "not here" for state in states if state.present or names
    }
    bad = [f"{name} ({problem})" for name, problem in problems.items() if problem]
    if action == "check" and bad:
        raise InputError(f"missing or damaged: {', '.join(bad)}; 'softvq data fetch NAME' downloads them again")
    where = option_words({"data_dir": data_dir})
    missing = [state.name for state in states if names and not state.complete]
    if missing:
        terminal.hint("softvq", "data", "fetch", *missing, *where)
    else:
        terminal.hint("softvq", "train", "--data", names[0] if names else "digits", *where)


def _show(name: str, out: Path | None, reading: dict[str, Any], terminal: Terminal, *, overwrite: bool) -> None:
    """Show the statistics of one data set."""
    from softvq_cli import datasets
    from softvq_cli.cli.tables import overview_tables
    from softvq_cli.config import DataConfig
    from softvq_cli.errors import InputError
    from softvq_cli.plots import images
    from softvq_cli.plots.style import check_suffix
    from softvq_cli.reporter import tell_notes

    if out is not None:
        check_suffix(out)
        datasets.place_of(name)
        refuse_existing(out, overwrite=overwrite)
    overview, train, _ = datasets.look(DataConfig(data=name, **reading), terminal)
    if out is not None and train.of_vectors:
        raise InputError("{} holds vectors, which cannot be drawn: leave out {out}", overview.name)
    tell_notes(terminal, overview.name, overview.notes)
    if out is not None:
        left = images.contact_sheet(out, train.images, train.labels, train.class_names, terminal)
        if left:
            terminal.note(f"{left} classes do not fit on {out}")
    document = {**overview.as_dict(), "sheet": out and str(out)}
    terminal.result(document, lambda: overview_tables(document))
    terminal.hint("softvq", "train", "--data", name, *option_words(reading))
