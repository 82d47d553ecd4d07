"""Errors that a user can cause or meet, each with the exit code that scripts see.

The core raises these; only ``softvq_cli.cli`` turns them into one line and an exit code.
A message says what is wrong, where, and what to do, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class SoftVQError(Exception):
    """It failed: the disk is full, the loss is not finite, a download broke off. Exit code 1."""

    exit_code = 1


class UsageError(SoftVQError):
    """The command or call was used wrongly: an unknown name, a value out of range. Exit code 2."""

    exit_code = 2


class InputError(SoftVQError):
    """A file, data set or checkpoint cannot be used as it is. Exit code 3."""

    exit_code = 3


class RefusedError(SoftVQError):
    """Going on would overwrite or mix up something that exists. Exit code 4."""

    exit_code = 4


class Interrupted(SoftVQError):
    """The user stopped it; what was done so far is on disk and the message says how to go on. Exit code 130."""

    exit_code = 130


def unknown_name(kind: str, name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> str:
    """The message for a misspelt name: the nearest known one first, then all of them.

    Args:
        kind: of name.
        name: as it was given.
        known: the right names.
        also: what people call some of them → the right name.
    """
    known, also = list(known), {text.lower(): right for text, right in (also or {}).items()}
    near = difflib.get_close_matches(name.lower(), [*also, *known], n=1, cutoff=0.5)
    hint = f"did you mean {also.get(near[0], near[0])!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}"
