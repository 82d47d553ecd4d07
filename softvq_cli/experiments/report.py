"""Evaluations of many cells → one JSON-ready document: means over seeds, beside the paper and the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from softvq_cli.evaluation.statistics import paired_difference, summary
from softvq_cli.experiments.cell import Cell
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.tables import CONTROLS, MEASURES, SEEDLESS, Column

BySeed = dict[int, dict[str, float]]
"""Seed → the figures of a row by name."""
Found = dict[str, dict[str, BySeed]]
"""Data set → row → seed → figures."""


def by_row(evaluations: Mapping[Cell, Evaluation], row_of: Callable[[Cell], str] = lambda cell: cell.row) -> Found:
    """Sort the figures into rows. A second representation is the row ``ROW:z_q``."""
    found: Found = {}
    for cell, evaluation in evaluations.items():
        rows = found.setdefault(cell.data, {})
        rows.setdefault(row_of(cell), {})[cell.seed] = evaluation.own
        for name, figures in list(evaluation.figures.items())[1:]:
            rows.setdefault(f"{row_of(cell)}:{name}", {})[cell.seed] = figures
    return found


def rows_of(
    labels: Mapping[str, str], columns: Sequence[Column], found: Found, *, baseline: str | None = None
) -> list[dict[str, Any]]:
    """The rows of a table.

    Args:
        labels: the rows in order, with what people call them; those without any figure keep their place.
        columns: of the table.
        found: what there is.
        baseline: the row with which the others are compared over the same seeds.

    Returns:
        One dictionary a row: ``row``, ``label``, ``kind`` (model or control), ``cells`` by ``DATA.MEASURE`` with
        ``mean``, ``std``, ``n``, ``min``, ``max``, ``values`` (in the order of ``seeds``), ``paper``,
        ``difference`` and ``versus_baseline``, and ``measures``, the same of every figure by data set and name.
    """
    rows = []
    for name, label in labels.items():
        against = None if name in (baseline, *SEEDLESS) else baseline
        measures = {
            data: _measures(of_data.get(name, {}), {} if against is None else of_data.get(against, {}))
            for data, of_data in found.items()
        }
        cells = {key(column): _cell(column, name, measures) for column in columns}
        rows.append(
            {
                "row": name,
                "label": label,
                "kind": "control" if name in CONTROLS or ":" in name else "model",
                "seeds": {data: sorted(of_data.get(name, {})) for data, of_data in found.items()},
                "cells": cells,
                "measures": measures,
            }
        )
    return rows


def unfinished_probes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A note on each row with a softmax probe that was stopped before it had converged."""
    return [
        f"{row['label']}, {data}: the softmax probe was stopped before its optimum; its accuracy could still change"
        for row in rows
        for data, measures in row["measures"].items()
        if measures.get("probe_converged", {}).get("min") == 0
    ]


def key(column: Column) -> str:
    """The name of a column in the document."""
    return f"{column.data}.{column.measure}"


def _measures(of_row: BySeed, baseline: BySeed) -> dict[str, Any]:
    """Name → statistics over the seeds, in the order of MEASURES."""
    names = [name for name in MEASURES if any(name in figures for figures in of_row.values())]
    found = {}
    for name in names:
        values = {seed: figures[name] for seed, figures in sorted(of_row.items()) if name in figures}
        common = [seed for seed in values if name in baseline.get(seed, {})]
        against = None
        if common:
            theirs = [baseline[seed][name] for seed in common]
            against = paired_difference([values[seed] for seed in common], theirs).as_dict()
        found[name] = {**summary(list(values.values())).as_dict(), "versus_baseline": against}
    return found


def _cell(column: Column, row: str, measures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One cell of the table; without a run its mean is None and n is 0."""
    paper = column.paper.get(row)
    empty: dict[str, Any] = {
        "mean": None,
        "std": None,
        "n": 0,
        "min": None,
        "max": None,
        "values": [],
        "versus_baseline": None,
    }
    found = measures.get(column.data, {}).get(column.measure, empty)
    difference = None if paper is None or found["mean"] is None else found["mean"] - paper
    return {**found, "paper": paper, "difference": difference}


def column_entry(column: Column) -> dict[str, Any]:
    """As it stands in a document."""
    return {
        "key": key(column),
        "data": column.data,
        "measure": column.measure,
        "title": MEASURES[column.measure].title,
        "published": bool(column.paper),
    }
