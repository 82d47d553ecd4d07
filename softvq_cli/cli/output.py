"""Standard output and input (text in any encoding, paths, arrays, JSON), and checks of output files."""

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
"""Means standard input or output when given as a file name."""
VERSION = 1
"""Version of the JSON documents, increased when a field changes its meaning or is removed. See docs/schemas."""
_ERRORS = "softvq.shown"
_PLAIN = {"…": "...", "→": "->", "×": "x", "–": "-", "−": "-", "±": "+-", "β": "beta", "’": "'", "²": "2"}
_UNBOUNDED = 10_000
"""Number of columns without a terminal."""
_BREAK = r"\n\s+"


def prepare_streams() -> None:
    """Make both streams accept any text: unsupported characters are replaced; output to a closed stream is ignored."""
    codecs.register_error(_ERRORS, _replaced)
    _reopen()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # missing if a caller replaced the stream
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


def _reopen() -> None:
    """Replace closed streams by the null device; otherwise the next file to be opened would get their number."""
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
    """Handle encoding errors: original bytes for file names, ASCII spellings if possible, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _PLAIN.get(character, "?"), error.start + 1


def showable(text: str) -> str:
    """Replace characters that standard output does not support; file names keep their bytes."""
    encoding = _encoding_of(sys.stdout)
    return text.encode(encoding, _ERRORS).decode(encoding, "surrogateescape")


def _encoding_of(stream: TextIO) -> str:
    """The encoding of a stream; UTF-8 for one in memory."""
    return getattr(stream, "encoding", None) or "utf-8"


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; without a terminal, lines are not wrapped."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def print_path(path: Path | str) -> None:
    """Print a path with its bytes on disk, whatever the encoding of the stream."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None or os.name == "nt":  # in memory, or on a system where names are not bytes
        print(path, flush=True)
        return
    sys.stdout.flush()
    binary.write(os.fsencode(path) + b"\n")
    binary.flush()


def print_json(document: Mapping[str, Any]) -> None:
    """Print JSON with its version, each list of scalars on one line; escaped unless the stream is UTF-8."""
    import json

    document = {"version": VERSION, **document}
    escaped = codecs.lookup(_encoding_of(sys.stdout)).name != "utf-8"
    text = json.dumps(document, indent=2, ensure_ascii=escaped, allow_nan=False)
    text = text.encode(errors="backslashreplace").decode()  # invalid text is escaped as in JSON
    # A line break in the text is never inside a string, because JSON escapes it there.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda inner: f"[{re.sub(_BREAK, ' ', inner[1])}]", text)
    print(text, flush=True)


def option_name(name: str) -> str:
    """``latent_dim`` → ``--latent-dim``; ``K`` → ``--K``."""
    return "--" + name.replace("_", "-")


def option_words(values: Mapping[str, Any]) -> list[str]:
    """Options as the user would type them, one per value of a list; None is omitted."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(option_name(name) if value else f"--no-{option_name(name)[2:]}")
        elif value is not None:
            for part in value if isinstance(value, list) else [value]:
                words += [option_name(name), number_text(part)]
    return words


def number_text(value: Any) -> str:
    """Format a number with all its digits, 1.0 as 1; text is unchanged."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


@contextlib.contextmanager
def received(files: Sequence[Path]) -> Iterator[list[Path]]:
    """The files; for ``-``, standard input is stored in a temporary file within the block."""
    if PIPE not in files:
        yield list(files)
        return
    if files.count(PIPE) > 1:
        raise UsageError("- is standard input, which can be read only once: give it once")
    if sys.stdin.isatty():
        raise UsageError("- reads a .npy from standard input, but that is a terminal: pipe a .npy into it")
    with temporary_folder() as folder:
        copy = folder / "standard input.npy"  # the name in messages
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [copy if path == PIPE else path for path in files]


def refuse_terminal() -> None:
    """Refuse to write an array to a terminal (UsageError)."""
    if sys.stdout.isatty():
        raise UsageError("- writes a .npy to standard output, but that is a terminal: use a pipe, or give a file")


def send(path: Path) -> None:
    """Write the bytes of a file to standard output."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def refuse_existing(*paths: Path, overwrite: bool, makes_folder: bool = False) -> None:
    """Check that files can be written, before hours of work."""
    for path in paths:
        if path.is_dir():
            raise SoftVQError(f"cannot write {path}: it is a folder; give a file name")
        if not (path.parent.is_dir() or makes_folder):
            raise SoftVQError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
        if path.is_file() and not overwrite:  # devices can always be written
            raise RefusedError("{} already exists: {overwrite} replaces it, or give another name", path)


def check_present(*paths: Path | None) -> None:
    """Check that the given inputs exist, before outputs are checked (InputError)."""
    for path in paths:
        if path not in (None, PIPE) and not path.exists():
            raise InputError(f"there is no file {path}")


def refuse_both(*, resume: bool, overwrite: bool) -> None:
    """Refuse to both continue and replace a run (UsageError)."""
    if resume and overwrite:
        raise UsageError("--resume continues a run and --overwrite replaces it: give only one of them")


def numbered(path: Path, n: int) -> list[Path]:
    """``NAME.npy`` for one file, ``NAME-1.npy``, ``NAME-2.npy``… for several."""
    return [path] if n == 1 else [path.with_stem(f"{path.stem}-{number + 1}") for number in range(n)]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file atomically (SoftVQError)."""
    import numpy as np

    with atomic_write(path) as file:
        np.save(file, array)
