"""A report: what a study's document is written to. JSON, Markdown, CSV, LaTeX and a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.experiments import figures, formats
from softvq_cli.experiments.document import document
from softvq_cli.experiments.figures import COURSE
from softvq_cli.experiments.job import Job
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Study
from softvq_cli.files import write_json, write_text


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
    return (*(f"{name}.{kind}" for kind in ("json", "md", "csv", "tex", "png")), f"{name}{COURSE}.png")


def write(study: Study, outcome: Outcome, out: Path, note: Callable[[str], None] = lambda _: None) -> Report:
    """Write NAME.json, .md, .csv, .tex and, where there is anything to show, .png and -course.png into ``out``.

    Args:
        study: that is reported.
        outcome: of its jobs.
        out: the folder.
        note: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    found = document(study, outcome)
    if study.figure == "maps":
        _draw_maps(out / f"{study.name}.png", study, outcome, note)
    write_json(out / f"{study.name}.json", found)
    write_forms(found, out, note)
    return Report(out / f"{study.name}.json", found)


def write_forms(found: Mapping[str, Any], out: Path, note: Callable[[str], None] = lambda _: None) -> None:
    """Write whatever is made from a document alone: NAME.md, .csv, .tex and the figures but for maps.

    Args:
        found: the document.
        out: the folder.
        note: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    name = found["name"]
    figures.draw(found, out, note)
    pictures = ((out / f"{name}.png", found["title"]), (out / f"{name}{COURSE}.png", f"{found['title']}: the course"))
    shown = "".join(f"\n![{title}]({path.name})\n" for path, title in pictures if path.exists())
    write_text(out / f"{name}.md", formats.markdown(found) + shown)
    write_text(out / f"{name}.csv", formats.csv_text(found))
    write_text(out / f"{name}.tex", formats.latex(found))


def _draw_maps(path: Path, study: Study, outcome: Outcome, note: Callable[[str], None]) -> None:
    """The t-SNE map of each row's first seed, one panel a row; nothing where no job is done."""
    from softvq_cli import datasets
    from softvq_cli.datasets.progress import Told
    from softvq_cli.plots.maps import Panel, plot

    panels = []
    for row in study.rows:
        done = [job for job in study.jobs if job.row == row.name and job in outcome.evaluations]
        if done:
            job: Job = min(done, key=lambda job: job.seed)
            test = datasets.load(job.config.data, "test")
            evaluation = outcome.evaluations[job]
            own = evaluation.numbers[job.representation]
            reached = f"nMSE {own['nmse']:.3f}, {own['iterations']:.0f} iterations"
            coordinates = evaluation.array("map")
            assert coordinates is not None  # a study of maps measures them
            panels.append(Panel(row.label, coordinates, test.labels, test.class_names, reached))
    if panels:
        plot(path, panels, Told(lambda text, *_: note(text)))
