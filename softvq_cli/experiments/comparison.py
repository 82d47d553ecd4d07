"""The paper's comparisons as studies: what may be asked of them, and how each is planned.

Figure 4 compares models at a common reconstruction error. Every model is first trained in full. The target is the error
at which the paper's own model ends, the soft VQ-VAE, unless another is given: the largest error of all would be that of
the weakest bottleneck, which the others pass before they have learned much. Each run is then repeated up to the first
line of its log at or below the target; with the same seed it is the same run, cut short: nothing in it depends on how
long it was meant to be. A model that never comes down to it is shown in full, and so is the one whose last error it is,
which may have been there for a line before.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import Message, SoftVQError, UsageError, param, unknown_name
from softvq_cli.experiments import pool, report
from softvq_cli.experiments.cluster import Cluster, Where
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.paper import BASELINE, COMPARISONS, Comparison
from softvq_cli.experiments.pool import Outcome, PoolObserver
from softvq_cli.experiments.report import Report, report_files
from softvq_cli.experiments.study import Row, Study, StudyData, load_data, plan_jobs
from softvq_cli.results.evaluate import MAP, PROBES
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, CONTROLS, PCA, RAW

DECIDED = ("data", "bottleneck", "seed")
"""Settings that the table and the seeds decide."""
REFERENCE = "soft-vq"
"""The row whose last error the others are stopped at; without it, the largest of all."""
_LARGEST = "the weakest model's last error decides where all of them stop"


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    names: tuple[str, ...]
    """Of :data:`softvq_cli.experiments.paper.COMPARISONS`."""
    out: Path
    seeds: int | None = None
    """0…seeds − 1; the comparison's own number where None."""
    only: tuple[str, ...] = ()
    """Rows; the comparison's own where empty."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of a comparison's data set → other data to use in its place."""
    only_data: tuple[str, ...] = ()
    """Data sets of the comparisons; all where empty."""
    full: bool = False
    """Also measure what goes beyond the paper's evaluation."""
    target_nmse: float | None = None
    """Of Figure 4; the soft VQ-VAE's last error where None."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of all rows, by name; they win over the preset and the comparison."""
    command: str = ""
    """What asks for it, for the reports."""

    def __post_init__(self) -> None:
        """Check all names and numbers.

        Raises:
            UsageError: an unknown name, or a number out of range.
        """
        for name in self.names:
            if name not in COMPARISONS:
                raise UsageError(unknown_name("comparison", name, (*COMPARISONS, "all")))
        known = tuple(dict.fromkeys(data for name in self.names for data in COMPARISONS[name].data))
        for data in (*self.data, *self.only_data):
            if data not in known:
                raise UsageError(unknown_name(f"data set of {', '.join(self.names)}", data, known))
        rows = (RAW, *BOTTLENECKS, *(row for row in CONTROLS if row != RAW))
        for row in self.only:
            if row not in rows:
                raise UsageError(unknown_name("row", row, rows))
            if row not in BOTTLENECKS and all(COMPARISONS[name].matched for name in self.names):
                raise UsageError(
                    f"{row} is no row of {', '.join(self.names)}: its rows are trained until they have a common error"
                )
        if self.seeds is not None and self.seeds < 1:
            raise UsageError("{seeds} must be at least 1, not {}", self.seeds)
        self._check_target()
        for name in self.settings:
            if name in DECIDED:
                raise UsageError("{} is not for a comparison, which decides it", param(name))
        RunConfig.from_flat(self.settings)

    def _check_target(self) -> None:
        if self.target_nmse is None:
            return
        if not self.target_nmse > 0:
            raise UsageError("{target_nmse} must be above 0, not {}", self.target_nmse)
        matched = [name for name, one in COMPARISONS.items() if one.matched]
        if not set(matched) & set(self.names):
            raise UsageError("{target_nmse} is for {}, not for {}", ", ".join(matched), ", ".join(self.names))


@dataclass(frozen=True)
class Reproduction:
    """What was asked for, as far as it could be done."""

    reports: tuple[Report, ...]
    """One for each comparison of whose data there is any; each lists what is not in it because it failed."""
    failed: tuple[str, ...]
    """All of that: one line each."""


def reproduce(
    request: Request,
    *,
    where: Where | None = None,
    observer: PoolObserver | None = None,
    stop: threading.Event | None = None,
) -> Reproduction:
    """Train and measure what is not done yet in ``request.out``, and write the reports.

    Raises:
        RefusedError: another process works in the folder, or it holds runs with other settings.
        UsageError: a setting that no model can have.
        SoftVQError: none of the data can be had, or a report cannot be written.
        Interrupted: ``stop`` was set.
    """
    observer = observer or PoolObserver()
    with (
        run_directory.locked(request.out, also=(file for name in request.names for file in report_files(name))),
        Cluster(where or Where(), _most_jobs(request)) as cluster,
    ):
        if not all((request.out / f"{name}.json").exists() for name in request.names):
            cluster.warm()  # while the data are looked at; where a report is, there may be nothing to do
        studies = plan(request, observer)
        for study in studies:
            if _matched(study) and request.target_nmse is None and REFERENCE not in {row.name for row in study.rows}:
                observer.noted(
                    Message("{} without {}: {}; {target_nmse} sets another", study.name, REFERENCE, _LARGEST)
                )
        planned = dict.fromkeys(job for study in studies for job in study.jobs)
        outcome = pool.run(list(planned), cluster, observer=observer, stop=stop)
        shown = [match(study, outcome, request) if _matched(study) else study for study in studies]
        further = dict.fromkeys(job for study in shown for job in study.jobs if job not in planned)
        outcome |= pool.run(list(further), cluster, observer=observer, stop=stop)
        observer.stage("writing the report")
        reports = tuple(report.write(study, outcome, request.out, observer.noted) for study in shown)
    missing = (f"{data}: {error}" for study in studies for data, error in study.missing.items())
    return Reproduction(reports, tuple(dict.fromkeys((*missing, *(one for each in reports for one in each.failed)))))


def _most_jobs(request: Request) -> int:
    """More cannot be planned, whatever the data are."""
    comparisons = (COMPARISONS[name] for name in request.names)
    return sum(len(one.data) * len(_rows(one, request)) * (request.seeds or one.seeds) for one in comparisons)


def plan(request: Request, observer: PoolObserver) -> tuple[Study, ...]:
    """A study for each comparison of whose data there is any.

    Raises:
        UsageError: a setting that no model can have, or no row is left.
        SoftVQError: none of the data can be had.
    """
    data, missing = _data(request, observer)
    studies = (_study(name, request, data, missing) for name in request.names)
    planned = tuple(study for study in studies if study.jobs)
    if not planned:
        raise UsageError(f"{', '.join(request.names)} has none of the rows {', '.join(request.only)}")
    return planned


def _data(request: Request, observer: PoolObserver) -> tuple[dict[str, StudyData], dict[str, str]]:
    """(the data sets that can be had, why the others cannot), by the comparisons' names."""
    wanted = dict.fromkeys(data for name in request.names for data in COMPARISONS[name].data)
    wanted = {data: None for data in wanted if not request.only_data or data in request.only_data}
    given = {name: value for name, value in request.settings.items() if name in DataConfig.__dataclass_fields__}
    found: dict[str, StudyData] = {}
    missing: dict[str, str] = {}
    for data in wanted:
        config = DataConfig(**given | {"data": request.data.get(data, data)})
        try:
            found[data] = load_data(config, data, observer.data_progress)
        except UsageError:
            raise
        except SoftVQError as error:
            if len(wanted) == 1:
                raise
            missing[data] = str(error)
            observer.noted(Message("{} is left out: {}", data, error.message))
    if not found:
        raise SoftVQError(f"no data to work on: {'; '.join(missing.values())}")
    names = [one.name for one in found.values()]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two data sets of a comparison cannot both be {name}")
    return found, missing


def _study(name: str, request: Request, data: Mapping[str, StudyData], missing: Mapping[str, str]) -> Study:
    comparison = COMPARISONS[name]
    own = {one: data[one] for one in comparison.data if one in data}
    rows = _rows(comparison, request)
    seeds = tuple(range(request.seeds or comparison.seeds))
    # A matched run is measured when it has been cut.
    parts = () if comparison.matched else _parts(comparison, request)
    shared = {**comparison.settings, **request.settings}
    inputs = [
        dataclasses.replace(row, label=f"{row.label}, on ẑ_q", representation="z_q")
        for row in rows
        if comparison.inputs and row.subject in BOTTLENECKS and BOTTLENECKS[row.subject].has_codebook
    ]
    return Study(
        name=name,
        title=f"{comparison.title}, {', '.join(one.title for one in own.values())}",
        command=request.command,
        seeds=seeds,
        rows=(*rows, *inputs),
        columns=tuple(column for column in comparison.columns if column.data in own),
        data=own,
        jobs=plan_jobs(request.out, rows, own, seeds, parts=parts, shared=shared),
        baseline=BASELINE,
        missing={one: missing[one] for one in comparison.data if one in missing},
        figure="maps" if comparison.matched else "bars",
        further={"target_nmse": None},
    )


def _rows(comparison: Comparison, request: Request) -> list[Row]:
    """In the comparison's order; what it does not have by itself comes in by its name, after those."""
    others = (*BOTTLENECKS, *(() if comparison.matched else CONTROLS))
    more = (row for row in others if row in request.only and row not in comparison.rows)
    names = [row for row in (*comparison.rows, *more) if not request.only or row in request.only]
    fixed = "latent_dim" in comparison.settings
    latent_dim = {**comparison.settings, **request.settings}.get("latent_dim")
    return [
        Row(
            name=row,
            label=CONTROLS.get(row) or BOTTLENECKS[row].label,
            subject=row,
            seeded=row not in (RAW, PCA),
            stem=f"{row}-d{latent_dim}" if fixed else row,
        )
        for row in names
    ]


def _parts(comparison: Comparison, request: Request) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*comparison.parts, *((PROBES, MAP) if request.full else ()))))


def _matched(study: Study) -> bool:
    return COMPARISONS[study.name].matched


def match(study: Study, outcome: Outcome, request: Request) -> Study:
    """The study with its runs, trained in full, cut at a common validation error.

    Args:
        study: as it was planned.
        outcome: of its jobs; those that failed are kept as they are, to be reported.
        request: whose target is the nMSE to stop at; the reference's last one unless given, of several seeds the
            largest.
    """
    trained = [job for job in study.jobs if job in outcome.evaluations]
    curves = {
        job: [(line["step"], line["val_nmse"]) for line in run_directory.read_metrics(job.folder)] for job in trained
    }
    target = request.target_nmse or _reached(curves)
    failed = tuple(job for job in study.jobs if job in outcome.failures)
    if target is None:
        return dataclasses.replace(study, jobs=failed)
    parts = _parts(COMPARISONS[study.name], request)
    notes = [f"every model stops at the first line of its log with a validation nMSE of {target:.4f} or less"]
    if request.target_nmse is None and all(job.row != REFERENCE for job in curves):
        notes.append(_LARGEST)
    cut = []
    for job, curve in curves.items():
        step = _step_at(target, curve)
        if step is None:
            notes.append(f"{job.name} does not come down to it, and is shown after all its {job.steps} iterations")
        cut.append(_cut(job, step or job.steps, parts))
    return dataclasses.replace(
        study,
        jobs=(*cut, *failed),
        planned=study.jobs,
        notes=(*study.notes, *notes),
        further={**study.further, "target_nmse": target},
    )


def _step_at(target: float, curve: Sequence[tuple[int, float]]) -> int | None:
    """The first step with that error or less, or of the run whose last error it is the last; None where none has it."""
    if curve and curve[-1][1] == target:
        return curve[-1][0]
    return next((step for step, error in curve if error <= target), None)


def _reached(curves: Mapping[Job, Sequence[tuple[int, float]]]) -> float | None:
    """The last error of the reference, or of all; None where nothing was trained."""
    ends = {job: curve[-1][1] for job, curve in curves.items() if curve}
    return max([end for job, end in ends.items() if job.row == REFERENCE] or ends.values(), default=None)


def _cut(job: Job, step: int, parts: tuple[str, ...]) -> Job:
    """The same run with ``step`` iterations, in a folder of its own; a run that needs all of them stays where it is."""
    if step == job.steps:
        return dataclasses.replace(job, parts=parts)
    train = dataclasses.replace(job.config.train, iterations=step)
    config = dataclasses.replace(job.config, train=train)
    return dataclasses.replace(job, folder=job.folder.with_name(f"{job.name}-i{step}"), config=config, parts=parts)
