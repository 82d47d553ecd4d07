"""Carry out a study and write its report: a JSON document, Markdown, CSV, LaTeX and figures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.evaluation.statistics import FEWEST
from softvq_cli.experiments import formats, pool
from softvq_cli.experiments.backends import Where, workers
from softvq_cli.experiments.document import document as document_of
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Study
from softvq_cli.files import remove, write_json, write_text
from softvq_cli.reporter import Reporter
from softvq_cli.results.measures import measure
from softvq_cli.training import run_directory

Document = Mapping[str, Any]
_COURSE = "-course"
"""Suffix of the report's name for the figure of measures against iterations."""


@dataclass(frozen=True)
class Report:
    """One report on disk."""

    path: Path
    """The JSON document; the other files have the same name with other suffixes."""
    document: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """What is missing in it and why, one line each."""
        return [f"{failure['cell']}: {failure['error']}" for failure in self.document["failed"]]


def carry_out(
    studies: Sequence[Study],
    *,
    where: Where | None = None,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> list[Report]:
    """Train and measure what is missing in the folder of the studies, and write a report for each.

    RefusedError: another process works in the folder, or it has runs with other settings. Interrupted: ``stop`` was
    set.
    """
    reporter, out = reporter or Reporter(), studies[0].request.out
    with run_directory.locked(out, also=[file for study in studies for file in report_files(study.name)]):
        planned = dict.fromkeys(job for study in studies for job in study.jobs)
        with workers(where or Where(), len(planned)) as staff:
            outcome = pool.run(list(planned), staff, reporter=reporter, stop=stop)
            reported = [study.then(study, outcome) if study.then else study for study in studies]
            more = dict.fromkeys(job for study in reported for job in study.jobs if job not in planned)
            if more:
                outcome |= pool.run(list(more), staff, reporter=reporter, stop=stop)
        reporter.stage("writing the report")
        return [_write(study, outcome, out, reporter) for study in reported]


def report_files(name: str) -> tuple[str, ...]:
    """The names of the files of a report."""
    return (*(f"{name}.{kind}" for kind in ("json", "md", "csv", "tex", "png")), f"{name}{_COURSE}.png")


def _write(study: Study, outcome: Outcome, out: Path, reporter: Reporter) -> Report:
    document = document_of(study, outcome)
    if study.figure == "maps":
        _draw_maps(out / f"{study.name}.png", study, outcome, reporter)
    write_json(out / f"{study.name}.json", document)
    write_forms(document, out, reporter)
    return Report(out / f"{study.name}.json", document)


def write_forms(document: Document, out: Path, reporter: Reporter | None = None) -> None:
    """Write everything that is derived from the document: NAME.md, .csv, .tex and the figures, except maps.

    Figures of an older report that would now be empty are removed.
    """
    name, title = document["name"], document["title"]
    table, course = out / f"{name}.png", out / f"{name}{_COURSE}.png"
    drawn = {course: _draw_lines(course, document, _course_of, "iterations")}
    if document["figure"] == "bars":
        drawn[table] = _draw_bars(table, document, reporter)
    elif document["figure"] == "curves":
        drawn[table] = _draw_lines(table, document, _against_setting, document["setting"])
    for path, there in drawn.items():
        if not there:
            remove(path)
    pictures = {table: title, course: f"{title}: the course"}
    shown = "".join(f"\n![{text}]({path.name})\n" for path, text in pictures.items() if path.exists())
    write_text(out / f"{name}.md", formats.markdown(document) + shown)
    write_text(out / f"{name}.csv", formats.csv_text(document))
    write_text(out / f"{name}.tex", formats.latex(document))


def _draw_bars(path: Path, document: Document, reporter: Reporter | None) -> bool:
    """Draw the table as bars next to the paper's; returns False if there is nothing to draw."""
    from softvq_cli.plots import bars

    columns = []
    for column in document["columns"]:
        title, scale = _title_and_scale(document, column)
        cells = [row["cells"][column["key"]] for row in document["rows"]]
        shown = [cell if cell["n"] >= FEWEST else {**cell, "std": None} for cell in cells]
        numbers = (
            [None if cell[name] is None else scale * cell[name] for cell in shown] for name in ("mean", "std", "paper")
        )
        columns.append(bars.Column(title, *numbers))
    if all(mean is None for column in columns for mean in column.mean):
        return False
    published = dict.fromkeys(formats.paper_name(document, column["data"]) for column in document["columns"])
    labels = [row["label"] for row in document["rows"]]
    bars.plot(path, labels, columns, paper="; ".join(published), reporter=reporter)
    return True


Lines = Mapping[str, Mapping[Any, Mapping[str, Any]]]
"""Label → value of the setting → cell."""


def _course_of(document: Document, column: Mapping[str, Any]) -> Lines:
    return {row["label"]: formats.course_of(row, column["data"], column["measure"]) for row in document["rows"]}


def _against_setting(document: Document, column: Mapping[str, Any]) -> Lines:
    cells = (row["cells"][column["key"]] for row in document["rows"])
    return {document["title"]: {x: cell for x, cell in zip(document["values"], cells, strict=True) if cell["n"]}}


def _draw_lines(path: Path, document: Document, lines_of: Callable[..., Lines], setting: str) -> bool:
    """Draw the columns against a setting or the iterations; returns False if there is nothing to draw."""
    from softvq_cli.plots import lines

    panels = []
    for column in document["columns"]:
        title, scale = _title_and_scale(document, column)
        results = {
            label: {float(x): [scale * value for value in cell["values"]] for x, cell in cells.items()}
            for label, cells in lines_of(document, column).items()
            if cells
        }
        if results:
            panels.append(lines.Panel(title, results))
    if panels:
        lines.course(path, panels, setting)
    return bool(panels)


def _title_and_scale(document: Document, column: Mapping[str, Any]) -> tuple[str, float]:
    """The title of a panel with the unit of its measure, and the factor for its values."""
    spec = measure(column["measure"])
    title, scale = (f"{spec.title} (%)", 100.0) if spec.per_cent else (spec.title, 1.0)
    return formats.panel_title(document, column["data"], title), scale


def _draw_maps(path: Path, study: Study, outcome: Outcome, reporter: Reporter) -> None:
    """Draw the t-SNE map of each row's first seed, one panel per row, unless no job is complete."""
    from softvq_cli import datasets
    from softvq_cli.plots import maps

    panels = []
    for row in study.rows:
        jobs = [job for job in study.jobs if job.row == row.name and job in outcome.evaluations]
        if jobs:
            job = min(jobs, key=lambda job: job.seed)
            test = datasets.load(job.config.data, "test")
            evaluation = outcome.evaluations[job]
            numbers, coordinates = evaluation.numbers[row.measured], evaluation.array("map")
            assert coordinates is not None  # a study with maps measures them
            reached = f"nMSE {numbers['test_nmse']:.3f}, {numbers['iterations']:.0f} iterations"
            panels.append(maps.Panel(row.label, coordinates, test.labels, test.class_names, reached))
    if panels:
        maps.plot(path, panels, reporter)
