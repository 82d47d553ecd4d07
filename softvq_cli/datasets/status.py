"""What is known of the named data sets on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from softvq_cli.datasets import readers
from softvq_cli.datasets.named import DIGITS, NAMED, Named, contents, data_folder
from softvq_cli.errors import InputError, UsageError, unknown_name


def names() -> tuple[str, ...]:
    """Every known name."""
    return (DIGITS, *NAMED)


def known(name: str) -> Named | None:
    """The data set of files with this name, or None for digits, which needs none.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in names():
        raise UsageError(unknown_name("data set", name, names()))
    return NAMED.get(name)


@dataclass(frozen=True)
class Status:
    """What is known of a named data set on this machine."""

    name: str
    description: str
    path: Path | None
    """The folder its files lie in, or would; None for digits."""
    present: bool
    """At least one of its files is there."""
    complete: bool
    """All of them are."""
    intact: bool | None
    """All of them are the published ones; None: not all are there, or there is nothing to compare with."""
    size: int
    """Bytes of its files."""
    problem: str = ""
    """What is wrong, in one line."""


def describe(name: str, data_dir: str | os.PathLike[str] | None = None) -> Status:
    """Look for a named data set and compare every file that is there with its published MD5.

    Raises:
        UsageError: the name is unknown.
    """
    named = known(name)
    if named is None:
        return Status(DIGITS, "1 797 handwritten digits, 8x8 grey, part of scikit-learn", None, True, True, True, 0)
    data = data_folder(data_dir)
    found = {file: named.find(data, file) for file in named.files}
    missing = [file for file, form in found.items() if form is None]
    problem = f"{missing[0]} is missing" if missing else ""
    checks = {
        file: _check(named, data, file) and form[1] is not None for file, form in found.items() if form is not None
    }
    checked = not missing and all(checks.values())
    damaged = [file for file, check in checks.items() if check is None]
    if damaged:
        problem = f"{damaged[0]} is damaged"
    return Status(
        name=name,
        description=named.description,
        path=data / named.folder,
        present=len(missing) < len(found),
        complete=not missing,
        intact=False if damaged else (True if checked else None),
        size=sum(form[0].stat().st_size for form in found.values() if form is not None),
        problem=problem,
    )


def _check(named: Named, data: Path, file: str) -> bool | None:
    """Whether it is what its MD5 says, if there is one, and not only of the same form; None if it is damaged."""
    doubted: list[str] = []
    try:
        content = contents(named, data, file, doubted.append)
        if named.packed:
            readers.read_idx(content, file)
    except InputError:
        return None
    return not doubted
