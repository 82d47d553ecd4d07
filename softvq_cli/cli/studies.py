"""The options that reproduce and sweep share, and how both carry a study out."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from softvq_cli.cli.options import Bundle
from softvq_cli.cli.settings import Settings
from softvq_cli.cli.spelling import option_words

if TYPE_CHECKING:
    from softvq_cli.experiments.job import Job

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


def print_commands(jobs: Iterable[Job], command: str) -> None:
    """One command a job that is not done yet, on standard output."""
    from softvq_cli.experiments.job import inspect as look_into

    for job in jobs:
        if not look_into(job).done:
            print(f"{command} --job {shlex.quote(job.name)}")


def complete_job(jobs: Iterable[Job], name: str, device: str, watch: Callable[[], Any]) -> str:
    """Train and measure the job of this name in this process; the path of its folder.

    Raises:
        UsageError: there is no such job.
        SoftVQError: it cannot be completed.
    """
    from softvq_cli.errors import SoftVQError, UsageError, unknown_name
    from softvq_cli.experiments.cluster import Where, limit_threads
    from softvq_cli.experiments.completion import complete

    by_name = {job.name: job for job in jobs}
    if name not in by_name:
        raise UsageError(unknown_name("job", name, by_name))
    from softvq_cli.devices import machine

    job, threads = by_name[name], Where(device=device).threads(1)
    limit_threads(threads)
    with watch() as (observer, stop):
        [(_, outcome)] = complete(
            [job], device=device, threads=threads, observers=[observer], stop=stop, machine=machine(device)
        )
    if isinstance(outcome, SoftVQError):
        raise outcome
    return str(job.folder)
