"""One model at several values of its settings as a study: a row for each value, or each combination of values."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softvq_cli.config import SETTINGS, DataConfig, ModelConfig, check, numeric_settings
from softvq_cli.errors import Message, UsageError, param, shown, unknown_name
from softvq_cli.experiments import pool, report
from softvq_cli.experiments.cluster import Cluster, Where
from softvq_cli.experiments.paper import Column
from softvq_cli.experiments.pool import PoolObserver
from softvq_cli.experiments.report import Report, report_files
from softvq_cli.experiments.study import Row, Study, load_data, plan_jobs
from softvq_cli.presets import unused_settings
from softvq_cli.results.evaluate import BASIC
from softvq_cli.training import run_directory

NAME = "sweep"
_COLUMNS = ("clustering_accuracy", "nmi", "probe_accuracy", "nmse")
Axes = Mapping[str, Sequence[float]]
"""Setting → its values."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    over: Axes
    """Numeric settings and their values in any order; reported in increasing order."""
    out: Path
    seeds: int = 1
    """0…seeds − 1."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The others, by name; they win over the preset."""
    command: str = ""
    """What asks for it, for the report."""

    def __post_init__(self) -> None:
        """Check all names and numbers.

        Raises:
            UsageError: not a numeric setting, a value out of range or given twice, a setting that is decided, or one
                that the bottleneck does not read.
        """
        if not self.over:
            raise UsageError(Message("which setting? give {over} K=8,16,32"))
        bottleneck = self.settings.get("bottleneck", ModelConfig.bottleneck)
        for name, values in self.over.items():
            _check_axis(name, values)
            if unused_settings(bottleneck, {name: None}):
                raise UsageError("the bottleneck {} does not read {}", bottleneck, param(name))
        if self.seeds < 1:
            raise UsageError("{seeds} must be at least 1, not {}", self.seeds)
        for name in ("seed", *self.over):
            if name in self.settings:
                raise UsageError("{} is not for this sweep, which decides it", param(name))


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


def sweep(
    request: Request,
    *,
    where: Where | None = None,
    observer: PoolObserver | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Train and measure what is not done yet in ``request.out``, and write sweep.json, .md, .csv, .tex and .png.

    Raises:
        UsageError: as :func:`softvq_cli.experiments.comparison.reproduce`.
        SoftVQError: as there.
    """
    observer = observer or PoolObserver()
    most = math.prod(map(len, request.over.values())) * request.seeds
    with run_directory.locked(request.out, also=report_files(NAME)), Cluster(where or Where(), most) as cluster:
        if not (request.out / f"{NAME}.json").exists():
            cluster.warm()
        study = plan(request, observer)
        outcome = pool.run(study.jobs, cluster, observer=observer, stop=stop)
        observer.stage("writing the report")
        return report.write(study, outcome, request.out, observer.noted)


def plan(request: Request, observer: PoolObserver) -> Study:
    """The sweep as a study.

    Raises:
        UsageError: a setting that no model can have.
        SoftVQError: the data cannot be had.
    """
    given = {name: value for name, value in request.settings.items() if name in DataConfig.__dataclass_fields__}
    data = load_data(DataConfig(**given), progress=observer.data_progress)
    bottleneck = request.settings.get("bottleneck", ModelConfig.bottleneck)
    rows = _rows(request.over, bottleneck)
    axes = {name: sorted(values) for name, values in request.over.items()}
    one = next(iter(axes.items())) if len(axes) == 1 else None
    return Study(
        name=NAME,
        title=f"{', '.join(axes)} of {bottleneck} on {data.title}",
        command=request.command,
        seeds=tuple(range(request.seeds)),
        rows=rows,
        columns=tuple(Column(data.name, measure) for measure in _COLUMNS),
        data={data.name: data},
        jobs=plan_jobs(
            request.out, rows, {data.name: data}, range(request.seeds), parts=(BASIC,), shared=request.settings
        ),
        varied=tuple(axes),
        figure="curves" if one else "bars",
        further={"setting": one[0], "values": one[1]} if one else {"over": axes},
    )


def _rows(over: Axes, bottleneck: str) -> tuple[Row, ...]:
    """A row for each combination of the values, the last axis the fastest."""
    rows = []
    for values in itertools.product(*(sorted(values) for values in over.values())):
        settings = dict(zip(over, values, strict=True))
        texts = {name: _text(value) for name, value in settings.items()}
        rows.append(
            Row(
                name=", ".join(texts.values()),
                label=", ".join(f"{name} = {text}" for name, text in texts.items()),
                subject=bottleneck,
                settings=settings,
                stem=f"{bottleneck}-{'-'.join(name + text for name, text in texts.items())}",
            )
        )
    return tuple(rows)


def _text(value: float) -> str:
    """A number in full, 1.0 as 1."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
