"""The document of a study: its complete results, ready for JSON. All other forms of a report are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softvq_cli.evaluation.statistics import (
    hierarchical_bootstrap,
    pair_bootstrap,
    paired_difference,
    stability,
    summary,
    welch_difference,
)
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Column, Row, Study
from softvq_cli.results.evaluate import Evaluation, step_of
from softvq_cli.results.measures import MEASURES, measure
from softvq_cli.sharing import shared_command, shared_text
from softvq_cli.version import __version__
from softvq_cli.words import BOTTLENECKS

Values = Mapping[int, Mapping[str, float]]
"""Seed → measure → value."""


def document(study: Study, outcome: Outcome) -> dict[str, Any]:
    """The results of a study.

    ``rows`` has one dictionary per row: ``row``, ``label``, ``kind``, ``seeds`` by data set, and ``cells`` by
    ``DATA.MEASURE``, for the columns of the table and every other measure. A cell has ``mean``, ``std``, ``n``,
    ``values`` (in the order of ``seeds``), ``interval``, ``paper`` and ``versus_baseline``; with intermediate
    checkpoints, ``steps`` has the first five by number of iterations.
    """
    failures = {**study.missing, **{job.name: error for job, error in outcome.failures.items() if job in study.jobs}}
    private = [path for data in study.data.values() for path in (data.config.data, data.config.data_dir) if path]
    folders: list[str | Path] = [*private, study.request.out]
    rows = [_row(study, row, outcome) for row in study.rows]
    return {
        "name": study.name,
        "title": study.title,
        "softvq": __version__,
        "command": shared_command(study.request.command),
        "seeds": list(study.seeds),
        "processors": _measured_by(study, outcome, "processor"),
        "torch": _measured_by(study, outcome, "torch"),
        "data": {name: {**data.as_dict(), "settings": _settings(study, name)} for name, data in study.data.items()},
        "figure": study.figure,
        "baseline": study.baseline,
        "columns": [_column(study, column) for column in study.columns],
        "rows": rows,
        "failed": [{"cell": cell, "error": shared_text(error, folders)} for cell, error in failures.items()],
        "notes": [*study.notes, *_other_versions(study, outcome), *_unfinished_probes(rows)],
        **study.further,
    }


def _measured_by(study: Study, outcome: Outcome, name: str) -> list[str]:
    """Processors or versions that measured it, if recorded; the names of machines are private."""
    machines = (outcome.evaluations[job].machine for job in study.jobs if job in outcome.evaluations)
    return sorted({machine[name] for machine in machines if machine and name in machine})


def _other_versions(study: Study, outcome: Outcome) -> list[str]:
    others = [version for version in _measured_by(study, outcome, "softvq") if version != __version__]
    return [f"some of it was measured by softvq {', '.join(others)}"] if others else []


def _settings(study: Study, data: str) -> dict[str, dict[str, Any]]:
    """Model → the settings that are needed to repeat it, without those that it does not use.

    In a sweep, all rows are one model, and their labels have the varied settings.
    """
    settings: dict[str, dict[str, Any]] = {}
    common = ("arch", "latent_dim", "iterations", "batch_size", "lr", "reconstruction_scale")
    for job in study.planned or study.jobs:
        if job.data == data and job.trains:
            flat, names = job.config.flat(), (*common, *BOTTLENECKS[job.subject].settings)
            model = job.subject if study.varied else job.row
            settings.setdefault(model, {name: flat[name] for name in names if name not in study.varied})
    return settings


def _column(study: Study, column: Column) -> dict[str, Any]:
    return {
        "key": column.key,
        "data": column.data,
        "measure": column.measure,
        "title": measure(column.measure).title,
        "published": any(row.key in column.paper for row in study.rows),
    }


def _row(study: Study, row: Row, outcome: Outcome) -> dict[str, Any]:
    empty: dict[str, Any] = {"mean": None, "std": None, "n": 0, "values": [], "interval": None}
    seeds: dict[str, list[int]] = {}
    cells: dict[str, dict[str, Any]] = {}
    for column in study.columns:
        cells[column.key] = {**empty, "paper": column.paper.get(row.key), "versus_baseline": None}
    for data in study.data:
        evaluations = _evaluations(study, outcome, data, row.name)
        values = _values(evaluations, row.measured)
        seeds[data] = list(values)
        compared = study.baseline is not None and row.seeded and row.key != study.baseline
        baseline = _values(_evaluations(study, outcome, data, study.baseline), "z_e") if compared else {}
        # Starts, clusters, codes and intermediate checkpoints belong to the job's first representation.
        of_job = list(evaluations.values()) if row.representation is None else []
        for name, numbers in {**_statistics(values, of_job), **_seed_agreement(of_job)}.items():
            cell = cells.setdefault(f"{data}.{name}", {"paper": None})
            cell |= {**numbers, "versus_baseline": versus(name, values, baseline)}
        if codes := [evaluation.details["codes"] for evaluation in of_job if "codes" in evaluation.details]:
            cells[f"{data}.code_purity"]["codes"] = codes
        for step, part in _steps(study, data, row).items():
            for name, numbers in _statistics(_values(evaluations, part)).items():
                cells[f"{data}.{name}"].setdefault("steps", {})[str(step)] = numbers
    return {"row": row.key, "label": row.label, "kind": row.kind, "seeds": seeds, "cells": cells}


def _evaluations(study: Study, outcome: Outcome, data: str, row: str | None) -> dict[int, Evaluation]:
    """Seed → evaluation of a row on a data set, in order of the seeds."""
    jobs = [job for job in study.jobs if (job.data, job.row) == (data, row) and job in outcome.evaluations]
    return {job.seed: outcome.evaluations[job] for job in sorted(jobs, key=lambda job: job.seed)}


def _steps(study: Study, data: str, row: Row) -> dict[int, str]:
    """Iterations → part of the requested intermediate checkpoints, in increasing order."""
    jobs = [job for job in study.jobs if (job.data, job.row) == (data, row.name) and row.representation is None]
    parts = {step: part for job in jobs for part in job.parts if (step := step_of(part)) is not None}
    return dict(sorted(parts.items()))


def _values(evaluations: Mapping[int, Evaluation], representation: str) -> Values:
    """The values of a representation, or of an intermediate checkpoint by the name of its part."""
    return {seed: each.numbers[representation] for seed, each in evaluations.items() if representation in each.numbers}


def _statistics(values: Values, evaluations: Sequence[Evaluation] = ()) -> dict[str, dict[str, Any]]:
    """Measure → statistics over the seeds, in the order of MEASURES."""
    names = dict.fromkeys(name for of_seed in values.values() for name in of_seed)
    starts = [each.details["starts"] for each in evaluations if "clustering_accuracy" in each.details.get("starts", {})]
    statistics = {}
    for name in (*(name for name in MEASURES if name in names), *(name for name in names if name not in MEASURES)):
        over_seeds = [of_seed[name] for of_seed in values.values() if name in of_seed]
        complete = name == "clustering_accuracy" and len(starts) == len(over_seeds)
        statistics[name] = _cell(over_seeds, _interval(over_seeds, starts if complete else []))
    return statistics


def _cell(values: Sequence[float], interval: Mapping[str, Any] | None) -> dict[str, Any]:
    over = summary(values)
    return {"mean": over.mean, "std": over.std, "n": over.n, "values": list(over.values), "interval": interval}


def _interval(values: Sequence[float], starts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Bootstrap interval over trainings and, for the clustering, over their K-means starts; None for one value."""
    if starts:
        accuracies, inertias = ([each[name] for each in starts] for name in ("clustering_accuracy", "inertia"))
        low, high = hierarchical_bootstrap(accuracies, inertias)
        return {"low": low, "high": high, "starts": min(map(len, inertias))}
    if len(values) < 2:
        return None
    low, high = hierarchical_bootstrap([[value] for value in values])
    return {"low": low, "high": high, "starts": 1}


def _seed_agreement(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """The agreement between the clusterings of different seeds; the values are those of pairs of seeds."""
    clusterings = [clusters for each in evaluations if (clusters := each.array("clusters")) is not None]
    if len(clusterings) < 2:
        return {}
    pairs = stability(clusterings).values
    ends = pair_bootstrap(pairs, len(clusterings))
    return {"seed_ari": _cell(pairs, ends and {"low": ends[0], "high": ends[1], "starts": 1})}


def versus(name: str, values: Values, baseline: Values) -> dict[str, Any] | None:
    """The differences from the baseline, over the seeds that both have and, by Welch's t test, over all."""
    ours, theirs = ({seed: of_seed[name] for seed, of_seed in v.items() if name in of_seed} for v in (values, baseline))
    common = [seed for seed in ours if seed in theirs]
    if not common:
        return None
    paired = paired_difference([ours[seed] for seed in common], [theirs[seed] for seed in common])
    welch = welch_difference(list(ours.values()), list(theirs.values()))
    return {**paired.as_dict(), "welch": welch and {"low": welch.low, "high": welch.high, "p": welch.p}}


def _unfinished_probes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note on each row whose softmax regression was stopped before it converged."""
    return [
        f"{row['label']}, {data}: the softmax probe was stopped before its optimum; its accuracy could still change"
        for row in rows
        for data in row["seeds"]
        if min(row["cells"].get(f"{data}.probe_converged", {}).get("values") or [1.0]) == 0
    ]
