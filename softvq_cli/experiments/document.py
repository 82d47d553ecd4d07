"""A study's document: what it found, JSON-ready and whole. Every other form of a report is made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softvq_cli.evaluation.statistics import paired_difference, summary, welch_difference
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

    ``rows`` has one dictionary per row: ``row``, ``label``, ``kind``, ``seeds`` by data set, and ``cells`` by
    ``DATA.MEASURE``, of the table's columns and of every other measure. A cell has ``mean``, ``std``, ``n``, ``values``
    (in the order of ``seeds``), ``paper`` and ``versus_baseline``; where models were kept on the way, ``steps`` has
    ``mean``, ``std``, ``n`` and ``values`` by iterations.
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
        "processors": _measured_by(study, outcome, "processor"),
        "torch": _measured_by(study, outcome, "torch"),
        "data": {name: {**data.as_dict(), "settings": _settings(study, name)} for name, data in study.data.items()},
        "figure": study.figure,
        "baseline": study.baseline,
        "columns": [_column(study, column) for column in study.columns],
        "rows": rows,
        "failed": [{"cell": cell, "error": shared_text(error, places)} for cell, error in failures.items()],
        "notes": [*study.notes, *_other_versions(study, outcome), *_unfinished_probes(rows)],
        **study.further,
    }


def _measured_by(study: Study, outcome: Outcome, name: str) -> list[str]:
    """Processors or versions that measured it, as far as that is known; the names of machines are private."""
    machines = (outcome.evaluations[job].machine for job in study.jobs if job in outcome.evaluations)
    return sorted({machine[name] for machine in machines if machine and name in machine})


def _other_versions(study: Study, outcome: Outcome) -> list[str]:
    """A note where evaluations of another softvq were used again."""
    others = [version for version in _measured_by(study, outcome, "softvq") if version != __version__]
    return [f"some of it was measured by softvq {', '.join(others)}"] if others else []


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
    seeds, cells = {}, {column.key: _cell(column, row.key) for column in study.columns}
    for data in study.data:
        values = _values(study, outcome, data, row.name, row.representation)
        seeds[data] = list(values)
        compared = study.baseline is not None and row.seeded and row.key != study.baseline
        baseline = _values(study, outcome, data, study.baseline, None) if compared else {}
        for name, numbers in _numbers(values).items():
            column = Column(data, name)
            cell = cells.setdefault(column.key, _cell(column, row.key))
            cell |= {**numbers, "versus_baseline": _versus(name, values, baseline)}
        if row.representation is None:
            for step, on_the_way in _steps(study, outcome, data, row).items():
                for name, numbers in _numbers(on_the_way).items():
                    cells[f"{data}.{name}"].setdefault("steps", {})[str(step)] = numbers
    return {"row": row.key, "label": row.label, "kind": row.kind, "seeds": seeds, "cells": cells}


def _cell(column: Column, row: str) -> dict[str, Any]:
    """One without a run."""
    empty: dict[str, Any] = {"mean": None, "std": None, "n": 0, "values": []}
    return {**empty, "paper": column.paper.get(row), "versus_baseline": None}


def _steps(study: Study, outcome: Outcome, data: str, row: Row) -> dict[int, Values]:
    """Iterations → values of the models that were kept before the end."""
    jobs = [job for job in study.jobs if (job.data, job.row) == (data, row.name) and job in outcome.evaluations]
    parts = {step: part for job in jobs for part in job.parts if (step := step_of(part)) is not None}
    kept = {step: _values(study, outcome, data, row.name, part) for step, part in sorted(parts.items())}
    return {step: values for step, values in kept.items() if values}


def _values(study: Study, outcome: Outcome, data: str, row: str | None, representation: str | None) -> Values:
    """Of a row on a data set, in the order of the seeds."""
    by_seed = {
        job.seed: outcome.evaluations[job].numbers.get(representation or job.representation)
        for job in study.jobs
        if (job.data, job.row) == (data, row) and job in outcome.evaluations
    }
    return {seed: values for seed, values in sorted(by_seed.items()) if values is not None}


def _numbers(values: Values) -> dict[str, dict[str, Any]]:
    """Name → statistics over the seeds, in the order of MEASURES."""
    names = dict.fromkeys(name for of_seed in values.values() for name in of_seed)
    ordered = (*(name for name in MEASURES if name in names), *(name for name in names if name not in MEASURES))
    numbers = {}
    for name in ordered:
        over_seeds = summary([of_seed[name] for of_seed in values.values() if name in of_seed])
        numbers[name] = {
            "mean": over_seeds.mean,
            "std": over_seeds.std,
            "n": over_seeds.n,
            "values": list(over_seeds.values),
        }
    return numbers


def _versus(name: str, values: Values, baseline: Values) -> dict[str, Any] | None:
    """The differences to the baseline, over the seeds that both have and, by Welch's t, of all."""
    ours, theirs = ({seed: of_seed[name] for seed, of_seed in v.items() if name in of_seed} for v in (values, baseline))
    common = [seed for seed in ours if seed in theirs]
    if not common:
        return None
    paired = paired_difference([ours[seed] for seed in common], [theirs[seed] for seed in common])
    welch = welch_difference(list(ours.values()), list(theirs.values()))
    return {**paired.as_dict(), "welch": welch and {"low": welch.low, "high": welch.high, "p": welch.p}}


def _unfinished_probes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note on each row with a softmax probe that was stopped before it had converged."""
    return [
        f"{row['label']}, {data}: the softmax probe was stopped before its optimum; its accuracy could still change"
        for row in rows
        for data in row["seeds"]
        if min(row["cells"].get(f"{data}.probe_converged", {}).get("values") or [1.0]) == 0
    ]
