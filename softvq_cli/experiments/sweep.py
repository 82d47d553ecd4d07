"""One model at several values of its settings as a study: a row for each value, or each combination of values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from softvq_cli.config import SETTINGS, DataConfig, ModelConfig, check, numeric_settings
from softvq_cli.errors import UsageError, param, shown, unknown_name
from softvq_cli.experiments.paper import Column
from softvq_cli.experiments.study import Row, Study, StudyRequest, load_data, plan_jobs
from softvq_cli.presets import unused_settings
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import BASIC

NAME = "sweep"
COLUMNS = ("clustering_accuracy", "nmi", "probe_accuracy", "test_nmse")
Axes = Mapping[str, Sequence[float]]
"""Setting → its values."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest(StudyRequest):
    """A sweep that is asked for.

    Raises:
        UsageError: not a numeric setting, a value out of range or given twice, a setting that is decided, or one that
            the bottleneck does not read.
    """

    over: Axes
    """Numeric settings and their values in any order; reported in increasing order."""
    seeds: int = 1

    def __post_init__(self) -> None:
        """Check all names and numbers."""
        if not self.over:
            raise UsageError("which setting? give {over} {}", "K=8,16,32")
        for name, values in self.over.items():
            _check_axis(name, values)
            if unused_settings(self.bottleneck, {name: None}):
                raise UsageError("the bottleneck {} does not read {}", self.bottleneck, param(name))
        self.check(("seed", *self.over))

    @property
    def bottleneck(self) -> str:
        """The one whose settings vary."""
        bottleneck: str = self.settings.get("bottleneck", ModelConfig.bottleneck)
        return bottleneck

    @property
    def reports(self) -> tuple[str, ...]:
        return (NAME,)

    @property
    def most_jobs(self) -> int:
        return math.prod(map(len, self.over.values())) * self.seeds

    def plan(self, reporter: Reporter) -> tuple[Study, ...]:
        data = load_data(DataConfig(**self.data_settings), reporter=reporter)
        axes = {name: sorted(values) for name, values in self.over.items()}
        rows, seeds, by_name = self._rows(axes), tuple(range(self.seeds)), {data.name: data}
        single = next(iter(axes.items())) if len(axes) == 1 else None
        study = Study(
            name=NAME,
            title=f"{', '.join(axes)} of {self.bottleneck} on {data.title}",
            command=self.command,
            seeds=seeds,
            rows=rows,
            columns=tuple(Column(data.name, measure) for measure in COLUMNS),
            data=by_name,
            jobs=plan_jobs(self.out, rows, by_name, seeds, parts=(BASIC,), shared=self.settings),
            varied=tuple(axes),
            figure="curves" if single else "bars",
            further={"setting": single[0], "values": single[1]} if single else {"over": axes},
        )
        return (study,)

    def _rows(self, axes: Axes) -> tuple[Row, ...]:
        """A row for each combination of the values, the last axis the fastest."""
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
        return tuple(rows)


def _check_axis(name: str, values: Sequence[float]) -> None:
    if name not in numeric_settings():
        raise UsageError(unknown_name("numeric setting", name, numeric_settings()))
    if not values:
        raise UsageError("which values of {}? give {over} {}=8,16,32", param(name), name)
    for value in values:
        check(name, value)
        if values.count(value) > 1:
            raise UsageError("the value {:g} of {} is given twice", value, param(name))


def parse_over(texts: Iterable[str]) -> dict[str, tuple[float, ...]]:
    """``K=8,16`` → the setting and its values, for each text.

    Raises:
        UsageError: not of this form, not numbers of the setting's type, or a setting that is given twice.
    """
    axes: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if name == "bottleneck":
            raise UsageError("bottlenecks are compared by softvq compare: give it {bottleneck} {}", shown(listed))
        if name not in numeric_settings():
            raise UsageError(unknown_name("numeric setting", name, numeric_settings()))
        if name in axes:
            raise UsageError("the values of {} are given twice: give all of them in one list", param(name))
        whole = int in SETTINGS[name].types
        try:
            axes[name] = tuple((int if whole else float)(value) for value in listed.split(",") if value.strip())
        except ValueError as error:
            kind = "whole numbers" if whole else "numbers"
            raise UsageError(
                "{over} {}=… takes {} with commas between them, not {}", name, kind, shown(listed)
            ) from error
    return axes


def _text(value: float) -> str:
    """A number in full, 1.0 as 1."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
