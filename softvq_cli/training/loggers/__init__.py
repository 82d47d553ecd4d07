"""Where else a training is written to, beside its own log: one logger a file, one line in the registry.

To add one, write the file with a :class:`Logger`, and put it into :data:`LOGGERS`; its name is a word of
``softvq_cli.words.LOGGERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import UsageError, unknown_name
from softvq_cli.training.loggers.base import Logger
from softvq_cli.training.session import Session
from softvq_cli.training.trainer import Record
from softvq_cli.words import LOGGERS

__all__ = ["LoggedRecord", "Logger", "check", "open_loggers"]


def check(names: Iterable[str]) -> None:
    """Make sure that each logger is known and its package is there, before anything is trained.

    Raises:
        UsageError: an unknown name.
        SoftVQError: a package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise UsageError(unknown_name("logger", name, LOGGERS))
        _kind(name).require()


def open_loggers(names: Iterable[str], folder: Path, session: Session, validation: Dataset) -> list[Logger]:
    """One logger a name, once each, for the run in ``folder`` that stands where ``session`` does."""
    return [_kind(name)(folder, session, validation) for name in dict.fromkeys(names)]


def _kind(name: str) -> type[Logger]:
    module = importlib.import_module(f"{__name__}.{name}")
    kind: type[Logger] = getattr(module, LOGGERS[name])
    return kind


@dataclass(frozen=True)
class LoggedRecord:
    """A record whose loggers are told after it: what they cannot write costs no checkpoint."""

    record: Record
    loggers: Sequence[Logger]

    def report(self, metrics: dict[str, float]) -> None:
        """Keep a line of the log."""
        self.record.report(metrics)
        for logger in self.loggers:
            logger.report(metrics)

    def save(self, session: Session, metrics: dict[str, float]) -> None:
        """Keep the state."""
        self.record.save(session, metrics)
        for logger in self.loggers:
            logger.save(session)

    def keep(self, step: int) -> None:
        """Keep the state of this step for good."""
        self.record.keep(step)

    def kept(self) -> str | None:
        """What is left of a training that fails now."""
        return self.record.kept()

    def again(self) -> Mapping[str, Any] | None:
        """The arguments with which a call goes on."""
        again = self.record.again()
        return None if again is None else {**again, "log": [logger.name for logger in self.loggers]}
