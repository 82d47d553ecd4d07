"""The workers that complete jobs: processes of this machine, or workers of a Dask scheduler."""

from __future__ import annotations

import abc
import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import Message, SoftVQError, UsageError, one_line
from softvq_cli.experiments import capacity, worker
from softvq_cli.experiments.worker import Answer, Order, work, work_for_scheduler
from softvq_cli.files import as_utf8
from softvq_cli.ranges import MOST_JOBS
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from softvq_cli.experiments.job import Job

THREADS = 1
"""Threads of a job on the CPU. On two cores, two runs with one thread each are faster than one run with two. The number
affects the last bits of float32 sums, which training amplifies."""
TOGETHER = {"cuda": 8}
"""Maximum number of seeds trained together in a process: a GPU has 32 streams, and enough memory for small models."""
TRIES = 3
"""Number of killed processes after which a job counts as failed."""
METHOD = "spawn"
"""How processes start. A fork of a process that has used several threads may hang in their libraries."""
LONGEST_CONNECT = 30
"""Timeout in seconds for the connection to a scheduler."""
_LONGEST_CLOSE = 20
_QUIET = {"logging": {"distributed": "critical", "tornado": "critical", "bokeh": "critical"}}


@dataclass(frozen=True)
class Where:
    """Where jobs run, and how many at once. Results do not depend on it."""

    jobs: int | None = None
    """Number of parallel processes on this machine; the default is one per core, or one per GPU."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers are used instead."""

    def __post_init__(self) -> None:
        """Check the numbers (UsageError)."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("{jobs} must be at least 1, not {}", self.jobs)

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps`` (UsageError: it is not available)."""
        from softvq_cli.devices import pick

        return pick(self.device).type

    def processes(self, most: int) -> int:
        """Number of processes to start on this machine, if at most ``most`` are useful."""
        import joblib
        import torch

        default = {"cpu": max(1, joblib.cpu_count() // THREADS), "cuda": torch.cuda.device_count()}
        return max(1, min(self.jobs or default.get(self.kind, 1), most))

    def threads(self, processes: int) -> int:
        """Threads for the evaluation of one job. If an accelerator trains, they do not affect trained numbers."""
        import joblib

        return THREADS if self.kind == "cpu" else max(1, joblib.cpu_count() // processes)


class Workers(contextlib.AbstractContextManager["Workers"], abc.ABC):
    """Complete groups of jobs. They start when the first group is submitted."""

    def __init__(self, where: Where, most: int = MOST_JOBS) -> None:
        self.where, self.processes = where, where.processes(most)
        self.threads = where.threads(self.processes)

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()

    def watch(self, reporter: Reporter) -> None:
        """Report notes for the user, before they start and while they work."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start them unless they are running (SoftVQError)."""

    @abc.abstractmethod
    def submit(self, group: tuple[Job, ...], order: Order) -> Future[list[Answer]]:
        """Submit a group, which is completed after earlier ones (SoftVQError)."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Make trainings write their checkpoints and end; waiting groups do not start."""

    @abc.abstractmethod
    def close(self) -> None:
        """End all remaining work immediately; the next group starts new workers."""


def workers(where: Where, most: int) -> Workers:
    """Create the workers for ``where``, of which at most ``most`` are useful."""
    return LocalWorkers(where, most) if where.scheduler is None else SchedulerWorkers(where, most)


class LocalWorkers(Workers):
    """Processes of this machine, each managed separately, so that the end of one does not affect the others."""

    def __init__(self, where: Where, most: int = MOST_JOBS) -> None:
        super().__init__(where, most)
        self.slots: list[_Slot] = []
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        if self._threads is not None:
            return
        capacity.check(self.processes)
        limits = dict.fromkeys(worker.THREAD_VARIABLES, str(self.threads))
        self.slots = [_Slot(self.threads, {**limits, **_gpu(i, self.where)}) for i in range(self.processes)]
        self._threads = ThreadPoolExecutor(self.processes, "slot")
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for slot in self.slots:
            slot.start()
            self._idle.put(slot)

    def submit(self, group: tuple[Job, ...], order: Order) -> Future[list[Answer]]:
        self.start()
        assert self._threads is not None
        return self._threads.submit(self._in_a_slot, group, order)

    def _in_a_slot(self, group: tuple[Job, ...], order: Order) -> list[Answer]:
        slot = self._idle.get()
        try:
            return slot.complete(group, order)
        finally:
            self._idle.put(slot)

    def stop(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for slot in self.slots:
            slot.stop()

    def close(self) -> None:
        self.stop()
        for slot in self.slots:
            slot.kill()
        if self._threads is not None:
            self._threads.shutdown()
        self.slots, self._threads = [], None


class _Slot:
    """Runs one process at a time, and a new one if it was killed.

    A message through the pipe stops its job; if this program dies, the closed pipe ends the process. (A
    ``multiprocessing.Event`` is unsuitable: a process that is killed while it checks the event leaves it locked.)
    """

    _lock = threading.RLock()
    """For all slots, because processes start one after the other."""

    def __init__(self, threads: int, environment: Mapping[str, str]) -> None:
        self._threads, self._environment = threads, environment
        self._executor: ProcessPoolExecutor | None = None
        self._line: Connection | None = None
        self._process: Any = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Process ID of its process."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start a process unless one is running (SoftVQError)."""
        with self._lock:
            if self._executor is not None or self._stopped:
                return
            try:
                context = multiprocessing.get_context(METHOD)
                end, self._line = context.Pipe(duplex=False)
                self._executor = ProcessPoolExecutor(
                    1, context, initializer=worker.begin, initargs=(end, self._environment)
                )
                with _signals_blocked(), end:
                    self._executor.submit(worker.prepare, self._threads)
                    [self._process] = self._executor._processes.values()
            except (OSError, RuntimeError, ImportError) as error:
                self._discard()
                blocked = isinstance(error, BlockingIOError) or "start new thread" in str(error)
                advice = "; this user may start no more of them: raise the limit (ulimit -u)" if blocked else ""
                raise SoftVQError(f"the processes for the jobs cannot be started: {one_line(error)}{advice}") from error

    def complete(self, group: tuple[Job, ...], order: Order) -> list[Answer]:
        """Complete a group; if the process is killed, try again with another."""
        for _ in range(TRIES):
            self.start()
            executor = self._executor
            if executor is None or self._stopped:
                raise CancelledError
            try:
                return executor.submit(work, group, order).result()
            except BrokenProcessPool:
                self._discard()
        killed = Message("its process was killed {} times; if the memory ran out, a smaller {jobs} needs less", TRIES)
        return [Answer(error=killed)] * len(group)

    def stop(self) -> None:
        """Stop the job at its next step."""
        self._stopped = True
        with contextlib.suppress(OSError, AttributeError):  # the process was just killed, or never started
            self._line.send_bytes(b"stop")  # type: ignore[union-attr]

    def kill(self) -> None:
        """Kill the process immediately."""
        if self._process is not None:
            self._process.kill()
        self._discard()

    def _discard(self) -> None:
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown()
            if self._line is not None:
                self._line.close()
            self._executor = self._line = self._process = None


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes within the block with Ctrl-C and SIGTERM blocked, until they ignore both."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gpu(number: int, where: Where) -> dict[str, str]:
    """Environment variables with which a process sees only one of several GPUs."""
    import torch

    if where.kind != "cuda" or torch.cuda.device_count() < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


class SchedulerWorkers(Workers):
    """The workers of a Dask scheduler. Certificates come from Dask's own configuration.

    All groups are submitted at once, because a scheduler may request workers according to the number of waiting tasks.
    It repeats a task whose worker died.
    """

    def __init__(self, where: Where, most: int = MOST_JOBS) -> None:
        super().__init__(where, most)
        self.client: Any = None
        self._staffed = True

    def start(self) -> None:
        if self.client is not None:
            return
        try:
            import dask
            from distributed import Client
        except ImportError as error:
            raise SoftVQError(
                "{scheduler} needs the package {}: pip install 'softvq[cluster]'", "distributed"
            ) from error
        for name in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the pool reports what is relevant
        try:
            with dask.config.set(_QUIET), _signals_blocked():
                self.client = Client(self.where.scheduler, set_as_default=False, timeout=LONGEST_CONNECT)
        except (OSError, ValueError, TypeError) as error:
            raise SoftVQError(f"there is no Dask scheduler at {self.where.scheduler}: {one_line(error)}") from error
        self._tasks: list[Any] = []
        self._stopped = False

    def watch(self, reporter: Reporter) -> None:
        first = self.client is None
        self.start()
        if first and self.client.dashboard_link:
            reporter.note(f"dashboard: {self.client.dashboard_link}")
        # The client's latest information, because a request would block while the network is interrupted.
        # Newer versions of Dask count the workers here and list none.
        identity = self.client._scheduler_identity
        staffed = identity.get("n_workers", len(identity.get("workers", ()))) > 0
        if self._staffed and not staffed:
            reporter.warn("the scheduler has no workers: the jobs wait for one")
        self._staffed = staffed

    def submit(self, group: tuple[Job, ...], order: Order) -> Future[list[Answer]]:
        self.start()
        key, earlier = f"softvq-{order.id}-{as_utf8(group[0].name)}", len(self._tasks)
        # get_executor() is not used: it returns the exception of an earlier call without running the new one.
        task = self.client.submit(work_for_scheduler, group, order, key=key, priority=-earlier, pure=False)
        future: Future[list[Answer]] = Future()
        self._tasks.append(task)
        task.add_done_callback(lambda task: self._end(task, future, len(group)))
        return future

    def _end(self, task: Any, future: Future[list[Answer]], jobs: int) -> None:
        """Called in a Dask thread."""
        if self._stopped:  # by this program; the progress files show when the trainings have ended
            return
        if task.status == "finished":
            future.set_result(task.result())
        elif task.status == "cancelled":
            future.set_exception(SoftVQError("the connection to the workers is lost; what they had finished is kept"))
        else:
            future.set_result([Answer(error=_why(task.exception()))] * jobs)

    def stop(self) -> None:
        self._stopped = True
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self.client.cancel(self._tasks, force=True)

    def close(self) -> None:
        if self.client is not None:
            self.stop()
            self.client.close(timeout=_LONGEST_CLOSE)
        self.client = None


def _why(error: BaseException | None) -> str:
    """Explain why a group has no result at all."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return f"its worker was killed {error.allowed_failures + 1} times: it may need more memory than is available"
    if isinstance(error, ModuleNotFoundError):
        return f"the worker has no module {error.name}: install softvq of this version there"
    return f"{type(error).__name__}: {one_line(error or '')}"
