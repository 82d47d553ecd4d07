"""softvq sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from softvq_cli.cli.options import Streams
from softvq_cli.cli.output import number_text, option_words
from softvq_cli.cli.studies import WorkOptions, carry_out, command_text, settings_without

_Settings = settings_without("seed")


def _complete(incomplete: str) -> list[str]:
    from softvq_cli.config import numeric_settings

    return [f"{name}=" for name in numeric_settings() if name.startswith(incomplete)]


def sweep(
    *,
    over: Annotated[
        list[str],
        typer.Option(
            "--over",
            metavar="NAME=A,B,…",
            help="A numeric setting and its values, for example K=8,16,32,64. Give several for all combinations.",
            autocompletion=_complete,
        ),
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="INT", help="Number of trainings per value, with seeds 0, 1, …")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of runs and report. Default: sweep/NAME."),
    ] = None,
    work: WorkOptions,
    settings: _Settings,  # type: ignore[valid-type]
    terminal: Streams,
) -> None:
    """Train and evaluate one model at several values of a setting, and plot the results.

    It writes the table to DIR/sweep.json, .md, .csv and .tex, a figure of the results to sweep.png, and each run to a
    folder in DIR/runs. The same command continues after a stop.

    Examples:
      softvq sweep --over K=8,16,32,64 --data mnist
      softvq sweep --over beta=0.25,1,4 --bottleneck vq --seeds 3
    """
    from softvq_cli.experiments.own_data import SweepRequest, parse_over

    axes = parse_over(over)
    out = out or Path("sweep") / "-".join(axes)
    command = _command(axes, seeds, settings, out)
    request = SweepRequest(over=axes, out=out, seeds=seeds, settings=settings, command=command)
    if carry_out(request, work, terminal):
        terminal.hint("softvq", "report", out)


def _command(axes: Mapping[str, Sequence[float]], seeds: int, settings: Mapping[str, Any], out: Path) -> str:
    """The command that asks for this."""
    words = ["sweep"]
    for name, values in axes.items():
        words += ["--over", f"{name}={','.join(map(number_text, values))}"]
    return command_text([*words, *option_words({"seeds": seeds})], {**settings, "out": out})
