"""A process that has imported everything and forks a child for each command.

A child calls ``main(argv)`` like the installed command, but starts in milliseconds instead of seconds, so that hundreds
can be killed. The server accepts several connections at once, one job each; see :func:`_child` for the options of a
job. It ends soon after the process that it was started for.

A fork of it starts the workers of studies in all processes of the tests: see :mod:`tests.helpers.workers`.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import io
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import workers
from tests.helpers.runs import coarse_pictures, shrunk_networks, trust_the_disk


def _die_at(moment: int) -> None:
    """Kill the process at the ``moment``-th call that changes or flushes files."""
    calls = 0

    def dying(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return real(*args, **options)

        return call

    opening = dying(open)

    def opened(place: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        return (opening if set(mode) & set("wax+") else real)(place, mode, *args, **options)

    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    real, builtins.open = open, opened
    io.open = opened


class _Writing:
    """A file that calls ``tick`` before each write."""

    def __init__(self, file: Any, tick: Callable[[], None]) -> None:
        self._file, self._tick = file, tick

    def write(self, data: Any) -> Any:
        self._tick()
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _fail_at(moment: int, number: int) -> None:
    """Let the ``moment``-th call that writes in the current folder fail once, with this system error.

    The file ``fault`` then shows that the call was reached.
    """
    calls, folder = 0, os.getcwd()

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == moment + 1:
            os.close(os.open(f"{folder}/fault", os.O_CREAT | os.O_WRONLY))
            raise OSError(number, os.strerror(number))

    def here(place: Any) -> bool:
        return not isinstance(place, int) and os.path.abspath(os.fsdecode(place)).startswith(f"{folder}{os.sep}")

    def failing(real: Any) -> Any:
        def call(place: Any, *args: Any, **options: Any) -> Any:
            if here(place) or (real.__name__ == "fsync" and here(os.readlink(f"/proc/self/fd/{place}"))):
                tick()
            return real(place, *args, **options)

        call.__name__ = real.__name__
        return call

    def opening(real: Any) -> Any:
        def call(place: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not (set(mode) & set("wax+") and here(place)):
                return real(place, mode, *args, **options)
            tick()
            return _Writing(real(place, mode, *args, **options), tick)

        return call

    for name in ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "chmod", "mkdir", "link", "truncate"):
        setattr(os, name, failing(getattr(os, name)))
    builtins.open = io.open = opening(open)  # type: ignore[assignment]


def _child(job: dict[str, Any], streams: list[int]) -> None:
    from softvq_cli.__main__ import main

    os.chdir(job["cwd"])
    os.environ |= job.get("environment", {})
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        lines = 1 if number == 2 or os.isatty(number) else -1
        setattr(sys, name, open(number, "w", lines, encoding, errors, closefd=False))  # noqa: SIM115 (as Python does)
    if job.get("die_at") is not None:
        _die_at(job["die_at"])
    if job.get("fault") is not None:
        _fail_at(*job["fault"])
    for name in ("FSIZE", "AS"):
        if job.get(name) is not None:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (job[name], resource.RLIM_INFINITY))
    code = 0
    with contextlib.ExitStack() as context:
        if job["small"]:
            context.enter_context(shrunk_networks())
        if job.get("coarse"):
            context.enter_context(coarse_pictures())
        if job.get("code") is None:
            code = main(job["argv"])
        else:  # a program of Python
            sys.argv = ["-c", *job["argv"]]
            try:
                exec(compile(job["code"], "<job>", "exec"), {"__name__": "__main__"})
            except SystemExit as end:
                code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _begin(connection: socket.socket, jobs: dict[int, socket.socket]) -> None:
    """Read a job, fork a child for it and send its pid."""
    text, streams = b"", []
    while not text.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        text, streams = text + part, streams + more
        if not part:  # the client has closed the connection
            return
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            _child(json.loads(text), streams)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(70)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    jobs[pid] = connection


def _end(jobs: dict[int, socket.socket]) -> None:
    """Send the status of each child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in jobs:
            with jobs.pop(pid) as connection, contextlib.suppress(OSError):
                connection.sendall(f"{status}\n".encode())


def _warm_up() -> None:
    """Import now what would be imported later."""
    import distributed  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import openTSNE  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch

    from softvq_cli import datasets, embeddings, experiments  # noqa: F401
    from softvq_cli.__main__ import main

    torch.set_num_threads(1)  # a process with several threads must not fork
    with tempfile.TemporaryDirectory() as folder, shrunk_networks():
        path = str(Path(folder) / "run")
        assert main(["train", "--out", path, "--iterations", "2", "--quiet", "--device", "cpu"]) == 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def serve(path: str, owner: int) -> None:
    """Listen on a Unix socket as long as the process ``owner`` lives."""
    trust_the_disk()
    _warm_up()
    gc.collect()
    gc.freeze()  # so that garbage collection in children does not copy existing objects
    workers.serve(workers.beside(path))
    workers.share(workers.beside(path))
    ends, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    jobs: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as ready:
        listener.bind(f"{path}.new")
        listener.listen(64)
        os.rename(f"{path}.new", path)
        ready.register(listener, selectors.EVENT_READ)
        ready.register(ends, selectors.EVENT_READ)
        while _lives(owner):
            for key, _ in ready.select(timeout=0.5):
                if key.fileobj is listener:
                    _begin(listener.accept()[0], jobs)
                else:
                    ends.recv(1 << 12)
                    _end(jobs)
    shutil.rmtree(Path(path).parent)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
