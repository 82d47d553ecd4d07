"""softvq sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.grids import Jobs, settings_without
from softvq_cli.cli.options import Device, Json
from softvq_cli.cli.output import Streams

_Settings = settings_without("seed")


def sweep(
    *,
    over: Annotated[
        str,
        typer.Option(
            "--over", metavar="NAME=A,B,…", help="A numeric setting and its values, for example K=8,16,32,64."
        ),
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="INT", help="Trainings at each value, with the seeds 0, 1, …")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder of runs and report. Default: sweep/NAME."),
    ] = None,
    jobs: Jobs = None,
    device: Device = "auto",
    as_json: Json = False,
    settings: _Settings,  # type: ignore[valid-type]
    terminal: Streams,
) -> None:
    """Train and evaluate one model at several values of a setting, and draw the results against it.

    The report goes to DIR/sweep.json, .md, .csv and .tex, the figure of clustering accuracy, NMI and nMSE to
    sweep.png; each run has a folder in DIR/runs. Given again, the command goes on where it stopped.
    """
    from softvq_cli.cli.watch_grid import comparison_table, end, watch_grid
    from softvq_cli.experiments.sweep import Request, parse_over
    from softvq_cli.experiments.sweep import sweep as run_sweep

    setting, values = parse_over(over)
    request = Request(setting, values, out or Path("sweep") / setting, seeds, settings)
    with watch_grid(terminal) as (observer, stop):
        report = run_sweep(request, jobs=jobs, device=device, observer=observer, stop=stop)
    if as_json:
        terminal.result(report.document, lambda: comparison_table(report.document), as_json=True)
    else:
        terminal.wrote(report.path, lambda: comparison_table(report.document))
    end(report.failed)
    terminal.hint("softvq", "reproduce", "table1")
