"""Following a training run: its bar, its notes, and a Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from softvq_cli.cli.interrupt import interrupts
from softvq_cli.cli.output import Terminal
from softvq_cli.cli.progress import Bars
from softvq_cli.config import RunConfig
from softvq_cli.results.observer import RunObserver

Follower = TypeVar("Follower", bound="Following")


class Following:
    """What those who follow training have in common: the streams, and the event that the first Ctrl-C sets."""

    def __init__(self, terminal: Terminal, bars: Bars, stop: threading.Event) -> None:
        self._terminal, self._bars, self._stop = terminal, bars, stop

    def data_progress(self, what: str, done: int, total: int | None) -> None:
        """Show the data coming in."""
        self._bars.report(what, done, total)

    def stage(self, what: str) -> None:
        """Another stage than training: Ctrl-C need not wait."""
        interrupts.stop = None
        self._bars.begin(what)


class Watcher(Following, RunObserver):
    """Shows how a run goes, and what it has to say; where there is no terminal for a bar, in a line now and then.

    Args:
        terminal: the streams.
        bars: of the terminal.
        stop: the event that the first Ctrl-C sets.
        clock: seconds.
    """

    _total = _start = 0

    def __init__(
        self, terminal: Terminal, bars: Bars, stop: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(terminal, bars, stop)
        self._clock = clock
        self._pause, self._said_at, self._said_step = _FIRST_PAUSE, clock(), 0
        self._loss: float | None = None

    def started(self, config: RunConfig, folder: Path, step: int) -> None:
        """From here on there is something to save: Ctrl-C waits for it."""
        interrupts.stop = self._stop
        self._total, self._start = config.train.iterations, step
        self._pause, self._said_at, self._said_step, self._loss = _FIRST_PAUSE, self._clock(), step, None
        self._terminal.note(f"training in {folder}" + (f", from step {step}" if step else ""))
        self.stepped(step)

    def stepped(self, step: int) -> None:
        """Move the bar, or write a line if it is time for one."""
        self._bars.update("training", step, self._total, start=self._start)
        passed = self._clock() - self._said_at
        if passed >= self._pause and self._said_step < step < self._total and not self._terminal.draws:
            self._terminal.note(self._line(step, (step - self._said_step) / passed))
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._said_at, self._said_step = self._said_at + passed, step

    def reported(self, metrics: dict[str, float]) -> None:
        """Put the figures of the last report beside the bar."""
        self._loss = metrics.get("loss")
        self._bars.update("training", int(metrics["step"]), self._total, start=self._start, detail=_figures(metrics))

    def noted(self, text: str) -> None:
        """Pass a note on."""
        self._terminal.note(text)

    def _line(self, step: int, rate: float) -> str:
        """``step 1200 of 40000, 24.1 steps/s, loss 0.0412, 0:26:50 left``; before the first report without a loss."""
        loss = "" if self._loss is None else f", loss {self._loss:.3g}"
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        left = datetime.timedelta(seconds=round((self._total - step) / rate))
        return f"step {step} of {self._total}, {speed} steps/s{loss}, {left} left"


_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
"""Seconds between two lines in a log: the pause doubles from one to the other."""


def watch(terminal: Terminal) -> contextlib.AbstractContextManager[tuple[Watcher, threading.Event]]:
    """An observer of one run that draws on the terminal, and the event that the first Ctrl-C of a training sets."""
    return following(terminal, Watcher)


@contextlib.contextmanager
def following(terminal: Terminal, kind: type[Follower]) -> Iterator[tuple[Follower, threading.Event]]:
    """An observer of this kind with its event."""
    stop = threading.Event()
    with terminal.bars() as bars:
        try:
            yield kind(terminal, bars, stop), stop
        finally:
            interrupts.stop = None


def _figures(metrics: dict[str, float]) -> str:
    """Losses and, for codebooks, perplexity and mean posterior entropy: short, to fit on 80 columns with the bar."""
    shown = {"loss": "loss", "val_nmse": "val", "perplexity": "ppl", "posterior_entropy_bits": "bits"}
    return " ".join(f"{word} {metrics[name]:.3g}" for name, word in shown.items() if name in metrics)
