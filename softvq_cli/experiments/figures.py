"""The figures that a document alone decides: its table as bars, curves against a setting or against iterations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from softvq_cli.experiments.legends import papers
from softvq_cli.results.measures import measure

COURSE = "-course"
"""After the report's name: the measures against the iterations."""
_AGAINST_SETTING = ("clustering_accuracy", "nmi", "nmse")


def draw(found: Mapping[str, Any], out: Path, note: Callable[[str], None]) -> None:
    """Draw NAME.png, but for maps, and NAME-course.png; where there is nothing to show, what an older report left goes.

    Args:
        found: the document.
        out: the folder.
        note: is told of what a figure cannot show.

    Raises:
        SoftVQError: a file cannot be written.
    """
    path, course = out / f"{found['name']}.png", out / f"{found['name']}{COURSE}.png"
    filled = any(cell["n"] for row in found["rows"] for cell in row["cells"].values())
    if not filled:
        path.unlink(missing_ok=True)
    elif found["figure"] == "bars":
        _bars(path, found, note)
    elif found["figure"] == "curves":
        _curves(path, found)
    if any(row["course"] for row in found["rows"]):
        _course(course, found)
    else:
        course.unlink(missing_ok=True)


def _bars(path: Path, found: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """The table as bars beside the paper's."""
    from softvq_cli.datasets.progress import Told
    from softvq_cli.plots import bars

    columns = []
    for column in found["columns"]:
        title, scale = _unit(column["measure"])
        cells = [row["cells"][column["key"]] for row in found["rows"]]
        scaled = {
            name: [None if cell[name] is None else scale * cell[name] for cell in cells]
            for name in ("mean", "std", "paper")
        }
        columns.append(
            bars.Column(_of_data(found, column["data"], title), scaled["mean"], scaled["std"], scaled["paper"])
        )
    published = dict.fromkeys(papers(found, column["data"]) for column in found["columns"])
    bars.plot(
        path,
        [row["label"] for row in found["rows"]],
        columns,
        paper="; ".join(published),
        reporter=Told(lambda text, *_: note(text)),
    )


def _curves(path: Path, found: Mapping[str, Any]) -> None:
    """Measures against the setting that varies, of the rows that have a result."""
    from softvq_cli.plots import lines

    rows = zip(found["values"], found["rows"], strict=True)
    filled = [(value, row["cells"]) for value, row in rows if all(cell["n"] for cell in row["cells"].values())]
    if not filled:
        path.unlink(missing_ok=True)
        return
    keys = {column["measure"]: column["key"] for column in found["columns"]}
    measures: dict[str, list[list[float]]] = {}
    for name in _AGAINST_SETTING:
        title, scale = _unit(name)
        measures[title] = [[scale * v for v in cells[keys[name]]["values"]] for _, cells in filled]
    lines.sweep(path, found["setting"], [value for value, _ in filled], measures)


def _course(path: Path, found: Mapping[str, Any]) -> None:
    """The columns against the iterations, a line a row."""
    from softvq_cli.plots import lines as line_plots

    panels = []
    for column in found["columns"]:
        title, scale = _unit(column["measure"])
        lines = {}
        for row in found["rows"]:
            steps = row["course"].get(column["data"], {})
            cells = {int(step): of_step.get(column["measure"]) for step, of_step in steps.items()}
            points = [
                line_plots.Point(step, scale * c["mean"], scale * (c["std"] or 0.0)) for step, c in cells.items() if c
            ]
            if points:
                lines[row["label"]] = points
        if lines:
            panels.append(line_plots.Panel(_of_data(found, column["data"], title), lines))
    line_plots.course(path, panels)


def _of_data(found: Mapping[str, Any], data: str, title: str) -> str:
    return f"{found['data'][data]['title']}\n{title}" if len(found["data"]) > 1 else title


def _unit(name: str) -> tuple[str, float]:
    """The title of a measure with its unit, and what its value is multiplied by."""
    known = measure(name)
    return (f"{known.title} (%)", 100.0) if known.per_cent else (known.title, 1.0)
