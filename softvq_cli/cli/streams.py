"""Standard output and error as this process got them: in any encoding, or closed."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path
from typing import TextIO

_ERRORS = "softvq.shown"
_PLAIN = {"…": "...", "→": "->", "×": "x", "–": "-", "−": "-", "±": "+-", "β": "beta", "’": "'", "²": "2"}


def prepare() -> None:
    """Make both streams take every text: what they cannot show is replaced, what is closed swallows it."""
    codecs.register_error(_ERRORS, _replaced)
    _reopen()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not there when a caller replaced the stream
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


def showable(text: str) -> str:
    """``text`` with what standard output cannot show replaced; names of files keep their bytes."""
    encoding = encoding_of(sys.stdout)
    return text.encode(encoding, _ERRORS).decode(encoding, "surrogateescape")


def encoding_of(stream: TextIO) -> str:
    """Its encoding; UTF-8 where it is in memory."""
    return getattr(stream, "encoding", None) or "utf-8"


def print_path(path: Path | str) -> None:
    """Print a path as the bytes that it has on the disk, whatever the stream's encoding."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None or os.name == "nt":  # in memory, or where names are no bytes
        print(path, flush=True)
        return
    sys.stdout.flush()
    binary.write(os.fsencode(path) + b"\n")
    binary.flush()


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """The handler of encoding errors: bytes of a file name as they are, plain spellings, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    one = error.object[error.start]
    if "\udc80" <= one <= "\udcff":
        return bytes([ord(one) - 0xDC00]), error.start + 1
    return _PLAIN.get(one, "?"), error.start + 1


def _reopen() -> None:
    """Put the null device where a stream is closed: else the next file that is opened would get its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
