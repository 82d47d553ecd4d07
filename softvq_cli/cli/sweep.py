"""The command ``softvq sweep``: train one model at several values of a setting."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from softvq_cli.cli.options import Streams, option, settings_without
from softvq_cli.cli.output import number_text
from softvq_cli.cli.studies import WorkOptions, carry_out, command_text


def _complete(incomplete: str) -> list[str]:
    from softvq_cli.config import numeric_settings

    return [f"{name}=" for name in numeric_settings() if name.startswith(incomplete)]


def sweep(
    *,
    over: list[str] = option(
        ...,
        "A numeric setting and its values, for example K=8,16,32,64. Give several for all combinations.",
        value="NAME=A,B,…",
        autocompletion=_complete,
    ),
    seeds: int = option(1, "Number of trainings per value, with seeds 0, 1, …"),
    out: Path | None = option(None, "Folder of runs and report. Default: sweep/NAME.", "-o", value="DIR"),
    work: WorkOptions,
    settings: Annotated[dict[str, Any], settings_without("seed")],
    terminal: Streams,
) -> None:
    """Train and evaluate one model at several values of a setting, and plot the results.

    It writes the table to DIR/sweep.json, .md, .csv and .tex, a figure of the results to sweep.png, and each run to a
    folder in DIR/runs. The same command continues after a stop.

    Examples:
      softvq sweep --over K=8,16,32,64 --data mnist
      softvq sweep --over beta=0.25,1,4 --bottleneck vq --seeds 3
    """
    from softvq_cli.experiments import own_data
    from softvq_cli.experiments.study import Request

    axes = own_data.parse_over(over)
    out = out or Path("sweep") / "-".join(axes)
    texts = [f"{name}={','.join(map(number_text, values))}" for name, values in axes.items()]
    command = command_text("sweep", {"over": texts, "seeds": seeds, **settings, "out": out})
    request = Request(out, seeds, settings, command)
    if carry_out(partial(own_data.sweep, request, axes), work, terminal):
        terminal.hint("softvq", "report", out)
