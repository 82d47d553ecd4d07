"""A comparison of the paper, from nothing to the tables and figures beside the published ones."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import SoftVQError, UsageError
from softvq_cli.experiments import grid, report
from softvq_cli.experiments.cell import Cell
from softvq_cli.experiments.evaluated import Evaluation
from softvq_cli.experiments.grid import GridObserver, Outcome
from softvq_cli.experiments.matching import match
from softvq_cli.experiments.material import TITLES, Material, look_at, shown_settings
from softvq_cli.experiments.request import Request, how_words
from softvq_cli.experiments.tables import BASELINE, MAP, PROBES, RAW, SEEDLESS, TABLES, has_codebook, label_of
from softvq_cli.experiments.written import Written, report_files, write_report
from softvq_cli.presets import preset
from softvq_cli.training import run_directory
from softvq_cli.version import __version__
from softvq_cli.words import BOTTLENECKS

RUNS = "runs"
"""Folder of the cells' folders."""


@dataclass(frozen=True)
class Reproduced:
    """What was asked for, as far as it could be done."""

    reports: tuple[Written, ...]
    """One for each table of whose data there is any; each lists what is not in it because it failed."""
    failed: tuple[str, ...]
    """All of that: one line each."""


def reproduce(
    request: Request,
    *,
    jobs: int | None = None,
    device: str = "auto",
    observer: GridObserver | None = None,
    stop: threading.Event | None = None,
) -> Reproduced:
    """Train and measure what is not done yet in ``request.out``, and write the reports.

    Raises:
        RefusedError: another process works in the folder, or it holds runs with other settings.
        UsageError: a setting that no model can have.
        SoftVQError: none of the data can be had, or a report cannot be written.
        Interrupted: ``stop`` was set.
    """
    observer = observer or GridObserver()
    with run_directory.locked(request.out, also=(file for name in request.names for file in report_files(name))):
        materials, missing = _materials(request, observer)
        plans = [plan for plan in (_Plan(name, request, materials, missing) for name in request.names) if plan.cells]
        if not plans:
            raise UsageError(f"{', '.join(request.names)} has none of the rows {', '.join(request.only)}")
        again = request.command() + how_words(jobs, device)
        options: dict[str, Any] = {"jobs": jobs, "device": device, "observer": observer, "stop": stop, "again": again}
        planned = dict.fromkeys(cell for plan in plans for cell in plan.cells)
        outcome = grid.run(list(planned), **options)
        shown = [plan.shown(outcome) for plan in plans]
        further = grid.run([cell for cells in shown for cell in cells if cell not in planned], **options)
        observer.stage("writing the report")
        everything = Outcome({**outcome.evaluations, **further.evaluations}, {**outcome.failures, **further.failures})
        reports = tuple(plan.report(cells, everything) for plan, cells in zip(plans, shown, strict=True))
    failed = [f"{data}: {error}" for data, error in missing.items()] + [
        one for report in reports for one in report.failed
    ]
    return Reproduced(reports, tuple(dict.fromkeys(failed)))


def _materials(request: Request, observer: GridObserver) -> tuple[dict[str, Material], dict[str, str]]:
    """(the data sets that can be had, why the others cannot), by the tables' names."""
    wanted = dict.fromkeys(data for name in request.names for data in TABLES[name].data)
    found: dict[str, Material] = {}
    missing: dict[str, str] = {}
    for data in wanted:
        if request.only_data and data not in request.only_data:
            continue
        given = {name: value for name, value in request.settings.items() if name in DataConfig.__dataclass_fields__}
        config = DataConfig(**given | {"data": request.data.get(data, data)})
        try:
            found[data] = look_at(config, observer.data_progress)
        except UsageError:
            raise
        except SoftVQError as error:
            if len(wanted) == 1 or (request.only_data and len(request.only_data) == 1):
                raise
            missing[data] = str(error)
            observer.noted(f"{data} is left out: {error}")
    if not found:
        raise SoftVQError(f"no data to work on: {'; '.join(missing.values())}")
    names = [material.name for material in found.values()]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two data sets of a comparison cannot both be {name}")
    return found, missing


class _Plan:
    """What one table needs."""

    def __init__(
        self, name: str, request: Request, materials: Mapping[str, Material], missing: Mapping[str, str]
    ) -> None:
        self.name, self.table, self.request = name, TABLES[name], request
        self.materials = {data: materials[data] for data in self.table.data if data in materials}
        self.missing = {data: missing[data] for data in self.table.data if data in missing}
        self.seeds = range(request.seeds or self.table.seeds)
        self.parts = (*self.table.parts, *((PROBES, MAP) if request.full else ()))
        self.parts = tuple(dict.fromkeys(self.parts))
        self.rows = [row for row in self._all_rows() if not request.only or row in request.only]
        self.cells = tuple(
            self._cell(data, row, seed)
            for data in self.materials
            for row in self.rows
            for seed in (self.seeds if row not in SEEDLESS else (0,))
        )
        self.notes: list[str] = []
        self.reached: float | None = None

    def _all_rows(self) -> Iterable[str]:
        """In the order of the report: raw data stand first where the paper has them."""
        raw_first = any(RAW in column.paper for column in self.table.columns)
        controls = [row for row in self.table.controls if not (raw_first and row == RAW)]
        return (*((RAW,) if raw_first else ()), *BOTTLENECKS, *controls)

    def _cell(self, data: str, row: str, seed: int) -> Cell:
        material = self.materials[data]
        bottleneck = row if row in BOTTLENECKS else BASELINE
        settings = {
            **preset(data, material.image_shape, bottleneck),
            **self.table.settings,
            **self.request.settings,
            **dataclasses.asdict(material.config),
            "bottleneck": bottleneck,
            "seed": seed,
        }
        config = RunConfig.from_flat(settings)
        material.check_batch(config)
        fixed = f"-d{config.model.latent_dim}" if "latent_dim" in self.table.settings else ""
        end = "" if row in SEEDLESS else f"-s{seed}"
        return Cell(
            folder=self.request.out / RUNS / f"{material.name}-{row}{fixed}{end}",
            row=row,
            data=data,
            config=config,
            fingerprints=material.fingerprints,
            pixels=material.pixels,
            parts=() if self.table.matched else self.parts,
        )

    def shown(self, outcome: Outcome) -> tuple[Cell, ...]:
        """The cells to report: those of the plan, or where models are matched, the runs cut at a common error."""
        if not self.table.matched:
            return self.cells
        trained = [cell for cell in self.cells if cell in outcome.evaluations]
        found = match(trained, self.request.target_nmse, self.parts)
        self.reached = found.target
        self.notes += found.notes
        return found.cells

    def report(self, cells: Iterable[Cell], outcome: Outcome) -> Written:
        """Write it."""
        mine = {cell: outcome.evaluations[cell] for cell in cells if cell in outcome.evaluations}
        failed = {cell: outcome.failures[cell] for cell in (*self.cells, *cells) if cell in outcome.failures}
        document = self._document(mine, failed)
        return write_report(self.request.out, self.name, document, maps=mine if self.table.matched else {})

    def _document(self, mine: Mapping[Cell, Evaluation], failed: Mapping[Cell, str]) -> dict[str, Any]:
        found = report.by_row(mine)
        columns = [column for column in self.table.columns if column.data in self.materials]
        inputs = [f"{row}:z_q" for row in self.rows if row in BOTTLENECKS and has_codebook(row)]
        labels = {row: label_of(row) for row in (*self.rows, *(inputs if self.table.controls else ()))}
        failures = [{"cell": data, "error": error} for data, error in self.missing.items()]
        failures += [{"cell": cell.name, "error": error} for cell, error in failed.items()]
        rows = report.rows_of(labels, columns, found, baseline=BASELINE)
        titles = ", ".join(self._title(data) for data in self.materials)
        return {
            "name": self.name,
            "title": f"{self.table.title}, {titles}",
            "softvq": __version__,
            "command": self.request.command(),
            "seeds": list(self.seeds),
            "data": {data: self._data(data) for data in self.materials},
            "columns": [report.column_entry(column) for column in columns],
            "rows": rows,
            "failed": failures,
            "notes": [*self.notes, *report.unfinished_probes(rows)],
            "target_nmse": self.reached,
        }

    def _title(self, data: str) -> str:
        return self.materials[data].title

    def _data(self, data: str) -> dict[str, Any]:
        material = self.materials[data]
        configs = {cell.row: cell.config for cell in self.cells if cell.data == data and cell.trains}
        return {
            **material.as_dict(),
            "stands_for": TITLES.get(data, data),
            "papers": material.name == data,
            "settings": {row: shown_settings(config) for row, config in configs.items()},
        }
