"""The entry of the command ``softvq`` and of ``python -m softvq_cli``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

WAITING = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""Threads of OpenMP (GNU's, and Intel's or LLVM's) that wait for others sleep. By default they turn in a circle, and
where cores are shared, that burns the time of those they wait for. No result depends on it."""
_DECIDED = (*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
"""Environment variables with which a user has said how threads wait."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after ``softvq``; those of the process when left out.
    """
    if argv is None and not any(name in os.environ for name in _DECIDED):
        os.environ.update(WAITING)  # now, since the libraries read it when they are loaded
    try:
        from softvq_cli.cli.app import run  # here, so that a Ctrl-C during the imports is answered too

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        sys.stderr.write("softvq: interrupted\n")
        return 130
    finally:
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the process ends here: no traceback on its last metres


if __name__ == "__main__":
    sys.exit(main())
