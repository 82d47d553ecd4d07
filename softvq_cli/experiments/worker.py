"""What runs in a worker: the jobs of a group, with word of how they go.

A worker is told to stop beside its jobs, which then end as soon as nothing is lost by it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.errors import Interrupted, Message, SoftVQError, one_line
from softvq_cli.experiments.cluster import limit_threads
from softvq_cli.experiments.completion import complete
from softvq_cli.experiments.job import Job
from softvq_cli.files import as_utf8
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import Evaluation

ENVIRONMENT = ("SOFTVQ_DATA", "SOFTVQ_CACHE")
"""Where data lie: a worker of another machine has to look in the same places."""
_EVERY = 0.2
"""Seconds between two messages of progress, and between two looks at whether anybody waits for them."""

TRAINING, MEASURING = "training", "measuring"
PROGRESS, NOTE = "progress", "note"
"""The first words of a worker's messages, then the job's folder, then (units done, what is being done) or a text."""

_alone = threading.Lock()
"""A worker with several threads must not train in two of them: torch has one generator and one number of threads."""
_stops: dict[str, threading.Event] = {}
"""Channel → its stop sign."""


@dataclass(frozen=True)
class Order:
    """What a worker needs beside the jobs."""

    channel: str
    """The topic of its messages, and the name of the stop sign."""
    device: str
    threads: int
    folder: str
    """The current folder: paths are relative to it."""
    environment: Mapping[str, str]


def work(group: tuple[Job, ...], order: Order) -> list[Evaluation | str | None]:
    """Complete the jobs of a group; in their order, the evaluations, or in a line why there is none.

    None where it was told to stop.
    """
    from distributed import get_worker

    from softvq_cli.devices import machine

    worker, stop = get_worker(), _stops.setdefault(order.channel, threading.Event())
    answers: dict[Job, Evaluation | str | None] = {}
    with _alone, contextlib.ExitStack() as place:
        try:
            limit_threads(order.threads)
            place.enter_context(_at_home(order))
            place.enter_context(_wanted(worker, stop))
            tellers = [_Teller(worker, order.channel, job) for job in group]
            for job, answer in complete(
                group,
                device=order.device,
                threads=order.threads,
                reporters=tellers,
                stop=stop,
                machine=machine(order.device),
            ):
                if isinstance(answer, Interrupted):
                    answers[job] = None
                else:
                    answers[job] = answer.message if isinstance(answer, SoftVQError) else answer
        except Exception as error:
            text = error.message if isinstance(error, SoftVQError) else f"{type(error).__name__}: {one_line(error)}"
            answers |= {job: Message("{} ({})", text, _place(error)) for job in group if job not in answers}
    return [answers[job] for job in group]


def stop_jobs(channel: str) -> None:
    """In every worker, beside its jobs."""
    _stops.setdefault(channel, threading.Event()).set()


@contextlib.contextmanager
def _wanted(worker: Any, stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` when nobody waits for the task at hand any more: its client has left, or has taken it back."""
    key, over = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY) and not stop.is_set():
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                stop.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextlib.contextmanager
def _at_home(order: Order) -> Iterator[None]:
    """The current folder and the environment of the command that gave the order."""
    before, environment = os.getcwd(), {name: os.environ.get(name) for name in ENVIRONMENT}
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise SoftVQError(
            f"the folder {order.folder} is not there on {os.uname().nodename}: the workers and the command need a "
            f"shared file system"
        ) from error
    try:
        os.environ |= order.environment
        yield
    finally:
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(before)


def _place(error: BaseException) -> str:
    """``loop.py, line 12``."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


@dataclass
class _Teller(Reporter):
    """Tells the pool how a job goes, in iterations and in what an evaluation is worth in them."""

    worker: Any
    channel: str
    job: Job
    told: float = 0.0

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Of the steps alone, and not every one is worth a message."""
        now = time.monotonic()
        if name == TRAINING and now - self.told >= _EVERY:
            self.told = now
            self._tell(int(done), TRAINING)

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """The training is over, or has not begun."""
        if not stoppable:
            waiting = name.startswith("waiting")
            self._tell(0 if waiting else self.job.steps, name if waiting else MEASURING)

    def note(self, text: str) -> None:
        """Pass it on, but not that each job trains in its own folder."""
        if text != f"training in {self.job.folder}" and not text.startswith(f"training in {self.job.folder}, "):
            self.worker.log_event(self.channel, [NOTE, as_utf8(str(self.job.folder)), text])

    def _tell(self, units: int, what: str) -> None:
        self.worker.log_event(self.channel, [PROGRESS, as_utf8(str(self.job.folder)), units, what])
