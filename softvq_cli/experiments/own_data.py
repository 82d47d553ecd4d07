"""Studies of the user's data: a comparison of bottlenecks, and a sweep of one model's settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softvq_cli.config import SETTINGS, ModelConfig, check, numeric_settings
from softvq_cli.errors import InputError, UsageError, param, shown, unknown_name
from softvq_cli.experiments.paper import BASELINE
from softvq_cli.experiments.study import Column, Request, Row, Study, StudyData, load_data, model_row, plan_jobs
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


def compare(
    request: Request, bottlenecks: Sequence[str] = DEFAULT, also: Sequence[Path] = (), reporter: Reporter | None = None
) -> tuple[Study, ...]:
    """Plan a comparison of bottlenecks, controls, and embeddings of other programs (UsageError, SoftVQError).

    The files ``also`` have one row per image, in the order of all images.
    """
    if not bottlenecks:
        raise UsageError("which bottlenecks? give {bottleneck} {}", ",".join(DEFAULT))
    for name in bottlenecks:
        if name not in BOTTLENECKS:
            raise UsageError(unknown_name("bottleneck", name, BOTTLENECKS))
    names = [*bottlenecks, *_CONTROLS, *(path.stem for path in also)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two rows of a comparison cannot both be called {name}")
    request.check("bottleneck", "seed")
    data = load_data(request.data(), reporter=reporter)
    for path in also:
        _check_rows(path, data)
    rows = list(map(model_row, bottlenecks))
    largest = SETTINGS["latent_dim"].high or math.inf
    if "rvq" in bottlenecks and math.prod(data.image_shape) > largest:
        (reporter or Reporter()).note(f"without RQ-KMeans: it takes at most {largest:.0f} numbers per image")
    elif "rvq" in bottlenecks:
        rows.append(Row(RQ_KMEANS, "RQ-KMeans", "rvq", {"arch": "none"}, seeded=False))
    rows += [Row(path.stem, path.name, subject=FILE, seeded=False, file=str(path)) for path in also]
    rows += map(model_row, _CONTROLS)
    baseline = BASELINE if BASELINE in bottlenecks else bottlenecks[0]
    return _study(request, "compare", f"Bottlenecks on {data.title}", rows, data, baseline=baseline)


def _check_rows(path: Path, data: StudyData) -> None:
    """Check an embedding file before anything is trained."""
    from softvq_cli import embeddings

    rows, images = len(embeddings.read(path)), data.train + data.test
    if rows != images:
        raise InputError(
            "{} has {} rows, and {} has {} images: it needs one row per image, in the order of {split} all",
            *(path, rows, data.name, images),
        )


def _study(
    request: Request, name: str, title: str, rows: Sequence[Row], data: StudyData, **more: Any
) -> tuple[Study, ...]:
    seeds, by_name = tuple(range(request.seeds or 1)), {data.name: data}
    study = Study(
        name=name,
        title=title,
        request=request,
        seeds=seeds,
        rows=tuple(rows),
        columns=tuple(Column(data.name, measure) for measure in COLUMNS),
        data=by_name,
        jobs=plan_jobs(request.out, rows, by_name, seeds, parts=(BASIC,), shared=request.settings),
        **more,
    )
    return (study,)


def sweep(request: Request, over: Axes, reporter: Reporter | None = None) -> tuple[Study, ...]:
    """Plan a sweep of one model's numeric settings, given with their values in any order (UsageError, SoftVQError)."""
    bottleneck: str = request.settings.get("bottleneck", ModelConfig.bottleneck)
    if not over:
        raise UsageError("which setting? give {over} {}", "K=8,16,32")
    for name, values in over.items():
        _check_axis(name, values)
        if unused_settings(bottleneck, {name: None}):
            raise UsageError("the bottleneck {} does not read {}", bottleneck, param(name))
    request.check("seed", *over)
    data = load_data(request.data(), reporter=reporter)
    axes = {name: sorted(values) for name, values in over.items()}
    [(setting, values), *others] = axes.items()
    return _study(
        request,
        "sweep",
        f"{', '.join(axes)} of {bottleneck} on {data.title}",
        [_row(bottleneck, dict(zip(axes, each, strict=True))) for each in itertools.product(*axes.values())],
        data,
        varied=tuple(axes),
        figure="bars" if others else "curves",
        further={"over": axes} if others else {"setting": setting, "values": values},
    )


def _row(bottleneck: str, settings: Mapping[str, float]) -> Row:
    """The row of one combination of values."""
    # All digits, but 1.0 as 1.
    texts = {
        name: str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
        for name, value in settings.items()
    }
    return Row(
        name=", ".join(texts.values()),
        label=", ".join(f"{name} = {text}" for name, text in texts.items()),
        subject=bottleneck,
        settings=settings,
        stem=f"{bottleneck}-{'-'.join(name + text for name, text in texts.items())}",
    )


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
