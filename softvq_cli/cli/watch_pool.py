"""Following the jobs of a study: their bar, their notes, a Ctrl-C that waits for checkpoints, and how it ends."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from softvq_cli.cli.progress import Terminal
from softvq_cli.errors import Message, SoftVQError
from softvq_cli.experiments.pool import PoolObserver, Progress

if TYPE_CHECKING:
    from rich.console import Group

    from softvq_cli.experiments.job import Job


_BAR = "iterations"


class PoolWatcher(PoolObserver):
    """A terminal for a pool that does not know reporters yet."""

    _ended = _todo = 0

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.data_progress, self.noted = terminal.progress, terminal.warn  # type: ignore
        self.stage = terminal.stage  # type: ignore

    def planned(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        """From here on Ctrl-C waits for the checkpoints."""
        self._terminal.stage(_BAR, stoppable=True)
        self._ended, self._todo = 0, len(todo)
        if jobs:
            done = len(jobs) - len(todo)
            jobs_to_do = "1 job" if len(todo) == 1 else f"{len(todo)} jobs"
            self._terminal.note(f"{jobs_to_do} to do" + (f", {done} done before" if done else ""))

    def progressed(self, progress: Progress) -> None:
        """Move the bar, which also tells the time that is left."""
        running = ", ".join(f"{name} {what}" for name, what in progress.running.items())
        detail = f"{progress.ended}/{progress.jobs} jobs: {running}"
        self._terminal.progress(_BAR, progress.units, progress.total, detail)

    def completed(self, job: Job) -> None:
        """One line a job."""
        self._ended += 1
        self._terminal.note(f"{job.name} done, {self._ended} of {self._todo}")

    def failed(self, job: Job, message: str) -> None:
        """One line, in any case."""
        self._ended += 1
        self._terminal.warn(Message("{} failed: {}", job.name, message))

    def dashboard(self, address: str) -> None:
        """Where to look."""
        self._terminal.note(f"dashboard: {address}")


@contextlib.contextmanager
def watch_pool(terminal: Terminal) -> Iterator[tuple[PoolWatcher, threading.Event]]:
    """An observer of a pool that draws on the terminal, and the event that the first Ctrl-C sets."""
    try:
        yield PoolWatcher(terminal), terminal.stop
    finally:
        terminal.close()


def comparison_table(document: dict[str, Any]) -> Group:
    """The table of a report for people."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from softvq_cli.experiments.formats import main_table

    header, rows = main_table(document)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for title in header:
        table.add_column(title, justify="right" if table.columns else "left")
    for row, of_row in zip(rows, document["rows"], strict=True):
        table.add_row(*row, style="dim" if of_row["kind"] == "control" else "")
    return Group(Text(document["title"], style="bold"), table, Text())


def end(failed: Sequence[str]) -> None:
    """Raise SoftVQError if something is missing in the reports, which were printed before."""
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise SoftVQError(f"not everything could be done: {failed[0]}{more}; the report lists what is missing")
