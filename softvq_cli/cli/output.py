"""What a command says, and where: results on standard output, everything else on standard error."""

from __future__ import annotations

import codecs
import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softvq_cli.cli.options import Bundle, parameter
from softvq_cli.cli.spelling import option_name
from softvq_cli.cli.streams import encoding_of, print_path
from softvq_cli.errors import Message, one_line, spelled

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from softvq_cli.cli.progress import Bars


class Terminal:
    """Both streams of one command.

    Args:
        quiet: no bars, notes and hints; results, warnings and errors remain.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._said: set[str] = set()

    @functools.cached_property
    def _stderr(self) -> Console:
        """One for all, since notes have to appear above the bars."""
        return _console(stderr=True)

    @property
    def piped(self) -> bool:
        """Whether a program reads the results."""
        return not sys.stdout.isatty()

    @property
    def draws(self) -> bool:
        """Whether bars can be seen: a person follows on standard error, not a file."""
        return self._stderr.is_terminal

    def result(self, document: Mapping[str, Any], show: Callable[[], RenderableType], *, as_json: bool) -> None:
        """Print one JSON document into a pipe or where it is asked for, else a table for people."""
        if as_json or self.piped:
            print(_json(document))
        else:
            _console().print(show())
        sys.stdout.flush()  # a reader that has left must not first be told what comes next

    def wrote(
        self,
        path: Path | str,
        show: Callable[[], RenderableType] | None = None,
        *,
        document: Mapping[str, Any] | None = None,
        as_json: bool = False,
    ) -> None:
        """Print the path of what was made, after a summary where a person reads it; or all of it as one document."""
        if as_json:
            print(_json({"path": str(path), **(document or {})}), flush=True)
            return
        if show is not None and not self.piped:
            _console().print(show())
        print_path(path)

    def note(self, text: str) -> None:
        """Say something in passing; what was said is not said again: both splits of a data set have the same notes."""
        if not self.quiet and text not in self._said:
            self._said.add(text)
            self._say(text)

    def warn(self, text: str) -> None:
        """Say something that must not be missed."""
        self._say(Message("warning: {}", text))

    def hint(self, *words: str | Path) -> None:
        """Name the command that comes next, ready for the shell."""
        import shlex

        self.note(f"next: {shlex.join(map(str, words))}")

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """Progress bars, which show on a terminal and vanish at the end of the block."""
        from softvq_cli.cli.progress import Bars

        with Bars(self._stderr, visible=self.draws and not self.quiet) as bars:
            yield bars

    def _say(self, text: str) -> None:
        """One line, above the bars if there are any. That it cannot be said is no reason to stop a training."""
        with contextlib.suppress(OSError):
            self._stderr.print(one_line(spelled(text, option_name), None), markup=False, soft_wrap=True)


def _console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; where a program reads, nothing is wrapped."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


_UNBOUNDED = 10_000
"""Columns, where there is no terminal."""


def _json(document: Mapping[str, Any]) -> str:
    """Indented, with each list of plain values on one line; escaped where the stream is not UTF-8."""
    import json

    escaped = codecs.lookup(encoding_of(sys.stdout)).name != "utf-8"
    text = json.dumps(document, indent=2, ensure_ascii=escaped, allow_nan=False)
    text = text.encode(errors="backslashreplace").decode()  # what is no text stands there as JSON escapes it
    # A line break in the text is never inside a string, which has it escaped.
    return re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda found: f"[{re.sub(_BREAK, ' ', found[1])}]", text)


_BREAK = r"\n\s+"


def _parameters() -> list[inspect.Parameter]:
    quiet = typer.Option("--quiet", "-q", help="No bars, notes and hints on standard error.", show_default=False)
    debug = typer.Option("--debug", help="Show where an error comes from.", show_default=False)
    return [parameter("quiet", bool, quiet, False), parameter("debug", bool, debug, False)]


Streams = Annotated[Terminal, Bundle(_parameters, lambda values: Terminal(quiet=values["quiet"]))]
"""Both streams. As a parameter, ``--quiet`` and ``--debug`` (which :mod:`softvq_cli.cli.errors` reads)."""
