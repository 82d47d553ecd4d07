"""The one runner: what ``reproduce``, ``sweep`` and ``compare`` do with the studies that they plan."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from softvq_cli.experiments import pool, report
from softvq_cli.experiments.backends import Where, workers
from softvq_cli.experiments.report import Report, report_files
from softvq_cli.experiments.study import StudyRequest
from softvq_cli.reporter import Reporter
from softvq_cli.training import run_directory


@dataclass(frozen=True)
class Reports:
    """What was asked for, as far as it could be done."""

    reports: tuple[Report, ...]
    """One for each study of whose data there is any; each lists what is not in it because it failed."""
    failed: tuple[str, ...]
    """All of that: one line each."""


def carry_out(
    request: StudyRequest,
    *,
    where: Where | None = None,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> Reports:
    """Train and measure what is not done yet in ``request.out``, and write the reports.

    Raises:
        RefusedError: another process works in the folder, or it holds runs with other settings.
        UsageError: a setting that no model can have.
        SoftVQError: none of the data can be had, or a report cannot be written.
        Interrupted: ``stop`` was set.
    """
    reporter = reporter or Reporter()
    files = (file for name in request.reports for file in report_files(name))
    with run_directory.locked(request.out, also=files), workers(where or Where(), request.most_jobs) as staff:
        if not all((request.out / f"{name}.json").exists() for name in request.reports):
            staff.warm()  # while the data are looked at; where a report is, there may be nothing to do
        studies = request.plan(reporter)
        planned = dict.fromkeys(job for study in studies for job in study.jobs)
        outcome = pool.run(list(planned), staff, reporter=reporter, stop=stop)
        reported = [study.then(study, outcome) if study.then else study for study in studies]
        more = dict.fromkeys(job for study in reported for job in study.jobs if job not in planned)
        if more:
            outcome |= pool.run(list(more), staff, reporter=reporter, stop=stop)
        reporter.stage("writing the report")
        reports = tuple(report.write(study, outcome, request.out, reporter) for study in reported)
    missing = (f"{data}: {error}" for study in studies for data, error in study.missing.items())
    return Reports(reports, tuple(dict.fromkeys((*missing, *(line for each in reports for line in each.failed)))))
