"""The program: its commands in the order of the work.

A command is a function in a file of its own that has its name. It is thin: read options, one call of the core, print.
To add one, write the file and put its name into :data:`COMMANDS`. Only the command that is asked for is built.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from softvq_cli.cli import help_page
from softvq_cli.cli.command import command
from softvq_cli.version import __version__

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "Step by step": ("data", "train", "embed", "cluster", "probe", "tsne"),
    "All at once": ("run", "reproduce", "sweep"),
    "Afterwards": ("report", "info", "export", "help"),
}
"""The title on the help page → the commands below it."""
_COMMAND_FIRST = "softvq.command_first"


class Commands(Mapping[str, Any]):
    """Every command by name, built when it is first asked for."""

    def __init__(self) -> None:
        self._names = tuple(name for names in COMMANDS.values() for name in names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return build(name)


class Program(TyperGroup):
    """The commands, each built when it is first asked for."""

    context_class = help_page.PageContext

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands = Commands()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the program's own options."""
        ctx.meta[_COMMAND_FIRST] = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """The options; none where a command comes first, since Typer loads Pydantic to see that none was given."""
        return [] if ctx.meta.get(_COMMAND_FIRST) else super().get_params(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands and the options."""
        for title, names in COMMANDS.items():
            rows = [(name, help_page.summary_of(function_of(name))) for name in names]
            help_page.write_section(title, rows, formatter)
        help_page.write_parameters(self.get_params(ctx), formatter)


app = typer.Typer(
    name="softvq",
    cls=Program,
    rich_markup_mode=None,
    options_metavar="",
    subcommand_metavar="COMMAND …",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def softvq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Train autoencoders with eleven bottlenecks, and measure and draw what they have learned.

    softvq COMMAND --help explains one command. Each option of a command can also be given by an environment variable:
    SOFTVQ_LATENT_DIM is --latent-dim.

    Examples:
      softvq run --data digits
      softvq embed "$(softvq train --data mnist)"
      softvq help train
    """
    if version:
        print(f"softvq {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


_text, _ending = help_page.parts_of(softvq)
app.callback(invoke_without_command=True, help=_text, epilog=_ending)(softvq)


def function_of(name: str) -> Callable[..., None]:
    """The function behind a command."""
    function: Callable[..., None] = getattr(importlib.import_module(f"softvq_cli.cli.{name}"), name)
    return function


@functools.cache
def build(name: str) -> Any:
    """One command for Typer."""
    function = function_of(name)
    text, ending = help_page.parts_of(function)
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(name, cls=help_page.Command, help=text, epilog=ending)(command(function))
    return typer.main.get_command(one)
