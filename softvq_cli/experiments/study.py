"""A study: a comparison as a value, with its data and the plan of its jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from softvq_cli.config import DataConfig, RunConfig, resolve
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.experiments.backends import THREADS
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.pool import Outcome
from softvq_cli.files import on_disk
from softvq_cli.presets import no_network
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import at
from softvq_cli.results.subject import REPRESENTATIONS
from softvq_cli.words import BOTTLENECKS, CONTROLS, PCA, RAW

RUNS = "runs"
"""The folder with the folders of all jobs."""
Figure = Literal["bars", "maps", "curves"]
"""The figure of a report: bars of the columns, t-SNE maps, or measures against the one varied setting."""


TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "svhn": "SVHN", "cifar10": "CIFAR-10"}
"""Display names of the named data sets."""


@dataclass(frozen=True)
class StudyData:
    """One data set of a study: its name, source and properties."""

    config: DataConfig
    name: str
    """The name for its loader: ``mnist``, or the name of the user's file or folder."""
    stands_for: str
    """The name of the data set that it replaces, or its own name."""
    preset: str
    """The name whose settings apply, as in :func:`softvq_cli.presets.preset`."""
    train: int
    """Number of images in the training split."""
    test: int
    image_shape: tuple[int, ...]
    fingerprints: tuple[str, str]
    """Fingerprints of the training and test split."""

    @property
    def title(self) -> str:
        """The display name."""
        return TITLES.get(self.name, self.name)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
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
    """One column: a measure on a data set, and the paper's values."""

    data: str
    measure: str
    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's values by row, as fractions of 1."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return f"{self.data}.{self.measure}"


@dataclass(frozen=True)
class Row:
    """One row: a subject with its settings, or another representation of the same jobs."""

    name: str
    label: str
    """The display name."""
    subject: str
    """A bottleneck to train, or a control."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in addition to those that all rows share."""
    seeded: bool = True
    """Whether the result depends on the seed; if not, there is one evaluation for all seeds."""
    representation: str | None = None
    """None for the rows of its jobs; ``z_q`` for the decoder's input of the row with the same name."""
    stem: str = ""
    """The middle of its jobs' folder names, if it differs from the name."""
    file: str | None = None
    """Embeddings that another program computed from the same images."""

    @property
    def key(self) -> str:
        """Its name in a document."""
        return self.name if self.representation is None else f"{self.name}:{self.representation}"

    @property
    def measured(self) -> str:
        """The measured representation: ``z_e``, ``z_q``, ``pixels``, …"""
        return self.representation or REPRESENTATIONS.get(self.subject, "z_e")

    @property
    def kind(self) -> str:
        """``model``, or ``control`` for anything other than z_e of a trained encoder."""
        return "model" if self.subject in BOTTLENECKS and self.representation is None else "control"


def model_row(name: str) -> Row:
    """The row of a bottleneck or a control."""
    label = CONTROLS.get(name) or BOTTLENECKS[name].label
    return Row(name, label, subject=name, seeded=name not in (RAW, PCA))


@dataclass(frozen=True)
class Request:
    """What every kind of study is asked for."""

    out: Path
    """The folder of the runs and reports."""
    seeds: int | None = None
    """The seeds are 0 … seeds − 1; None: the default of the study."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all rows by name; they take precedence over the preset and the study."""
    command: str = ""
    """The command, for the reports."""

    def check(self, *decided: str) -> None:
        """Raise UsageError for too few seeds, impossible settings, and those that the study determines."""
        if self.seeds is not None and self.seeds < 1:
            raise UsageError("{seeds} must be at least 1, not {}", self.seeds)
        for name in decided:
            if name in self.settings:
                raise UsageError("{} cannot be set here, because the study sets it", param(name))
        RunConfig.from_flat(self.settings)

    def data(self, **changed: Any) -> DataConfig:
        """The settings that select the images."""
        chosen = {name: value for name, value in self.settings.items() if name in DataConfig.__dataclass_fields__}
        return DataConfig(**chosen | changed)


@dataclass(frozen=True)
class Study:
    """A planned comparison."""

    name: str
    """The name of its files."""
    title: str
    request: Request
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    data: Mapping[str, StudyData]
    """Data sets by the names in the columns."""
    jobs: tuple[Job, ...]
    planned: tuple[Job, ...] = ()
    """The jobs whose settings the document shows, if ``jobs`` were derived from them."""
    baseline: str | None = None
    """The row with which the others are compared, for the same seeds."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Unavailable data, and why."""
    notes: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()
    """Settings that differ between rows of one subject."""
    figure: Figure = "bars"
    further: Mapping[str, Any] = field(default_factory=dict)
    """Additional entries of the document."""
    then: Callable[[Study, Outcome], Study] | None = None
    """Maps the study and the outcome of its jobs to the study to report, whose additional jobs are then completed."""


def load_data(config: DataConfig, stands_for: str | None = None, reporter: Reporter | None = None) -> StudyData:
    """Load both splits, downloading and decoding what is missing, and describe them.

    ``stands_for`` is the data set that they replace, whose settings apply. InputError: there are no labels.
    """
    from softvq_cli import datasets

    config, train = datasets.load_for_training(config, reporter or Reporter())
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
    """One job for each data set, row and seed, with the settings of the preset, the study and the row; later ones win.

    Rows of another representation share the jobs of the row with their name. UsageError: a setting is impossible for a
    model, or a batch is larger than the training split.
    """
    jobs = []
    for name, described in data.items():
        for row in rows:
            if row.representation is not None:
                continue
            for seed in seeds if row.seeded else (0,):
                bottleneck = row.subject if row.subject in BOTTLENECKS else "ae"
                config = resolve(
                    described.preset,
                    described.image_shape,
                    {
                        "threads": THREADS,
                        **shared,
                        **row.settings,
                        **(no_network(described.image_shape, bottleneck) if row.settings.get("arch") == "none" else {}),
                        **asdict(described.config),
                        "bottleneck": bottleneck,
                        "seed": seed,
                    },
                    described.train,
                )
                if config.train.batch_size > described.train:  # refused before a hundred jobs fail
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
