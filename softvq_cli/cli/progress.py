"""The terminal as a reporter: notes, progress bars, log lines, results, and stopping at the end of a step."""

from __future__ import annotations

import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.cli.errors import interrupts
from softvq_cli.cli.output import console, option_name, print_json, print_path
from softvq_cli.errors import Message, one_line, spelled
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import ProgressColumn, Task, TaskID


_EVERY = 0.1
"""Minimum seconds between two updates of a bar; a training step may take less than a millisecond."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
"""Seconds between two lines in a log: first and maximum; the interval doubles each time."""
_FIGURES = {"loss": "loss", "test_nmse": "test", "perplexity": "ppl", "posterior_entropy_bits": "entropy"}
"""Metrics next to the progress bar of a training → short names that fit into 80 columns."""


class Terminal(Reporter):
    """Both streams of one command: results on standard output, everything else on standard error.

    ``quiet`` omits bars, notes and hints, but not warnings. ``clock`` returns the time in seconds.
    """

    def __init__(
        self, *, quiet: bool = False, as_json: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.stop = threading.Event()
        """The first Ctrl-C in a stoppable stage sets it."""
        self._clock = clock
        self._said: set[str] = set()
        self._stoppable = ""
        self._log = _Log(clock())
        self._bars: _Bars | None = None

    @property
    def piped(self) -> bool:
        """Whether a program reads the results."""
        return not sys.stdout.isatty()

    def note(self, text: str) -> None:
        """Print a note."""
        if not self.quiet:
            self._say(text)

    def warn(self, text: str) -> None:
        """Print a warning, even if quiet."""
        self._say(Message("warning: {}", text))

    def hint(self, *words: str | Path) -> None:
        """Print the next command, quoted for the shell."""
        import shlex

        self.note(f"next: {shlex.join(map(str, words))}")

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """Show the name of a stage without known progress; the bars of earlier stages are removed."""
        interrupts.raise_again()
        interrupts.stop = self.stop if stoppable else None
        self._stoppable = name if stoppable else ""
        self._log = _Log(self._clock())
        if bars := self._drawn():
            bars.clear()
            if not stoppable:  # its progress is reported immediately
                bars.update(name, 0, None)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Update a bar; without a terminal, a training writes a line at growing intervals."""
        if bars := self._drawn():
            bars.update(name, done, total, detail)
        elif name == self._stoppable and total is not None and (line := self._log.line(done, total, self._clock())):
            self.note(line)

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        """Show the latest metrics of a training next to its bar."""
        self._log.loss = metrics.get("loss", self._log.loss)
        if metrics and (bars := self._drawn()):
            numbers = (f"{short} {metrics[name]:.3g}" for name, short in _FIGURES.items() if name in metrics)
            bars.describe(self._stoppable, " ".join(numbers))

    def close(self) -> None:
        """End the work, successfully or not: the bars are removed, and Ctrl-C ends the command immediately again."""
        interrupts.stop = None
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def result(self, document: Mapping[str, Any], show: Callable[[], RenderableType]) -> None:
        """Print one JSON document to a pipe or on request, otherwise a table."""
        self.close()
        if self.as_json or self.piped:
            print_json(document)
        else:
            console().print(show())
        sys.stdout.flush()  # if the reader has left, print nothing more on standard error first

    def wrote(
        self,
        path: Path | str,
        show: Callable[[], RenderableType] | None = None,
        *,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        """Print the path of the output, on a terminal after a summary; or everything as one JSON document."""
        self.close()
        if self.as_json:
            print_json({"path": str(path), **(document or {})})
            return
        if show is not None and not self.piped:
            console().print(show())
        print_path(path)

    def _drawn(self) -> _Bars | None:
        """The bars, if standard error is a terminal."""
        if self._bars is None and sys.stderr.isatty() and not self.quiet:
            self._bars = _Bars()
        return self._bars

    def _say(self, text: str) -> None:
        """Print one line above the bars; a line that was printed before, for example for the other split, is omitted.

        Errors of the stream are ignored, so that a training continues.
        """
        line = one_line(spelled(text, option_name), None)
        if line in self._said:
            return
        self._said.add(line)
        with contextlib.suppress(OSError):
            if self._bars is not None:
                self._bars.say(line)
            else:
                print(line, file=sys.stderr, flush=True)


class _Log:
    """Log lines of a training without a terminal, at growing intervals."""

    def __init__(self, now: float) -> None:
        self.loss: float | None = None
        self._pause, self._said_at = _FIRST_PAUSE, now
        self._said_step: float | None = None

    def line(self, step: float, total: int, now: float) -> str:
        """``step 1200 of 40000, 24.1 steps/s, loss 0.0412, 0:26:50 left`` if a line is due, else empty."""
        if self._said_step is None:  # the first call: a resumed run starts at this step
            self._said_step, self._said_at = step, now
        passed = now - self._said_at
        if passed < self._pause or not self._said_step < step < total:
            return ""
        rate = (step - self._said_step) / passed
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._said_at, self._said_step = now, step
        loss = "" if self.loss is None else f", loss {self.loss:.3g}"
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        left = datetime.timedelta(seconds=round((total - step) / rate))
        return f"step {step:.0f} of {total}, {speed} steps/s{loss}, {left} left"


class _Bars:
    """One bar per activity, created when it is first reported."""

    def __init__(self) -> None:
        from rich.progress import Progress

        stderr = console(stderr=True)
        self._progress = Progress(*_columns(), console=stderr, transient=True, expand=True, refresh_per_second=5)
        self._progress.start()
        self._tasks: dict[str, TaskID] = {}
        self._totals: dict[str, int | None] = {}
        self._updated: dict[str, float] = {}

    def update(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Update the bar with this name."""
        now = time.monotonic()
        if not detail and (total is None or done < total) and now - self._updated.get(name, 0.0) < _EVERY:
            return
        self._updated[name] = now
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, completed=int(done), detail="")
        elif self._totals[name] is None and total is not None:  # the speed is measured from here
            self._progress.reset(self._tasks[name], total=total, completed=int(done))
        self._totals[name] = total
        self._progress.update(self._tasks[name], completed=done, total=total)
        if detail:
            self.describe(name, detail)

    def describe(self, name: str, detail: str) -> None:
        """Set the text next to the bar."""
        if name in self._tasks:
            self._progress.update(self._tasks[name], detail=detail)

    def say(self, line: str) -> None:
        """Print above the bars."""
        self._progress.console.print(line, markup=False, soft_wrap=True)

    def clear(self) -> None:
        """Remove all bars."""
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks, self._updated = {}, {}

    def stop(self) -> None:
        """Stop drawing."""
        self._progress.stop()


def _columns() -> tuple[ProgressColumn, ...]:
    """Name, bar, ``1 200/40 000``, speed, text, and remaining time."""
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.total is None and not task.completed:  # no progress is known
                return Text()
            total = "" if task.total is None else f"/{task.total:,.0f}"
            return Text(f"{task.completed:,.0f}{total}".replace(",", "\N{NO-BREAK SPACE}"))

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f}/s".replace(",", "\N{NO-BREAK SPACE}"), style="dim")

    fixed = Column(no_wrap=True)
    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        Amount(fixed.copy()),
        Rate(fixed.copy()),
        TextColumn("[dim]{task.fields[detail]}", table_column=fixed.copy()),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
