"""Complete many jobs, several in parallel; a failure of one does not affect the others.

Each job is completed by one process; its number of threads does not depend on the number of parallel jobs. On a GPU,
which one small model leaves mostly idle, a process trains the seeds of a model together. If a process is killed,
another process continues its job from the checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path

from softvq_cli.errors import Interrupted, Message
from softvq_cli.experiments.backends import TOGETHER, Workers
from softvq_cli.experiments.job import Job, State, inspect
from softvq_cli.experiments.worker import (
    ENVIRONMENT,
    LONGEST_STOP,
    TRAINING,
    Answer,
    Order,
    Progress,
    Told,
    discard_progress,
    versions,
)
from softvq_cli.files import make_folder, write_text
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import Evaluation

_LOOK_EVERY = 0.2
"""Seconds between two checks of the stop event."""
_WORTH_A_NOTE = 0.2
"""Minimum estimated hours for a note on the cost of the jobs."""
READ_EVERY = 1.0
"""Seconds between two readings of the progress files."""
TOKEN = ".shared"
"""A file next to the jobs' folders that shows a worker that it sees the command's folder."""


@dataclass(frozen=True)
class Outcome:
    """The result of each job."""

    evaluations: Mapping[Job, Evaluation]
    failures: Mapping[Job, str]

    def __or__(self, other: Outcome) -> Outcome:
        """The union; results in ``other`` take precedence."""
        return Outcome({**self.evaluations, **other.evaluations}, {**self.failures, **other.failures})


def run(
    jobs: Sequence[Job],
    workers: Workers,
    *,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Complete all jobs; finished jobs are only read.

    After ``stop`` is set, trainings write their checkpoints, other jobs are skipped, and Interrupted is raised.
    RefusedError: a folder has a run with other settings. SoftVQError: there are no workers, or the scheduler is gone.
    """
    reporter, stop = reporter or Reporter(), stop or threading.Event()
    states = {job: inspect(job) for job in jobs}
    outcome = Outcome({job: state.evaluation for job, state in states.items() if state.evaluation}, {})
    for job in outcome.evaluations:  # a worker killed right after its evaluation leaves its progress file
        discard_progress(job)
    todo = {job: state for job, state in states.items() if not state.done}
    if jobs:
        done = f", {len(jobs) - len(todo)} done before" if len(todo) < len(jobs) else ""
        reporter.note(f"{len(todo)} {'job' if len(todo) == 1 else 'jobs'} to do{done}")
        _note_cost(todo, workers, reporter)
    reporter.stage("jobs", stoppable=True)
    if not todo:
        return outcome
    course = _Course(todo, workers, reporter)
    try:
        while course.waiting and not stop.is_set():
            course.look()
        if stop.is_set():
            course.stop()
            ended = len(jobs) - len(todo) + len(course.evaluations)
            raise Interrupted(f"stopped with {ended} of {len(jobs)} jobs done", {})
    except BaseException:
        workers.close()  # their results are not needed
        raise
    finally:
        course.close()
    return outcome | Outcome(course.evaluations, course.failures)


def _note_cost(todo: Mapping[Job, State], workers: Workers, reporter: Reporter) -> None:
    """Report in advance what takes long."""
    left = {job: job.steps - state.step for job, state in todo.items() if job.trains}
    hours = sum(job.seconds(iterations) for job, iterations in left.items()) / 3600
    if hours < _WORTH_A_NOTE or workers.where.kind != "cpu":
        return
    here = workers.processes if workers.where.scheduler is None else 1
    side_by_side = f", and about {hours / here:.2g} with {here} processes" if here > 1 else ""
    reporter.note(
        f"{len(left)} trainings, {sum(left.values()):,} iterations in all: about {hours:.2g} hours of one core"
        f"{side_by_side}. You can stop it; the same command continues"
    )


def _groups(todo: Mapping[Job, State], together: int) -> list[tuple[Job, ...]]:
    """Group jobs that differ only in their seeds, up to ``together`` per group; the longest groups come first."""
    alike: dict[object, list[Job]] = {}
    for job in todo:
        settings = {name: value for name, value in job.config.flat().items() if name != "seed"}
        alike.setdefault((job.data, job.subject, *settings.values()), []).append(job)
    groups = [tuple(same[i : i + together]) for same in alike.values() for i in range(0, len(same), together)]
    return sorted(groups, key=lambda group: -sum(_left(job, todo[job]) for job in group))


def _left(job: Job, state: State) -> int:
    """Remaining work in iterations."""
    return job.steps - state.step + job.evaluation_units


class _Course:
    """The submitted groups, the progress of each job, and the results."""

    def __init__(self, todo: Mapping[Job, State], workers: Workers, reporter: Reporter) -> None:
        self.evaluations: dict[Job, Evaluation] = {}
        self.failures: dict[Job, str] = {}
        self._todo, self._workers, self._reporter = todo, workers, reporter
        self._ended_units = 0
        self._progress: dict[Job, Progress] = {}
        self._told: dict[Job, int] = {}
        self._read_at = 0.0
        self._ended: queue.SimpleQueue[Future[list[Answer]]] = queue.SimpleQueue()
        self._order = Order(
            id=uuid.uuid4().hex,
            device=workers.where.device,
            threads=workers.threads,
            folder=os.getcwd(),
            environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            versions=versions(),
            token="" if workers.where.scheduler is None else str(next(iter(todo)).folder.parent / TOKEN),
        )
        if self._order.token:
            write_text(make_folder(Path(self._order.token).parent) / TOKEN, self._order.id)
        workers.watch(reporter)
        self.waiting: dict[Future[list[Answer]], tuple[Job, ...]] = {}
        for group in _groups(todo, TOGETHER.get(workers.where.kind, 1)):
            future = workers.submit(group, self._order)
            self.waiting[future] = group
            future.add_done_callback(self._ended.put)

    def look(self) -> None:
        """Wait briefly for a group to end, and report the progress of all."""
        with contextlib.suppress(queue.Empty):
            self._end(self._ended.get(timeout=_LOOK_EVERY))
            while True:
                self._end(self._ended.get_nowait())
        if time.monotonic() - self._read_at >= READ_EVERY or not self.waiting:
            self._read_at = time.monotonic()
            self._report()
            self._workers.watch(self._reporter)

    def stop(self) -> None:
        """Ask all workers to stop when nothing would be lost, and wait for those that train."""
        self._workers.stop()
        latest = time.monotonic() + LONGEST_STOP
        while time.monotonic() < latest:
            self.look()
            self._report()
            if not any(progress.doing == TRAINING for progress in self._progress.values()):
                return

    def close(self) -> None:
        """Remove the token."""
        if self._order.token:
            with contextlib.suppress(OSError):  # the token has no effect after this order
                Path(self._order.token).unlink()

    def _report(self) -> None:
        waiting = [job for group in self.waiting.values() for job in group]
        self._progress = {job: there for job in waiting if (there := Progress.read(job, self._order))}
        for job, there in self._progress.items():
            self._tell_notes(job, there.notes)
        running = sum(there.units - self._todo[job].step for job, there in self._progress.items() if there.units)
        total = sum(_left(job, state) for job, state in self._todo.items())
        doing = ", ".join(f"{job.name} {there.doing}" for job, there in self._progress.items())
        self._reporter.progress("iterations", self._ended_units + running, total, f"{self._count()} jobs: {doing}")

    def _count(self) -> str:
        return f"{len(self.evaluations) + len(self.failures)} of {len(self._todo)}"

    def _tell_notes(self, job: Job, notes: Sequence[Told]) -> None:
        """Report new notes. If a job is tried again, it repeats its notes."""
        for kind, text in notes[self._told.get(job, 0) :]:
            tell = self._reporter.warn if kind == "warn" else self._reporter.note
            tell(Message("{}: {}", job.name, text))
        self._told[job] = max(len(notes), self._told.get(job, 0))

    def _end(self, future: Future[list[Answer]]) -> None:
        """Process a group that is completed, has failed, or was stopped."""
        group = self.waiting.pop(future)
        try:
            answers = future.result()
        except CancelledError:
            return
        for job, answer in zip(group, answers, strict=True):
            self._tell_notes(job, answer.notes)
            if answer.evaluation is not None:
                self.evaluations[job] = answer.evaluation
                self._reporter.note(f"{job.name} done, {self._count()}")
            elif answer.error is not None:
                self.failures[job] = answer.error
                self._reporter.warn(Message("{} failed: {}", job.name, answer.error))
            else:
                continue  # it was stopped
            self._ended_units += _left(job, self._todo[job])
