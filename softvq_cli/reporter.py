"""Who is told how work goes: a terminal, TensorBoard, a logger of one's own, or nobody."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from softvq_cli.errors import Message


class Reporter:
    """Five methods that do nothing. Override those that you want to hear.

    They are called from the thread that does the work, some of them several times a second, so they must be quick.
    Text that names settings is a ``softvq_cli.errors.Message``.
    """

    def note(self, text: str) -> None:
        """Something that the user should know, in one line: what was dropped, mapped, rounded or guessed."""

    def warn(self, text: str) -> None:
        """Something that must not be missed, in one line."""

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """A stage of the work begins.

        Args:
            name: what to call it, for people: ``training``, ``clustering``.
            stoppable: whether it saves its state and ends by itself soon after the caller's stop event is set.
        """

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """``done`` of ``total`` steps, images or bytes are done (None: unknown); ``detail`` is a short addition."""

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        """A training came to a report or to a checkpoint.

        Args:
            metrics: the line that was added to ``metrics.jsonl``; empty where only a checkpoint was written.
            session: the ``softvq_cli.training.session.Session`` where a checkpoint was written, else None.
        """


def tell_notes(reporter: Reporter, name: str, notes: Iterable[str]) -> None:
    """The notes on data called ``name``, a line each."""
    for note in notes:
        reporter.note(Message("{}: {}", name, note))


class Reporters(Reporter):
    """Passes on to several reporters what it is told, in their order."""

    def __init__(self, *reporters: Reporter) -> None:
        self.reporters = reporters
        for method in ("note", "warn", "stage", "progress", "step"):
            setattr(self, method, functools.partial(self._tell, method))

    def _tell(self, method: str, *args: Any, **options: Any) -> None:
        for reporter in self.reporters:
            getattr(reporter, method)(*args, **options)
