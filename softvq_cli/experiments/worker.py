"""A process that completes one group of cells after the other, and is told which by :mod:`softvq_cli.experiments.grid`.

It leaves when its parent does, however that ends; when it is asked to, not in the middle of writing a file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from softvq_cli.config import RunConfig
from softvq_cli.errors import SoftVQError, param
from softvq_cli.experiments.cell import Cell, complete
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.pipeline.run import ChainObserver

STOP = "stop"
"""What the parent sends to end the process: a training first writes its checkpoint."""
PROGRESS, NOTE, DONE, FAILED = "progress", "note", "done", "failed"
"""The first words of what it sends, then the cell's number in its group, then (units done, what is being done), text,
an Evaluation, or one line."""

_EVERY = 0.2
"""Seconds between two messages of progress."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


class Worker:
    """The parent's end of one process.

    Args:
        device: as in ``--device``.
        threads: of every computation in it.
    """

    def __init__(self, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the parent's threads, half dead
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, device, threads), daemon=True)
        self._process.start()
        other.close()
        self.cells: dict[int, Cell] = {}
        """What it has still to do, by the number in its group."""

    def begin(self, group: Sequence[Cell]) -> None:
        """Give it the next cells, to train side by side."""
        self.cells = dict(enumerate(group))
        self.connection.send(tuple(group))

    def stop(self) -> None:
        """Ask it to end as soon as nothing is lost by it."""
        with contextlib.suppress(OSError):  # it has ended
            self.connection.send(STOP)

    def why_it_ended(self) -> str:
        """For a process that has closed its end of the pipe."""
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return f"its process was killed; if the memory ran out, a smaller {param('jobs')} needs less"
        return f"its process ended with {'signal' if code < 0 else 'exit code'} {abs(code)}"

    def close(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _work(connection: Connection, device: str, threads: int) -> None:
    """The process: take groups from the pipe until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent answers them
        signal.signal(number, signal.SIG_IGN)
    os.environ |= dict.fromkeys(_THREADS, str(threads))  # for the libraries that are not loaded yet
    groups: queue.Queue[tuple[Cell, ...]] = queue.Queue()
    stop, saving = threading.Event(), threading.Lock()
    threading.Thread(target=_listen, args=(connection, groups, stop, saving), daemon=True).start()
    _limit_threads(threads)
    warnings.simplefilter("ignore")  # the libraries' speak to programmers, as in the parent
    while True:
        group = groups.get()
        observers = [_Teller(connection, number, cell) for number, cell in enumerate(group)]
        done = complete(group, device=device, jobs=threads, observers=observers, stop=stop, saving=saving)
        _answer(connection, len(group), done)


def _answer(connection: Connection, cells: int, done: Iterator[tuple[Cell, Evaluation | SoftVQError]]) -> None:
    """Send what becomes of each of so many cells, whatever else goes wrong."""
    unanswered = set(range(cells))
    try:
        for number, (_, result) in enumerate(done):
            failed = isinstance(result, SoftVQError)
            connection.send((FAILED, number, str(result)) if failed else (DONE, number, result))
            unanswered.remove(number)
    except Exception as error:
        for number in unanswered:
            connection.send((FAILED, number, f"{type(error).__name__}: {error} ({_where(error)})"))


def _listen(
    connection: Connection, groups: queue.Queue[tuple[Cell, ...]], stop: threading.Event, saving: threading.Lock
) -> None:
    """Pass groups on; end the process when it is asked to, or when the parent is no more."""
    try:
        while (message := connection.recv()) != STOP:
            groups.put(message)
    except (EOFError, OSError):
        os._exit(1)
    stop.set()
    with saving:
        os._exit(0)


def _limit_threads(threads: int) -> None:
    """For libraries that do not read the environment, or were loaded before it was set."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _where(error: BaseException) -> str:
    """``loop.py, line 12``."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


class _Teller(ChainObserver):
    """Tells the parent how a cell goes, in iterations and in what an evaluation is worth in them."""

    def __init__(self, connection: Connection, number: int, cell: Cell) -> None:
        self._connection, self._number, self._cell = connection, number, cell
        self._told = 0.0

    def started(self, config: RunConfig, folder: Path, step: int) -> None:
        """It goes on from ``step``."""
        self._tell(step, "training")

    def stepped(self, step: int) -> None:
        """Not every step is worth a message."""
        now = time.monotonic()
        if now - self._told >= _EVERY:
            self._told = now
            self._tell(step, "training")

    def stage(self, what: str) -> None:
        """The training is over."""
        self._tell(self._cell.steps, "measuring")

    def noted(self, text: str) -> None:
        """Pass it on."""
        self._connection.send((NOTE, self._number, f"{self._cell.name}: {text}"))

    def _tell(self, units: int, what: str) -> None:
        self._connection.send((PROGRESS, self._number, (units, what)))
