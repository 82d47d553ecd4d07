"""Many jobs, some side by side, whatever happens to one of them.

Each job is completed by one process with a number of threads that does not depend on how many run beside it. On a GPU,
most of which one small model leaves idle, a process trains the seeds of a model together. A job whose process was
killed is tried again by another, and goes on from its checkpoint.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softvq_cli.errors import Interrupted, Message, SoftVQError, one_line
from softvq_cli.experiments.cluster import Cluster
from softvq_cli.experiments.job import Job, State, inspect
from softvq_cli.experiments.worker import ENVIRONMENT, NOTE, TRAINING, Order, stop_jobs, work
from softvq_cli.files import as_utf8
from softvq_cli.results.evaluate import Evaluation

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as Task

_EVERY = 0.2
"""Seconds between two looks at the stop sign."""
_LONGEST_STOP = 120.0
"""Seconds that trainings have, after a stop, to end their step and write their checkpoint."""


class PoolObserver:
    """Override what you want to hear; by default nothing happens."""

    def planned(self, jobs: Sequence[Job], todo: Sequence[Job]) -> None:
        """What there is to be done, and which of it is not done yet, in the order in which it is begun."""

    def progressed(self, progress: Progress) -> None:
        """Called several times a second: be quick."""

    def completed(self, job: Job) -> None:
        """A job is trained and measured."""

    def failed(self, job: Job, message: str) -> None:
        """A job cannot be completed; the others go on."""

    def noted(self, text: str) -> None:
        """Something the user should know, in one line."""

    def dashboard(self, address: str) -> None:
        """The workers can be watched in a browser at ``address``."""

    def data_progress(self, what: str, done: int, total: int | None) -> None:
        """Data are being fetched or decoded: ``done`` of ``total`` items or bytes."""

    def stage(self, what: str) -> None:
        """Something else than the jobs goes on: reading data, writing the report."""


@dataclass(frozen=True)
class Progress:
    """How far the jobs are that were not done before."""

    units: float
    """Iterations, and what evaluations are worth in them."""
    total: int
    ended: int
    """Jobs completed or failed."""
    jobs: int
    running: Mapping[str, str]
    """Name of a job → what is done with it."""


@dataclass(frozen=True)
class Outcome:
    """What became of each job."""

    evaluations: Mapping[Job, Evaluation]
    failures: Mapping[Job, str]

    def __or__(self, other: Outcome) -> Outcome:
        """Both; of a job that is in both, the other's."""
        return Outcome({**self.evaluations, **other.evaluations}, {**self.failures, **other.failures})


def run(
    jobs: Sequence[Job],
    cluster: Cluster,
    *,
    observer: PoolObserver | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Complete all jobs; those that are done already are only read.

    Args:
        jobs: in folders of their own.
        cluster: who does it. Its processes are started when there is something to do.
        observer: is told what happens.
        stop: when set, trainings write their checkpoints, and the rest is left.

    Raises:
        RefusedError: a folder holds a run with other settings.
        UsageError: there is no such device.
        SoftVQError: there are no workers, or the scheduler has gone.
        Interrupted: ``stop`` was set.
    """
    observer, stop = observer or PoolObserver(), stop or threading.Event()
    states = {job: inspect(job) for job in jobs}
    done = {job: state.evaluation for job, state in states.items() if state.done and state.evaluation}
    groups = _groups([job for job in jobs if job not in done], states, cluster.where.seeds_together())
    todo = [job for group in groups for job in group]
    observer.planned(jobs, todo)
    failures: dict[Job, str] = {}
    if todo:
        course = _Course(groups, states, cluster, observer)
        try:
            while course.tasks and not stop.is_set():
                course.look()
            if stop.is_set():
                course.stop()
                ended = len(done) + len(course.evaluations)
                raise Interrupted(f"stopped with {ended} of {len(jobs)} jobs done", {})
        finally:
            course.close()
        done |= course.evaluations
        failures = course.failures
    return Outcome({job: done[job] for job in jobs if job in done}, failures)


def _groups(todo: Sequence[Job], states: Mapping[Job, State], together: int) -> list[tuple[Job, ...]]:
    """Jobs that differ only in their seeds, up to ``together`` of them in a group; the longest groups come first."""
    alike: dict[object, list[Job]] = {}
    for job in todo:
        settings = {name: value for name, value in job.config.flat().items() if name != "seed"}
        alike.setdefault((job.data, job.subject, *settings.values()), []).append(job)
    groups = [tuple(same[i : i + together]) for same in alike.values() for i in range(0, len(same), together)]
    return sorted(groups, key=lambda group: -sum(_left(job, states[job]) for job in group))


def _left(job: Job, state: State) -> int:
    """What is left to do, in iterations."""
    return job.steps - state.step + job.evaluation_units


class _Course:
    """The tasks that were given to the workers, how far each is, and what came of it."""

    def __init__(
        self,
        groups: Sequence[tuple[Job, ...]],
        states: Mapping[Job, State],
        cluster: Cluster,
        observer: PoolObserver,
    ) -> None:
        self.evaluations: dict[Job, Evaluation] = {}
        self.failures: dict[Job, str] = {}
        self.tasks: dict[Task, tuple[Job, ...]] = {}
        self._states, self._observer, self._cluster = states, observer, cluster
        self._jobs = {as_utf8(str(job.folder)): job for group in groups for job in group}
        self._total = sum(_left(job, states[job]) for job in self._jobs.values())
        self._ended_units = 0
        self._at: dict[Job, tuple[int, str]] = {}
        self._news: queue.SimpleQueue[tuple[str, ...] | Task] = queue.SimpleQueue()
        self._client: Client = cluster.client
        self._waiting = collections.deque(groups)
        self._order = self._begin()
        self._submit()

    def _begin(self) -> Order:
        where, client = self._cluster.where, self._client
        order = Order(
            channel=f"softvq-{uuid.uuid4().hex}",
            device=where.device,
            threads=where.threads(self._cluster.workers),
            folder=os.getcwd(),
            environment={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        client.subscribe_topic(order.channel, lambda event: self._news.put(tuple(event[1])))
        if not self._cluster.is_local:
            if client.dashboard_link:
                self._observer.dashboard(client.dashboard_link)
            if not client.scheduler_info()["workers"]:
                self._observer.noted("the scheduler has no worker yet: the jobs wait for one")
        return order

    def _submit(self) -> None:
        """Give out what can be given out.

        Processes of our own get one group at a time: one that kills its process takes no other with it. A scheduler of
        somebody else's gets all of them, for it may ask for more workers by how many wait.
        """
        most = self._cluster.workers if self._cluster.is_local else len(self._jobs)
        while self._waiting and len(self.tasks) < most:
            group = self._waiting.popleft()
            task = self._client.submit(
                *(work, group, self._order),
                key=f"{self._order.channel}-{as_utf8(group[0].name)}",
                priority=len(self._waiting),
                pure=False,
            )
            self.tasks[task] = group
            task.add_done_callback(self._news.put)

    def look(self) -> None:
        """Wait a moment for news of the workers, and pass them on."""
        with contextlib.suppress(queue.Empty):
            self._hear(self._news.get(timeout=_EVERY))
            while True:
                self._hear(self._news.get_nowait())
        self._observer.progressed(self._progress())

    def stop(self) -> None:
        """Ask all workers to end as soon as nothing is lost by it, and wait for those that train."""
        self._client.run(stop_jobs, self._order.channel, on_error="ignore")
        end = time.monotonic() + _LONGEST_STOP
        while self._training() and time.monotonic() < end:
            self.look()

    def close(self) -> None:
        """Forget the tasks that are left, and have those that run end."""
        with contextlib.suppress(Exception):  # the scheduler may have gone
            self._client.cancel(list(self.tasks), force=True)
            self._client.unsubscribe_topic(self._order.channel)

    def _training(self) -> bool:
        return any(self._at.get(job, (0, ""))[1] == TRAINING for group in self.tasks.values() for job in group)

    def _hear(self, news: tuple[str, ...] | Task) -> None:
        if not isinstance(news, tuple):
            self._end(news)
            return
        kind, folder, *content = news
        job = self._jobs[folder]
        if kind == NOTE:
            self._observer.noted(f"{job.name}: {content[0]}")
        elif not {job} & {*self.evaluations, *self.failures}:  # a message may come after the result
            units, what = content
            self._at[job] = int(units), what

    def _end(self, task: Task) -> None:
        """A group is completed or has failed."""
        group = self.tasks.pop(task)
        if task.status == "finished":
            answers: Sequence[Evaluation | str | None] = task.result()
        elif task.status == "cancelled":
            raise SoftVQError("the connection to the workers is lost; what they had finished is kept")
        else:
            answers = [_why(task)] * len(group)
        self._submit()
        for job, answer in zip(group, answers, strict=True):
            self._at.pop(job, None)
            if answer is None:  # stopped
                continue
            self._ended_units += _left(job, self._states[job])
            if isinstance(answer, str):
                self.failures[job] = answer
                self._observer.failed(job, answer)
            else:
                self.evaluations[job] = answer
                self._observer.completed(job)

    def _progress(self) -> Progress:
        running = sum(step - self._states[job].step for job, (step, _) in self._at.items())
        return Progress(
            units=self._ended_units + running,
            total=self._total,
            ended=len(self.evaluations) + len(self.failures),
            jobs=len(self._jobs),
            running={job.name: what for job, (_, what) in self._at.items()},
        )


def _why(task: Task) -> str:
    """Why a group came to no result at all."""
    from distributed.scheduler import KilledWorker

    error = task.exception()
    if isinstance(error, KilledWorker):
        return Message(
            "its process was killed {} times; if the memory ran out, a smaller {jobs} needs less",
            error.allowed_failures + 1,
        )
    if isinstance(error, ModuleNotFoundError):
        return f"the worker has no module {error.name}: install softvq of this version there"
    return f"{type(error).__name__}: {one_line(error or '')}"
