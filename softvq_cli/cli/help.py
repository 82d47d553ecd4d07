"""The command ``softvq help`` and the layout of help pages: 80 columns, options in sections."""

from __future__ import annotations

import ast
import inspect
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from softvq_cli.cli.options import argument
from softvq_cli.cli.output import showable
from softvq_cli.errors import UsageError, unknown_name

_EXAMPLES = "\n\nExamples:\n"
_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class Page(typer.Context.formatter_class):  # type: ignore[misc, valid-type]
    """Typer's formatter, without line breaks in words like ``--latent-dim``."""

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        super().write_text(text.replace("-", _HYPHEN))

    def write_dl(self, rows: Any, *args: Any, **more: Any) -> None:
        """Write two columns."""
        super().write_dl([(left, right.replace("-", _HYPHEN)) for left, right in rows], *args, **more)

    def getvalue(self) -> str:
        """The complete page."""
        return str(super().getvalue()).replace(_HYPHEN, "-")


class PageContext(typer.Context):
    """The context of a command with these pages."""

    formatter_class = Page

    def get_help(self) -> str:
        """The page, with only characters that standard output supports."""
        return showable(super().get_help())


class Command(TyperCommand):
    """One command; in its usage line, arguments come before options."""

    context_class = PageContext

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after ``softvq NAME``."""
        pieces = []
        for param in self.params:
            if param.param_type_name == "argument":
                name = _metavar(param) + (" …" if param.nargs == -1 and " " not in _metavar(param) else "")
                pieces.append(name if param.required else f"[{name}]")
        return [*pieces, "[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        write_parameters(self.get_params(ctx), formatter)


def write_parameters(params: list[Any], formatter: Any) -> None:
    """Write a section for the arguments and one for each panel of options."""
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for param in params:
        if param.param_type_name == "argument":
            sections["Arguments"].append((_metavar(param), param.help or ""))
        elif not param.hidden:
            sections[param.rich_help_panel or "Options"].append((_spelling(param), _meaning(param)))
    for title, rows in sections.items():
        write_section(title, rows, formatter)


def write_section(title: str, rows: list[tuple[str, str]], formatter: Any) -> None:
    """Write two columns: what to type, and what it means."""
    with formatter.section(_styled(title, bold=True)):
        formatter.write_dl([(_styled(words, fg="cyan"), meaning) for words, meaning in rows])


def parts_of(function: Callable[..., None]) -> tuple[str, str]:
    """The text of a command's help page and the text below its options, from the docstring of its function."""
    text, _, examples = _docstring(function).partition(_EXAMPLES)
    return text, f"\b\nExamples:\n{examples}" if examples else ""


def summary_of(function: Callable[..., None]) -> str:
    """The first paragraph of a command's docstring, on one line."""
    return _docstring(function).partition("\n\n")[0].replace("\n", " ")


def _docstring(function: Callable[..., None]) -> str:
    """The docstring without indentation; read from the source file if ``PYTHONOPTIMIZE=2`` has removed it."""
    if function.__doc__:
        return inspect.cleandoc(function.__doc__)
    tree = ast.parse(Path(function.__code__.co_filename).read_text(encoding="utf-8"))
    definitions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function.__name__)
    return next((ast.get_docstring(node) or "" for node in definitions), "")


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _spelling(param: Any) -> str:
    """Format ``-o, --out DIR``; long names are aligned with and without a short one."""
    short = [name for name in param.opts if not name.startswith("--")]
    long = [name for name in param.opts if name.startswith("--")] + list(param.secondary_opts)
    value = "" if getattr(param, "is_flag", False) else " " + (param.metavar or "TEXT")
    return (", ".join(short) + ", " if short else "    ") + ", ".join(long) + value


def _meaning(param: Any) -> str:
    """The help text, and the default unless it is trivial."""
    default = param.default if param.show_default is True else param.show_default
    if default is None or isinstance(default, bool) or default == "":
        return param.help or ""
    return f"{param.help or ''} [{default}]".strip()


def _styled(text: str, **style: Any) -> str:
    """Text with colour if it is enabled; Typer removes it if the output is not a terminal."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else typer.style(text, **style)


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    program: Any = ctx.find_root().command
    return [name for name in program.list_commands(ctx) if name.startswith(incomplete)]


def help(
    *,
    page: str | None = argument(
        "COMMAND", "The command to explain. Default: the program.", default=None, autocompletion=_complete
    ),
    context: typer.Context,
) -> None:
    """Show the help page of the program or of one command.

    The same as softvq --help and softvq COMMAND --help.

    Examples:
      softvq help
      softvq help train
    """
    program: Any = context.find_root().command
    root = PageContext(program, info_name="softvq", **program.context_settings)
    if page is None:
        typer.echo(program.get_help(root))
        return
    command = program.get_command(root, page)
    if command is None:
        raise UsageError(unknown_name("command", page, program.commands))
    typer.echo(command.get_help(PageContext(command, info_name=page, parent=root)))
