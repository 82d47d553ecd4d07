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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import Interrupted, Message, SoftVQError, one_line
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
"""The file in a job's folder while somebody works on the job."""
TRAINING, MEASURING = "training", "measuring"
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


@dataclass(frozen=True)
class Answer:
    """What became of a job: an evaluation, an error, or neither where it was stopped."""

    evaluation: Evaluation | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobProgress:
    """What a job's progress file says."""

    units: int = 0
    """Iterations, and what an evaluation is worth in them."""
    doing: str = ""
    notes: tuple[str, ...] = ()


def read_progress(job: Job, order: Order) -> JobProgress | None:
    """How far a job is; None while nobody works on it for this order."""
    try:
        value = json.loads((job.folder / PROGRESS).read_text(encoding="utf-8"))
        if value["order"] == order.id:
            notes = tuple(Message(*note) for note in value["notes"])
            return JobProgress(int(value["units"]), str(value["doing"]), notes)
    except (OSError, ValueError, LookupError, TypeError):  # not there, or just being written
        pass
    return None


@dataclass
class _ProgressFile(Reporter):
    """Tells the pool how a job goes, by its file."""

    job: Job
    order: Order
    doing: str = ""
    units: int = 0
    notes: list[str] = field(default_factory=list)
    written: float = 0.0

    def stage(self, name: str, *, stoppable: bool = False) -> None:
        """Training, measuring, or waiting for another process."""
        self.doing = TRAINING if stoppable else name if name.startswith("waiting") else MEASURING
        self.units = self.job.steps if self.doing == MEASURING else self.units
        (_training.add if stoppable else _training.discard)(self.job.folder)
        self._write()

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        """Of the steps alone."""
        if name == TRAINING:
            self.units = int(done)
            if time.monotonic() - self.written >= _WRITE_EVERY:
                self._write()

    def note(self, text: str) -> None:
        """For the terminal of the command, but not that each job trains in its own folder."""
        if not text.startswith(f"training in {self.job.folder}"):
            self.notes.append(text)
            self._write()

    def warn(self, text: str) -> None:
        """As a note: the pool shows the notes of its jobs as warnings."""
        self.note(text)

    def end(self) -> None:
        """The job is over, in whatever way."""
        _training.discard(self.job.folder)
        with contextlib.suppress(OSError):
            (self.job.folder / PROGRESS).unlink()

    def _write(self) -> None:
        self.written = time.monotonic()
        notes = [_as_plain(note) for note in self.notes]
        content = {"order": self.order.id, "units": self.units, "doing": self.doing, "notes": notes}
        with contextlib.suppress(OSError):  # a full disk ends the job where it matters
            (self.job.folder / PROGRESS).write_text(json.dumps(content), encoding="utf-8")


def _as_plain(note: str) -> list[Any]:
    """The template and the values of a message, for JSON."""
    if not isinstance(note, Message):
        return ["{}", note]
    return [note.template, *(value if isinstance(value, int | float) else str(value) for value in note.values)]


def work(group: tuple[Job, ...], order: Order, stop: threading.Event | None = None) -> list[Answer]:
    """Complete the jobs of a group; their answers in the same order."""
    from softvq_cli.devices import machine
    from softvq_cli.experiments.job import complete

    files = {job: _ProgressFile(job, order) for job in group}
    answers: dict[Job, Answer] = {}
    with _one_at_a_time, contextlib.ExitStack() as context:
        try:
            _check_versions(order, list(files.values()))
            limit_threads(order.threads)
            context.enter_context(_environment_of(order))
            _check_token(order)
            outcomes = complete(
                group,
                device=order.device,
                threads=order.threads,
                reporters=list(files.values()),
                stop=stop or _stop,
                machine=machine(order.device),
            )
            for job, outcome in outcomes:
                notes = tuple(files[job].notes)
                if isinstance(outcome, Interrupted):
                    answers[job] = Answer(notes=notes)
                elif isinstance(outcome, SoftVQError):
                    answers[job] = Answer(error=outcome.message, notes=notes)
                else:
                    answers[job] = Answer(outcome, notes=notes)
        except Exception as error:
            text = error.message if isinstance(error, SoftVQError) else f"{type(error).__name__}: {one_line(error)}"
            for job in group:
                answers.setdefault(job, Answer(error=Message("{} ({})", text, _place(error))))
        finally:
            for file in files.values():
                file.end()
    return [answers[job] for job in group]


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


def _check_versions(order: Order, files: Sequence[_ProgressFile]) -> None:
    """Refuse another softvq, whose numbers would stand under this one's name; say that PyTorch is another."""
    own, host = versions(), platform.node()
    if own["softvq"] != order.versions["softvq"]:
        raise SoftVQError(
            f"the worker on {host} has softvq {own['softvq']}, and the command {order.versions['softvq']}: install "
            "the same version on all machines"
        )
    if own["settings"] != order.versions["settings"]:
        raise SoftVQError(f"the worker on {host} has softvq {own['softvq']} with other settings than the command's")
    if own["torch"] != order.versions["torch"]:
        for file in files:
            file.notes.append(
                f"computed with PyTorch {own['torch']}; the command has {order.versions['torch']}, so the last digits "
                "can differ"
            )


def _check_token(order: Order) -> None:
    """Make sure that this process sees the command's folder, not one of the same name."""
    for _ in range(_TOKEN_LOOKS if order.token else 0):
        with contextlib.suppress(OSError):
            if Path(order.token).read_text(encoding="utf-8") == order.id:
                return
        time.sleep(_LOOK_EVERY)  # a network file system may show it a moment later
    if order.token:
        raise SoftVQError(
            f"{Path(order.token).parent} on {platform.node()} is not the folder that the command writes to: the "
            "workers and the command need a shared file system"
        )


@contextlib.contextmanager
def _environment_of(order: Order) -> Iterator[None]:
    """The current folder and the environment of the command that gave the order."""
    folder, before = os.getcwd(), {name: os.environ.get(name) for name in ENVIRONMENT}
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise SoftVQError(
            f"the folder {order.folder} does not exist on {platform.node()}: the workers and the command need a shared "
            "file system"
        ) from error
    try:
        os.environ |= order.environment
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        os.chdir(folder)


def _place(error: BaseException) -> str:
    """``loop.py, line 12``."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def begin(parent: Connection, environment: Mapping[str, str]) -> None:
    """The first thing in a process of this machine.

    Ctrl-C and SIGTERM reach the whole group of processes, and the parent answers them. They were blocked when the
    process was started, so that none ends it before it ignores them.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ |= environment
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
    """Load what every job needs, while the parent still looks at the data."""
    import softvq_cli.experiments.job  # noqa: F401
    from softvq_cli.devices import keep_freed_memory

    keep_freed_memory()
    limit_threads(threads)


def limit_threads(threads: int) -> dict[str, Any]:
    """For libraries that do not read the environment, or were loaded before it was set."""
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    return {"torch": torch.get_num_threads(), "pools": threadpool_info()}


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
