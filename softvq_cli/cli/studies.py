"""The common options of reproduce, sweep and compare, and how these commands carry out their studies."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from softvq_cli.cli.options import DEVICE, Bundle, option
from softvq_cli.cli.output import option_words
from softvq_cli.errors import Interrupted, SoftVQError, UsageError, unknown_name

if TYPE_CHECKING:
    from softvq_cli.cli.progress import Terminal
    from softvq_cli.experiments.job import Job
    from softvq_cli.experiments.report import Report
    from softvq_cli.experiments.study import Study
    from softvq_cli.reporter import Reporter


@dataclass(frozen=True)
class Work:
    """Where the jobs of a study run, or which single jobs to run."""

    jobs: int | None = option(
        None,
        "Number of parallel processes; each works on one job with one thread. Results do not depend on it. Default: "
        "one per core, or one per GPU.",
        "-j",
    )
    scheduler: str | None = option(
        None,
        "Run the jobs on this Dask scheduler, for example tcp://10.0.0.1:8786, instead of on this machine. Default: "
        "$DASK_SCHEDULER_ADDRESS.",
        value="ADDRESS",
        envvar="DASK_SCHEDULER_ADDRESS",
        show_default=False,
    )
    dry_run: bool = option(False, "Only print one command per unfinished job, for use with other queues.")
    job: str | None = option(
        None,
        "Run only this job (a name that --dry-run prints) and write no report. The same command without --job writes "
        "the report later.",
        value="NAME",
        show_default=False,
    )
    device: str = DEVICE


WorkOptions = Annotated[Work, Bundle.of(Work)]


def command_text(name: str, options: Mapping[str, Any], *arguments: str) -> str:
    """A command line, quoted for the shell."""
    return shlex.join(["softvq", name, *arguments, *option_words(options)])


def carry_out(
    plan: Callable[[Reporter], Sequence[Study]], work: Work, terminal: Terminal, *, together: bool = False
) -> list[Report]:
    """Carry out planned studies and print their reports; returns no reports if only single jobs were requested.

    ``together``: print the documents of several reports as one, by name. If results are missing, an error follows after
    the output.
    """
    from softvq_cli.cli.tables import study_table
    from softvq_cli.experiments.backends import Where
    from softvq_cli.experiments.report import carry_out as run

    if work.dry_run or work.job is not None:
        studies = plan(terminal)
        planned = {each.name: each for study in studies for each in study.jobs}
        terminal.close()
        if work.job is None:
            _print_commands(planned.values(), studies[0].request.command, work.device)
        elif work.job in planned:
            _complete(planned[work.job], work.device, terminal)
            terminal.wrote(planned[work.job].folder)
        else:
            raise UsageError(unknown_name("job", work.job, planned))
        return []
    where = Where(work.jobs, work.device, work.scheduler)
    _ = where.kind  # an unavailable device is refused before any work
    reports = run(plan(terminal), where=where, reporter=terminal, stop=terminal.stop)
    if terminal.as_json:
        documents: dict[str, Any] = {report.document["name"]: report.document for report in reports}
        document = documents if together else reports[0].document
        terminal.result(document, lambda: study_table(document))
    else:
        for report in reports:
            terminal.wrote(report.path, lambda report=report: study_table(report.document))  # type: ignore[misc]
    if failed := list(dict.fromkeys(line for report in reports for line in report.failed)):
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise SoftVQError(f"some jobs failed: {failed[0]}{more}; the report lists what is missing")
    return reports


def _print_commands(jobs: Iterable[Job], command: str, device: str) -> None:
    """Print one command line for each job that is not complete."""
    from softvq_cli.experiments.job import inspect as look_into

    place = {"device": None if device == "auto" else device}
    for job in jobs:
        if not look_into(job).done:
            print(command, shlex.join(option_words({**place, "job": job.name})))


def _complete(job: Job, device: str, terminal: Terminal) -> None:
    """Complete a job in this process, with the same number of threads as a worker."""
    from softvq_cli.devices import machine
    from softvq_cli.experiments.backends import Where
    from softvq_cli.experiments.job import complete
    from softvq_cli.experiments.worker import limit_threads

    threads = Where(device=device).threads(1)
    limit_threads(threads)
    [(_, outcome)] = complete(
        [job], device=device, threads=threads, reporters=[terminal], stop=terminal.stop, machine=machine(device)
    )
    if isinstance(outcome, Interrupted):
        outcome.again = {}  # without the arguments of the training inside
    if isinstance(outcome, SoftVQError):
        raise outcome
