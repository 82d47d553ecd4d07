"""A study's document: what it found, JSON-ready and whole. Every other form of a report is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softvq_cli.evaluation.statistics import paired_difference, summary
from softvq_cli.experiments.paper import Column
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Row, Study
from softvq_cli.results.evaluate import step_of
from softvq_cli.results.measures import MEASURES, measure
from softvq_cli.sharing import shared_command, shared_text
from softvq_cli.version import __version__
from softvq_cli.words import BOTTLENECKS

Values = Mapping[int, Mapping[str, float]]
"""Seed → value by measure."""


def document(study: Study, outcome: Outcome) -> dict[str, Any]:
    """What a study found.

    ``rows`` has one dictionary a row: ``row``, ``label``, ``kind``, ``seeds``, ``cells`` by ``DATA.MEASURE`` with
    ``mean``, ``std``, ``n``, ``min``, ``max``, ``values`` (in the order of ``seeds``), ``paper``, ``difference`` and
    ``versus_baseline``, ``measures``, the same of every measure by data set and name, and ``course``, the same of the
    models on the way by data set, iterations and name.
    """
    failures = {**study.missing, **{job.name: error for job, error in outcome.failures.items() if job in study.jobs}}
    places = _places(study)
    rows = [_row(study, row, outcome) for row in study.rows]
    return {
        "name": study.name,
        "title": study.title,
        "softvq": __version__,
        "command": shared_command(study.command),
        "seeds": list(study.seeds),
        "processors": _processors(study, outcome),
        "data": {name: {**data.as_dict(), "settings": _settings(study, name)} for name, data in study.data.items()},
        "figure": study.figure,
        "columns": [_column(study, column) for column in study.columns],
        "rows": rows,
        "failed": [{"cell": cell, "error": shared_text(error, places)} for cell, error in failures.items()],
        "notes": [*study.notes, *_unfinished_probes(rows)],
        **study.further,
    }


def _processors(study: Study, outcome: Outcome) -> list[str]:
    """Where it was measured, as far as that is known; the names of machines are nobody's business."""
    machines = (outcome.evaluations[job].machine for job in study.jobs if job in outcome.evaluations)
    return sorted({machine["processor"] for machine in machines if machine and "processor" in machine})


def _places(study: Study) -> list[str | Path]:
    """Where its data and its runs lie."""
    data = [place for one in study.data.values() for place in (one.config.data, one.config.data_dir)]
    return [*(place for place in data if place is not None), *(job.folder.parent.parent for job in study.jobs)]


def _settings(study: Study, data: str) -> dict[str, dict[str, Any]]:
    """Model → the settings that a reader needs to repeat it; those that it does not read are left out."""
    shown: dict[str, dict[str, Any]] = {}
    common = ("arch", "latent_dim", "iterations", "batch_size", "lr", "reconstruction_scale")
    for job in study.planned or study.jobs:
        if job.data == data and job.trains:
            flat, names = job.config.flat(), (*common, *BOTTLENECKS[job.subject].settings)
            shown.setdefault(job.subject, {name: flat[name] for name in names if name not in study.varied})
    return shown


def _column(study: Study, column: Column) -> dict[str, Any]:
    return {
        "key": column.key,
        "data": column.data,
        "measure": column.measure,
        "title": measure(column.measure).title,
        "published": any(row.key in column.paper for row in study.rows),
    }


def _row(study: Study, row: Row, outcome: Outcome) -> dict[str, Any]:
    compared = study.baseline is not None and row.seeded and row.key != study.baseline
    measures, seeds = {}, {}
    for name in study.data:
        values = _values(study, outcome, name, row.name, row.representation)
        baseline = _values(study, outcome, name, study.baseline, None) if compared else {}
        measures[name], seeds[name] = _measures(values, baseline), list(values)
    return {
        "row": row.key,
        "label": row.label,
        "kind": row.kind,
        "seeds": seeds,
        "cells": {column.key: _cell(column, row.key, measures) for column in study.columns},
        "measures": measures,
        "course": {} if row.representation else _course(study, row, outcome),
    }


def _course(study: Study, row: Row, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Data set → iterations → measures; its end too, where there is anything before it."""
    found = {}
    for data in study.data:
        jobs = [job for job in study.jobs if (job.data, job.row) == (data, row.name) and job in outcome.evaluations]
        steps = {part: step for job in jobs for part in job.parts if (step := step_of(part)) is not None}
        on_the_way = {step: _values(study, outcome, data, row.name, part) for part, step in steps.items()}
        filled = {step: values for step, values in sorted(on_the_way.items()) if values}
        if filled:
            filled[jobs[0].steps] = _values(study, outcome, data, row.name, None)
            found[data] = {str(step): _measures(values, {}) for step, values in filled.items()}
    return found


def _values(study: Study, outcome: Outcome, data: str, row: str | None, representation: str | None) -> Values:
    """Of a row on a data set, in the order of the seeds."""
    found = {
        job.seed: outcome.evaluations[job].numbers.get(representation or job.representation)
        for job in study.jobs
        if (job.data, job.row) == (data, row) and job in outcome.evaluations
    }
    return {seed: values for seed, values in sorted(found.items()) if values is not None}


def _measures(values: Values, baseline: Values) -> dict[str, Any]:
    """Name → statistics over the seeds, in the order of MEASURES."""
    there = dict.fromkeys(name for of_seed in values.values() for name in of_seed)
    found = {}
    for name in (*(name for name in MEASURES if name in there), *(name for name in there if name not in MEASURES)):
        ours = {seed: of_seed[name] for seed, of_seed in values.items() if name in of_seed}
        common = [seed for seed in ours if name in baseline.get(seed, {})]
        against = None
        if common:
            theirs = [baseline[seed][name] for seed in common]
            against = paired_difference([ours[seed] for seed in common], theirs).as_dict()
        found[name] = {**summary(list(ours.values())).as_dict(), "versus_baseline": against}
    return found


_NO_RUN: Mapping[str, Any] = {
    **dict.fromkeys(("mean", "std", "min", "max", "versus_baseline")),
    "n": 0,
    "values": [],
}


def _cell(column: Column, row: str, measures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One cell of the table; without a run its mean is None and n is 0."""
    paper = column.paper.get(row)
    found = measures.get(column.data, {}).get(column.measure, _NO_RUN)
    difference = None if paper is None or found["mean"] is None else found["mean"] - paper
    return {**found, "paper": paper, "difference": difference}


def _unfinished_probes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note on each row with a softmax probe that was stopped before it had converged."""
    return [
        f"{row['label']}, {data}: the softmax probe was stopped before its optimum; its accuracy could still change"
        for row in rows
        for data, measures in row["measures"].items()
        if measures.get("probe_converged", {}).get("min") == 0
    ]
