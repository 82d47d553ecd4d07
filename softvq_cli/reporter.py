"""The interface for progress reports: a terminal, TensorBoard or a custom logger implements it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from softvq_cli.errors import Message


class Reporter:
    """Receives the events of a training or a study. Every method does nothing by default; override those you need.

    The methods are called in the thread that does the work, some several times per second, so they must be fast.
    Text that names settings is a ``softvq_cli.errors.Message``.
    """

    def note(self, text: str) -> None:
        """Receive a note for the user, in one line: for example what was dropped, mapped, rounded or guessed."""

    def warn(self, text: str) -> None:
        """Receive a warning that the user must not miss, in one line."""

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """A stage of the work begins.

        Args:
            name: the name to show: ``training``, ``clustering``.
            stoppable: whether the stage saves its state and ends soon after the caller's stop event is set.
        """

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """``done`` of ``total`` steps, images or bytes are complete (None: unknown); ``detail`` is a short note."""

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        """A training reached a report or a checkpoint.

        Args:
            metrics: the line added to ``metrics.jsonl``; empty if only a checkpoint was written.
            session: the ``softvq_cli.training.session.Session`` if a checkpoint was written, else None.
        """


def tell_notes(reporter: Reporter, name: str, notes: Iterable[str]) -> None:
    """Report the notes on the data set ``name``, one line each."""
    for note in notes:
        reporter.note(Message("{}: {}", name, note))


class Reporters(Reporter):
    """Forwards every event to several reporters, in order."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters
        for method in ("note", "warn", "stage", "progress", "step"):
            setattr(self, method, functools.partial(self._tell, method))

    def _tell(self, method: str, *args: Any, **options: Any) -> None:
        for reporter in self.reporters:
            getattr(reporter, method)(*args, **options)
