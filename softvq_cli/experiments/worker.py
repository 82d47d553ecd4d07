"""The code of a worker process: it completes the jobs of a group, each with a progress file.

Only light modules are imported at the top, because the number of threads must be set before NumPy and PyTorch
are loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.errors import Interrupted, SoftVQError, message_as_json, message_from_json, one_line
from softvq_cli.process import environment
from softvq_cli.reporter import Reporter
from softvq_cli.version import __version__

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from softvq_cli.experiments.job import Job
    from softvq_cli.results.evaluate import Evaluation

ENVIRONMENT = ("SOFTVQ_DATA", "SOFTVQ_CACHE")
"""Variables with the location of data: a worker on another machine must use the same folders."""
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT"),
)
_GROUP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _GROUP if hasattr(signal, name))
PROGRESS = "progress.json"
"""The file in a job's folder while a worker completes it."""
TRAINING = "training"
LONGEST_STOP = 120.0
"""Maximum seconds after a stop for a training to end its step and write its checkpoint."""
_WRITE_EVERY = 1.0
"""Seconds between two updates of the progress file; new stages and notes are written immediately."""
_LOOK_EVERY = 0.2
"""Seconds between two checks whether a Dask task is still wanted, and of the token of a shared folder."""
_TOKEN_LOOKS = 50

_one_at_a_time = threading.Lock()
"""Prevents a worker with several threads from training in two: PyTorch has one generator and one thread count."""
_stop = threading.Event()
"""For a process of this machine: its jobs end when nothing would be lost."""
_training: set[Path] = set()
"""The folders in which this process is training."""


@dataclass(frozen=True)
class Order:
    """The information that a worker needs besides the jobs."""

    id: str
    """Different for each run of the pool, so that progress files of earlier runs are ignored."""
    device: str
    threads: int
    folder: str
    """The current folder, to which paths are relative."""
    environment: Mapping[str, str]
    versions: Mapping[str, str]
    """The result of :func:`versions` on the machine of the command."""
    token: str = ""
    """A file with the order's id that a worker on another machine must be able to read."""


Told = tuple[str, str]
"""``note`` or ``warn``, the method of a reporter, and the text."""


@dataclass(frozen=True)
class Answer:
    """The result of a job: an evaluation, an error, or neither if it was stopped."""

    evaluation: Evaluation | None = None
    error: str | None = None
    notes: tuple[Told, ...] = ()


@dataclass
class Progress(Reporter):
    """The progress of a job. In a worker, it is a reporter that updates the job's progress file."""

    job: Job
    order: Order
    units: int = 0
    """Iterations, and the evaluation as an equivalent number of them."""
    doing: str = ""
    notes: list[Told] = field(default_factory=list)
    _written: float = 0.0

    @classmethod
    def read(cls, job: Job, order: Order) -> Progress | None:
        """Read the file; None if no worker has started the job for this order."""
        try:
            value = json.loads((job.folder / PROGRESS).read_text(encoding="utf-8"))
            if value["order"] == order.id:
                notes: list[Told] = [(kind, message_from_json(text)) for kind, text in value["notes"]]
                return cls(job, order, int(value["units"]), str(value["doing"]), notes)
        except (OSError, ValueError, LookupError, TypeError):  # missing, or just being written
            pass
        return None

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """Start a stage: training, measuring, or waiting for another process."""
        self.doing = TRAINING if stoppable else name if name.startswith("waiting") else "measuring"
        self.units = self.job.steps if self.doing == "measuring" else self.units
        (_training.add if stoppable else _training.discard)(self.job.folder)
        self._write()

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Report the progress of training steps only."""
        if name == TRAINING:
            self.units = int(done)
            if time.monotonic() - self._written >= _WRITE_EVERY:
                self._write()

    def note(self, text: str) -> None:
        """Report a note on the command's terminal, except that each job trains in its own folder."""
        if not text.startswith(f"training in {self.job.folder}"):
            self._tell("note", text)

    def warn(self, text: str) -> None:
        """The same, also for a quiet command."""
        self._tell("warn", text)

    def _tell(self, kind: str, text: str) -> None:
        self.notes.append((kind, text))
        self._write()

    def end(self) -> None:
        """The job has ended, successfully or not."""
        _training.discard(self.job.folder)
        discard_progress(self.job)

    def _write(self) -> None:
        self._written = time.monotonic()
        notes = [[kind, message_as_json(text)] for kind, text in self.notes]
        content = {"order": self.order.id, "units": self.units, "doing": self.doing, "notes": notes}
        with contextlib.suppress(OSError):  # a full disk is reported when results are written
            (self.job.folder / PROGRESS).write_text(json.dumps(content), encoding="utf-8")


def discard_progress(job: Job) -> None:
    """Remove the job's progress file; one left by a killed worker is meaningless."""
    with contextlib.suppress(OSError):
        (job.folder / PROGRESS).unlink()


def work(group: tuple[Job, ...], order: Order, stop: threading.Event | None = None) -> list[Answer]:
    """Complete the jobs of a group; returns their answers in the same order."""
    from softvq_cli.devices import machine
    from softvq_cli.experiments.job import complete

    progress = {job: Progress(job, order) for job in group}
    outcomes: dict[Job, Evaluation | Exception] = {}
    try:
        with _one_at_a_time, _place_of(order):
            if note := _check_versions(order):
                for each in progress.values():
                    each.notes.append(("warn", note))
            limit_threads(order.threads)
            outcomes.update(
                complete(
                    group,
                    device=order.device,
                    threads=order.threads,
                    reporters=list(progress.values()),
                    stop=stop or _stop,
                    machine=machine(order.device),
                )
            )
    except Exception as error:
        outcomes = {**dict.fromkeys(group, error), **outcomes}
    finally:
        for each in progress.values():
            each.end()
    return [_answer(outcomes[job], tuple(progress[job].notes)) for job in group]


def _answer(outcome: Evaluation | Exception, notes: tuple[Told, ...]) -> Answer:
    if isinstance(outcome, Interrupted):
        return Answer(notes=notes)
    if isinstance(outcome, SoftVQError):
        return Answer(error=outcome.message, notes=notes)
    if isinstance(outcome, Exception):
        frame = traceback.extract_tb(outcome.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        return Answer(error=f"{type(outcome).__name__}: {one_line(outcome)} ({place})", notes=notes)
    return Answer(outcome, notes=notes)


def versions() -> dict[str, str]:
    """Versions of softvq, PyTorch and the settings of a run."""
    import torch

    from softvq_cli.config import SETTINGS

    settings = json.dumps([(name, repr(setting.default)) for name, setting in SETTINGS.items()])
    return {
        "softvq": __version__,
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
        "torch": torch.__version__,
    }


def _check_versions(order: Order) -> str:
    """Refuse another version of softvq, whose numbers would be attributed to this one; returns a note on PyTorch's."""
    here, command, host = versions(), order.versions, platform.node()
    if here["softvq"] != command["softvq"]:
        raise SoftVQError(
            f"the worker on {host} has softvq {here['softvq']}, and the command {command['softvq']}: install the same "
            "version on all machines"
        )
    if here["settings"] != command["settings"]:
        raise SoftVQError(f"the worker on {host} has softvq {here['softvq']} with other settings than the command's")
    if here["torch"] != command["torch"]:
        return f"computed with PyTorch {here['torch']}; the command has {command['torch']}: the last digits can differ"
    return ""


@contextlib.contextmanager
def _place_of(order: Order) -> Iterator[None]:
    """Use the current folder and the environment of the command, whose folders must be the same here (SoftVQError)."""
    before, shared = os.getcwd(), "the workers and the command need a shared file system"
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise SoftVQError(f"the folder {order.folder} does not exist on {platform.node()}: {shared}") from error
    try:
        if not _reads_token(order):
            folder = Path(order.token).parent
            raise SoftVQError(f"{folder} on {platform.node()} is not the folder that the command writes to: {shared}")
        with environment(order.environment):
            yield
    finally:
        os.chdir(before)


def _reads_token(order: Order) -> bool:
    """Whether this process sees the command's folder, and not another with the same name."""
    if not order.token:
        return True
    for _ in range(_TOKEN_LOOKS):
        with contextlib.suppress(OSError):
            if Path(order.token).read_text(encoding="utf-8") == order.id:
                return True
        time.sleep(_LOOK_EVERY)  # on a network file system, it may appear later
    return False


def begin(parent: Connection, variables: Mapping[str, str]) -> None:
    """The first call in a process of this machine.

    Ctrl-C and SIGTERM are sent to the whole process group, and the parent handles them. They are blocked when the
    process starts, so that they cannot end it before it ignores them.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ |= variables
    threading.Thread(target=_obey, args=(parent,), daemon=True).start()


def _obey(parent: Connection) -> None:
    """Stop on a message from the parent. If the parent has died, also exit as soon as nothing is lost."""
    try:
        parent.recv_bytes()
        _stop.set()
        parent.recv_bytes()  # no other messages are sent: it returns at the end of the parent
    except (EOFError, OSError):
        _stop.set()
        latest = time.monotonic() + LONGEST_STOP
        while _training and time.monotonic() < latest:
            time.sleep(_LOOK_EVERY)
        os._exit(1)


def prepare(threads: int) -> None:
    """Import what every job needs."""
    import softvq_cli.experiments.job  # noqa: F401
    from softvq_cli.devices import keep_freed_memory

    keep_freed_memory()
    limit_threads(threads)


def limit_threads(threads: int) -> None:
    """Limit threads of libraries that ignore the environment, or were loaded before it was set."""
    import torch
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def work_for_scheduler(group: tuple[Job, ...], order: Order) -> list[Answer]:
    """Run :func:`work` as a Dask task. It ends if its client has left or has cancelled it."""
    from distributed import get_worker

    worker, stop, over = get_worker(), threading.Event(), threading.Event()
    key = worker.get_current_task()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY):
            task = worker.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                stop.set()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        return work(group, order, stop)
    finally:
        over.set()
