"""The program: its commands in the order of the work, and how a function becomes a command.

A command is a function in a file of its own that has its name. It is thin: read options, one call of the core, print.
To add one, write the file and put its name into :data:`COMMANDS`. Only the command that is asked for is imported.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperGroup

from softvq_cli.cli import help_page
from softvq_cli.cli.options import Bundle
from softvq_cli.version import __version__

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "Step by step": ("data", "train", "embed", "cluster", "probe", "tsne"),
    "All at once": ("run", "reproduce", "sweep"),
    "Afterwards": ("report", "info", "export"),
}
"""The title on the help page → the commands below it."""


_COMMAND_FIRST = "softvq.command_first"


class Program(TyperGroup):
    """The commands, each built when it is first asked for."""

    context_class = help_page.PageContext

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._built: dict[str, Any] = {}
        self.commands = dict.fromkeys(name for names in COMMANDS.values() for name in names)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        if cmd_name in self.commands and cmd_name not in self._built:
            self._built[cmd_name] = build(cmd_name)
        return self._built.get(cmd_name)

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
            rows = [(name, help_page.summary_of(function_of(name).__doc__)) for name in names]
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


@app.callback(invoke_without_command=True)
def softvq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Train autoencoders with eleven bottlenecks, and measure and draw what they have learned.

    softvq COMMAND --help explains one command.
    """
    if version:
        print(f"softvq {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def function_of(name: str) -> Callable[..., None]:
    """The function behind a command."""
    function: Callable[..., None] = getattr(importlib.import_module(f"softvq_cli.cli.{name}"), name)
    return function


def build(name: str) -> Any:
    """One command for Typer."""
    function = function_of(name)
    text, ending = help_page.parts_of(function.__doc__)
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(name, cls=help_page.Command, help=text, epilog=ending)(command(function))
    return typer.main.get_command(one)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` with each parameter that is a bundle replaced by the bundle's options.

    A parameter annotated ``settings: Settings`` becomes one option a setting of a run and receives a
    dictionary with those that the user gave; ``terminal: Streams`` becomes ``--quiet`` and ``--debug``.
    """
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, tuple[Bundle, list[str]]] = {}
    for one in inspect.signature(function, eval_str=True).parameters.values():
        bundle = next((m for m in _metadata(one.annotation) if isinstance(m, Bundle)), None)
        if bundle is None:
            parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            options = bundle.parameters()
            bundles[one.name] = bundle, [option.name for option in options]
            parameters.extend(options)

    @functools.wraps(function)
    def call(**values: Any) -> None:
        built = {name: bundle.build({n: values.pop(n) for n in names}) for name, (bundle, names) in bundles.items()}
        function(**values, **built)

    del call.__wrapped__  # or the signature would be looked for there
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
