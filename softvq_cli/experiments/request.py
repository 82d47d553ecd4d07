"""What may be asked of a comparison, checked, and the command that asks for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softvq_cli.cli.spelling import option_name
from softvq_cli.config import RunConfig
from softvq_cli.errors import UsageError, param, unknown_name
from softvq_cli.experiments.tables import CONTROLS, RAW, TABLES, Table
from softvq_cli.words import BOTTLENECKS

DECIDED = ("data", "bottleneck", "seed")
"""Settings that the table and the seeds decide."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    names: tuple[str, ...]
    """Of :data:`softvq_cli.experiments.tables.TABLES`."""
    out: Path
    seeds: int | None = None
    """0…seeds − 1; the table's own number where None."""
    only: tuple[str, ...] = ()
    """Rows; all where empty."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of a table's data set → other data to use in its place."""
    only_data: tuple[str, ...] = ()
    """Data sets of the tables; all where empty."""
    full: bool = False
    """Also measure what goes beyond the paper's evaluation."""
    target_nmse: float | None = None
    """Of Figure 4; the largest error of its models where None."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of all rows, by name; they win over the preset and the table."""

    def __post_init__(self) -> None:
        """Check all names and numbers.

        Raises:
            UsageError: an unknown name, or a number out of range.
        """
        tables = [_table(name) for name in self.names]
        known = tuple(dict.fromkeys(data for table in tables for data in table.data))
        for data in (*self.data, *self.only_data):
            if data not in known:
                raise UsageError(unknown_name(f"data set of {', '.join(self.names)}", data, known))
        rows = (RAW, *BOTTLENECKS, *(row for row in CONTROLS if row != RAW))
        for row in self.only:
            if row not in rows:
                raise UsageError(unknown_name("row", row, rows))
        if self.seeds is not None and self.seeds < 1:
            raise UsageError(f"{param('seeds')} must be at least 1, not {self.seeds}")
        if self.target_nmse is not None and not self.target_nmse > 0:
            raise UsageError(f"{param('target_nmse')} must be above 0, not {self.target_nmse}")
        for name in self.settings:
            if name in DECIDED:
                raise UsageError(f"{param(name)} is not for a comparison, which decides it")
        RunConfig.from_flat(self.settings)

    def command(self) -> str:
        """The command that asks for this."""
        words = ["softvq", "reproduce", "all" if self.names == tuple(TABLES) else self.names[0]]
        if self.seeds is not None:
            words += ["--seeds", str(self.seeds)]
        if self.only:
            words += ["--only", ",".join(self.only)]
        for name, path in self.data.items():
            words += ["--data", f"{name}={path}"]
        if self.only_data:
            words += ["--only-data", ",".join(self.only_data)]
        words += ["--full"] if self.full else []
        words += [] if self.target_nmse is None else ["--target-nmse", number_text(self.target_nmse)]
        return shlex.join([*words, *setting_words(self.settings), "--out", str(self.out)])


def how_words(jobs: int | None, device: str) -> str:
    """The rest of a command: what changes no number, and does not stand in a report."""
    return (f" --jobs {jobs}" if jobs else "") + (f" --device {device}" if device != "auto" else "")


def setting_words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they would be typed."""
    words: list[str] = []
    for name, value in settings.items():
        if isinstance(value, bool):
            words.append(option_name(name) if value else f"--no-{option_name(name)[2:]}")
        elif value is not None:
            words += [option_name(name), number_text(value)]
    return words


def number_text(value: Any) -> str:
    """A number in full, 1.0 as 1; text as it is."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _table(name: str) -> Table:
    if name not in TABLES:
        raise UsageError(unknown_name("comparison", name, (*TABLES, "all")))
    return TABLES[name]
