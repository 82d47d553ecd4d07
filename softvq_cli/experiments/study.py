"""A study: a comparison as a value, its data, the plan of its jobs, and the request that it answers."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.experiments.backends import THREADS
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.pool import Outcome
from softvq_cli.files import on_disk
from softvq_cli.presets import no_network, preset
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import at
from softvq_cli.results.subject import REPRESENTATIONS
from softvq_cli.words import BOTTLENECKS, CONTROLS, PCA, RAW

RUNS = "runs"
"""Folder of the jobs' folders."""
Figure = Literal["bars", "maps", "curves"]
"""What a report shows: the columns as bars, the t-SNE maps, or the measures against the one setting that varies."""


TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10"}
"""What people call the named data sets."""


@dataclass(frozen=True)
class StudyData:
    """One data set of a study: what it is and where it comes from."""

    config: DataConfig
    name: str
    """What its loader calls it: ``mnist``, or the name of the user's file or folder."""
    stands_for: str
    """The name of the data set that it replaces; its own name where it replaces none."""
    preset: str
    """The name whose settings hold, as in :func:`softvq_cli.presets.preset`."""
    train: int
    """Images of the training split."""
    test: int
    image_shape: tuple[int, ...]
    fingerprints: tuple[str, str]
    """Of the training and the test split."""

    @property
    def title(self) -> str:
        """For people."""
        return TITLES.get(self.name, self.name)

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
class Column:
    """One column: a measure on a data set, and what the paper reports there."""

    data: str
    measure: str
    paper: Mapping[str, float] = field(default_factory=dict)
    """By row; fractions of 1."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return f"{self.data}.{self.measure}"


@dataclass(frozen=True)
class Row:
    """One row: a subject with settings of its own, or another representation of the same jobs."""

    name: str
    label: str
    """What people call it."""
    subject: str
    """A bottleneck to train, or a control."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its own, in addition to those that all rows share."""
    seeded: bool = True
    """Whether anything random is behind it; else there is one evaluation, whatever the seeds."""
    representation: str | None = None
    """None for the rows that its jobs are about; ``z_q`` for the decoder's input of the row of the same name."""
    stem: str = ""
    """The middle of its jobs' folder names, where it is not the name."""
    file: str | None = None
    """Embeddings that another program made of the same images."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return self.name if self.representation is None else f"{self.name}:{self.representation}"

    @property
    def measured(self) -> str:
        """The representation behind its numbers: ``z_e``, ``z_q``, ``pixels``, …"""
        return self.representation or REPRESENTATIONS.get(self.subject, "z_e")

    @property
    def kind(self) -> str:
        """``model``, or ``control`` for the same evaluation of something else than a trained encoder's z_e."""
        return "model" if self.subject in BOTTLENECKS and self.representation is None else "control"


def model_row(name: str) -> Row:
    """The row of a bottleneck or a control."""
    label = CONTROLS.get(name) or BOTTLENECKS[name].label
    return Row(name, label, subject=name, seeded=name not in (RAW, PCA))


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
    """What else its document says."""
    then: Callable[[Study, Outcome], Study] | None = None
    """From the study and what its jobs found, the study that is reported; jobs that only this one has are then done."""


@dataclass(frozen=True, kw_only=True)
class StudyRequest(abc.ABC):
    """What is asked for. A subclass checks its names and numbers when it is made."""

    out: Path
    """The folder of the runs and reports."""
    seeds: int | None = None
    """0…seeds − 1; the study's own number where None."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of all rows, by name; they win over the preset and the study."""
    command: str = ""
    """What asks for it, for the reports."""

    @property
    @abc.abstractmethod
    def reports(self) -> tuple[str, ...]:
        """The names of the reports that it asks for."""

    @abc.abstractmethod
    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        """Load the data and plan the studies (UsageError, SoftVQError)."""

    @property
    def data_settings(self) -> dict[str, Any]:
        """Those of the settings that say which images."""
        return {name: value for name, value in self.settings.items() if name in DataConfig.__dataclass_fields__}

    def check(self, decided: Iterable[str]) -> None:
        """Refuse too few seeds, and settings that the study decides (UsageError)."""
        if self.seeds is not None and self.seeds < 1:
            raise UsageError("{seeds} must be at least 1, not {}", self.seeds)
        for name in decided:
            if name in self.settings:
                raise UsageError("{} cannot be set here, because the study sets it", param(name))


def load_data(config: DataConfig, stands_for: str | None = None, reporter: Reporter | None = None) -> StudyData:
    """Load both splits, fetching and decoding what is missing, and describe them.

    ``stands_for`` is the name of the data set that they replace, whose settings hold. Without labels: InputError.
    """
    from softvq_cli import datasets

    train = datasets.load(config, "train", reporter=reporter)
    test = datasets.load(config, "test", reporter=reporter)
    for dataset in (train, test):
        if dataset.labels is None:
            raise InputError(
                f"the {dataset.split} split of {dataset.name} has no labels, but a comparison needs labels: use data "
                "with class folders"
            )
    return StudyData(
        config,
        name=train.name,
        stands_for=stands_for or train.name,
        preset=stands_for or config.data,
        train=len(train),
        test=len(test),
        image_shape=train.image_shape,
        fingerprints=(train.fingerprint, test.fingerprint),
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

    Rows of another representation share the jobs of the row of their name. A setting that no model can have, or a batch
    larger than the training split: UsageError.
    """
    jobs = []
    for name, described in data.items():
        for row in rows:
            if row.representation is not None:
                continue
            for seed in seeds if row.seeded else (0,):
                bottleneck = row.subject if row.subject in BOTTLENECKS else "ae"
                config = RunConfig.from_flat(
                    {
                        **preset(described.preset, described.image_shape, bottleneck),
                        "threads": THREADS,
                        **shared,
                        **row.settings,
                        **(no_network(described.image_shape, bottleneck) if row.settings.get("arch") == "none" else {}),
                        **asdict(described.config),
                        "bottleneck": bottleneck,
                        "seed": seed,
                    }
                )
                if config.train.batch_size > described.train:  # said before a hundred jobs find out
                    raise UsageError(
                        "{batch_size} {} is larger than the training split of {}, which has {} images",
                        *(config.train.batch_size, described.name, described.train),
                    )
                on_the_way = [at(step) for step in config.train.kept if step < config.train.iterations]
                folder = f"{described.name}-{row.stem or row.name}{f'-s{seed}' if row.seeded else ''}"
                jobs.append(
                    Job(
                        folder=out / RUNS / on_disk(folder),
                        row=row.name,
                        subject=row.subject,
                        data=name,
                        config=config,
                        fingerprints=described.fingerprints,
                        pixels=math.prod(described.image_shape),
                        parts=(*parts, *on_the_way) if parts and row.subject in BOTTLENECKS else parts,
                        file=row.file,
                    )
                )
    return tuple(jobs)
