"""The training loop: steps, reports and checkpoints, for one training or several in turn."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import Interrupted, SoftVQError
from softvq_cli.files import copy
from softvq_cli.process import threads, whole_float32
from softvq_cli.reporter import Reporter
from softvq_cli.training import checkpoint, run_directory
from softvq_cli.training.checkpoint import DatasetInfo
from softvq_cli.training.run_directory import Run
from softvq_cli.training.session import Session
from softvq_cli.training.steppers import stepper


@dataclass(frozen=True)
class RunFiles:
    """The log and the checkpoints of a training, in its locked folder."""

    folder: Path
    splits: tuple[Dataset, Dataset]
    """The training and test split."""
    dataset: DatasetInfo
    """The description of the training data."""
    device: str
    """The requested device, for a call that continues."""
    logs: tuple[str, ...] = ()
    """Additional loggers of the call, of ``words.LOGGERS``."""

    def keep(self, step: int) -> None:
        """Keep a copy of the checkpoint that later ones do not replace."""
        copy(self.folder / run_directory.CHECKPOINT, run_directory.kept_checkpoint(self.folder, step))

    def again(self) -> dict[str, Any]:
        """The arguments of a call that continues the training."""
        again = {"out": self.folder, "resume": True, "device": None if self.device == "auto" else self.device}
        return again | ({"log": list(dict.fromkeys(self.logs))} if self.logs else {})


class Trainer:
    """Trains a session from its current step to its last iteration; without ``files``, in memory.

    :meth:`launch` and :meth:`settle` alternate. On a GPU, ``launch`` returns while its steps are still running on the
    stream of this training, so that several trainings can be launched before the first is settled. The reporter is
    called after the files are written, so that its errors cannot cost a checkpoint. ``metrics`` is the log's last line.
    """

    def __init__(
        self,
        session: Session,
        files: RunFiles | None,
        reporter: Reporter,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        self.session, self.metrics = session, dict(metrics or {})
        self._files, self._reporter = files, reporter
        self._stepper = stepper(session)
        self._seconds = self.metrics.get("seconds", 0.0)
        self._last_step, self._last_time = session.step, time.perf_counter()
        self._boundary = session.step
        self._stream = _stream(session.device)

    def launch(self, stop: threading.Event) -> None:
        """Advance to the next report or checkpoint, or until ``stop`` is set."""
        session, train = self.session, self.session.config.train
        due = (every * (session.step // every + 1) for every in (train.log_every, train.checkpoint_every))
        self._boundary = min(train.iterations, *due, *(step for step in train.kept if step > session.step))
        with self._in_place():
            while session.step < self._boundary and not stop.is_set():
                self._stepper.advance(self._boundary - session.step)
                self._reporter.progress("training", session.step, train.iterations)

    def settle(self, stop: threading.Event) -> bool:
        """Write the report and checkpoint that are due; returns whether the training is complete.

        Interrupted: ``stop`` is set; the state was saved. SoftVQError: writing failed, or a value is not finite.
        """
        session, iterations = self.session, self.session.config.train.iterations
        with self._in_place():
            if session.step == self._boundary:
                self._report_and_save()
            if session.step == iterations:
                if session.diagnosis:
                    self._reporter.note(session.diagnosis)
                return True
            if stop.is_set():
                self._save()
                self._reporter.step({}, session)
                again = self._files.again() if self._files else None
                raise Interrupted(f"stopped at step {session.step} of {iterations}", again)
        return False

    def finished(self) -> Run:
        """The run whose training is complete."""
        assert self._files
        return Run(self._files.folder, self.session.config, self.metrics, splits=self._files.splits)

    def _report_and_save(self) -> None:
        session, settings = self.session, self.session.config.train
        last, keep = session.step == settings.iterations, session.step in settings.kept
        reports = last or session.step % settings.log_every == 0
        saves = last or keep or session.step % settings.checkpoint_every == 0
        if reports:
            self._refuse_not_finite()
            self.metrics = {**session.report(), **self._times()}
            if self._files:
                run_directory.append_metrics(self._files.folder, self.metrics)
        if saves:
            self._save()
        if keep and self._files:
            self._files.keep(session.step)
        self._reporter.step(self.metrics if reports else {}, session if saves else None)

    def _save(self) -> None:
        """Replace the checkpoint (SoftVQError: it cannot be written; the old one is unchanged)."""
        self._refuse_not_finite()
        session, files = self.session, self._files
        if files:
            checkpoint.save(
                files.folder / run_directory.CHECKPOINT,
                config=session.config,
                dataset=files.dataset,
                step=session.step,
                metrics=self.metrics,
                model=session.model,
                training=session.state_dict(),
            )

    def _refuse_not_finite(self) -> None:
        """Raise an error with the step and the term, so that a good checkpoint is not replaced."""
        problem = self.session.not_finite()
        if problem is None:
            return
        if self._files:
            path = self._files.folder / run_directory.CHECKPOINT
            problem += f"; the last good checkpoint is {path}" if path.exists() else "; there is no checkpoint yet"
        raise SoftVQError("{}; try a smaller {lr} than {:g}", problem, self.session.config.train.lr)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Use the stream and the number of threads of this training."""
        on_stream = contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with threads(self.session.config.train.threads), whole_float32.held(), on_stream:
            yield

    def _times(self) -> dict[str, float]:
        """Seconds of training, including earlier parts of a resumed run, and steps per second since the last call."""
        now, step = time.perf_counter(), self.session.step
        rate = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._seconds += now - self._last_time
        self._last_step, self._last_time = step, now
        return {"seconds": round(self._seconds, 3), "steps_per_second": round(rate, 2)}


def run_in_turn(trainers: Sequence[Trainer], stop: threading.Event) -> list[SoftVQError | None]:
    """Complete every training, up to one report or checkpoint of each in turn.

    Returns for each the error that ended it, or None. An error in one does not stop the others.
    """
    ended: dict[int, SoftVQError | None] = {}
    while len(ended) < len(trainers):
        going = [(number, trainer) for number, trainer in enumerate(trainers) if number not in ended]
        for _, trainer in going:
            trainer.launch(stop)
        for number, trainer in going:
            try:
                if trainer.settle(stop):
                    ended[number] = None
            except SoftVQError as error:
                ended[number] = error
    return [ended[number] for number in range(len(trainers))]


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """A CUDA stream that starts after the work queued on the current one; None on other devices."""
    if device.type != "cuda":
        return None
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream
