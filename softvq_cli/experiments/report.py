"""A report: what a study's document is written to. JSON, Markdown, CSV, LaTeX and a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.experiments import formats
from softvq_cli.experiments.document import document
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.measures import measure
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Study
from softvq_cli.files import write_json, write_text
from softvq_cli.pipeline.result import read_map

_DRAWN = ("clustering_accuracy", "nmi", "nmse")
"""Panels of the curves against a setting."""


@dataclass(frozen=True)
class Report:
    """One report on disk."""

    path: Path
    """The JSON document; the other files stand beside it."""
    document: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        """What is not in it, and why: one line each."""
        return [f"{one['cell']}: {one['error']}" for one in self.document["failed"]]


def report_files(name: str) -> tuple[str, ...]:
    """The names of the files of a report."""
    return tuple(f"{name}.{kind}" for kind in ("json", "md", "csv", "tex", "png"))


def write(study: Study, outcome: Outcome, out: Path, note: Callable[[str], None] = lambda _: None) -> Report:
    """Write NAME.json, .md, .csv, .tex and, where there is anything to show, .png into ``out``.

    Args:
        study: that is reported.
        outcome: of its jobs.
        out: the folder.
        note: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    found = document(study, outcome)
    picture = out / f"{study.name}.png"
    if study.figure == "maps":
        _draw_maps(picture, study, outcome, note)
    elif study.figure == "curves":
        _draw_curves(picture, study, found)
    elif any(cell["n"] for row in found["rows"] for cell in row["cells"].values()):
        _draw_bars(picture, found, note)
    write_json(out / f"{study.name}.json", found)
    figure = f"\n![{study.title}]({picture.name})\n" if picture.exists() else ""
    write_text(out / f"{study.name}.md", formats.markdown(found) + figure)
    write_text(out / f"{study.name}.csv", formats.csv_text(found))
    write_text(out / f"{study.name}.tex", formats.latex(found))
    return Report(out / f"{study.name}.json", found)


def _draw_bars(path: Path, found: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """The table as bars beside the paper's."""
    from softvq_cli.plots import bars

    columns = []
    for column in found["columns"]:
        title, scale = _unit(column["measure"])
        if len(found["data"]) > 1:
            title = f"{found['data'][column['data']]['title']}\n{title}"
        cells = [row["cells"][column["key"]] for row in found["rows"]]
        scaled = {
            name: [None if cell[name] is None else scale * cell[name] for cell in cells]
            for name in ("mean", "std", "paper")
        }
        columns.append(bars.Column(title, scaled["mean"], scaled["std"], scaled["paper"]))
    bars.plot(path, [row["label"] for row in found["rows"]], columns, note)


def _draw_maps(path: Path, study: Study, outcome: Outcome, note: Callable[[str], None]) -> None:
    """The t-SNE map of each row's first seed, one panel a row; nothing where no job is done."""
    from softvq_cli import datasets
    from softvq_cli.plots.tsne import Panel, plot

    panels = []
    for row in study.rows:
        done = [job for job in study.jobs if job.row == row.name and job in outcome.evaluations]
        if done:
            job: Job = min(done, key=lambda job: job.seed)
            test = datasets.load(job.config.data, "test")
            own = outcome.evaluations[job].figures[job.representation]
            title = f"{row.label}\nnMSE {own['nmse']:.3f}, {own['iterations']:.0f} iterations"
            panels.append(Panel(title, read_map(job.folder), test.labels, test.class_names))
    if panels:
        plot(path, panels, note)


def _draw_curves(path: Path, study: Study, found: Mapping[str, Any]) -> None:
    """Measures against the setting that varies, of the rows that have a result."""
    from softvq_cli.plots import sweep

    [setting] = study.varied
    values = [row.settings[setting] for row in study.rows]
    rows = zip(values, found["rows"], strict=True)
    filled = [(value, row["cells"]) for value, row in rows if all(cell["n"] for cell in row["cells"].values())]
    if not filled:
        return
    keys = {column["measure"]: column["key"] for column in found["columns"]}
    measures: dict[str, list[list[float]]] = {}
    for name in _DRAWN:
        title, scale = _unit(name)
        measures[title] = [[scale * v for v in cells[keys[name]]["values"]] for _, cells in filled]
    sweep.plot(path, setting, [value for value, _ in filled], measures)


def _unit(name: str) -> tuple[str, float]:
    """The title of a measure with its unit, and what its value is multiplied by."""
    known = measure(name)
    return (f"{known.title} (%)", 100.0) if known.per_cent else (known.title, 1.0)
