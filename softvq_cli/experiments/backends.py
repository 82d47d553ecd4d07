"""Who completes jobs: processes of this machine, or the workers of a Dask scheduler."""

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
"""Of a job on the CPU. Two runs with one thread each do more on two cores than one run with two, and sums in float32
depend on the threads in their last bits, which training amplifies."""
TOGETHER = {"cuda": 8}
"""Seeds of a model that a process trains at once: a GPU has 32 streams, and memory for so many small models."""
TRIES = 3
"""Processes that may be killed over a job before it counts as failed."""
METHOD = "spawn"
"""How processes start. A fork of one that has used several threads may hang in their libraries."""
LONGEST_CONNECT = 30
"""Seconds that a scheduler has to answer."""
_LONGEST_CLOSE = 20
_QUIET = {"logging": {"distributed": "critical", "tornado": "critical", "bokeh": "critical"}}


@dataclass(frozen=True)
class Where:
    """Where jobs run, and how many at once. No number depends on any of it."""

    jobs: int | None = None
    """Processes side by side on this machine: one per core unless given, or one per GPU."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers are used instead."""

    def __post_init__(self) -> None:
        """Check the numbers (UsageError)."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("{jobs} must be at least 1, not {}", self.jobs)

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps`` (UsageError: there is no such device)."""
        from softvq_cli.devices import pick

        return pick(self.device).type

    def processes(self, most: int) -> int:
        """Processes to start here, at most ``most`` of which can be of use."""
        import joblib
        import torch

        default = {"cpu": max(1, joblib.cpu_count() // THREADS), "cuda": torch.cuda.device_count()}
        return max(1, min(self.jobs or default.get(self.kind, 1), most))

    def threads(self, processes: int) -> int:
        """Of one job's evaluation. Where an accelerator trains, no trained number depends on the processor's."""
        import joblib

        return THREADS if self.kind == "cpu" else max(1, joblib.cpu_count() // processes)


class Workers(abc.ABC):
    """Whoever completes groups of jobs. They start when the first group is given to them."""

    def __init__(self, where: Where, most: int = MOST_JOBS) -> None:
        self.where, self.processes = where, where.processes(most)
        self.threads = where.threads(self.processes)

    def __enter__(self) -> Workers:
        """For a block that closes them."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of them."""
        self.close()

    def watch(self, reporter: Reporter) -> None:  # noqa: B027 (not all have something to say)
        """Say what a user should know before they begin, and while they work."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start them, unless they have been started (SoftVQError)."""

    @abc.abstractmethod
    def submit(self, group: tuple[Job, ...], order: Order) -> Future[list[Answer]]:
        """Have a group completed, after those that were given before (SoftVQError)."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Have trainings write their checkpoints and end; what has not begun does not begin."""

    @abc.abstractmethod
    def close(self) -> None:
        """End what is left, at once, and let go of them; the next group starts new ones."""


def workers(where: Where, most: int) -> Workers:
    """Those that ``where`` asks for, ``most`` of which can be of use."""
    return LocalWorkers(where, most) if where.scheduler is None else SchedulerWorkers(where, most)


class LocalWorkers(Workers):
    """Processes of this machine, each in a slot of its own: one that is killed takes no other with it."""

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
    """One process at a time: a new one where it was killed.

    A message on its line stops its job; the end of the line, when this program dies, ends the process. (A
    ``multiprocessing.Event`` would not do: a process that is killed while it looks at one keeps it locked for good.)
    """

    _lock = threading.RLock()
    """Of all slots: processes start one after the other."""

    def __init__(self, threads: int, environment: Mapping[str, str]) -> None:
        self._threads, self._environment = threads, environment
        self._executor: ProcessPoolExecutor | None = None
        self._line: Connection | None = None
        self._process: Any = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Of its process."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start a process, unless there is one (SoftVQError)."""
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
        """Have a group completed; where its process is killed, try again with another."""
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
        """Stop its job at the next step."""
        self._stopped = True
        with contextlib.suppress(OSError, AttributeError):  # it may just have been killed, or never started
            self._line.send_bytes(b"stop")  # type: ignore[union-attr]

    def kill(self) -> None:
        """End its process now."""
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
    """Processes started within the block begin with Ctrl-C and SIGTERM blocked, until they ignore both."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gpu(number: int, where: Where) -> dict[str, str]:
    """The environment in which a process sees one GPU alone, on a machine that has several."""
    import torch

    if where.kind != "cuda" or torch.cuda.device_count() < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


class SchedulerWorkers(Workers):
    """The workers of a Dask scheduler. Certificates come from Dask's own configuration.

    All groups are given out at once, for a scheduler may ask for more workers by how many wait. It tries a task again
    whose worker died.
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
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the pool says what matters
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
        # What the client last heard, for a question would wait for an answer while the network is away.
        # Newer versions of Dask count the workers there and list none.
        identity = self.client._scheduler_identity
        staffed = identity.get("n_workers", len(identity.get("workers", ()))) > 0
        if self._staffed and not staffed:
            reporter.warn("the scheduler has no workers: the jobs wait for one")
        self._staffed = staffed

    def submit(self, group: tuple[Job, ...], order: Order) -> Future[list[Answer]]:
        self.start()
        key, earlier = f"softvq-{order.id}-{as_utf8(group[0].name)}", len(self._tasks)
        # Not get_executor(): it returns the exception of an earlier call without running the new one.
        task = self.client.submit(work_for_scheduler, group, order, key=key, priority=-earlier, pure=False)
        future: Future[list[Answer]] = Future()
        self._tasks.append(task)
        task.add_done_callback(lambda task: self._end(task, future, len(group)))
        return future

    def _end(self, task: Any, future: Future[list[Answer]], jobs: int) -> None:
        """Called in a thread of Dask's."""
        if self._stopped:  # by ourselves; the progress files say when the trainings have ended
            return
        if task.status == "finished":
            future.set_result(task.result())
        elif task.status == "cancelled":
            future.set_exception(SoftVQError("the connection to the workers is lost; what they had finished is kept"))
        else:
            future.set_result([Answer(error=_why(task.exception()))] * jobs)

    def stop(self) -> None:
        self._stopped = True
        with contextlib.suppress(Exception):  # the scheduler may have gone
            self.client.cancel(self._tasks, force=True)

    def close(self) -> None:
        if self.client is not None:
            self.stop()
            self.client.close(timeout=_LONGEST_CLOSE)
        self.client = None


def _why(error: BaseException | None) -> str:
    """Why a group came to no result at all."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return f"its worker was killed {error.allowed_failures + 1} times: it may need more memory than is available"
    if isinstance(error, ModuleNotFoundError):
        return f"the worker has no module {error.name}: install softvq of this version there"
    return f"{type(error).__name__}: {one_line(error or '')}"
