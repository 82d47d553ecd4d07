"""The options that reproduce and sweep share, and how both carry a study out."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from softvq_cli.cli.options import Bundle, Settings
from softvq_cli.cli.output import option_words
from softvq_cli.errors import Interrupted, SoftVQError, UsageError, unknown_name

if TYPE_CHECKING:
    from softvq_cli.cli.progress import Terminal
    from softvq_cli.experiments.job import Job
    from softvq_cli.experiments.pool import PoolObserver

_ALL: Bundle = next(one for one in get_args(Settings) if isinstance(one, Bundle))


def settings_without(*names: str) -> Any:
    """The options of a run but for those that a study decides; a parameter's annotation like ``Settings``."""

    def parameters() -> list[inspect.Parameter]:
        return [one for one in _ALL.parameters() if one.name not in names]

    def build(values: dict[str, Any]) -> dict[str, Any]:
        built: dict[str, Any] = _ALL.build(values | dict.fromkeys(names))
        return built

    return Annotated[dict[str, Any], Bundle(parameters, build)]


Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="INT",
        help="Processes side by side, one job with one thread each; no number depends on it. Default: one a core, or "
        "one a GPU.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Take the jobs to this Dask scheduler, for example tcp://10.0.0.1:8786, instead of processes of this "
        "machine. Default: $DASK_SCHEDULER_ADDRESS.",
        envvar="DASK_SCHEDULER_ADDRESS",
        show_envvar=False,
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print the command of each job that is to be done, for other queues.")
]
JobName = Annotated[
    str | None,
    typer.Option(
        "--job",
        metavar="NAME",
        help="Complete this one job, in this process, and write no report: what --dry-run prints. The same command "
        "without --job then writes the report.",
        show_default=False,
    ),
]


def command_text(words: Iterable[str], settings: Mapping[str, Any]) -> str:
    """A command with the settings of its runs, ready for the shell."""
    return shlex.join(["softvq", *words, *option_words(settings)])


def job_by_job(
    plan: Callable[[PoolObserver], Iterable[Job]],
    name: str | None,
    *,
    command: str,
    device: str,
    terminal: Terminal,
    as_json: bool,
) -> None:
    """What --job and --dry-run do: complete the job of that name, or print the command of each that is not done.

    Raises:
        UsageError: there is no such job.
        SoftVQError: it cannot be completed.
    """
    from softvq_cli.cli.watch_pool import watch_pool
    from softvq_cli.experiments.job import inspect as look_into

    with watch_pool(terminal) as (observer, _):
        jobs = {job.name: job for job in plan(observer)}
    if name is None:
        place = {"device": None if device == "auto" else device}
        for job in jobs.values():
            if not look_into(job).done:
                print(command, shlex.join(option_words({**place, "job": job.name})))
    elif name in jobs:
        _complete(jobs[name], device, terminal)
        terminal.wrote(jobs[name].folder, as_json=as_json)
    else:
        raise UsageError(unknown_name("job", name, jobs))


def _complete(job: Job, device: str, terminal: Terminal) -> None:
    """In this process, with as many threads as a worker has."""
    from softvq_cli.devices import machine
    from softvq_cli.experiments.cluster import Where, limit_threads
    from softvq_cli.experiments.completion import complete

    threads = Where(device=device).threads(1)
    limit_threads(threads)
    with terminal.bars():
        [(_, outcome)] = complete(
            [job], device=device, threads=threads, reporters=[terminal], stop=terminal.stop, machine=machine(device)
        )
    if isinstance(outcome, Interrupted):
        outcome.again = {}  # not the arguments of the training inside
    if isinstance(outcome, SoftVQError):
        raise outcome
