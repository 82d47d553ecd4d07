"""Standard output and input: any text in any encoding, paths, arrays, JSON; and where a command's files may go."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from softvq_cli.errors import InputError, RefusedError, SoftVQError, UsageError
from softvq_cli.files import atomic_write, temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

PIPE = Path("-")
"""The name of standard input and output in the place of a file."""
VERSION = 1
"""Of the JSON documents: it grows when a name in them changes its meaning or goes. See docs/schemas."""
_ERRORS = "softvq.shown"
_PLAIN = {"…": "...", "→": "->", "×": "x", "–": "-", "−": "-", "±": "+-", "β": "beta", "’": "'", "²": "2"}
_UNBOUNDED = 10_000
"""Columns, where there is no terminal."""
_BREAK = r"\n\s+"


def prepare_streams() -> None:
    """Make both streams take every text: what they cannot show is replaced, what is closed swallows it."""
    codecs.register_error(_ERRORS, _replaced)
    _reopen()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # not there when a caller replaced the stream
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


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


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """The handler of encoding errors: bytes of a file name as they are, plain spellings, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _PLAIN.get(character, "?"), error.start + 1


def showable(text: str) -> str:
    """``text`` with what standard output cannot show replaced; names of files keep their bytes."""
    encoding = _encoding_of(sys.stdout)
    return text.encode(encoding, _ERRORS).decode(encoding, "surrogateescape")


def _encoding_of(stream: TextIO) -> str:
    """Its encoding; UTF-8 where it is in memory."""
    return getattr(stream, "encoding", None) or "utf-8"


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; where a program reads, nothing is wrapped."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def print_path(path: Path | str) -> None:
    """Print a path as the bytes that it has on the disk, whatever the stream's encoding."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None or os.name == "nt":  # in memory, or where names are no bytes
        print(path, flush=True)
        return
    sys.stdout.flush()
    binary.write(os.fsencode(path) + b"\n")
    binary.flush()


def print_json(document: Mapping[str, Any]) -> None:
    """Print JSON with its version, each list of plain values on one line; escaped where the stream is not UTF-8."""
    import json

    document = {"version": VERSION, **document}
    escaped = codecs.lookup(_encoding_of(sys.stdout)).name != "utf-8"
    text = json.dumps(document, indent=2, ensure_ascii=escaped, allow_nan=False)
    text = text.encode(errors="backslashreplace").decode()  # what is no text stands there as JSON escapes it
    # A line break in the text is never inside a string, which has it escaped.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda inner: f"[{re.sub(_BREAK, ' ', inner[1])}]", text)
    print(text, flush=True)


def option_name(name: str) -> str:
    """``latent_dim`` → ``--latent-dim``; ``K`` → ``--K``."""
    return "--" + name.replace("_", "-")


def option_words(values: Mapping[str, Any]) -> list[str]:
    """Options as they would be typed, one a value of a list; what is None is left out."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(option_name(name) if value else f"--no-{option_name(name)[2:]}")
        elif value is not None:
            for part in value if isinstance(value, list) else [value]:
                words += [option_name(name), number_text(part)]
    return words


def number_text(value: Any) -> str:
    """A number in full, 1.0 as 1; text as it is."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


@contextlib.contextmanager
def received(files: Sequence[Path]) -> Iterator[list[Path]]:
    """The files, with standard input kept in one for as long as the block lasts where ``-`` asks for it."""
    if PIPE not in files:
        yield list(files)
        return
    if files.count(PIPE) > 1:
        raise UsageError("- is standard input, which can be read only once: give it once")
    if sys.stdin.isatty():
        raise UsageError("- reads a .npy from standard input, but that is a terminal: pipe a .npy into it")
    with temporary_folder() as folder:
        copy = folder / "standard input.npy"  # as an error calls it
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [copy if path == PIPE else path for path in files]


def refuse_terminal() -> None:
    """Make sure that an array does not go to a person's screen (UsageError)."""
    if sys.stdout.isatty():
        raise UsageError("- writes a .npy to standard output, but that is a terminal: use a pipe, or give a file")


def send(path: Path) -> None:
    """Write the bytes of a file to standard output."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def refuse_existing(*paths: Path, overwrite: bool, makes_folder: bool = False) -> None:
    """Make sure that files can be written, rather than find out after an hour's work."""
    for path in paths:
        if path.is_dir():
            raise SoftVQError(f"cannot write {path}: it is a folder; give a file name")
        if not (path.parent.is_dir() or makes_folder):
            raise SoftVQError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
        if path.is_file() and not overwrite:  # a device takes what it gets
            raise RefusedError("{} already exists: {overwrite} replaces it, or give another name", path)


def check_present(*paths: Path | None) -> None:
    """Make sure that those inputs that are given are there, before anything is said of outputs (InputError)."""
    for path in paths:
        if path not in (None, PIPE) and not path.exists():
            raise InputError(f"there is no file {path}")


def refuse_both(*, resume: bool, overwrite: bool) -> None:
    """Make sure that a run is to be either continued or replaced (UsageError)."""
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it: give only one of them")


def numbered(path: Path, n: int) -> list[Path]:
    """``NAME.npy`` for one file, ``NAME-1.npy``, ``NAME-2.npy``… for several."""
    return [path] if n == 1 else [path.with_stem(f"{path.stem}-{number + 1}") for number in range(n)]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, whole or not at all (SoftVQError)."""
    import numpy as np

    with atomic_write(path) as file:
        np.save(file, array)
