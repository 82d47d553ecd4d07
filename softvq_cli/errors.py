"""The errors that users can meet, each with its exit code.

The core raises these; only ``softvq_cli.cli`` turns them into one line and an exit code.
A message says in one line what is wrong, where, and what to do. If it names a setting or an argument, it is a
``Message``: in Python it reads ``batch_size``, on the command line ``--batch-size``.
"""

from __future__ import annotations

import difflib
import importlib
import re
import reprlib
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_BREAK = re.compile(r"\s*[\r\n]\s*")


class Message(str):
    """Text that names settings, which each interface spells as its users type them.

    ``Message("{K} must be at least {}", 2)`` reads ``K must be at least 2``, and on the command line ``--K must be at
    least 2``. A name in braces is a setting or an argument; ``{}`` is the next value, which may be a ``Message``.
    """

    template: str
    values: tuple[object, ...]

    def __new__(cls, template: str, *values: object) -> Message:
        message = super().__new__(cls, _Filling(str).format(template, *values))
        message.template, message.values = template, values
        return message

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.template, *self.values

    def spelled(self, spelling: Callable[[str], str]) -> str:
        """The text, with each setting spelled by ``spelling``."""
        return _Filling(spelling).format(self.template, *self.values)

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the settings, in their order in the text."""
        names: list[str] = []
        self.spelled(lambda name: names.append(name) or name)  # type: ignore[func-returns-value]
        return tuple(names)


def message_as_json(text: object) -> Any:
    """A text or one of its values for JSON; a message is a list of its template and values, which may be messages."""
    if isinstance(text, Message):
        return [text.template, *map(message_as_json, text.values)]
    return text if isinstance(text, int | float) else str(text)


def message_from_json(content: Any) -> Any:
    """The inverse of :func:`message_as_json`."""
    return Message(content[0], *map(message_from_json, content[1:])) if isinstance(content, list) else content


class _Filling(string.Formatter):
    """Fills the braces of a message."""

    def __init__(self, spelling: Callable[[str], str]) -> None:
        self._spelling = spelling

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(key, str):
            return self._spelling(key)
        value = args[key]
        return value.spelled(self._spelling) if isinstance(value, Message) else value


def param(name: str) -> Message:
    """A setting or an argument, as a value of a ``Message``, for a name that is known only at run time."""
    return Message(f"{{{name}}}")


def spelled(text: str, spelling: Callable[[str], str]) -> str:
    """``text`` with its settings spelled by ``spelling``, if it is a ``Message``."""
    return text.spelled(spelling) if isinstance(text, Message) else text


class SoftVQError(Exception):
    """The work failed: the disk is full, the loss is not finite, a download was interrupted. Exit code 1.

    Args:
        message: one line; with ``values``, the template of a ``Message``.
        values: the values for ``{}`` in the template.
    """

    exit_code = 1

    def __init__(self, message: object = "", *values: object) -> None:
        super().__init__(Message(str(message), *values) if values else message)

    @property
    def message(self) -> str:
        """The message; a ``Message`` if it names settings."""
        text = self.args[0]
        return text if isinstance(text, str) else str(text)

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings named in the message."""
        return self.message.settings if isinstance(self.message, Message) else ()


class UsageError(SoftVQError, ValueError):
    """The command or call is wrong: an unknown name, a value out of range. Exit code 2.

    Also a ``ValueError``, as callers in Python and scikit-learn expect; so is ``InputError``.
    """

    exit_code = 2


class InputError(SoftVQError, ValueError):
    """A file, data set or checkpoint cannot be used. Exit code 3."""

    exit_code = 3


class RefusedError(SoftVQError):
    """The work would overwrite or mix existing files. Exit code 4."""

    exit_code = 4


class Interrupted(SoftVQError):
    """The user stopped the work; completed work is on disk. Exit code 130.

    Args:
        message: where the work stopped.
        again: the arguments of a call that continues: ``{"out": folder, "resume": True}``; empty if the same call
            continues; None if the work cannot be continued.
    """

    exit_code = 130

    def __init__(self, message: str, again: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.again = again


def optional(module: str, extra: str, package: str) -> Any:
    """Import a module of an optional package (SoftVQError: the package is missing; the message names the extra)."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SoftVQError(f"this needs the {package} package: pip install 'softvq[{extra}]'") from error


def unknown_name(kind: str, name: str, known: Iterable[str], also: Mapping[str, str] | None = None) -> Message:
    """The message for an unknown name: the nearest known name first, then all of them.

    ``also`` maps other common names to known ones.
    """
    name = one_line(name, 60)
    known, also = list(known), {text.lower(): right for text, right in (also or {}).items()}
    near = difflib.get_close_matches(name.lower(), [*also, *known], n=1, cutoff=0.5)
    hint = f"did you mean {also.get(near[0], near[0])!r}? " if near else ""
    return Message("unknown {} {!r}: {}known are {}", kind, name, hint, ", ".join(known))


def shown(value: object) -> str:
    """Format a value from the user for a message: on one short line.

    A very long integer is described instead: Python does not convert one of 5000 digits to text.
    """
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | tuple | dict | set) and len(value) > 8:  # from an untrusted file, possibly huge
        return f"{len(value)} values"
    return one_line(_repr.repr(value), 60)


_repr = reprlib.Repr()
_repr.maxstring, _repr.maxother, _repr.maxlong = 80, 80, 80


def one_line(what: object, longest: int | None = 200) -> str:
    """Convert text or an error to one line without control characters, which file names and libraries may contain.

    Text longer than ``longest`` characters is cut in the middle; None: no limit.
    """
    text = str(what).strip() or (type(what).__name__ if isinstance(what, BaseException) else "")
    text = _BREAK.sub(" ", text)
    text = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
    if longest is None or len(text) <= longest:
        return text
    return f"{text[: longest // 2]} … {text[-(longest // 2) :]}"
