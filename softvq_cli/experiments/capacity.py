"""Check that the limits of the system allow the requested number of processes.

This is done before workers start, because they would only report that they failed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from softvq_cli.errors import Message, SoftVQError

_FILES, _FILES_EACH = 32, 12
"""Open files, with a margin: this program was measured to have 24 and 9 pipes to each worker, a worker 12."""
_SPACE = 5 << 30
"""Bytes of address space for this program and each worker, mostly never used (4.3 GB measured)."""
_TASKS, _TASKS_EACH = 24, 24
"""Processes and threads of this program, and of each worker."""


def check(workers: int) -> None:
    """Raise an error if the system does not allow so many workers; raise the soft limit on open files if possible."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    need = "one process for the jobs needs" if workers == 1 else f"{workers} for the jobs need"
    files, tasks = _FILES + _FILES_EACH * workers, _TASKS + _TASKS_EACH * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < files:
        fit = (hard - _FILES) // _FILES_EACH
        fewer = Message(", or give {jobs} {}", fit) if fit > 0 else ""
        text = "only {} files may be open at once, and {} about {}: raise the limit (ulimit -n {}){}"
        raise SoftVQError(text, hard, need, files, files, fewer)
    if 0 <= soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= space < _SPACE:
        raise SoftVQError(
            f"the address space is limited to {space / 1e9:.1f} GB, and each process for the jobs needs about "
            f"{_SPACE / 1e9:.1f}: raise the limit (ulimit -v unlimited)"
        )
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if os.geteuid() and 0 <= most < tasks + (used := _tasks_of_user()):  # root has no limit
        raise SoftVQError(
            f"this user may have {most} processes and threads and has {used}, and {need} about {tasks}: raise the "
            "limit (ulimit -u), or end others"
        )


def _tasks_of_user() -> int:
    """Processes and threads of this user; 0 if the system does not show them."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has just ended
            if process.stat().st_uid == os.geteuid():
                count += len(os.listdir(process / "task"))
    return count
