"""How commands end: one line on standard error and an exit code; and the handling of Ctrl-C and other signals."""

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
"""Maximum length of a message."""
_PAUSE = 0.02
"""Seconds after which a signal during an import is handled, or postponed again."""
_PATIENCE = 1.0
"""Seconds that a step may take after a signal before a message says that the program waits for it."""
_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""Signals that end a command: Ctrl-C, kill, a closed terminal, and those of SLURM and CPU time limits."""
_WAITING = b"softvq: a checkpoint is written after the step at hand; a second signal ends this at once\n"

_NO_MEMORY = re.compile(r"can't allocate|cannot allocate memory|failed to map segment", re.IGNORECASE)
"""Messages of PyTorch, the system and its dynamic loader (an ImportError)."""
_NO_FILES = re.compile(r"too many open files", re.IGNORECASE)
_NO_THREADS = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)

# Errors in the command line. The class itself is private to Typer (earlier to Click).
_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]


class Interrupts:
    """The signal handler of the process for Ctrl-C, SIGTERM and others.

    A signal raises KeyboardInterrupt, so that incomplete files are removed. If :attr:`stop` is an event, the first
    signal sets it instead, and the training ends after the current step with a checkpoint; the second signal raises.
    During an import, a signal is handled after the import, because C++ extensions abort the process if an exception
    occurs during their initialisation.
    """

    def __init__(self) -> None:
        self.seen = False
        """Whether a KeyboardInterrupt was raised. Some libraries convert it to another error."""
        self.stop: threading.Event | None = None
        self._imports_below = 0
        self._put_off = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, or an alarm that was set for one."""
        if number == _ALARM and not self._put_off:
            if self.stop is not None:  # written directly, because the stream may be in the middle of a line
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
        """Raise the interrupt again if the command continues, because Python ignores exceptions in finalisers."""
        if self.seen and signal.getsignal(signal.SIGINT) is self:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals within the block, except those that the parent process has ignored."""
        self.seen, self.stop, self._imports_below = False, None, _imports(sys._getframe())
        self._put_off = False
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in (*_ENDING, "SIGALRM"):
                number = getattr(signal, name, None)  # Windows lacks most of them
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
    """Call the handler again after this time; 0 cancels it."""
    if _ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _imports(frame: FrameType | None) -> int:
    """Number of frames of the import machinery among ``frame`` and its callers: 0 if nothing is being imported."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        frame = frame.f_back
    return count


interrupts = Interrupts()
"""The only instance, because signals belong to the process."""


def describe(error: BaseException, argv: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code and the line for an exception; an empty line if it has been printed."""
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
    """The exit code from the result of a command or ``sys.exit``; 0 for None."""
    return value if isinstance(value, int) else int(value is not None)


def say(text: str) -> None:
    """Print one line on standard error, whatever characters it contains."""
    if text:
        try:
            print(f"softvq: {one_line(text, _LONGEST)}", file=sys.stderr, flush=True)
        except OSError:  # standard error is a file on a full disk
            drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Discard further output of a stream that nobody reads, including the interpreter's final flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _how_to_go_on(error: Interrupted, argv: Sequence[str]) -> str:
    """How to continue: the same command, or the command with the arguments that the core requires."""
    if error.again is None:
        return ""
    import shlex

    words = [argv[0], *option_words(error.again)] if error.again else argv
    return f"; to continue: {shlex.join(['softvq', *words])}"


def _failure_message(error: BaseException) -> str:
    """The system's message for a system error; otherwise a message that the program is at fault."""
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
    """The parser's message, with the nearest option if there is one, and a reference to the help page."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    name, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    if name and near is not None:
        near = [*_short_for(name, context), *near]
        message = f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
    command = context.command_path if context is not None else "softvq"
    return f"{message.rstrip('.')}; see '{command} --help'"


def _short_for(name: str, context: Any) -> list[str]:
    """The short option, ``-k`` for ``--k``, if the command has it."""
    options = {option for param in context.command.params for option in param.opts} if context is not None else set()
    return [name[1:]] if len(name) == 3 and name[1:] in options else []
