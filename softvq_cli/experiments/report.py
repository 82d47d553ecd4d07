"""A report: the files that a study's document is written to. JSON, Markdown, CSV, LaTeX and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.experiments import formats
from softvq_cli.experiments.document import document as document_of
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Study
from softvq_cli.files import write_json, write_text
from softvq_cli.reporter import Reporter
from softvq_cli.results.measures import measure

Document = Mapping[str, Any]
_COURSE = "-course"
"""After the report's name: the figure of the measures against the iterations."""
_AGAINST_SETTING = ("clustering_accuracy", "nmi", "test_nmse")


@dataclass(frozen=True)
class Report:
    """One report on disk."""

    path: Path
    """The JSON document; the other files have its name with other suffixes."""
    document: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """What is not in it, and why: one line each."""
        return [f"{failure['cell']}: {failure['error']}" for failure in self.document["failed"]]


def report_files(name: str) -> tuple[str, ...]:
    """The names of the files of a report."""
    return (*(f"{name}.{kind}" for kind in ("json", "md", "csv", "tex", "png")), f"{name}{_COURSE}.png")


def write(study: Study, outcome: Outcome, out: Path, reporter: Reporter | None = None) -> Report:
    """Write NAME.json, .md, .csv, .tex and, where there is anything to show, .png and -course.png into ``out``.

    Args:
        study: that is reported.
        outcome: of its jobs.
        out: the folder.
        reporter: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    reporter = reporter or Reporter()
    document = document_of(study, outcome)
    if study.figure == "maps":
        _draw_maps(out / f"{study.name}.png", study, outcome, reporter)
    write_json(out / f"{study.name}.json", document)
    write_forms(document, out, reporter)
    return Report(out / f"{study.name}.json", document)


def write_forms(document: Document, out: Path, reporter: Reporter | None = None) -> None:
    """Write whatever is made from a document alone: NAME.md, .csv, .tex and the figures, except maps.

    Args:
        document: of a study.
        out: the folder.
        reporter: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    name = document["name"]
    figure, course = out / f"{name}.png", out / f"{name}{_COURSE}.png"
    _draw_figure(figure, document, reporter or Reporter())
    _draw_course(course, document)
    pictures = ((figure, document["title"]), (course, f"{document['title']}: the course"))
    shown = "".join(f"\n![{title}]({path.name})\n" for path, title in pictures if path.exists())
    write_text(out / f"{name}.md", formats.markdown(document) + shown)
    write_text(out / f"{name}.csv", formats.csv_text(document))
    write_text(out / f"{name}.tex", formats.latex(document))


def _draw_figure(path: Path, document: Document, reporter: Reporter) -> None:
    """NAME.png; where there is nothing to show, the one of an older report is removed."""
    keys = [column["key"] for column in document["columns"]]
    if not any(row["cells"][key]["n"] for row in document["rows"] for key in keys):
        path.unlink(missing_ok=True)
    elif document["figure"] == "bars":
        _draw_bars(path, document, reporter)
    elif document["figure"] == "curves":
        _draw_curves(path, document)


def _draw_bars(path: Path, document: Document, reporter: Reporter) -> None:
    """The table as bars next to the paper's."""
    from softvq_cli.plots import bars

    columns = []
    for column in document["columns"]:
        title, scale = _unit(column["measure"])
        cells = [row["cells"][column["key"]] for row in document["rows"]]
        shown = [cell if cell["n"] >= formats.FEWEST else {**cell, "std": None} for cell in cells]
        numbers = (
            [None if cell[name] is None else scale * cell[name] for cell in shown] for name in ("mean", "std", "paper")
        )
        columns.append(bars.Column(_panel_title(document, column["data"], title), *numbers))
    published = dict.fromkeys(formats.paper_name(document, column["data"]) for column in document["columns"])
    labels = [row["label"] for row in document["rows"]]
    bars.plot(path, labels, columns, paper="; ".join(published), reporter=reporter)


def _draw_curves(path: Path, document: Document) -> None:
    """Measures against the setting that varies, of the rows that have a result."""
    from softvq_cli.plots import lines

    keys = {column["measure"]: column["key"] for column in document["columns"]}
    rows = [
        (value, row["cells"])
        for value, row in zip(document["values"], document["rows"], strict=True)
        if all(row["cells"][key]["n"] for key in keys.values())
    ]
    if not rows:
        path.unlink(missing_ok=True)
        return
    measures = {}
    for name in _AGAINST_SETTING:
        title, scale = _unit(name)
        measures[title] = [[scale * value for value in cells[keys[name]]["values"]] for _, cells in rows]
    lines.sweep(path, document["setting"], [value for value, _ in rows], measures)


def _draw_course(path: Path, document: Document) -> None:
    """The columns against the iterations, a line a row; without a course the figure of an older report is removed."""
    from softvq_cli.plots import lines

    panels = []
    for column in document["columns"]:
        title, scale = _unit(column["measure"])
        courses = {}
        for row in document["rows"]:
            course = formats.course_of(row, column["data"], column["measure"])
            courses[row["label"]] = [
                lines.Point(step, scale * cell["mean"], scale * (cell["std"] or 0.0)) for step, cell in course.items()
            ]
        filled = {label: points for label, points in courses.items() if points}
        if filled:
            panels.append(lines.Panel(_panel_title(document, column["data"], title), filled))
    if panels:
        lines.course(path, panels)
    else:
        path.unlink(missing_ok=True)


def _panel_title(document: Document, data: str, title: str) -> str:
    return f"{document['data'][data]['title']}\n{title}" if len(document["data"]) > 1 else title


def _unit(name: str) -> tuple[str, float]:
    """The title of a measure with its unit, and what its value is multiplied by."""
    spec = measure(name)
    return (f"{spec.title} (%)", 100.0) if spec.per_cent else (spec.title, 1.0)


def _draw_maps(path: Path, study: Study, outcome: Outcome, reporter: Reporter) -> None:
    """The t-SNE map of each row's first seed, one panel a row; nothing where no job is done."""
    from softvq_cli import datasets
    from softvq_cli.plots import maps

    panels = []
    for row in study.rows:
        jobs = [job for job in study.jobs if job.row == row.name and job in outcome.evaluations]
        if jobs:
            job = min(jobs, key=lambda job: job.seed)
            test = datasets.load(job.config.data, "test")
            evaluation = outcome.evaluations[job]
            numbers, coordinates = evaluation.numbers[job.representation], evaluation.array("map")
            assert coordinates is not None  # a study of maps measures them
            reached = f"nMSE {numbers['test_nmse']:.3f}, {numbers['iterations']:.0f} iterations"
            panels.append(maps.Panel(row.label, coordinates, test.labels, test.class_names, reached))
    if panels:
        maps.plot(path, panels, reporter)
