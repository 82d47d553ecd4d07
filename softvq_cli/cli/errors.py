"""Every way a command can end, as one line on standard error and an exit code; Ctrl-C among them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

import typer

from softvq_cli.cli.output import option_name, option_words
from softvq_cli.errors import Interrupted, SoftVQError, one_line, spelled

INTERRUPTED = 130
_LONGEST = 2000
"""Characters of a message."""
_PAUSE = 0.02
"""Seconds until a signal that came during an import is answered, or put off again."""
_PATIENCE = 1.0
"""Seconds that a step may take after a signal until it is said that it is awaited."""
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals that end a command: Ctrl-C, kill, a closed terminal, what SLURM and limits of processor time send."""
_WAITING = b"softvq: a checkpoint is written after the step at hand; a second signal ends this at once\n"

_NO_MEMORY = re.compile(r"can't allocate|cannot allocate memory|failed to map segment", re.IGNORECASE)
"""As PyTorch, the system and its loader of libraries (an ImportError) say it."""
_NO_FILES = re.compile(r"too many open files", re.IGNORECASE)
_NO_THREADS = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)

# Wrong words on the command line. The class itself is private to Typer (and was Click's before).
_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]


class Interrupts:
    """The process's answer to Ctrl-C, SIGTERM and the like.

    A signal raises KeyboardInterrupt, so that files half written are removed on the way out. While :attr:`stop` is an
    event, the first signal sets that event instead, and the training ends at its next step with a checkpoint; the
    second signal raises. During an import it waits for the import's end: C++ extensions that meet an exception while
    they set themselves up abort the process.
    """

    def __init__(self) -> None:
        self.seen = False
        """A KeyboardInterrupt was raised. Some libraries turn it into an error of their own."""
        self.stop: threading.Event | None = None
        self._imports_below = 0
        self._put_off = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Answer one signal, or an alarm that was set for one."""
        if number == _ALARM and not self._put_off:
            if self.stop is not None:  # written directly: the stream may be in the middle of a line
                with contextlib.suppress(OSError):
                    os.write(2, _WAITING)
        elif self.stop is not None and not self.stop.is_set():
            self._put_off = False
            self.stop.set()
            _set_alarm(_PATIENCE)
        elif _ALARM is not None and _imports(frame) > self._imports_below:
            self._put_off = True
            _set_alarm(_PAUSE)
        else:
            self._put_off = False
            self.seen = True
            raise KeyboardInterrupt

    def raise_again(self) -> None:
        """End the command if it was interrupted and goes on: Python drops what finalisers raise."""
        if self.seen and signal.getsignal(signal.SIGINT) is self:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Answer signals within the block. One that the parent process chose to ignore stays ignored."""
        self.seen, self.stop, self._imports_below = False, None, _imports(sys._getframe())
        self._put_off = False
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in (*_ENDING, "SIGALRM"):
                number = getattr(signal, name, None)  # Windows has few of them
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, self)
        try:
            yield
        finally:
            if previous:
                _set_alarm(0)
            for number, handler in previous.items():
                signal.signal(number, handler)


_ALARM: int | None = getattr(signal, "SIGALRM", None)


def _set_alarm(seconds: float) -> None:
    """Have the handler called again after so many seconds; 0: not any more."""
    if _ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _imports(frame: FrameType | None) -> int:
    """Frames of the import machinery below and including ``frame``: 0 when nothing is being imported."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return count


interrupts = Interrupts()
"""Signals belong to the process, so there is one."""


def describe(error: BaseException, argv: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code and the line for what a command raised; no line where it has been printed."""
    if isinstance(error, SystemExit):
        return code_of(error.code), ""
    if isinstance(error, KeyboardInterrupt | typer.Abort) or interrupts.seen:
        return INTERRUPTED, "interrupted"
    if isinstance(error, Interrupted):
        return error.exit_code, spelled(error.message, option_name) + _how_to_go_on(error, argv)
    if isinstance(error, SoftVQError):
        return error.exit_code, "error: " + spelled(error.message, option_name)
    if isinstance(error, _WrongUsage):
        return 2, "error: " + _usage_message(error)
    return 1, "error: " + _failure_message(error)


def code_of(value: object) -> int:
    """The exit code that a finished command or ``sys.exit`` gave; a command that returns nothing is done."""
    return value if isinstance(value, int) else int(value is not None)


def say(text: str) -> None:
    """Print one line on standard error, whatever a file name or a stranger's file put into it."""
    if text:
        try:
            print(f"softvq: {one_line(text, _LONGEST)}", file=sys.stderr, flush=True)
        except OSError:  # it goes to a file on the disk that is full
            drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Nobody can read what we say there any more: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _how_to_go_on(error: Interrupted, argv: Sequence[str]) -> str:
    """The same command again, or the command with the arguments that the core says it needs."""
    if error.again is None:
        return ""
    import shlex

    words = [argv[0], *option_words(error.again)] if error.again else argv
    return f"; to continue: {shlex.join(['softvq', *words])}"


def _failure_message(error: BaseException) -> str:
    """What the system said, where it is the system that failed; else that the program is at fault."""
    number, text = (error.errno if isinstance(error, OSError) else None), str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or _NO_MEMORY.search(text):
        return "out of memory; use a smaller --batch-size or less data"
    if isinstance(error, OSError) and number in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write {error.filename or 'the result'}: {error.strerror}"
    if number in (errno.EMFILE, errno.ENFILE) or _NO_FILES.search(text):
        return "too many files are open at once: raise the limit (ulimit -n)"
    if isinstance(error, BlockingIOError) or _NO_THREADS.search(text):
        return "this user may start no more processes or threads: raise the limit (ulimit -u), or end other processes"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    return f"{type(error).__name__}: {text}; this should not happen: run again with --debug to see where"


def _usage_message(error: Exception) -> str:
    """The parser's message, with the nearest option where it knows one, and where to read more."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    name, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    if name and near is not None:
        near = [*_short_for(name, context), *near]
        message = f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
    command = context.command_path if context is not None else "softvq"
    return f"{message.rstrip('.')}; see '{command} --help'"


def _short_for(name: str, context: Any) -> list[str]:
    """``-k`` for ``--k``, where the command has that."""
    options = {option for param in context.command.params for option in param.opts} if context is not None else set()
    return [name[1:]] if len(name) == 3 and name[1:] in options else []
