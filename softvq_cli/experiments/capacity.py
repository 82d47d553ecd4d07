"""How many processes the limits of the system allow.

They are checked before workers start, which would only say that they failed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from softvq_cli.errors import Message, SoftVQError

_FILES, _FILES_EACH = 32, 12
"""Open at once, as measured: this program's own (24), and its pipes to each process (9), which has 12 itself."""
_SPACE = 5 << 30
"""Bytes of address space that this program and each worker need, most of which are never touched (4.3 GB measured)."""
_TASKS, _TASKS_EACH = 24, 24
"""Processes and threads: this program's own, and those of a worker."""


def check(workers: int) -> None:
    """Refuse more processes than the system allows; the soft limit on open files is raised where that is allowed."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    _check_files(resource, workers)
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= space < _SPACE:
        raise SoftVQError(
            f"the address space is limited to {space / 1e9:.1f} GB, and each process for the jobs needs about "
            f"{_SPACE / 1e9:.1f}: raise the limit (ulimit -v unlimited)"
        )
    most, need = resource.getrlimit(resource.RLIMIT_NPROC)[0], _TASKS + _TASKS_EACH * workers
    if os.geteuid() and 0 <= most < need + (used := _tasks_of_user()):
        raise SoftVQError(
            f"this user may have {most} processes and threads and has {used}, and {_need(workers, need)}: raise the "
            "limit (ulimit -u), or end others"
        )


def _check_files(resource: Any, workers: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = _FILES + _FILES_EACH * workers
    if not 0 <= soft < need:
        return
    if 0 <= hard < need:
        fit = (hard - _FILES) // _FILES_EACH
        fewer = Message(", or give {jobs} {}", fit) if fit > 0 else ""
        raise SoftVQError(
            "only {} files may be open at once, and {}: raise the limit (ulimit -n {}){}",
            *(hard, _need(workers, need), need, fewer),
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _need(workers: int, need: int) -> str:
    return (
        f"one process for the jobs needs about {need}" if workers == 1 else f"{workers} for the jobs need about {need}"
    )


def _tasks_of_user() -> int:
    """Processes and threads of this user; 0 where the system does not show them."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if process.stat().st_uid == os.geteuid():
                count += len(os.listdir(process / "task"))
    return count
