"""The entry point of the command ``softvq`` and of ``python -m softvq_cli``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""Makes waiting OpenMP threads (GNU's, and Intel's or LLVM's) sleep. By default they busy-wait, which on shared cores
takes time from the threads they wait for. It does not change results."""
_DECIDED = (*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
"""Environment variables with which users configure how threads wait."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. ``argv`` has the words after ``softvq``; default: of the process."""
    if argv is None and not any(name in os.environ for name in _DECIDED):
        os.environ.update(WAITING)  # before the libraries are loaded, which read it then
    try:
        from softvq_cli.cli.app import run  # imported here, so that Ctrl-C during imports is handled too

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        sys.stderr.write("softvq: interrupted\n")
        return 130
    finally:
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for Ctrl-C while the process exits


if __name__ == "__main__":
    sys.exit(main())
