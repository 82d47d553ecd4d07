"""Bottlenecks on one's own data as a study: a row for each, with controls and embeddings of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, UsageError, unknown_name
from softvq_cli.experiments.comparison import model_row
from softvq_cli.experiments.paper import BASELINE, Column
from softvq_cli.experiments.study import Row, Study, StudyData, StudyRequest, load_data, plan_jobs
from softvq_cli.experiments.sweep import COLUMNS
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import BASIC
from softvq_cli.results.subject import FILE
from softvq_cli.words import BOTTLENECKS, CHANCE, PCA, RAW, UNTRAINED

NAME = "compare"
DEFAULT = ("ae", "vq", "soft-vq")
_CONTROLS = (CHANCE, RAW, PCA, UNTRAINED)


@dataclass(frozen=True, kw_only=True)
class CompareRequest(StudyRequest):
    """A comparison of bottlenecks that is asked for.

    Raises:
        UsageError: an unknown bottleneck, one or a file given twice, or a setting that is decided.
    """

    bottlenecks: tuple[str, ...] = DEFAULT
    also: tuple[Path, ...] = ()
    """Embedding files with one row per image, in the order of all images."""
    seeds: int = 3

    def __post_init__(self) -> None:
        """Check all names and numbers."""
        if not self.bottlenecks:
            raise UsageError("which bottlenecks? give {bottleneck} {}", ",".join(DEFAULT))
        for name in self.bottlenecks:
            if name not in BOTTLENECKS:
                raise UsageError(unknown_name("bottleneck", name, BOTTLENECKS))
        names = [*self.bottlenecks, *_CONTROLS, *(path.stem for path in self.also)]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two rows of a comparison cannot both be called {name}")
        self.check(("bottleneck", "seed"))
        RunConfig.from_flat(self.settings)

    @property
    def reports(self) -> tuple[str, ...]:
        return (NAME,)

    @property
    def most_jobs(self) -> int:
        return sum(self.seeds if row.seeded else 1 for row in self.rows())

    def rows(self) -> list[Row]:
        """The bottlenecks, the embeddings of other programs, and the controls."""
        files = [
            Row(path.stem, path.name, subject=FILE, seeded=False, stem=path.stem, file=str(path)) for path in self.also
        ]
        return [*map(model_row, self.bottlenecks), *files, *map(model_row, _CONTROLS)]

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        data = load_data(DataConfig(**self.data_settings), reporter=reporter)
        for path in self.also:
            _check_rows(path, data)
        rows, seeds, by_name = self.rows(), tuple(range(self.seeds)), {data.name: data}
        study = Study(
            name=NAME,
            title=f"Bottlenecks on {data.title}",
            command=self.command,
            seeds=seeds,
            rows=tuple(rows),
            columns=tuple(Column(data.name, measure) for measure in COLUMNS),
            data=by_name,
            jobs=plan_jobs(self.out, rows, by_name, seeds, parts=(BASIC,), shared=self.settings),
            baseline=baseline_of(self.bottlenecks),
        )
        return (study,)


def baseline_of(bottlenecks: Sequence[str]) -> str:
    """The plain autoencoder where it is compared, else the first."""
    return BASELINE if BASELINE in bottlenecks else bottlenecks[0]


def _check_rows(path: Path, data: StudyData) -> None:
    """Before anything is trained."""
    from softvq_cli import embeddings

    rows, images = len(embeddings.read(path)), data.train + data.test
    if rows != images:
        raise InputError(
            "{} has {} rows, and {} has {} images: it needs one row per image, in the order of {split} all",
            *(path, rows, data.name, images),
        )
