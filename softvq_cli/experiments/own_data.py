"""Studies of the user's data: a comparison of bottlenecks, and a sweep of one model's settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.config import SETTINGS, DataConfig, ModelConfig, RunConfig, check, numeric_settings
from softvq_cli.errors import InputError, UsageError, param, shown, unknown_name
from softvq_cli.experiments.paper import BASELINE
from softvq_cli.experiments.study import Column, Row, Study, StudyData, StudyRequest, load_data, model_row, plan_jobs
from softvq_cli.presets import unused_settings
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import BASIC, RQ_KMEANS
from softvq_cli.results.subject import FILE
from softvq_cli.words import BOTTLENECKS, CHANCE, PCA, RAW, UNTRAINED

COLUMNS = ("clustering_accuracy", "nmi", "probe_accuracy", "test_nmse")
DEFAULT = ("ae", "vq", "soft-vq")
_CONTROLS = (CHANCE, RAW, PCA, UNTRAINED)
Axes = Mapping[str, Sequence[float]]
"""Setting → its values."""


@dataclass(frozen=True, kw_only=True)
class OwnRequest(StudyRequest):
    """A study with its own columns on one data set."""

    seeds: int = 1

    def _study(self, rows: Sequence[Row], data: StudyData, title: str, **more: Any) -> tuple[Study, ...]:
        seeds, by_name = tuple(range(self.seeds)), {data.name: data}
        study = Study(
            name=self.reports[0],
            title=title,
            command=self.command,
            seeds=seeds,
            rows=tuple(rows),
            columns=tuple(Column(data.name, measure) for measure in COLUMNS),
            data=by_name,
            jobs=plan_jobs(self.out, rows, by_name, seeds, parts=(BASIC,), shared=self.settings),
            **more,
        )
        return (study,)


@dataclass(frozen=True, kw_only=True)
class CompareRequest(OwnRequest):
    """A comparison of bottlenecks, controls and embeddings of other programs; names are checked on construction."""

    bottlenecks: tuple[str, ...] = DEFAULT
    also: tuple[Path, ...] = ()
    """Embedding files with one row per image, in the order of all images."""
    seeds: int = 3

    def __post_init__(self) -> None:
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
        return ("compare",)

    def _rows(self) -> list[Row]:
        files = [Row(path.stem, path.name, subject=FILE, seeded=False, file=str(path)) for path in self.also]
        models = list(map(model_row, self.bottlenecks))
        if "rvq" in self.bottlenecks:
            models.append(Row(RQ_KMEANS, "RQ-KMeans", "rvq", {"arch": "none"}, seeded=False))
        return [*models, *files, *map(model_row, _CONTROLS)]

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        data = load_data(DataConfig(**self.data_settings), reporter=reporter)
        for path in self.also:
            _check_rows(path, data)
        baseline = BASELINE if BASELINE in self.bottlenecks else self.bottlenecks[0]
        return self._study(self._rows(), data, f"Bottlenecks on {data.title}", baseline=baseline)


def _check_rows(path: Path, data: StudyData) -> None:
    """Check an embedding file before anything is trained."""
    from softvq_cli import embeddings

    rows, images = len(embeddings.read(path)), data.train + data.test
    if rows != images:
        raise InputError(
            "{} has {} rows, and {} has {} images: it needs one row per image, in the order of {split} all",
            *(path, rows, data.name, images),
        )


@dataclass(frozen=True, kw_only=True)
class SweepRequest(OwnRequest):
    """A sweep of one model's settings; names and values are checked on construction."""

    over: Axes
    """Numeric settings → their values in any order; the report has increasing order."""

    def __post_init__(self) -> None:
        if not self.over:
            raise UsageError("which setting? give {over} {}", "K=8,16,32")
        for name, values in self.over.items():
            _check_axis(name, values)
            if unused_settings(self.bottleneck, {name: None}):
                raise UsageError("the bottleneck {} does not read {}", self.bottleneck, param(name))
        self.check(("seed", *self.over))

    @property
    def bottleneck(self) -> str:
        """The bottleneck whose settings vary."""
        bottleneck: str = self.settings.get("bottleneck", ModelConfig.bottleneck)
        return bottleneck

    @property
    def reports(self) -> tuple[str, ...]:
        return ("sweep",)

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        data = load_data(DataConfig(**self.data_settings), reporter=reporter)
        axes = {name: sorted(values) for name, values in self.over.items()}
        [(setting, values), *others] = axes.items()
        return self._study(
            self._rows(axes),
            data,
            f"{', '.join(axes)} of {self.bottleneck} on {data.title}",
            varied=tuple(axes),
            figure="bars" if others else "curves",
            further={"over": axes} if others else {"setting": setting, "values": values},
        )

    def _rows(self, axes: Axes) -> list[Row]:
        """One row for each combination of values; the last setting varies fastest."""
        rows = []
        for values in itertools.product(*axes.values()):
            texts = {name: _text(value) for name, value in zip(axes, values, strict=True)}
            rows.append(
                Row(
                    name=", ".join(texts.values()),
                    label=", ".join(f"{name} = {text}" for name, text in texts.items()),
                    subject=self.bottleneck,
                    settings=dict(zip(axes, values, strict=True)),
                    stem=f"{self.bottleneck}-{'-'.join(name + text for name, text in texts.items())}",
                )
            )
        return rows


def _check_axis(name: str, values: Sequence[float]) -> None:
    if not values:
        raise UsageError("which values of {}? give {over} {}=8,16,32", param(name), name)
    for value in values:
        check(name, value)
        if values.count(value) > 1:
            raise UsageError("the value {:g} of {} is given twice", value, param(name))


def parse_over(texts: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """Parse each text, for example ``K=8,16``, to a setting and its values (UsageError)."""
    axes: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if name == "bottleneck":
            raise UsageError("to compare bottlenecks, use softvq compare with {bottleneck} {}", shown(listed))
        if name not in numeric_settings():
            raise UsageError(unknown_name("numeric setting", name, numeric_settings()))
        if name in axes:
            raise UsageError("the values of {} are given twice: give all of them in one list", param(name))
        whole = int in SETTINGS[name].types
        try:
            axes[name] = tuple((int if whole else float)(value) for value in listed.split(",") if value.strip())
        except ValueError as error:
            kind = "whole numbers" if whole else "numbers"
            raise UsageError("{over} {}=… takes {} separated by commas, not {}", name, kind, shown(listed)) from error
    return axes


def _text(value: float) -> str:
    """Format a number with all its digits; 1.0 as 1."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
