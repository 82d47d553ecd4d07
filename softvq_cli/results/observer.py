"""Who is told how a whole run goes."""

from __future__ import annotations

from softvq_cli.training import Observer


class RunObserver(Observer):
    """Also told of the stages after training."""

    def stage(self, what: str) -> None:
        """A stage begins."""
