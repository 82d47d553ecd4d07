"""Ctrl-C and SIGTERM: at once as a rule, at the next step while a model trains."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPORT = "<frozen importlib._bootstrap>"
_PAUSE = 0.02
"""Seconds until a signal that came during an import is answered, or put off again."""


class Interrupts:
    """The process's answer to both signals.

    A signal raises KeyboardInterrupt, so that files half written are removed on the way out. While
    :attr:`stop` is set to an event, the first signal sets that event instead, and the training loop
    ends at its next step with a checkpoint; the second signal raises. During an import it waits for the
    import's end: C++ extensions that meet an exception while they set themselves up abort the process.
    """

    def __init__(self) -> None:
        self.seen = False
        """A KeyboardInterrupt was raised. Some libraries turn it into an error of their own."""
        self.stop: threading.Event | None = None
        self._imports_below = 0
        self._put_off = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Answer one signal."""
        if self.stop is not None and not self.stop.is_set():
            self._put_off = False
            self.stop.set()
        elif _imports(frame) > self._imports_below:
            if not self._put_off:
                self._put_off = True
                _thread.start_new_thread(self._send_again, (number,))  # a Thread's start would wait, in a handler
        else:
            self._put_off = False
            self.seen = True
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Answer signals within the block. One that the parent process chose to ignore stays ignored."""
        self.seen, self.stop, self._imports_below = False, None, _imports(sys._getframe())
        self._put_off = False
        previous: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, self)
        try:
            yield
        finally:
            self._put_off = False
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _send_again(self, number: int) -> None:
        """Send a signal that was put off to the main thread when its import is over, until it has been answered.

        To the thread, since only that ends a system call in which it waits; and again, since a signal that comes
        just before the call does not.
        """
        main = threading.main_thread().ident
        while True:
            time.sleep(_PAUSE)
            if not self._put_off:
                return
            if main is None or not hasattr(signal, "pthread_kill"):
                signal.raise_signal(number)
            elif _imports(sys._current_frames().get(main)) <= self._imports_below:
                signal.pthread_kill(main, number)


def _imports(frame: FrameType | None) -> int:
    """Frames of the import machinery below and including ``frame``: 0 when nothing is being imported."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == _IMPORT
        frame = frame.f_back
    return count


interrupts = Interrupts()
"""Signals belong to the process, so there is one."""
