"""The paper's comparisons as studies: their options, and how each is planned.

Figure 4 compares models at a common reconstruction error. First, every model is trained in full. The default target is
the final error of the paper's own model, the soft VQ-VAE. (The largest error of all models would be that of the weakest
bottleneck, which the others reach before they have learned much.) Then each run is repeated up to the first line of its
log with an error at or below the target. With the same seed it is the same run, stopped earlier, because no step
depends on the planned length. A model that never reaches the target is shown in full. So is the model whose final error
is the target, although an earlier line of its log may also be at the target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from softvq_cli.errors import Message, SoftVQError, UsageError, unknown_name
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.paper import BASELINE, COMPARISONS, Comparison
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Request, Row, Study, StudyData, load_data, model_row, plan_jobs
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import MAP, PROBES
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, CONTROLS

REFERENCE = "soft-vq"
"""The row whose final error is the target; without it, the largest error of all rows."""
_LARGEST = "the weakest model's last error decides where all of them stop"
_LOG_EVERY = 50
"""Iterations between two lines of the logs in which the target is searched."""


def reproduce(
    request: Request,
    names: Sequence[str],
    reporter: Reporter | None = None,
    *,
    only: Sequence[str] = (),
    data: Mapping[str, str] = MappingProxyType({}),
    only_data: Sequence[str] = (),
    full: bool = False,
    target_nmse: float | None = None,
) -> tuple[Study, ...]:
    """Plan comparisons of the paper, by their ``names`` in :data:`softvq_cli.experiments.paper.COMPARISONS`.

    ``only`` and ``only_data`` select rows and data sets. ``data`` maps the name of a comparison's data set to other
    data that replace it. ``full`` measures more than the paper's evaluation. ``target_nmse`` is the common error of
    Figure 4 and the ablation, by default the final error of the soft VQ-VAE. UsageError: a name or a number is wrong,
    or no row is left. SoftVQError: no data are available; a data set is left out if there are others.
    """
    reporter = reporter or Reporter()
    _check(request, names, only, (*data, *only_data), target_nmse)
    wanted = [each for each in _data_names(names) if not only_data or each in only_data]
    loaded, missing = _load(request, {each: data.get(each, each) for each in wanted}, reporter)
    studies = []
    for name in names:
        comparison = COMPARISONS[name]
        own = {each: loaded[each] for each in comparison.data if each in loaded}
        rows = _rows(comparison, only, request.settings)
        seeds = tuple(range(request.seeds or comparison.seeds))
        parts = tuple(dict.fromkeys((*comparison.parts, *((PROBES, MAP) if full else ()))))
        every = {"log_every": _LOG_EVERY} if comparison.matched else {}
        shared = {**every, **comparison.settings, **request.settings}
        measured = () if comparison.matched else parts  # a matched run is measured after it has been shortened
        study = Study(
            name=name,
            title=f"{comparison.title}, {', '.join(described.title for described in own.values())}",
            request=request,
            seeds=seeds,
            rows=(*rows, *(decoder_inputs(rows) if comparison.inputs else ())),
            columns=tuple(column for column in comparison.columns if column.data in own),
            data=own,
            jobs=plan_jobs(request.out, rows, own, seeds, parts=measured, shared=shared),
            baseline=BASELINE,
            missing={each: missing[each] for each in comparison.data if each in missing},
            figure="maps" if MAP in comparison.parts else "bars",
            further={"target_nmse": None},
            then=partial(match, parts=parts, target=target_nmse) if comparison.matched else None,
        )
        if not study.jobs:
            continue
        studies.append(study)
        if study.then and target_nmse is None and REFERENCE not in {row.name for row in rows}:
            reporter.warn(Message("{} without {}: {}; {target_nmse} sets another", name, REFERENCE, _LARGEST))
    if not studies:
        raise UsageError(f"{', '.join(names)} has none of the rows {', '.join(only)}")
    return tuple(studies)


def _data_names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(data for name in names for data in COMPARISONS[name].data))


def _check(
    request: Request, names: Sequence[str], only: Sequence[str], data: Sequence[str], target_nmse: float | None
) -> None:
    """Raise UsageError for a wrong name or number."""
    for name in names:
        if name not in COMPARISONS:
            raise UsageError(unknown_name("comparison", name, (*COMPARISONS, "all")))
    rows = [row.name for name in names for row in _possible_rows(COMPARISONS[name])]
    kinds = (f"data set of {', '.join(names)}", data, _data_names(names)), ("row", only, dict.fromkeys(rows))
    for kind, given, possible in kinds:
        for name in given:
            if name not in possible:
                raise UsageError(unknown_name(kind, name, possible))
    if target_nmse is not None:
        matched = [name for name, comparison in COMPARISONS.items() if comparison.matched]
        if not set(matched) & set(names):
            raise UsageError("{target_nmse} is for {}, not for {}", ", ".join(matched), ", ".join(names))
        if not target_nmse > 0:
            raise UsageError("{target_nmse} must be above 0, not {}", target_nmse)
    request.check("data", "bottleneck", "seed")


def _possible_rows(comparison: Comparison) -> list[Row]:
    """Its rows, and optional ones that are selected only by name; controls have no error to match."""
    names = {row.name for row in comparison.rows}
    more = (*BOTTLENECKS, *(() if comparison.matched else CONTROLS))
    return [*comparison.rows, *(model_row(name) for name in more if name not in names)]


def _rows(comparison: Comparison, only: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
    """The requested rows, in the comparison's order."""
    rows = [row for row in _possible_rows(comparison) if row.name in only] if only else list(comparison.rows)
    if "latent_dim" not in comparison.settings:
        return rows
    latent_dim = {**comparison.settings, **settings}["latent_dim"]
    return [dataclasses.replace(row, stem=f"{row.name}-d{latent_dim}") for row in rows]


def _load(
    request: Request, places: Mapping[str, str], reporter: Reporter
) -> tuple[dict[str, StudyData], dict[str, str]]:
    """(available data sets, reasons why others are not available), by their name in the comparisons."""
    loaded: dict[str, StudyData] = {}
    missing: dict[str, str] = {}
    for name, place in places.items():
        try:
            loaded[name] = load_data(request.data(data=place), name, reporter)
        except UsageError:
            raise
        except SoftVQError as error:
            if len(places) == 1:
                raise
            missing[name] = str(error)
            reporter.warn(Message("{} is left out: {}", name, error.message))
    if not loaded:
        raise SoftVQError(f"no data to work on: {'; '.join(missing.values())}")
    titles = [described.name for described in loaded.values()]
    if len(set(titles)) < len(titles):
        raise UsageError(f"two data sets of a comparison cannot have one name: {', '.join(titles)}")
    return loaded, missing


def match(study: Study, outcome: Outcome, *, parts: tuple[str, ...], target: float | None) -> Study:
    """The study with its full runs shortened to a common test error; failed jobs remain, for the report."""
    curves = {job: _errors(job) for job in study.jobs if job in outcome.evaluations}
    failed = tuple(job for job in study.jobs if job in outcome.failures)
    notes = [_LARGEST] if target is None and all(job.row != REFERENCE for job in curves) else []
    target = target or _last_error(curves)
    if target is None:
        return dataclasses.replace(study, jobs=failed)
    notes = [f"every model stops at the first line of its log with a validation nMSE of {target:.4f} or less", *notes]
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


def decoder_inputs(rows: Sequence[Row]) -> list[Row]:
    """For each row with a codebook, a row for the decoder's input."""
    return [
        dataclasses.replace(row, label=f"{row.label}, on ẑ_q", representation="z_q")
        for row in rows
        if row.subject in BOTTLENECKS and BOTTLENECKS[row.subject].has_codebook
    ]


def _errors(job: Job) -> list[tuple[int, float]]:
    """(step, error on the test split) from the job's log."""
    return [(line["step"], line["test_nmse"]) for line in run_directory.read_metrics(job.folder)]


def _step_at(target: float, curve: Sequence[tuple[int, float]]) -> int | None:
    """The first step with at most this error (the last step if it is the run's final error); None if there is none."""
    if curve and curve[-1][1] == target:
        return curve[-1][0]
    return next((step for step, error in curve if error <= target), None)


def _last_error(curves: Mapping[Job, Sequence[tuple[int, float]]]) -> float | None:
    """The final error of the reference (the largest of its seeds), else the largest of all rows; None without any."""
    ends = {job: curve[-1][1] for job, curve in curves.items() if curve}
    return max([end for job, end in ends.items() if job.row == REFERENCE] or ends.values(), default=None)


def _cut(job: Job, step: int, parts: tuple[str, ...]) -> Job:
    """The same run with ``step`` iterations in its own folder; a run that needs all iterations keeps its folder."""
    if step == job.steps:
        return dataclasses.replace(job, parts=parts)
    train = dataclasses.replace(job.config.train, iterations=step)
    config = dataclasses.replace(job.config, train=train)
    return dataclasses.replace(job, folder=job.folder.with_name(f"{job.name}-i{step}"), config=config, parts=parts)
