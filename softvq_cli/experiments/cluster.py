"""Where jobs run: worker processes of this machine, or whatever a Dask scheduler has."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import SoftVQError, UsageError, one_line
from softvq_cli.experiments import room
from softvq_cli.files import temporary_folder

if TYPE_CHECKING:
    from distributed import Client

THREADS = 1
"""Of a job on the CPU. Two runs with one thread each do more on two cores than one run with two, and sums in float32
depend on the threads in their last bits, which training amplifies."""
TOGETHER = 8
"""Jobs at most that a process trains at once on a GPU: a GPU has 32 streams, and memory for so many small models."""
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT"),
)
_LONGEST_CLOSE = 20
"""Seconds that the processes have to leave; they are killed then."""
_LONGEST_CONNECT = 30
_QUIET = {"logging": {"distributed": "critical", "tornado": "critical", "bokeh": "critical"}}


@dataclass(frozen=True)
class Where:
    """Where jobs run, and how many at once. No number depends on any of it."""

    jobs: int | None = None
    """Processes side by side on this machine: one a core unless given, or one a GPU."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers are used instead."""
    together: int | None = None
    """Seeds of a model that a process trains at once: 8 on CUDA unless given, elsewhere 1."""

    def __post_init__(self) -> None:
        """Check the numbers (UsageError)."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError("{jobs} must be at least 1, not {}", self.jobs)

    def workers(self) -> int:
        """Processes to start here.

        Raises:
            UsageError: there is no such device.
        """
        import joblib
        import torch

        from softvq_cli.devices import pick

        kind = pick(self.device).type
        default = {"cpu": max(1, joblib.cpu_count() // THREADS), "cuda": torch.cuda.device_count()}
        return self.jobs or default.get(kind, 1)

    def seeds_together(self) -> int:
        """Seeds of a model in one process."""
        from softvq_cli.devices import pick

        return self.together or (TOGETHER if pick(self.device).type == "cuda" else 1)

    def threads(self, workers: int) -> int:
        """Of one job's evaluation. Where an accelerator trains, no trained number depends on the processor's."""
        import joblib

        from softvq_cli.devices import pick

        return THREADS if pick(self.device).type == "cpu" else max(1, joblib.cpu_count() // workers)


class Cluster:
    """A client of the workers, which start when they are first asked for, in the background if :meth:`warm` asks.

    Args:
        where: the workers are.
        most: processes of this machine that can be of use, for there are no more jobs than that.
    """

    def __init__(self, where: Where, most: int | None = None) -> None:
        self.where = where
        self._most = most
        self._starter = ThreadPoolExecutor(1, "cluster")
        self._client: Future[Client] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        """For a block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the workers go."""
        self.close()

    def warm(self) -> None:
        """Begin to start the workers, and go on with something else meanwhile.

        Raises:
            SoftVQError: the system's limits leave no room for any.
        """
        if self.is_local:
            room.check(1)
        self._client = self._client or self._starter.submit(self._connect)

    @property
    def client(self) -> Client:
        """Connected.

        Raises:
            SoftVQError: no process can be started, or nobody answers at the scheduler's address.
        """
        self.warm()
        assert self._client is not None
        return self._client.result()

    @property
    def workers(self) -> int:
        """Processes of this machine, if it is they that do the work."""
        workers = self.where.workers()
        return min(workers, self._most or workers)

    @property
    def is_local(self) -> bool:
        """Whether the workers are this program's own."""
        return self.where.scheduler is None

    def close(self) -> None:
        """Let go of the workers, and end those of our own."""
        if self._client is not None:
            with contextlib.suppress(SoftVQError):
                self._client.result()
        self._starter.shutdown()
        self._open.close()
        self._client = None

    def _connect(self) -> Client:
        import dask

        if hasattr(signal, "pthread_sigmask"):
            # Inherited by threads and processes that are started from here: a Ctrl-C is the main thread's to answer,
            # and must not end a worker that has not come to ignore it yet.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with dask.config.set(_QUIET):
            for name in ("distributed", "tornado"):
                logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said by the pool
            if self.where.scheduler is not None:
                return self._open.enter_context(_of_scheduler(self.where.scheduler))
            return self._open.enter_context(_of_this_machine(self.workers, self.where))


@contextlib.contextmanager
def _of_scheduler(address: str) -> Iterator[Client]:
    """A client of somebody else's workers; certificates come from Dask's own configuration."""
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout=_LONGEST_CONNECT)
    except (OSError, ValueError, TypeError) as error:
        raise SoftVQError(f"there is no Dask scheduler at {address}: {one_line(error)}") from error
    try:
        yield client
    finally:
        client.close(timeout=_LONGEST_CLOSE)


@contextlib.contextmanager
def _of_this_machine(workers: int, where: Where) -> Iterator[Client]:
    """A client of processes of our own.

    They listen on the loopback address alone, and speak TLS with a certificate that is made for this one time and kept
    in memory: another user of the machine has none that they accept. There is no dashboard, for it has no lock.
    """
    import dask
    from distributed import Client, Nanny, Scheduler, Security
    from distributed.deploy.spec import SpecCluster

    room.check(workers)
    security = Security.temporary()
    common = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    threads = dict.fromkeys(_THREAD_VARIABLES, str(where.threads(workers)))
    closed: dict[str, list[str]] = {f"distributed.{kind}.http.routes": [] for kind in ("scheduler", "worker", "nanny")}
    with (
        temporary_folder() as scratch,
        dask.config.set(
            {**closed, "distributed.nanny.pre-spawn-environ": threads, "temporary-directory": str(scratch)}
        ),
    ):
        options = {**common, "nthreads": 1, "memory_limit": None, "silence_logs": logging.CRITICAL, "config": _QUIET}
        options["local_directory"] = str(scratch)
        spec = {
            number: {"cls": Nanny, "options": {**options, "env": {**threads, **_own_gpu(number, where.device)}}}
            for number in range(workers)
        }
        scheduler = {"cls": Scheduler, "options": {**common, "port": 0, "dashboard_address": "127.0.0.1:0"}}
        try:
            processes = SpecCluster(spec, scheduler, security=security, silence_logs=logging.CRITICAL)
        except (OSError, RuntimeError) as error:
            raise SoftVQError(f"the processes for the jobs cannot be started: {_cause(error)}") from error
        client = Client(processes, set_as_default=False, timeout=_LONGEST_CONNECT)
        try:
            client.run(_ignore_signals)
            yield client
        finally:
            # Waited for with a bound: what is torn down behind the program's back prints tracebacks.
            client.close(timeout=_LONGEST_CLOSE)
            processes.close(timeout=_LONGEST_CLOSE)


def _cause(error: BaseException) -> str:
    """What the system said; the libraries in between only say that something failed."""
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and below not in chain:
        chain.append(below)
    said = [one for one in chain if isinstance(one, OSError) and one.errno is not None]
    reason = one_line(said[-1].strerror or said[-1]) if said else one_line(chain[-1])
    blocked = any(isinstance(one, BlockingIOError) or "start new thread" in str(one) for one in chain)
    return (
        f"{reason}; this user may start no more of them: raise the limit (ulimit -u), or end others"
        if blocked
        else reason
    )


def _own_gpu(number: int, device: str) -> dict[str, str]:
    """The environment in which a worker sees one GPU alone, on a machine that has several."""
    import torch

    from softvq_cli.devices import pick

    if pick(device).type != "cuda" or torch.cuda.device_count() < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}


def _ignore_signals() -> None:
    """In a worker: Ctrl-C and SIGTERM reach the whole group of processes, and the parent answers them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def limit_threads(threads: int) -> dict[str, Any]:
    """In a worker: for libraries that do not read the environment, or were loaded before it was set.

    Returns:
        The pools of threads that there are, as threadpoolctl describes them.
    """
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    os.environ |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    return {"torch": torch.get_num_threads(), "pools": threadpool_info()}
