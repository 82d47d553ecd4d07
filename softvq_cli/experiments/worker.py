"""What runs in a worker process: the jobs of a group, each with a file that tells how far it is.

Only light modules are imported at the top: the initialiser of a process sets the number of threads before NumPy and
PyTorch are loaded.
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
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import Interrupted, Message, SoftVQError, one_line
from softvq_cli.process import environment
from softvq_cli.reporter import Reporter
from softvq_cli.version import __version__

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from softvq_cli.experiments.job import Job
    from softvq_cli.results.evaluate import Evaluation

ENVIRONMENT = ("SOFTVQ_DATA", "SOFTVQ_CACHE")
"""Where data lie: a worker on another machine has to look in the same places."""
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT"),
)
_GROUP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _GROUP if hasattr(signal, name))
PROGRESS = "progress.json"
"""The file in a job's folder while a worker works on the job."""
TRAINING = "training"
LONGEST_STOP = 120.0
"""Seconds that a training has, after a stop, to end its step and to write its checkpoint."""
_WRITE_EVERY = 1.0
"""Seconds between two writings of the progress; a new stage and a note are written at once."""
_LOOK_EVERY = 0.2
"""Seconds between two looks at whether a Dask task is still wanted, and at the token of a shared folder."""
_TOKEN_LOOKS = 50

_one_at_a_time = threading.Lock()
"""A worker with several threads must not train in two of them: PyTorch has one generator and one number of threads."""
_stop = threading.Event()
"""Of a process of this machine: the jobs end as soon as nothing is lost by it."""
_training: set[Path] = set()
"""The folders in which this process trains at the moment."""


@dataclass(frozen=True)
class Order:
    """What a worker needs to know besides the jobs."""

    id: str
    """Different for each run of the pool: a progress file of an earlier one does not count."""
    device: str
    threads: int
    folder: str
    """The current folder: paths are relative to it."""
    environment: Mapping[str, str]
    versions: Mapping[str, str]
    """What :func:`versions` says where the command runs."""
    token: str = ""
    """A file with the order's id that a worker on another machine must be able to read."""


Told = tuple[str, str]
"""``note`` or ``warn``, as a reporter has them, and the text."""


@dataclass(frozen=True)
class Answer:
    """What became of a job: an evaluation, an error, or neither where it was stopped."""

    evaluation: Evaluation | None = None
    error: str | None = None
    notes: tuple[Told, ...] = ()


@dataclass
class Progress(Reporter):
    """How far a job is. In a worker it is a reporter that keeps the job's file up to date."""

    job: Job
    order: Order
    units: int = 0
    """Iterations, and what an evaluation is worth in them."""
    doing: str = ""
    notes: list[Told] = field(default_factory=list)
    _written: float = 0.0

    @classmethod
    def read(cls, job: Job, order: Order) -> Progress | None:
        """What the file says; None while no worker is at the job for this order."""
        try:
            value = json.loads((job.folder / PROGRESS).read_text(encoding="utf-8"))
            if value["order"] == order.id:
                notes: list[Told] = [(kind, Message(*text)) for kind, *text in value["notes"]]
                return cls(job, order, int(value["units"]), str(value["doing"]), notes)
        except (OSError, ValueError, LookupError, TypeError):  # not there, or just being written
            pass
        return None

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """Training, measuring, or waiting for another process."""
        self.doing = TRAINING if stoppable else name if name.startswith("waiting") else "measuring"
        self.units = self.job.steps if self.doing == "measuring" else self.units
        (_training.add if stoppable else _training.discard)(self.job.folder)
        self._write()

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Of the steps alone."""
        if name == TRAINING:
            self.units = int(done)
            if time.monotonic() - self._written >= _WRITE_EVERY:
                self._write()

    def note(self, text: str) -> None:
        """For the terminal of the command, but not that each job trains in its own folder."""
        if not text.startswith(f"training in {self.job.folder}"):
            self._tell("note", text)

    def warn(self, text: str) -> None:
        """The same, even where the command is to be quiet."""
        self._tell("warn", text)

    def _tell(self, kind: str, text: str) -> None:
        self.notes.append((kind, text))
        self._write()

    def end(self) -> None:
        """The job is over, in whatever way."""
        _training.discard(self.job.folder)
        discard_progress(self.job)

    def _write(self) -> None:
        self._written = time.monotonic()
        notes = [[kind, *_template_and_values(text)] for kind, text in self.notes]
        content = {"order": self.order.id, "units": self.units, "doing": self.doing, "notes": notes}
        with contextlib.suppress(OSError):  # a full disk ends the job where it matters
            (self.job.folder / PROGRESS).write_text(json.dumps(content), encoding="utf-8")


def discard_progress(job: Job) -> None:
    """Remove the job's file; one that a killed worker left stands for nothing."""
    with contextlib.suppress(OSError):
        (job.folder / PROGRESS).unlink()


def _template_and_values(note: str) -> list[Any]:
    """A message as JSON takes it."""
    if not isinstance(note, Message):
        return ["{}", note]
    return [note.template, *(value if isinstance(value, int | float) else str(value) for value in note.values)]


def work(group: tuple[Job, ...], order: Order, stop: threading.Event | None = None) -> list[Answer]:
    """Complete the jobs of a group; their answers in the same order."""
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
    """Of softvq, of PyTorch, and of the settings that a run can have."""
    import torch

    from softvq_cli.config import SETTINGS

    settings = json.dumps([(name, repr(setting.default)) for name, setting in SETTINGS.items()])
    return {
        "softvq": __version__,
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
        "torch": torch.__version__,
    }


def _check_versions(order: Order) -> str:
    """Refuse another softvq, whose numbers would stand under this one's name; the note that PyTorch is another."""
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
    """The current folder and the environment of the command, whose folders must be the same here (SoftVQError)."""
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
    """Whether this process sees the command's folder, and not one of the same name."""
    if not order.token:
        return True
    for _ in range(_TOKEN_LOOKS):
        with contextlib.suppress(OSError):
            if Path(order.token).read_text(encoding="utf-8") == order.id:
                return True
        time.sleep(_LOOK_EVERY)  # a network file system may show it a moment later
    return False


def begin(parent: Connection, variables: Mapping[str, str]) -> None:
    """The first thing in a process of this machine.

    Ctrl-C and SIGTERM reach the whole group of processes, and the parent answers them. They were blocked when the
    process was started, so that none ends it before it ignores them.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ |= variables
    threading.Thread(target=_obey, args=(parent,), daemon=True).start()


def _obey(parent: Connection) -> None:
    """Stop when the parent says so. When it has died, stop as well, and leave as soon as nothing is lost by it."""
    try:
        parent.recv_bytes()
        _stop.set()
        parent.recv_bytes()  # nothing else is ever sent: it ends with the parent
    except (EOFError, OSError):
        _stop.set()
        latest = time.monotonic() + LONGEST_STOP
        while _training and time.monotonic() < latest:
            time.sleep(_LOOK_EVERY)
        os._exit(1)


def prepare(threads: int) -> None:
    """Load what every job needs."""
    import softvq_cli.experiments.job  # noqa: F401
    from softvq_cli.devices import keep_freed_memory

    keep_freed_memory()
    limit_threads(threads)


def limit_threads(threads: int) -> None:
    """For libraries that do not read the environment, or were loaded before it was set."""
    import torch
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def work_for_scheduler(group: tuple[Job, ...], order: Order) -> list[Answer]:
    """:func:`work` as a Dask task. It ends when nobody waits for it: its client has left, or has taken it back."""
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
