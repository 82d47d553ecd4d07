"""The program in this process, in a forked one that starts at once, and in a fresh one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--iterations", "6", "--log-every", "3", "--device", "cpu")
"""Options of a training that is over at once."""
EXIT_CODES = (0, 1, 2, 3, 4, 130)


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

    def refused(self, code: int, *words: str) -> None:
        """Check that it ended with ``code`` and one line of error with all of ``words``."""
        lines = self.err.splitlines()
        assert (self.code, self.out, len(lines)) == (code, "", 1), self
        assert lines[0].startswith("softvq: error: "), self
        assert not [word for word in ("this should not happen", "Traceback") if word in self.err], self
        assert not [word for word in words if word not in lines[0]], self


def softvq(*words: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Result(code, out.getvalue(), err.getvalue())


def ended_well(ended: Result) -> None:
    """Success without an error, or an exit code and a line of the contract."""
    assert ended.code in EXIT_CODES, ended
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("softvq: error: ")]
    assert len(errors) == (ended.code not in (0, 130)) and (not errors or lines[-1] == errors[0]), ended
    for word in ("Traceback", "this should not happen", "\x1b"):
        assert word not in ended.err + ended.out, ended
    if ended.code == 0 and "\n" not in ended.out.strip() and ended.out.startswith("{"):
        json.loads(ended.out)


class Zygote:
    """Runs commands in forks of one process that has imported everything, with networks of :data:`WIDTHS`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.zygote"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def run(
        self, *words: object, cwd: Path, after: float | None = None, number: int = signal.SIGKILL, **job: Any
    ) -> Result:
        """Run a command; ``after`` so many seconds it gets the signal, unless it is over by then."""
        self.begin(*words, cwd=cwd, **job)
        if after is not None:
            time.sleep(after)
            self.send(number)
        return self.end()

    def begin(self, *words: object, cwd: Path, **job: Any) -> None:
        self._out, self._err = self._folder / "out", self._folder / "err"
        job |= {"argv": [str(word) for word in words], "cwd": str(cwd), "out": str(self._out), "err": str(self._err)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        self._pid = int(self._line())

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def end(self) -> Result:
        status = os.waitstatus_to_exitcode(int(self._line()))
        return Result(status, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


# ---- fresh processes


def installed(*words: object, **more: Any) -> subprocess.Popen[str]:
    """The program as a shell starts it; ``more`` goes to ``Popen``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    how = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    return subprocess.Popen([sys.executable, "-m", "softvq_cli", *map(str, words)], **how)


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """The program in a process of its own, which says when it has started.

    It hears Ctrl-C even if this process was started in the background, where shells have it ignored.
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
    """A program of Python in a fresh process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def wait_for(
    path: Path, process: subprocess.Popen[str] | None = None, *, larger_than: int = 0, seconds: float = 300
) -> None:
    """Wait until a file, which ``process`` writes, has more than so many bytes."""
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size > larger_than):
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.005)
