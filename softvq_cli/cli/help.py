"""softvq help."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def _complete(incomplete: str) -> list[str]:
    from softvq_cli.cli.app import Commands

    return [name for name in Commands() if name.startswith(incomplete)]


def help(
    *,
    page: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND", help="Of this command. Default: of the program.", autocompletion=_complete),
    ] = None,
) -> None:
    """Show the help page of the program or of one command.

    The same as softvq --help and softvq COMMAND --help.

    Examples:
      softvq help
      softvq help train
    """
    from softvq_cli.cli.app import app
    from softvq_cli.cli.help_page import PageContext
    from softvq_cli.errors import UsageError, unknown_name

    program: Any = typer.main.get_command(app)
    context = PageContext(program, info_name="softvq", **program.context_settings)
    if page is None:
        typer.echo(program.get_help(context))
        return
    if page not in program.commands:
        raise UsageError(unknown_name("command", page, program.commands))
    command = program.commands[page]
    typer.echo(command.get_help(PageContext(command, info_name=page, parent=context)))
