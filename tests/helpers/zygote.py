"""A process that has imported everything and forks a child for each command.

A child calls ``main(argv)`` as the installed command does, but starts in milliseconds instead of seconds, so that
hundreds can be killed. It serves one job a line on standard input; see :func:`_child` for what a job may ask for.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.helpers.runs import shrunk_networks


def _die_at(moment: int) -> None:
    """Let the process vanish, as if killed, at the ``moment``-th call that changes or secures what is on the disk."""
    calls = 0

    def dying(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            if calls == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return real(*args, **options)

        return call

    for name in ("fsync", "replace", "unlink", "chmod"):
        setattr(os, name, dying(getattr(os, name)))
    tempfile.NamedTemporaryFile = dying(tempfile.NamedTemporaryFile)  # type: ignore[misc]


def _child(job: dict[str, Any]) -> None:
    from softvq_cli.__main__ import main

    os.chdir(job["cwd"])
    for number, name in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if job.get("die_at") is not None:
        _die_at(job["die_at"])
    for name in ("FSIZE", "AS"):
        if job.get(name) is not None:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (job[name], resource.RLIM_INFINITY))
    code = main(job["argv"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    import torch

    from softvq_cli import datasets, experiments  # noqa: F401
    from softvq_cli.__main__ import main

    torch.set_num_threads(1)  # a process with more of them must not fork
    with tempfile.TemporaryDirectory() as folder:  # what is imported late is imported here
        path = str(Path(folder) / "run")
        quick = ["--iterations", "2", "--quiet", "--device", "cpu"]
        stdout = os.dup(1)
        os.dup2(2, 1)
        assert main(["train", "--out", path, *quick]) == 0
        os.dup2(stdout, 1)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _child(json.loads(line))
            finally:
                os._exit(70)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    with shrunk_networks():
        serve()
