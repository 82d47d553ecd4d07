"""Progress bars on standard error."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

_EVERY = 0.1
"""Seconds between two updates of a bar; a training step may take less than a millisecond."""


class Bars:
    """One bar for each thing that goes on, made when it is first heard of.

    :meth:`report` is a ``softvq_cli.datasets.progress.Progress``.
    """

    def __init__(self, console: Console, *, visible: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _Amount(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[detail]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=5,
            disable=not visible,
        )
        self._visible = visible
        self._tasks: dict[str, TaskID] = {}
        self._updated: dict[str, float] = {}

    def __enter__(self) -> Bars:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bars."""
        self._progress.stop()

    def begin(self, what: str) -> None:
        """A stage of which only the name is known; those before it are over."""
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        self.report(what, 0, None)

    def report(self, what: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` items or bytes."""
        self.update(what, done, total)

    def update(self, what: str, done: int, total: int | None, *, start: int = 0, detail: str | None = None) -> None:
        """The same, for something that begins at ``start`` and has a word to add."""
        now = time.monotonic()
        finished = total is not None and done >= total
        if not self._visible or (detail is None and not finished and now - self._updated.get(what, 0.0) < _EVERY):
            return
        self._updated[what] = now
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, completed=start, detail="")
        fields: dict[str, Any] = {} if detail is None else {"detail": detail}
        self._progress.update(self._tasks[what], completed=done, total=total, **fields)


class _Amount(ProgressColumn):
    """``1 200/40 000``."""

    def render(self, task: Task) -> Text:
        if task.total is None and not task.completed:  # all that is known is that it goes on
            return Text()
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total}".replace(",", "\N{NO-BREAK SPACE}"))


class _Rate(ProgressColumn):
    """Steps, images or bytes a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s".replace(",", "\N{NO-BREAK SPACE}"), style="dim")
