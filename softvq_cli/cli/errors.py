"""Every way a command can end, as one line on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import typer

from softvq_cli.cli import streams
from softvq_cli.cli.app import app
from softvq_cli.cli.interrupt import interrupts
from softvq_cli.cli.spelling import option_name, option_words
from softvq_cli.errors import Interrupted, SoftVQError, one_line, spelled

INTERRUPTED = 130
_LONGEST = 2000
"""Characters of a message."""

_TRUE = ("1", "true", "t", "yes", "y", "on")
"""What Typer takes for a yes in an environment variable."""

_NO_MEMORY = re.compile(r"can't allocate|cannot allocate memory|failed to map segment", re.IGNORECASE)
"""As PyTorch, the system and its loader of libraries (an ImportError) say it."""

_NO_FILES = re.compile(r"too many open files", re.IGNORECASE)
_NO_THREADS = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)

# Wrong words on the command line. The class itself is private to Typer (and was Click's before).
_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]


def run(argv: Sequence[str]) -> int:
    """Run one command, turn whatever it raises into one line, and return the exit code."""
    argv = list(argv)
    debug = "--debug" in argv or os.environ.get("SOFTVQ_DEBUG", "").lower() in _TRUE
    streams.prepare()
    with interrupts.installed():
        try:
            code = _code_of(typer.main.get_command(app).main(argv, prog_name="softvq", standalone_mode=False))
            sys.stdout.flush()
        except BrokenPipeError:
            _drop(sys.stdout)
            return 1
        except BaseException as error:
            if debug and not isinstance(error, SystemExit):
                import traceback

                traceback.print_exc()
            code, text = describe(error, argv)
            _say(text)
            return code
        if code == INTERRUPTED:
            _say("interrupted")
        return code


def describe(error: BaseException, argv: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code and the line for what a command raised; no line where it has been printed."""
    if isinstance(error, SystemExit):
        return _code_of(error.code), ""
    if isinstance(error, KeyboardInterrupt | typer.Abort) or interrupts.seen:
        return INTERRUPTED, "interrupted"
    if isinstance(error, SoftVQError):
        text = spelled(error.message, option_name)
        return error.exit_code, text + _how_to_go_on(error, argv) if isinstance(
            error, Interrupted
        ) else f"error: {text}"
    if isinstance(error, _WrongUsage):
        return 2, "error: " + _usage_message(error)
    return 1, "error: " + _failure_message(error)


def _how_to_go_on(error: Interrupted, argv: Sequence[str]) -> str:
    """The same command again, or the command with the arguments that the core says it needs."""
    if error.again is None:
        return ""
    import shlex

    words = [argv[0], *option_words(error.again)] if error.again else argv
    return f"; to go on: {shlex.join(['softvq', *words])}"


def _failure_message(error: BaseException) -> str:
    """What the system said, where it is the system that failed; else that the program is at fault."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or _NO_MEMORY.search(str(error)):
        return "out of memory; a smaller --batch-size or less data needs less"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write {error.filename or 'the result'}: {error.strerror}"
    if (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)) or _NO_FILES.search(str(error)):
        return "too many files are open at once: raise the limit (ulimit -n)"
    if isinstance(error, BlockingIOError) or _NO_THREADS.search(str(error)):
        return "this user may start no more processes or threads: raise the limit (ulimit -u), or end others"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    return f"{type(error).__name__}: {error}; this should not happen: run again with --debug to see where"


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
    known = {option for one in context.command.params for option in one.opts} if context is not None else set()
    return [name[1:]] if len(name) == 3 and name[1:] in known else []


def _code_of(value: object) -> int:
    """The exit code that a finished command or ``sys.exit`` gave; a command that returns nothing is done."""
    return value if isinstance(value, int) else int(value is not None)


def _say(text: str) -> None:
    """Print one line on standard error, whatever a file name or a stranger's file put into it."""
    if text:
        try:
            print(f"softvq: {one_line(text, _LONGEST)}", file=sys.stderr, flush=True)
        except OSError:  # it goes to a file on the disk that is full
            _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Nobody can read what we say there any more: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
