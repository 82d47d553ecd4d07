"""A run that is going on: steps, reports and checkpoints, each where it is due."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softvq_cli.config import RunConfig, TrainConfig
from softvq_cli.errors import Interrupted, SoftVQError, param
from softvq_cli.training import checkpoint, log, run_directory
from softvq_cli.training.checkpoint import DatasetInfo
from softvq_cli.training.observer import Observer
from softvq_cli.training.session import Session


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: RunConfig
    metrics: dict[str, float]
    """The last line of its log."""
    finished_before: bool = False
    """It was asked to resume and there was nothing left to do."""

    @property
    def path(self) -> Path:
        """Its checkpoint."""
        return self.folder / run_directory.CHECKPOINT


class Running:
    """A run in its locked directory, from where its session stands.

    :meth:`launch` and :meth:`settle` take turns. On a GPU the first returns while its steps still run, on a stream
    of this run alone, so that several runs can be launched before the first is settled.

    Args:
        session: of the run.
        folder: its directory.
        info: the data that it trains on.
        observer: is told what happens.
        metrics: the last line of the log so far, or nothing.
        device: as in ``--device``, for the command that goes on.
    """

    def __init__(
        self,
        session: Session,
        folder: Path,
        info: DatasetInfo,
        observer: Observer,
        metrics: dict[str, float],
        device: str,
    ) -> None:
        self._session, self._folder, self._info = session, folder, info
        self._observer, self._metrics, self._device = observer, metrics, device
        self._clock = _Clock(session.step, metrics.get("seconds", 0.0))
        self._boundary = session.step
        self._stream = _stream(session.device)

    def launch(self, stop: threading.Event) -> None:
        """Advance to the next report or checkpoint, or until ``stop`` is set."""
        session = self._session
        self._boundary = session.step + _steps_to_boundary(session.step, session.config.train)
        with self._on_stream():
            while session.step < self._boundary and not stop.is_set():
                session.advance(self._boundary - session.step)
                self._observer.stepped(session.step)

    def settle(self, stop: threading.Event) -> Run | None:
        """Report and save what is due; the finished run, or None while there are steps left.

        Raises:
            Interrupted: ``stop`` is set; a checkpoint was written.
            SoftVQError: writing failed, or a number is not finite.
        """
        with self._on_stream():
            if self._session.step == self._boundary:
                self._report_and_save()
            if self._session.step == self._session.config.train.iterations:
                if self._session.diagnosis:
                    self._observer.noted(self._session.diagnosis)
                return Run(self._folder, self._session.config, self._metrics)
            if stop.is_set():
                self._save()
                raise self._interrupted()
        return None

    def _report_and_save(self) -> None:
        session, settings = self._session, self._session.config.train
        last = session.step == settings.iterations
        if last or session.step % settings.log_every == 0:
            self._refuse_not_finite()
            self._metrics = {**session.report(), **self._clock.read(session.step)}
            log.append(self._folder, self._metrics)
            self._observer.reported(self._metrics)
        if last or session.step % settings.checkpoint_every == 0:
            self._save()

    def _save(self) -> None:
        self._refuse_not_finite()
        session = self._session
        checkpoint.save(
            self._folder / run_directory.CHECKPOINT,
            config=session.config,
            dataset=self._info,
            step=session.step,
            finished=session.step == session.config.train.iterations,
            metrics=self._metrics,
            model=session.model,
            training=session.state_dict(),
        )

    def _refuse_not_finite(self) -> None:
        """Raise, naming the step and the term, rather than let such a state replace a good checkpoint."""
        where = self._session.not_finite()
        if where is None:
            return
        path = self._folder / run_directory.CHECKPOINT
        kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint had been written yet"
        raise SoftVQError(f"{where}; {kept}; try a smaller {param('lr')} than {self._session.config.train.lr:g}")

    def _interrupted(self) -> Interrupted:
        again = {"out": self._folder, "resume": True, "device": None if self._device == "auto" else self._device}
        return Interrupted(f"stopped at step {self._session.step} of {self._session.config.train.iterations}", again)

    def _on_stream(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """A CUDA stream that begins after what is queued on the current one; nothing on another device."""
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def _steps_to_boundary(step: int, settings: TrainConfig) -> int:
    """How far the run may go before something is due."""
    due = (settings.log_every - step % settings.log_every, settings.checkpoint_every - step % settings.checkpoint_every)
    return min(settings.iterations - step, *due)


class _Clock:
    """Seconds of training so far, over all the pieces of a resumed run, and steps a second since the last reading."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.before, self.start = step, seconds, time.perf_counter()
        self.last = self.start

    def read(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        rate = (step - self.step) / max(now - self.last, 1e-9)
        self.step, self.last = step, now
        return {"seconds": round(self.before + now - self.start, 3), "steps_per_second": round(rate, 2)}
