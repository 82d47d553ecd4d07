"""A report's document as Markdown, CSV, LaTeX, and as rows of text for the terminal.

Everything is written from the JSON document alone, so that a committed table can be checked against it.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from softvq_cli.evaluation.clustering import N_INIT
from softvq_cli.evaluation.statistics import summary, variance_components
from softvq_cli.experiments import legends
from softvq_cli.results.measures import BEYOND, CARRIED, MEASURES, STARTS
from softvq_cli.results.measures import measure as _measure
from softvq_cli.words import IMAGE_SHAPES

Row = list[str]
_NONE = "–"


def value_text(measure: str, value: float | None, *, signed: bool = False) -> str:
    """A number as people read it: per cent for accuracies."""
    if value is None:
        return _NONE
    spec = _measure(measure)
    value = 100 * value if spec.per_cent else value
    return f"{value:+.{spec.digits}f}" if signed else f"{value:.{spec.digits}f}"


def mean_text(measure: str, cell: Mapping[str, Any] | None) -> str:
    """``77.64 ± 0.31``; only the mean of one run."""
    if cell is None or cell["mean"] is None:
        return _NONE
    mean = value_text(measure, cell["mean"])
    return mean if cell["std"] is None else f"{mean} ± {value_text(measure, cell['std'])}"


def main_table(document: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """(header, rows) of the table itself: each column beside the paper's, where the paper has one."""
    columns = document["columns"]
    header = ["", "n"]
    for column in columns:
        header += [_title(document, column)] + (
            [legends.papers(document, column["data"])] if column["published"] else []
        )
    rows = []
    for row in document["rows"]:
        texts = [row["label"], _n(row)]
        for column in columns:
            cell = row["cells"][column["key"]]
            texts.append(mean_text(column["measure"], cell))
            if column["published"]:
                texts.append(value_text(column["measure"], cell["paper"]))
        rows.append(texts)
    return header, rows


def difference_table(document: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """(header, rows) of the differences to the paper and, over the same seeds, to the baseline."""
    columns = document["columns"]
    header = [""]
    for column in columns:
        title = _title(document, column)
        published = [f"{title} − {legends.papers(document, column['data'])}"] if column["published"] else []
        header += [*published, f"{title} − baseline"]
    rows = []
    for row in document["rows"]:
        texts = [row["label"]]
        for column in columns:
            cell, measure = row["cells"][column["key"]], column["measure"]
            if column["published"]:
                texts.append(value_text(measure, cell["difference"], signed=True))
            texts.append(_interval(measure, cell["versus_baseline"]))
        if any(text != _NONE for text in texts[1:]):
            rows.append(texts)
    return header, rows


def measures_table(document: Mapping[str, Any], data: str, names: Sequence[str]) -> tuple[Row, list[Row]]:
    """(header, rows) of other figures on one data set; figures and rows that have none are left out.

    They have their own n: a figure that was asked for later may be there for fewer trainings than the table's.
    """
    rows = [row for row in document["rows"] if any(name in row["measures"].get(data, {}) for name in names)]
    shown = [name for name in names if any(name in row["measures"][data] for row in rows)]
    texts = []
    for row in rows:
        found = {name: row["measures"][data].get(name) for name in shown}
        texts.append([row["label"], _n_of(found.values()), *(mean_text(name, cell) for name, cell in found.items())])
    return ["", "n", *(_measure(name).title for name in shown)], texts


def spread_table(document: Mapping[str, Any], data: str) -> tuple[Row, list[Row]]:
    """(header, rows) of what the spread of the clustering accuracy is made of; of rows with two trainings or more."""
    text = partial(value_text, "clustering_accuracy")
    texts = []
    for row in document["rows"]:
        found = row["measures"].get(data, {})
        if "starts_std" not in found or found["starts_std"]["n"] < 2:
            continue
        picked, means, stds = (found[name]["values"] for name in ("clustering_accuracy", "starts_mean", "starts_std"))
        parts = variance_components(means, stds, N_INIT)
        gains = summary([own - mean for own, mean in zip(picked, means, strict=True)])
        spreads = [text(summary(picked).std), text(summary(means).std)]
        seeds = f"{text(parts.seeds)} [{text(parts.seeds_low)}, {text(parts.seeds_high)}]"
        kept = f"{text(gains.mean, signed=True)} ± {text(gains.std)}"
        texts.append([row["label"], str(len(means)), *spreads, seeds, text(parts.starts), kept])
    return ["", "n", "std of the table", "std of the starts' means", "σ_seed", "σ_start", "kept − mean"], texts


def course_table(document: Mapping[str, Any], data: str) -> tuple[Row, list[Row]]:
    """(header, rows) of the models on the way: a row a model and measure, a column a number of iterations."""
    courses = {row["label"]: row["course"][data] for row in document["rows"] if data in row["course"]}
    steps = sorted({int(step) for course in courses.values() for step in course})
    texts = []
    for measure in (column["measure"] for column in document["columns"] if column["data"] == data):
        for label, course in courses.items():
            cells = [course.get(str(step), {}).get(measure) for step in steps]
            texts.append([label, _measure(measure).title, *(mean_text(measure, cell) for cell in cells)])
    return ["", "", *(f"{step:,}".replace(",", " ") for step in steps)], texts


def markdown(document: Mapping[str, Any]) -> str:
    """The whole report."""
    parts = [f"# {document['title']}", _how(document), _md_table(*main_table(document), split=_models(document))]
    parts.append(legends.of_table(document, controls=_models(document) < len(document["rows"])))
    if document["failed"]:
        parts.append("Not available:\n\n" + "\n".join(f"- {f['cell']}: {f['error']}" for f in document["failed"]))
    header, rows = difference_table(document)
    if rows:
        parts += ["## Differences", legends.of_differences(document), _md_table(header, rows)]
    shown = {column["measure"] for column in document["columns"]}

    def others(*names: str) -> Callable[[str], tuple[Row, list[Row]]]:
        return lambda data: measures_table(document, data, [name for name in names if name not in shown])

    sections = (
        ("What the bottleneck carries", legends.CARRIED, others(*CARRIED, *_unlisted(document))),
        ("All K-means starts", legends.STARTS, others(*STARTS)),
        ("Seeds and starts", legends.SPREAD, lambda data: spread_table(document, data)),
        ("Beyond the paper's evaluation", legends.of_beyond(document, shown), others(*BEYOND)),
        ("Along the training", legends.COURSE, lambda data: course_table(document, data)),
    )
    for title, text, table in sections:
        tables = [(data, table(data)) for data in document["data"]]
        filled = [(data, found) for data, found in tables if found[1]]
        if filled:
            parts += [f"## {title}", text]
            for data, found in filled:
                if len(document["data"]) > 1:
                    parts.append(f"{document['data'][data]['title']}:")
                parts.append(_md_table(*found))
    return "\n\n".join(parts) + "\n"


def _unlisted(document: Mapping[str, Any]) -> list[str]:
    """Measures that only a bottleneck's own file knows."""
    measures = (names for row in document["rows"] for names in row["measures"].values())
    return list(dict.fromkeys(name for names in measures for name in names if name not in MEASURES))


def _how(document: Mapping[str, Any]) -> str:
    """Command, data, settings."""
    lines = [f"    {document['command']}", ""]
    for data in document["data"].values():
        lines.append(
            f"- {data['title']}: {data['train']} training and {data['test']} test images of "
            f"{' x '.join(map(str, data['image_shape']))}"
            + ("" if data["papers"] else f", in the place of the paper's {data['stands_for']}")
            + ("" if data["name"] in IMAGE_SHAPES else _fingerprints(data))
        )
        lines += [f"- {text}" for text in settings_lines(data["settings"])]
    where = f"; measured on {', '.join(document['processors'])}" if document["processors"] else ""
    lines.append(f"- seeds: {', '.join(map(str, document['seeds']))}; softvq {document['softvq']}{where}")
    return "\n".join(lines + [f"- {note}" for note in document["notes"]])


def _fingerprints(data: Mapping[str, Any]) -> str:
    """What tells the images of such a name from others."""
    return f"; fingerprints {' and '.join(text[:16] for text in data['fingerprints'])}"


def settings_lines(by_row: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings of a data set's rows: those that all have, and then what is each row's own."""
    if not by_row:
        return []
    first = next(iter(by_row.values()))
    shared = {name: value for name, value in first.items() if all(row.get(name) == value for row in by_row.values())}
    lines = [_settings_text(shared)]
    for row, settings in by_row.items():
        own = {name: value for name, value in settings.items() if name not in shared}
        if own:
            lines.append(f"{row}: {_settings_text(own)}")
    return lines


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in settings.items()
    )


def csv_text(document: Mapping[str, Any]) -> str:
    """One line a row, data set and figure; accuracies are fractions of 1. Models on the way are rows as ``ae@2000``.

    The data have their own name, whatever data set of the paper they stand for; the settings of a sweep have columns.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    axes = _axes(document)
    table.writerow(("row", *axes, *_CSV))
    for row, place in zip(document["rows"], _combinations(axes, document), strict=True):
        for data, measures in row["measures"].items():
            named = *place, document["data"][data]["name"]
            for measure, found in measures.items():
                cell = row["cells"].get(f"{data}.{measure}", {})
                table.writerow([row["row"], *named, measure, *_csv_numbers(found, cell)])
            for step, way in list(row["course"].get(data, {}).items())[:-1]:  # the last is the row itself
                for measure, found in way.items():
                    table.writerow([f"{row['row']}@{step}", *named, measure, *_csv_numbers(found, {})])
    return out.getvalue()


def _axes(document: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    """Setting → values of a sweep; of another study none."""
    axes: Mapping[str, Sequence[float]] = document.get("over") or {}
    return {document["setting"]: document["values"]} if "setting" in document else axes


def _combinations(axes: Mapping[str, Sequence[float]], document: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """The values of each row's settings; the rows are all combinations, in this order."""
    return list(itertools.product(*axes.values())) if axes else [()] * len(document["rows"])


def _csv_numbers(found: Mapping[str, Any], cell: Mapping[str, Any]) -> list[Any]:
    against = found["versus_baseline"] or {}
    return [
        *(found[name] for name in ("mean", "std", "n", "min", "max")),
        *(cell.get("paper"), cell.get("difference")),
        *(against.get(name) for name in ("mean", "low", "high", "p")),
    ]


_CSV: tuple[str, ...] = ("data", "measure", "mean", "std", "n", "min", "max", "paper", "difference")
_CSV += ("versus_baseline", "versus_baseline_low", "versus_baseline_high", "versus_baseline_p")


def latex(document: Mapping[str, Any]) -> str:
    """The table itself, for ``\\input`` in a document that uses booktabs."""
    header, rows = main_table(document)
    models = _models(document)
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\toprule", _tex_row(header), "\\midrule"]
    for i, row in enumerate(rows):
        if i == models:
            lines.append("\\midrule")
        lines.append(_tex_row(row))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _tex_row(texts: Iterable[str]) -> str:
    return " & ".join(_tex(text) for text in texts) + r" \\"


def _tex(text: str) -> str:
    for plain, command in _TEX.items():
        text = text.replace(plain, command)
    return text


_TEX = {
    **{c: f"\\{c}" for c in "%&#_$"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "β": r"$\beta$",
    "σ": r"$\sigma$",
    "ẑ\\_q": r"$\hat{z}_q$",
    "log2": r"$\log_2$",
}


def _models(document: Mapping[str, Any]) -> int:
    """How many rows come before the controls that stand below the models."""
    kinds = [row["kind"] for row in document["rows"]]
    return max((i + 1 for i, kind in enumerate(kinds) if kind == "model"), default=len(kinds))


def _md_table(header: Row, rows: Sequence[Row], split: int | None = None) -> str:
    """A Markdown table; controls, from row ``split`` on, are in italics."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for i, row in enumerate(rows):
        first = f"*{row[0]}*" if split is not None and i >= split else row[0]
        lines.append("| " + " | ".join([first, *row[1:]]) + " |")
    return "\n".join(lines)


def _title(document: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    title = _measure(column["measure"]).title
    return title if len(document["data"]) == 1 else f"{document['data'][column['data']]['title']}, {title}"


def _n(row: Mapping[str, Any]) -> str:
    """Number of trainings; of the data sets, if they differ, each."""
    numbers = [len(seeds) for seeds in row["seeds"].values()]
    return str(numbers[0]) if len(set(numbers)) == 1 else ", ".join(map(str, numbers))


def _n_of(cells: Iterable[Mapping[str, Any] | None]) -> str:
    """Number of trainings behind figures; ``1–2`` where they differ in it."""
    numbers = [cell["n"] for cell in cells if cell and cell["n"]]
    if not numbers:
        return _NONE
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def _interval(measure: str, against: Mapping[str, Any] | None) -> str:
    """``+3.83 [+1.20, +6.46]``."""
    if against is None:
        return _NONE
    mean = value_text(measure, against["mean"], signed=True)
    if against["low"] is None:
        return mean
    low, high = (value_text(measure, against[name], signed=True) for name in ("low", "high"))
    return f"{mean} [{low}, {high}]"
