"""The program: its commands in the order of the work, and how a function becomes a command.

A command is a function in a file of its own. It is thin: read options, one call of the core, print.
To add one, write the file and put it into :data:`COMMANDS`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer

from softvq_cli.cli import cluster, data, embed, export, info, probe, reproduce, run, sweep, train, tsne
from softvq_cli.cli.help import Command, Group
from softvq_cli.cli.options import Bundle
from softvq_cli.version import __version__

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Step by step": (data.data, train.train, embed.embed, cluster.cluster, probe.probe, tsne.tsne),
    "All at once": (run.run, reproduce.reproduce, sweep.sweep),
    "Afterwards": (info.info, export.export),
}
"""The title on the help page → the commands below it."""

app = typer.Typer(
    name="softvq", cls=Group, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def softvq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Train autoencoders with six bottlenecks, and measure and draw what they have learned.

    softvq COMMAND --help explains one command.
    """
    if version:
        print(f"softvq {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.get_help()
        raise typer.Exit(2)


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


for _title, _functions in COMMANDS.items():
    for _function in _functions:
        app.command(cls=Command, rich_help_panel=_title)(command(_function))
