"""What a logger is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.training.session import Session


class Logger(ABC):
    """Is told of one run, from where its session stands.

    Args:
        folder: of the run; locked, and its own log already cut to the session's step.
        session: at step 0, or where a resumed run goes on.
        validation: the test split.
    """

    name: ClassVar[str]
    """In the registry."""

    @abstractmethod
    def __init__(self, folder: Path, session: Session, validation: Dataset) -> None:
        """Begin, or go on."""

    @classmethod
    @abstractmethod
    def require(cls) -> None:
        """Make sure that the package is installed (SoftVQError that names the extra)."""

    @abstractmethod
    def report(self, metrics: dict[str, float]) -> None:
        """A line of the log."""

    @abstractmethod
    def save(self, session: Session) -> None:
        """A checkpoint was written; at the last one the run is finished."""

    @abstractmethod
    def close(self) -> None:
        """See everything to the disk."""
