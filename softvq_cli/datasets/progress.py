"""How a long step tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

from softvq_cli.reporter import Reporter

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much is done, and how much there is (None: unknown)."""


def silent(what: str, done: int, total: int | None) -> None:
    """The observer of somebody who does not want to know."""


class Told(Reporter):
    """A reporter that passes progress and notes on to such a function, until every caller has a reporter."""

    def __init__(self, progress: Progress) -> None:
        self._tell = progress

    def note(self, text: str) -> None:
        """A line without numbers."""
        self._tell(text, 0, None)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """How far it is."""
        self._tell(name, int(done), total)
