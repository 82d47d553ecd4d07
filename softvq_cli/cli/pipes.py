"""A ``.npy`` through standard input and output: ``-`` in the place of a file."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from softvq_cli.cli.spelling import option_name
from softvq_cli.errors import SoftVQError, UsageError, spelled
from softvq_cli.files import temporary_folder

PIPE = Path("-")
"""The name of either stream."""


@contextlib.contextmanager
def received(files: Sequence[Path]) -> Iterator[list[Path]]:
    """The files, with standard input kept in one for as long as the block lasts where ``-`` asks for it.

    An error that names that file calls it standard input.

    Raises:
        UsageError: ``-`` is given twice, or nothing is piped in.
    """
    if PIPE not in files:
        yield list(files)
        return
    if files.count(PIPE) > 1:
        raise UsageError("- is standard input, which can be read once: give it once")
    if sys.stdin.isatty():
        raise UsageError("- reads a .npy from standard input, which is a terminal: pipe one into it")
    with temporary_folder() as folder:
        kept = folder / "standard-input.npy"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield [kept if path == PIPE else path for path in files]
        except SoftVQError as error:
            text = spelled(error.message, option_name)
            if str(kept) not in text:
                raise
            raise type(error)(text.replace(str(kept), "standard input")) from error


def refuse_terminal() -> None:
    """Make sure that an array does not go to a person's screen (UsageError)."""
    if sys.stdout.isatty():
        raise UsageError("- writes a .npy to standard output, which is a terminal: pipe it, or give a file")


def send(path: Path) -> None:
    """Write the bytes of a file to standard output."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
