"""A report on disk: JSON, Markdown, CSV, LaTeX and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.experiments import formats
from softvq_cli.experiments.cell import Cell
from softvq_cli.experiments.evaluated import Evaluation, read_map
from softvq_cli.experiments.tables import MEASURES, label_of
from softvq_cli.files import write_json, write_text


@dataclass(frozen=True)
class Written:
    """One report."""

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


def write_report(out: Path, name: str, document: dict[str, Any], *, maps: Mapping[Cell, Evaluation]) -> Written:
    """Write NAME.json, .md, .csv, .tex and .png into ``out``.

    Args:
        out: the folder.
        name: of the files.
        document: as :mod:`softvq_cli.experiments.reproduce` makes it.
        maps: cells whose t-SNE maps are the figure; without any, the figure has the table's bars.

    Raises:
        SoftVQError: a file cannot be written.
    """
    picture = out / f"{name}.png"
    if maps:
        draw_cell_maps(picture, maps)
    elif has_numbers(document):
        draw_bars(picture, document)
    return write_files(out, name, document, picture)


def write_files(out: Path, name: str, document: dict[str, Any], picture: Path) -> Written:
    """Write NAME.json, .md, .csv and .tex; the Markdown shows ``picture`` if it is there."""
    write_json(out / f"{name}.json", document)
    figure = f"\n![{document['title']}]({picture.name})\n" if picture.exists() else ""
    write_text(out / f"{name}.md", formats.markdown(document) + figure)
    write_text(out / f"{name}.csv", formats.csv_text(document))
    write_text(out / f"{name}.tex", formats.latex(document))
    return Written(out / f"{name}.json", document)


def has_numbers(document: Mapping[str, Any]) -> bool:
    """Whether any cell of the table is filled."""
    return any(cell["n"] for row in document["rows"] for cell in row["cells"].values())


def draw_bars(path: Path, document: Mapping[str, Any]) -> None:
    """The table as bars beside the paper's."""
    from softvq_cli.plots import bars

    rows = document["rows"]
    columns = []
    for column in document["columns"]:
        spec = MEASURES[column["measure"]]
        scale = 100 if spec.per_cent else 1
        title = spec.title + (" (%)" if spec.per_cent else "")
        if len(document["data"]) > 1:
            title = f"{document['data'][column['data']]['title']}\n{title}"
        cells = [row["cells"][column["key"]] for row in rows]
        scaled = {
            name: [None if cell[name] is None else scale * cell[name] for cell in cells]
            for name in ("mean", "std", "paper")
        }
        columns.append(bars.Column(title, scaled["mean"], scaled["std"], scaled["paper"]))
    bars.plot(path, [row["label"] for row in rows], columns)


def draw_cell_maps(path: Path, maps: Mapping[Cell, Evaluation]) -> None:
    """The t-SNE map of each row's first seed, one panel a row."""
    from softvq_cli import datasets
    from softvq_cli.plots.tsne import Panel, plot

    first: dict[str, Cell] = {}
    for cell in maps:
        if cell.row not in first or cell.seed < first[cell.row].seed:
            first[cell.row] = cell
    test = datasets.load(next(iter(maps)).config.data, "test")
    panels = []
    for row, cell in first.items():
        coordinates = read_map(cell.folder)
        own = maps[cell].own
        title = f"{label_of(row)}\nnMSE {own['nmse']:.3f}, {own['iterations']:.0f} iterations"
        panels.append(Panel(title, coordinates, test.labels, test.class_names))
    plot(path, panels)
