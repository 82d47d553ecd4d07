"""How many processes the limits of the system allow.

They are checked before workers start, which would only say that they failed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

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
    if os.geteuid() and 0 <= most < tasks + (used := _tasks_of_user()):  # the system sets root no limit
        raise SoftVQError(
            f"this user may have {most} processes and threads and has {used}, and {need} about {tasks}: raise the "
            "limit (ulimit -u), or end others"
        )


def _tasks_of_user() -> int:
    """Processes and threads of this user; 0 where the system does not show them."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if process.stat().st_uid == os.geteuid():
                count += len(os.listdir(process / "task"))
    return count
