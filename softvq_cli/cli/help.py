"""The help pages: sections of two columns that stay readable at 80 characters.

Typer's own pages give each spelling and each type a column, which leaves the text of a long option
a third of the line.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

from typer.core import TyperCommand, TyperGroup

_LEFT = 30
"""Characters for the option itself; a longer one has its text on the lines below."""
_WIDEST = 110
"""Lines longer than this are hard to read, however wide the terminal."""


class Group(TyperGroup):
    """The program: lists its commands in the order in which they were registered."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page on standard output."""
        _print_page(self, ctx)


class Command(TyperCommand):
    """One command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page on standard output."""
        _print_page(self, ctx)


def _print_page(command: Any, ctx: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    console.print(f"Usage: {_usage(command, ctx)}", style="bold", markup=False)
    for paragraph in _paragraphs(command.help):
        console.print()
        console.print(paragraph, markup=False)
    for title, rows in _sections(command, ctx).items():
        console.print()
        console.print(title, style="bold")
        _print_rows(console, rows)
    for paragraph in _paragraphs(command.epilog):
        console.print()
        console.print(paragraph, markup=False)


def _usage(command: Any, ctx: Any) -> str:
    words = [ctx.command_path]
    for param in command.get_params(ctx):
        if param.param_type_name == "argument":
            name = _metavar(param) + (" …" if param.nargs == -1 and " " not in _metavar(param) else "")
            words.append(name if param.required else f"[{name}]")
    return " ".join([*words, "COMMAND …" if isinstance(command, TyperGroup) else "[OPTIONS]"])


def _sections(command: Any, ctx: Any) -> dict[str, list[tuple[str, str, str]]]:
    """Title → rows of (what to type, what it means, its default)."""
    sections: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            sub: Any = command.get_command(ctx, name)
            sections[sub.rich_help_panel or "Commands"].append((name, _paragraphs(sub.help)[0], ""))
    for param in command.get_params(ctx):
        if param.param_type_name == "argument":
            sections["Arguments"].append((_metavar(param), param.help or "", ""))
        elif not param.hidden:
            panel = param.rich_help_panel or "Options"
            sections[panel].append((_spelling(param), param.help or "", _default(param)))
    return sections


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _spelling(param: Any) -> str:
    """``-o, --out DIR``; long names stand under each other whether there is a short one or not."""
    short = [o for o in param.opts if not o.startswith("--")]
    long = [o for o in param.opts if o.startswith("--")] + list(param.secondary_opts)
    value = "" if getattr(param, "is_flag", False) else " " + (param.metavar or "TEXT")
    return (", ".join(short) + ", " if short else "    ") + ", ".join(long) + value


def _default(param: Any) -> str:
    """What holds when the option is left out: as written for it, else its default unless that says nothing."""
    if isinstance(param.show_default, str):
        return param.show_default
    if param.default is None or isinstance(param.default, bool) or not param.show_default:
        return ""
    return str(param.default)


def _print_rows(console: Any, rows: list[tuple[str, str, str]]) -> None:
    from rich.text import Text

    left = min(_LEFT, max(len(name) for name, _, _ in rows))
    for name, text, default in rows:
        meaning = Text(text)
        if default:
            meaning.append(f" [{default}]" if text else f"[{default}]", style="dim")
        lines = list(meaning.wrap(console, max(console.width - left - 4, 20)))
        if len(name) > left:  # its text starts on the next line
            lines.insert(0, Text())
        for number, line in enumerate(lines or [Text()]):
            line.rstrip()
            start = Text.assemble("  ", (name if number == 0 else "", "cyan"))
            start.pad_right(left + 4 - start.cell_len if line.plain else 0)
            console.print(start + line, no_wrap=True, crop=False, overflow="ignore")


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each on one line unless it is indented (a table, an example)."""
    if not text:
        return []
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return [p if p.startswith(" ") or "\n " in p else p.replace("\n", " ") for p in paragraphs]
