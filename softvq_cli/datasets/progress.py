"""How a long step tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much is done, and how much there is (None: unknown)."""


def silent(what: str, done: int, total: int | None) -> None:
    """The observer of somebody who does not want to know."""
