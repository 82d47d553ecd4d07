"""Errors that a user can cause or meet, each with the exit code that scripts see.

The core raises these; only ``softvq_cli.cli`` turns them into one line and an exit code.
A message says what is wrong, where, and what to do, in one line. Where it names a setting or an argument, the name is
marked by :func:`param`: Python reads ``batch_size``, the command line spells ``--batch-size``.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_BREAK = re.compile(r"\s*[\r\n]\s*")
_LONG_NUMBER = re.compile(r"Exceeds the limit \((\d+) digits\) for integer string conversion.*increase the limit")
"""What Python says of one, with advice to programmers."""
_MARKED = re.compile("\x02([A-Za-z][A-Za-z0-9_]*)\x03")


def param(name: str) -> str:
    """The name of a setting or an argument, marked within a message."""
    return f"\x02{name}\x03"


def spelled(text: str, spelling: Callable[[str], str] = str) -> str:
    """A message with each name that :func:`param` marked as ``spelling`` has it; the name itself unless given."""
    return _MARKED.sub(lambda found: spelling(found[1]), text)


class SoftVQError(Exception):
    """It failed: the disk is full, the loss is not finite, a download broke off. Exit code 1."""

    exit_code = 1

    @property
    def marked(self) -> str:
        """The message with its marks, to become a part of another message."""
        return " ".join(map(str, self.args))

    def __str__(self) -> str:
        """The message for Python."""
        return spelled(self.marked)


class UsageError(SoftVQError, ValueError):
    """The command or call was used wrongly: an unknown name, a value out of range. Exit code 2.

    A ``ValueError`` too, which is what callers in Python and scikit-learn expect; so is :class:`InputError`.
    """

    exit_code = 2


class InputError(SoftVQError, ValueError):
    """A file, data set or checkpoint cannot be used as it is. Exit code 3."""

    exit_code = 3


class RefusedError(SoftVQError):
    """Going on would overwrite or mix up something that exists. Exit code 4."""

    exit_code = 4


class Interrupted(SoftVQError):
    """The user stopped it; what was done so far is on disk. Exit code 130.

    Args:
        message: where it stopped.
        again: the arguments by name with which a call goes on: ``{"out": folder, "resume": True}``; empty where the
            same call does; None where nothing can.
    """

    exit_code = 130

    def __init__(self, message: str, again: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.again = again


def unknown_name(kind: str, name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """The message for a misspelt name: the nearest known one first, then all of them.

    Args:
        kind: of name.
        name: as it was given.
        known: the right names.
        also: what people call some of them → the right name.
    """
    name = one_line(name, 60)
    known, also = list(known), {text.lower(): right for text, right in (also or {}).items()}
    near = difflib.get_close_matches(name.lower(), [*also, *known], n=1, cutoff=0.5)
    hint = f"did you mean {also.get(near[0], near[0])!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}"


def shown(value: object) -> str:
    """A value that someone gave, for a message: on one line, and never at length.

    A whole number beyond what a line holds is described: Python does not even print one of 5000 digits.
    """
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | tuple | dict | set) and len(value) > 8:  # of a stranger's file, and never ending
        return f"{len(value)} values"
    return one_line(_repr.repr(value), 60)


_repr = reprlib.Repr()
_repr.maxstring, _repr.maxother, _repr.maxlong = 80, 80, 80


def one_line(what: object, longest: int | None = 200) -> str:
    """Any text on one line and without control characters, whatever a file name or another library put into it.

    Args:
        what: text, or an error, which stands for its text or if it is mute for its kind.
        longest: characters; what is longer loses its middle. None: no bound.
    """
    text = str(what).strip() or (type(what).__name__ if isinstance(what, BaseException) else "")
    text = _LONG_NUMBER.sub(r"a whole number has more than \1 digits", _BREAK.sub(" ", text))
    text = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
    if longest is None or len(text) <= longest:
        return text
    return f"{text[: longest // 2]} … {text[-(longest // 2) :]}"
