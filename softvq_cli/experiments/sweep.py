"""One setting at several values, everything else the same."""

from __future__ import annotations

import dataclasses
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softvq_cli.config import SETTINGS, DataConfig, RunConfig, check, resolve
from softvq_cli.errors import UsageError, param, unknown_name
from softvq_cli.experiments import grid, report
from softvq_cli.experiments.cell import Cell
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.grid import GridObserver, Outcome
from softvq_cli.experiments.material import Material, look_at, shown_settings
from softvq_cli.experiments.reproduce import RUNS
from softvq_cli.experiments.request import how_words, number_text, setting_words
from softvq_cli.experiments.tables import BASIC, MEASURES, Column
from softvq_cli.experiments.written import Written, report_files, write_files
from softvq_cli.presets import unused_settings
from softvq_cli.training import run_directory
from softvq_cli.version import __version__

NAME = "sweep"
SHOWN = ("clustering_accuracy", "nmi", "probe_accuracy", "nmse")
"""Columns of the report."""
DRAWN = ("clustering_accuracy", "nmi", "nmse")
"""Panels of the figure."""


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    setting: str
    """The name of a numeric setting."""
    values: tuple[float, ...]
    """In any order; reported in increasing order."""
    out: Path
    seeds: int = 1
    """0…seeds − 1."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The others, by name; they win over the preset."""

    def __post_init__(self) -> None:
        """Check all names and numbers.

        Raises:
            UsageError: not a numeric setting, a value out of range or given twice, or a setting that is decided.
        """
        if self.setting not in numeric_settings():
            raise UsageError(unknown_name("numeric setting", self.setting, numeric_settings()))
        if not self.values:
            raise UsageError(f"which values of {param(self.setting)}? give over {self.setting}=8,16,32")
        for value in self.values:
            check(self.setting, value)
            if self.values.count(value) > 1:
                raise UsageError(f"the value {number_text(value)} of {param(self.setting)} is given twice")
        if self.seeds < 1:
            raise UsageError(f"{param('seeds')} must be at least 1, not {self.seeds}")
        for name in ("seed", self.setting):
            if name in self.settings:
                raise UsageError(f"{param(name)} is not for this sweep, which decides it")

    def command(self) -> str:
        """The command that asks for this."""
        over = f"{self.setting}={','.join(map(number_text, self.values))}"
        words = ["softvq", "sweep", "--over", over, "--seeds", str(self.seeds)]
        return shlex.join([*words, *setting_words(self.settings), "--out", str(self.out)])


def numeric_settings() -> list[str]:
    """Every setting that is a number, but for the seed."""
    numbers = [name for name, setting in SETTINGS.items() if {int, float} & set(setting.types)]
    return [name for name in numbers if name not in ("seed", "split_seed")]


def parse_over(text: str) -> tuple[str, tuple[float, ...]]:
    """``K=8,16`` → the setting and its values.

    Raises:
        UsageError: not of this form, or not numbers of the setting's type.
    """
    name, _, listed = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if name not in numeric_settings():
        raise UsageError(unknown_name("numeric setting", name, numeric_settings()))
    whole = int in SETTINGS[name].types
    try:
        values = tuple((int if whole else float)(value) for value in listed.split(",") if value.strip())
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise UsageError(f"over {name}=… takes {kind} with commas between them, not {listed!r}") from error
    return name, values


def sweep(
    request: Request,
    *,
    jobs: int | None = None,
    device: str = "auto",
    observer: GridObserver | None = None,
    stop: threading.Event | None = None,
) -> Written:
    """Train and measure what is not done yet in ``request.out``, and write sweep.json, .md, .csv, .tex and .png.

    Raises:
        UsageError: the bottleneck does not read the setting, or as :func:`softvq_cli.experiments.reproduce`.
        SoftVQError: as there.
    """
    observer = observer or GridObserver()
    with run_directory.locked(request.out, also=report_files(NAME)):
        given = {name: value for name, value in request.settings.items() if name in DataConfig.__dataclass_fields__}
        material = look_at(DataConfig(**given), observer.data_progress)
        cells = {
            _cell(request, material, value, seed): value
            for value in sorted(request.values)
            for seed in range(request.seeds)
        }
        again = request.command() + how_words(jobs, device)
        outcome = grid.run(list(cells), jobs=jobs, device=device, observer=observer, stop=stop, again=again)
        observer.stage("writing the report")
        document = _document(request, material, cells, outcome)
        picture = request.out / f"{NAME}.png"
        _draw(picture, request, document)
        return write_files(request.out, NAME, document, picture)


def _cell(request: Request, material: Material, value: float, seed: int) -> Cell:
    chosen = {**request.settings, request.setting: value, "seed": seed}
    config = resolve(material.config.data, material.image_shape, chosen)
    bottleneck = config.model.bottleneck
    if unused_settings(bottleneck, {request.setting: value}):
        raise UsageError(f"the bottleneck {bottleneck} does not read {param(request.setting)}")
    material.check_batch(config)
    config = dataclasses.replace(config, data=material.config)
    return Cell(
        folder=request.out / RUNS / f"{material.name}-{bottleneck}-{request.setting}{number_text(value)}-s{seed}",
        row=bottleneck,
        data=material.name,
        config=config,
        fingerprints=material.fingerprints,
        pixels=material.pixels,
        parts=(BASIC,),
    )


def _document(request: Request, material: Material, cells: Mapping[Cell, float], outcome: Outcome) -> dict[str, Any]:
    evaluations: dict[Cell, Evaluation] = dict(outcome.evaluations)
    found = report.by_row(evaluations, lambda cell: number_text(cells[cell]))
    columns = [Column(material.name, name) for name in SHOWN]
    labels = {number_text(value): f"{request.setting} = {number_text(value)}" for value in cells.values()}
    # Each value has its own settings only in what is swept; the first cell's stand for all.
    config: RunConfig = next(iter(cells)).config
    settings = {name: value for name, value in shown_settings(config).items() if name != request.setting}
    row = config.model.bottleneck
    return {
        "name": NAME,
        "title": f"{request.setting} of {row} on {material.title}",
        "softvq": __version__,
        "command": request.command(),
        "setting": request.setting,
        "values": sorted(request.values),
        "seeds": list(range(request.seeds)),
        "data": {
            material.name: {
                **material.as_dict(),
                "stands_for": material.title,
                "papers": True,
                "settings": {row: settings},
            }
        },
        "columns": [report.column_entry(column) for column in columns],
        "rows": report.rows_of(labels, columns, found),
        "failed": [{"cell": cell.name, "error": error} for cell, error in outcome.failures.items()],
        "notes": [],
    }


def _draw(path: Path, request: Request, document: Mapping[str, Any]) -> None:
    """The figure, of the values that have a result."""
    from softvq_cli.plots import sweep as plots

    filled: Sequence[tuple[float, Any]] = [
        (value, row["cells"])
        for value, row in zip(document["values"], document["rows"], strict=True)
        if all(cell["n"] for cell in row["cells"].values())
    ]
    if not filled:
        return
    keys = {column["measure"]: column["key"] for column in document["columns"]}
    measures: dict[str, list[list[float]]] = {}
    for name in DRAWN:
        spec = MEASURES[name]
        scale = 100 if spec.per_cent else 1
        title = spec.title + (" (%)" if spec.per_cent else "")
        measures[title] = [[scale * v for v in cells[keys[name]]["values"]] for _, cells in filled]
    plots.plot(path, request.setting, [value for value, _ in filled], measures)
