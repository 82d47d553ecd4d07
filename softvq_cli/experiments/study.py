"""A study: a comparison as a value, its data, and the plan of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, UsageError
from softvq_cli.experiments.cluster import THREADS
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.paper import TITLES, Column
from softvq_cli.files import on_disk
from softvq_cli.presets import preset
from softvq_cli.results.evaluate import at
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.datasets.progress import Progress

RUNS = "runs"
"""Folder of the jobs' folders."""
Figure = Literal["bars", "maps", "curves"]
"""What a report shows: the columns as bars, the t-SNE maps, or the measures against the one setting that varies."""


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
    for dataset in (train, test):
        if dataset.labels is None:
            raise InputError(
                f"the {dataset.split} split of {dataset.name} has no labels, and a comparison needs them: use data "
                "with class folders"
            )
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
                        "threads": THREADS,
                        **shared,
                        **row.settings,
                        **asdict(of_data.config),
                        "bottleneck": bottleneck,
                        "seed": seed,
                    }
                )
                _check_batch(config, of_data)
                called = f"{of_data.name}-{row.stem or row.name}{f'-s{seed}' if row.seeded else ''}"
                folder = out / RUNS / on_disk(called)
                own = (*parts, *_on_the_way(config)) if parts and row.subject in BOTTLENECKS else parts
                jobs.append(Job(folder, row.name, row.subject, name, config, of_data.fingerprints, of_data.pixels, own))
    return tuple(jobs)


def _on_the_way(config: RunConfig) -> list[str]:
    """The parts of an evaluation that are of models kept before the training's end."""
    return [at(step) for step in config.train.kept if step < config.train.iterations]


def _check_batch(config: RunConfig, data: StudyData) -> None:
    """Before a hundred jobs find out."""
    if config.train.batch_size > data.train:
        raise UsageError(
            "{batch_size} {} is larger than the training split of {}, which has {} images",
            *(config.train.batch_size, data.name, data.train),
        )
