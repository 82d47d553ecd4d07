"""Ctrl-C and SIGTERM: at once as a rule, at the next step while a model trains."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """The process's answer to both signals.

    A signal raises KeyboardInterrupt, so that files half written are removed on the way out. While
    :attr:`stop` is set to an event, the first signal sets that event instead, and the training loop
    ends at its next step with a checkpoint; the second signal raises.
    """

    def __init__(self) -> None:
        self.seen = False
        """A KeyboardInterrupt was raised. Some libraries turn it into an error of their own."""
        self.stop: threading.Event | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Answer one signal."""
        if self.stop is not None and not self.stop.is_set():
            self.stop.set()
            return
        self.seen = True
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Answer signals within the block. One that the parent process chose to ignore stays ignored."""
        self.seen, self.stop = False, None
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, self)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


interrupts = Interrupts()
"""Signals belong to the process, so there is one."""
