"""Run the program in this process, in a forked one that starts quickly, and in a new one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from softvq_cli.__main__ import main
from tests.helpers import workers
from tests.helpers.runs import state

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--iterations", "6", "--log-every", "3", "--device", "cpu")
"""Options of a training that takes only a moment."""
EXIT_CODES = (0, 1, 2, 3, 4, 130)
UNFORESEEN = ("this should not happen", "Traceback")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    """Negative: the signal that killed it."""
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def done(self) -> Result:
        """Check that it succeeded."""
        assert self.code == 0, self
        return self

    def refused(self, code: int, *words: str) -> None:
        """Check that it ended with ``code`` and one line of error.

        Args:
            code: the exit code.
            *words: the settings, files and values that the line must name; a test repeats no more of a message.
        """
        assert (self.code, self.out) == (code, ""), self
        assert re.fullmatch("softvq: error: [^\n]+\n?", self.err), self
        assert not [word for word in UNFORESEEN if word in self.err and word not in words], self
        assert not [word for word in words if word not in self.err], self


def softvq(*words: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Result(code, out.getvalue(), err.getvalue())


def ended_well(ended: Result) -> None:
    """Check for success without an error message, or an exit code and line as documented."""
    assert ended.code in EXIT_CODES, ended
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("softvq: error: ")]
    assert len(errors) == (ended.code not in (0, 130)) and (not errors or lines[-1] == errors[0]), ended
    for word in (*UNFORESEEN, "\x1b"):
        assert word not in ended.err + ended.out, ended
    if ended.code == 0 and "\n" not in ended.out.strip() and ended.out.startswith("{"):
        json.loads(ended.out)


class Fork:
    """A command in a forked process, with the files of its two streams."""

    def __init__(self, connection: socket.socket, files: list[Any]) -> None:
        self._connection, self._files = connection, files
        self._lines = connection.makefile()
        self.pid = int(self._lines.readline())

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> Result:
        """Wait for it."""
        status = os.waitstatus_to_exitcode(int(self._lines.readline()))
        self._lines.close()
        self._connection.close()
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read())
        return Result(status, *texts)


class Zygote:
    """Runs commands in forks of a process that has imported everything, with networks of :data:`WIDTHS`.

    Args:
        path: the path of its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(
        self, *words: object, cwd: Path, after: float | None = None, number: int = signal.SIGKILL, **job: Any
    ) -> Result:
        """Run a command; it gets the signal ``after`` this number of seconds, unless it has ended."""
        fork = self.begin(*words, cwd=cwd, **job)
        if after is not None:
            time.sleep(after)
            fork.send(number)
        return fork.end()

    def whole(self, words: Iterable[object], folder: Path, **job: Any) -> dict[str, Any]:
        """The :func:`state` of ``run`` in a new folder after the command without interruption."""
        folder.mkdir()
        self.run(*words, cwd=folder, **job).done()
        return state(folder / "run")

    def begin(self, *words: object, cwd: Path, out: int | None = None, err: int | None = None, **job: Any) -> Fork:
        """Start a command; see :mod:`tests.helpers.zygote` for the options in ``job``.

        Args:
            words: the words of the command.
            cwd: its current folder.
            out: a file descriptor for standard output, instead of the file for :class:`Result`'s ``out``.
            err: the same for standard error.
            **job: other options.
        """
        files = [tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")]  # noqa: SIM115 (the fork closes them)
        streams = [files[0].fileno() if out is None else out, files[1].fileno() if err is None else err]
        job = {"argv": [str(word) for word in words], "cwd": str(cwd), "small": True} | job
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._path))
        with open(os.devnull) as nothing:
            socket.send_fds(connection, [json.dumps(job).encode() + b"\n"], [nothing.fileno(), *streams])
        return Fork(connection, files)

    def python(self, code: str, *words: object, cwd: Path = ROOT, **job: Any) -> Result:
        """Run a Python program with these words in ``sys.argv``."""
        return self.run(*words, cwd=cwd, code=code, **job)

    def share_workers(self) -> None:
        """The workers that this process starts are forks of the zygote; see :mod:`tests.helpers.workers`."""
        workers.share(workers.beside(str(self._path)))

    def executable(self, folder: Path, small: bool = False) -> Path:
        """Create a program ``softvq`` for shell scripts in a folder, which passes its words and streams to a fork."""
        program = folder / "softvq"
        (folder / "softvq.py").write_text(EXECUTABLE.format(path=str(self._path), small=small))
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS "$(dirname "$0")/softvq.py" "$@"\n')
        program.chmod(0o755)
        return program


EXECUTABLE = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({path!r})
    shown = {{name: value for name, value in os.environ.items() if name.startswith("PYTHON")}}
    job = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "small": {small}, "environment": shown}}
    socket.send_fds(connection, [json.dumps(job).encode() + b"\\n"], [0, 1, 2])
    pid, status = connection.makefile()
sys.exit(os.waitstatus_to_exitcode(int(status)))
"""


def zygote_in(folder: Path, owner: int) -> Zygote:
    """The zygote of this folder, started if necessary; it lives as long as the process ``owner``."""

    def start(address: Path) -> None:
        path = Path(tempfile.mkdtemp(prefix="softvq-tests-")) / "zygote"  # the length of socket paths is limited
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.zygote", str(path), str(owner)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.02)
        address.write_text(str(path))

    return Zygote(Path(once(folder / "zygote", start).read_text()))


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """A file or folder created by ``make``, unless another process has created it: it is shared by all workers."""
    made = path.with_name(f"{path.name}.made")
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not made.exists():
            make(path)
            made.touch()
    return path


# ---- fresh processes


def installed(*words: object, **more: Any) -> subprocess.Popen[str]:
    """Run the program as a shell does; ``more`` is passed to ``Popen``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    how = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    return subprocess.Popen([sys.executable, "-m", "softvq_cli", *map(str, words)], **how)


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """The program in its own process, which reports when it has started.

    It receives Ctrl-C even if this process runs in the background, where shells make it ignored.
    """
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from softvq_cli.__main__ import main; print('started', flush=True); sys.exit(main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a new process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def wait_for(
    path: Path, process: subprocess.Popen[str] | None = None, *, larger_than: int = 0, seconds: float = 300
) -> None:
    """Wait until a file written by ``process`` has more than this number of bytes."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size > larger_than):
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
