"""A study: a comparison as a value, the plan of its jobs, and its document.

The document is JSON-ready and the whole result: every other form of a report is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import UsageError, param
from softvq_cli.evaluation.statistics import paired_difference, summary
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.measures import MEASURES, labels_of, measure
from softvq_cli.experiments.paper import TITLES, Column
from softvq_cli.experiments.pool import Outcome
from softvq_cli.presets import preset
from softvq_cli.version import __version__
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.datasets.progress import Progress

RUNS = "runs"
"""Folder of the jobs' folders."""
Figure = Literal["bars", "maps", "curves"]
"""What a report shows: the columns as bars, the t-SNE maps, or the measures against the one setting that varies."""
Values = Mapping[int, Mapping[str, float]]
"""Seed → value by measure."""


@dataclass(frozen=True)
class StudyData:
    """One data set of a study: what it is and where it comes from."""

    config: DataConfig
    name: str
    """What its loader calls it: ``mnist``, or the name of the user's file or folder."""
    stands_for: str
    """The name of the data set in whose place they are; their own where in nobody's."""
    preset: str
    """The name whose settings hold, as in :func:`softvq_cli.presets.preset`."""
    train: int
    """Images of the training split."""
    test: int
    image_shape: tuple[int, int, int]
    fingerprints: tuple[str, str]
    """Of the training and the test split."""

    @property
    def title(self) -> str:
        """For people."""
        return TITLES.get(self.name, self.name)

    @property
    def pixels(self) -> int:
        """Of an image, over all channels."""
        height, width, channels = self.image_shape
        return height * width * channels

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "train": self.train,
            "test": self.test,
            "image_shape": list(self.image_shape),
            "fingerprints": list(self.fingerprints),
            "stands_for": TITLES.get(self.stands_for, self.stands_for),
            "papers": self.stands_for == self.name,
        }


@dataclass(frozen=True)
class Row:
    """One row: a subject with settings of its own, or another representation of the same jobs."""

    name: str
    label: str
    """What people call it."""
    subject: str
    """A bottleneck to train, or a control."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its own, beside those that all rows share."""
    seeded: bool = True
    """Whether anything random is behind it; else there is one evaluation, whatever the seeds."""
    representation: str | None = None
    """None for the rows that its jobs are about; ``z_q`` for the decoder's input of the row of the same name."""
    stem: str = ""
    """The middle of its jobs' folder names."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return self.name if self.representation is None else f"{self.name}:{self.representation}"

    @property
    def kind(self) -> str:
        """``model``, or ``control`` for the same evaluation of something else than a trained encoder's z_e."""
        return "model" if self.subject in BOTTLENECKS and self.representation is None else "control"


@dataclass(frozen=True)
class Study:
    """A comparison, planned."""

    name: str
    """Of its files."""
    title: str
    command: str
    """What asks for it, for the report."""
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    data: Mapping[str, StudyData]
    """By the names that the columns have for them."""
    jobs: tuple[Job, ...]
    planned: tuple[Job, ...] = ()
    """The jobs whose settings its document shows, where those above were made from them."""
    baseline: str | None = None
    """The row with which the others are compared over the same seeds."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Data that cannot be had, and why."""
    notes: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()
    """Settings in which the rows of one subject differ."""
    figure: Figure = "bars"
    further: Mapping[str, Any] = field(default_factory=dict)
    """What its document says beside all that."""


def load_data(config: DataConfig, stands_for: str | None = None, progress: Progress | None = None) -> StudyData:
    """Load both splits, fetching and decoding what is missing, and describe them.

    Args:
        config: which images.
        stands_for: the name of the data set in whose place they are, and whose settings hold.
        progress: is told how far it is.

    Raises:
        SoftVQError: as loading does, or the data have no labels.
    """
    from softvq_cli import datasets

    train = datasets.load(config, "train", progress=progress)
    test = datasets.load(config, "test", progress=progress)
    labels_of(train)
    prints = (train.fingerprint, test.fingerprint)
    return StudyData(
        config,
        train.name,
        stands_for or train.name,
        stands_for or config.data,
        len(train),
        len(test),
        train.image_shape,
        prints,
    )


def plan_jobs(
    out: Path,
    rows: Sequence[Row],
    data: Mapping[str, StudyData],
    seeds: Sequence[int],
    *,
    parts: tuple[str, ...],
    shared: Mapping[str, Any],
) -> tuple[Job, ...]:
    """A job for each data set, row and seed: the preset's settings, the shared ones, the row's, each over those before.

    Args:
        out: the study's folder.
        rows: those of another representation share the jobs of the row of their name.
        data: by the study's names.
        seeds: of the trainings.
        parts: what is to be measured of each.
        shared: settings of all rows.

    Raises:
        UsageError: a setting that no model can have, or a batch larger than the training split.
    """
    jobs = []
    for name, of_data in data.items():
        for row in rows:
            if row.representation is not None:
                continue
            for seed in seeds if row.seeded else (0,):
                bottleneck = row.subject if row.subject in BOTTLENECKS else "ae"
                config = RunConfig.from_flat(
                    {
                        **preset(of_data.preset, of_data.image_shape, bottleneck),
                        **shared,
                        **row.settings,
                        **asdict(of_data.config),
                        "bottleneck": bottleneck,
                        "seed": seed,
                    }
                )
                _check_batch(config, of_data)
                folder = out / RUNS / f"{of_data.name}-{row.stem or row.name}{f'-s{seed}' if row.seeded else ''}"
                jobs.append(
                    Job(folder, row.name, row.subject, name, config, of_data.fingerprints, of_data.pixels, parts)
                )
    return tuple(jobs)


def _check_batch(config: RunConfig, data: StudyData) -> None:
    """Before a hundred jobs find out."""
    if config.train.batch_size > data.train:
        raise UsageError(
            f"{param('batch_size')} {config.train.batch_size} is larger than the training split of {data.name}, "
            f"which has {data.train} images"
        )


def document(study: Study, outcome: Outcome) -> dict[str, Any]:
    """What a study found.

    ``rows`` has one dictionary a row: ``row``, ``label``, ``kind``, ``seeds``, ``cells`` by ``DATA.MEASURE`` with
    ``mean``, ``std``, ``n``, ``min``, ``max``, ``values`` (in the order of ``seeds``), ``paper``, ``difference`` and
    ``versus_baseline``, and ``measures``, the same of every measure by data set and name.
    """
    failures = [{"cell": data, "error": error} for data, error in study.missing.items()]
    failures += [{"cell": job.name, "error": error} for job, error in outcome.failures.items() if job in study.jobs]
    rows = [_row(study, row, outcome) for row in study.rows]
    return {
        "name": study.name,
        "title": study.title,
        "softvq": __version__,
        "command": study.command,
        "seeds": list(study.seeds),
        "data": {name: {**data.as_dict(), "settings": _settings(study, name)} for name, data in study.data.items()},
        "columns": [_column(column) for column in study.columns],
        "rows": rows,
        "failed": failures,
        "notes": [*study.notes, *_unfinished_probes(rows)],
        **study.further,
    }


def _settings(study: Study, data: str) -> dict[str, dict[str, Any]]:
    """Model → the settings that a reader needs to repeat it; those that it does not read are left out."""
    shown: dict[str, dict[str, Any]] = {}
    common = ("arch", "latent_dim", "iterations", "batch_size", "lr", "reconstruction_scale")
    for job in study.planned or study.jobs:
        if job.data == data and job.trains:
            flat, names = job.config.flat(), (*common, *BOTTLENECKS[job.subject].settings)
            shown.setdefault(job.subject, {name: flat[name] for name in names if name not in study.varied})
    return shown


def _column(column: Column) -> dict[str, Any]:
    return {
        "key": column.key,
        "data": column.data,
        "measure": column.measure,
        "title": measure(column.measure).title,
        "published": bool(column.paper),
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
    }


def _values(study: Study, outcome: Outcome, data: str, row: str | None, representation: str | None) -> Values:
    """Of a row on a data set, in the order of the seeds."""
    found = {
        job.seed: outcome.evaluations[job].figures.get(representation or job.representation)
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
