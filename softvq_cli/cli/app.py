"""The program: the list of commands, how a function becomes a command, and how a command runs.

Each command is a function in the module with its name. It is short: it reads options, calls the core once, and prints.
To add one, write the module and add its name to :data:`COMMANDS`. Only the requested command is built.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from softvq_cli.cli import help as pages
from softvq_cli.cli.errors import INTERRUPTED, code_of, describe, drop, interrupts, say
from softvq_cli.cli.options import Bundle, filled_in
from softvq_cli.cli.output import prepare_streams
from softvq_cli.cli.progress import Terminal
from softvq_cli.devices import keep_freed_memory, torchrun
from softvq_cli.errors import SoftVQError, UsageError
from softvq_cli.version import __version__

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "Step by step": ("data", "train", "embed", "cluster", "probe", "tsne"),
    "All at once": ("run", "compare", "reproduce", "sweep"),
    "Afterwards": ("predict", "issues", "report", "info", "export", "help"),
}
"""Section title of the help page → its commands."""
_NAMES = tuple(name for names in COMMANDS.values() for name in names)
_CONTEXT = "context"
_TRUE = ("1", "true", "t", "yes", "y", "on")
"""Values of an environment variable that Typer accepts as true."""
_WITHOUT_TORCH = ("data", "info", "help")
_SPACE = 3_500_000_000
"""Minimum address space in bytes for loading PyTorch (measured: 3.1 GB are too few, 3.6 are enough)."""


class Program(TyperGroup):
    """The group of all commands, each built on first use."""

    context_class = pages.PageContext

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands = dict.fromkeys(_NAMES)  # type: ignore[assignment]
        self._command_first = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build one command."""
        return build(cmd_name) if cmd_name in self.commands else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options of the program itself."""
        self._command_first = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """The options; none if a command comes first, because Typer would load Pydantic to process them."""
        return [] if self._command_first else super().get_params(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands and the options."""
        for title, names in COMMANDS.items():
            pages.write_section(title, [(name, pages.summary_of(function_of(name))) for name in names], formatter)
        pages.write_parameters(super().get_params(ctx), formatter)


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
    """Train autoencoders with different bottlenecks; embed, cluster, probe and plot their latents.

    softvq COMMAND --help explains a command. Every option can also be set by an environment variable, for example
    --latent-dim by SOFTVQ_LATENT_DIM. The documentation is the folder docs of the source distribution.

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


_text, _ending = pages.parts_of(softvq)
app.callback(invoke_without_command=True, help=_text, epilog=_ending)(softvq)


def function_of(name: str) -> Callable[..., None]:
    """The function of a command."""
    function: Callable[..., None] = getattr(importlib.import_module(f"softvq_cli.cli.{name}"), name)
    return function


@functools.cache
def build(name: str) -> Any:
    """Build one command for Typer."""
    function = function_of(name)
    text, ending = pages.parts_of(function)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=pages.Command, help=text, epilog=ending)(command(function))
    return typer.main.get_command(alone)


@functools.cache
def _program() -> Any:
    """Build the whole program for Typer."""
    return typer.main.get_command(app)


def run(argv: Sequence[str]) -> int:
    """Run one command, report any error in one line, and return the exit code."""
    argv = list(argv)
    debug = "--debug" in argv or os.environ.get("SOFTVQ_DEBUG", "").lower() in _TRUE
    prepare_streams()
    with interrupts.installed():
        try:
            code = code_of(_program().main(argv, prog_name="softvq", standalone_mode=False))
            sys.stdout.flush()
        except BrokenPipeError:
            drop(sys.stdout)
            return 1
        except BaseException as error:
            if debug and not isinstance(error, SystemExit):
                import traceback

                traceback.print_exc()
            code, text = describe(error, argv)
            say(text)
            return code
        if code == INTERRUPTED:
            say("interrupted")
        return code


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of ``function`` that is a bundle by the options of the bundle.

    A parameter annotated ``settings: Settings`` becomes one option per setting of a run and receives a dictionary with
    the settings that the user gave; ``terminal: Streams`` becomes ``--quiet`` and ``--debug``.
    """
    parameters = [inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    bundles: dict[str, tuple[Bundle, list[str]]] = {}
    for each in inspect.signature(function, eval_str=True).parameters.values():
        bundle = next((m for m in getattr(each.annotation, "__metadata__", ()) if isinstance(m, Bundle)), None)
        if bundle is not None:
            options = bundle.parameters()
            bundles[each.name] = bundle, [option.name for option in options]
            parameters += map(filled_in, options)
        elif each.name != _CONTEXT:
            parameters.append(filled_in(each))

    @functools.wraps(function)
    def call(**values: Any) -> None:
        variables = _variables_used(values[_CONTEXT])
        with _work_place(function.__name__, debug=values.get("debug", False)):
            terminal = None
            for name in sorted(bundles, key=lambda name: name != "terminal"):  # first, to report errors of the others
                bundle, options = bundles[name]
                values[name] = bundle.build({option: values.pop(option) for option in options})
                if isinstance(values[name], Terminal):
                    terminal = values[name]
                    if variables:
                        terminal.note(f"from the environment: {', '.join(variables)}")
            try:
                function(**{name: values[name] for name in inspect.signature(function).parameters})
            finally:
                if terminal is not None:
                    terminal.close()

    del call.__wrapped__  # otherwise inspect would use its signature
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _variables_used(context: typer.Context) -> list[str]:
    """The environment variables that set options of this command."""
    used = []
    for param in context.command.params:
        source = context.get_parameter_source(param.name)
        if source is not None and source.name == "ENVIRONMENT":
            names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or []
            used.append(next(name for name in names if os.environ.get(name)))
    return used


@contextlib.contextmanager
def _work_place(name: str, *, debug: bool) -> Iterator[None]:
    """Prepare the environment of a command: memory for PyTorch, a home folder, and silent libraries.

    Some libraries look for a home and a temporary folder when they are loaded, without writing to them. A user without
    a home, as in containers, gets the root folder. If no temporary folder is writable, a path is set in which nothing
    can be created, so that an error only occurs when a file is needed. Warnings and log messages of libraries are for
    programmers: they are shown with ``--debug``.
    """
    place = torchrun()
    if place and name != "train":
        raise UsageError("torchrun divides one training among processes: start softvq {} without it", name)
    if place and place[0]:  # the first process prints for all
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (to the end of the process)
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= space < _SPACE and name not in _WITHOUT_TORCH:  # PyTorch's C++ code would abort the process
            raise SoftVQError(
                f"PyTorch needs about {_SPACE / 1e9:.1f} GB of address space, and {space / 1e9:.1f} are allowed: raise "
                "the limit (ulimit -v unlimited)"
            )
    if name not in _WITHOUT_TORCH:
        keep_freed_memory()
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.sep
    try:
        tempfile.gettempdir()
    except OSError:
        tempfile.tempdir = os.devnull
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)  # PyTorch creates it even if it does not compile
    if debug:
        yield
        return
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
