"""Who is told how a run goes: the command line draws a bar, a script may do nothing."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.config import RunConfig


class Observer:
    """Override what you want to hear; by default nothing happens."""

    def started(self, config: RunConfig, folder: Path, step: int) -> None:
        """The first step is about to run; ``step`` is 0, or where a resumed run goes on."""

    def stepped(self, step: int) -> None:
        """``step`` steps are done. Called after each: be quick."""

    def reported(self, metrics: dict[str, float]) -> None:
        """A line was added to ``metrics.jsonl``."""

    def noted(self, text: str) -> None:
        """Something the user should know, in one line."""

    def data_progress(self, what: str, done: int, total: int | None) -> None:
        """Data are being fetched or decoded: ``done`` of ``total`` items or bytes."""
