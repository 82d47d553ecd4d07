"""softvq sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from softvq_cli.cli.options import Device, Json, Streams
from softvq_cli.cli.output import number_text, option_words
from softvq_cli.cli.studies import DryRun, JobName, Jobs, Scheduler, command_text, settings_without

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
            help="A numeric setting and its values, for example K=8,16,32,64. Given several times, all combinations.",
            autocompletion=_complete,
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
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    job: JobName = None,
    device: Device = "auto",
    as_json: Json = False,
    settings: _Settings,  # type: ignore[valid-type]
    terminal: Streams,
) -> None:
    """Train and evaluate one model at several values of a setting, and draw the results against it.

    The report goes to DIR/sweep.json, .md, .csv and .tex, the figure of clustering accuracy, NMI and nMSE to
    sweep.png; each run has a folder in DIR/runs. Given again, the command goes on where it stopped.

    Examples:
      softvq sweep --over K=8,16,32,64 --data mnist
      softvq sweep --over beta=0.25,1,4 --bottleneck vq --seeds 3
    """
    from softvq_cli.cli.studies import job_by_job
    from softvq_cli.cli.watch_pool import comparison_table, end, watch_pool
    from softvq_cli.experiments.cluster import Where
    from softvq_cli.experiments.sweep import Request, parse_over, plan
    from softvq_cli.experiments.sweep import sweep as run_sweep

    axes = parse_over(over)
    out = out or Path("sweep") / "-".join(axes)
    request = Request(axes, out, seeds, settings, _command(axes, seeds, settings, out))
    if dry_run or job is not None:
        job_by_job(
            lambda observer: plan(request, observer).jobs,
            job,
            command=request.command,
            device=device,
            terminal=terminal,
            as_json=as_json,
        )
        return
    with watch_pool(terminal) as (observer, stop):
        report = run_sweep(request, where=Where(jobs, device, scheduler), observer=observer, stop=stop)
    if as_json:
        terminal.result(report.document, lambda: comparison_table(report.document), as_json=True)
    else:
        terminal.wrote(report.path, lambda: comparison_table(report.document))
    end(report.failed)
    terminal.hint("softvq", "reproduce", "table1")


def _command(axes: Mapping[str, Sequence[float]], seeds: int, settings: Mapping[str, Any], out: Path) -> str:
    """The command that asks for this."""
    words = ["sweep"]
    for name, values in axes.items():
        words += ["--over", f"{name}={','.join(map(number_text, values))}"]
    return command_text([*words, *option_words({"seeds": seeds})], {**settings, "out": out})
