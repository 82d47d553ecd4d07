"""Format the document of a report as Markdown, CSV, LaTeX, and as text for the terminal.

Everything is derived from the JSON document, so that a committed table can be checked against it.
"""

from __future__ import annotations

import csv
import io
import itertools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from softvq_cli.evaluation.clustering import N_INIT
from softvq_cli.evaluation.statistics import FEWEST, holm, summary, variance_components, welch_difference
from softvq_cli.experiments.paper import BASELINE
from softvq_cli.results.measures import BEYOND, CARRIED, MEASURES
from softvq_cli.results.measures import measure as _measure
from softvq_cli.words import BOTTLENECKS, IMAGE_SHAPES

Cell = Mapping[str, Any]
Row = Mapping[str, Any]
Document = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]
"""(header, rows) as text."""
_NONE = "–"
_LEVEL = 0.05
"""Significance level."""

_MEANS = "Mean ± sample standard deviation over n trainings{}, in per cent for accuracies."
_COLUMN_LEGENDS = {
    "clustering_accuracy": "Clustering: K-means on z_e of the test split, 100 starts, the lowest inertia kept, "
    "Hungarian assignment; NMI with the arithmetic mean of the entropies.",
    "probe_accuracy": "Classification: one softmax layer on z_e, fitted to the training split, measured on the test "
    "split.",
}
_ITALICS = "In italics: the same evaluation of other rows than a trained encoder's z_e"
_INPUTS = "; ẑ_q is the decoder's input of the same models"
_TO_PAPER = "To the paper: our mean minus the published number."
_TO_BASELINE = """\
To the baseline: the mean of the differences to the {} with the same seed and, from two seeds on,
their 95 % confidence interval (Student's t){}."""
_WELCH = "; after the semicolon, the interval that does not pair them by seed (Welch's t)"
_INTERVALS = """\
The mean and its 95 % interval, from a hierarchical bootstrap over the trainings. Each draw also draws the 100 K-means
starts of each training again and keeps the one of lowest inertia, where the starts were recorded. With few trainings
such an interval is too narrow: it cannot reach beyond the values that were seen."""
_ORDERS = """\
Pairs of models whose means differ, by Welch's t at 5 % after Holm's correction for all pairs of a column; p is the
corrected one. An order that is read off a table after a look at it needs that correction; a comparison that was fixed
beforehand, of one model with each other, does not."""
_CARRIED = """\
On the test split, without noise. nMSE: squared error over the variance of the training pixels. Bits per image: for
codebooks the information between image and codeword, at most log2 K; for the VAEs KL / ln 2 and for information
dropout a Gaussian bound on log |z|, both upper bounds; the plain autoencoder has no finite rate. Soft to hard: from ẑ_q
to the most probable codeword, Euclidean, and relative to the norm of the codewords. σ: over images and codewords. Codes
used: share of the codebook that is the most probable code of at least one test image. Class purity: how often a test
image has the commonest class of its code, which grows with the number of codes."""
_SPREAD = """\
What the spread of the clustering is made of: its standard deviation in the table; that of the mean over all 100 starts
of each training; and of a random-effects model the part of the training (σ_seed, with its 95 % interval) and that of
the start of K-means (σ_start). Kept − mean: what the start of lowest inertia has above the mean start, over the
trainings. ARI between seeds: how well the clusterings of two trainings agree, which needs no labels (1: the same)."""
_BEYOND_LEGENDS = {
    "probe_adam_accuracy": "the softmax probe as the authors' notebooks train it (Adam, 30 000 updates of 128; the "
    "classification above is the optimum)",
    "knn_accuracy": "five nearest neighbours in the training split",
    "probe_10_accuracy": "the softmax probe on a few labels of each class (mean of 5 draws)",
    "map_clustering_accuracy": "K-means on a two-dimensional t-SNE of z_e",
    "trustworthiness": "how well that map keeps neighbourhoods (1 is perfect)",
}
"""A measure that is present → an explanation of it and of related measures."""
_COURSE = """\
The same of the models as they were after fewer iterations of the same trainings, kept on the way; the last number of a
row is the table's."""


def value_text(measure: str, value: float | None, *, signed: bool = False) -> str:
    """Format a number for display; accuracies in per cent."""
    if value is None:
        return _NONE
    spec = _measure(measure)
    return f"{100 * value if spec.per_cent else value:{'+' if signed else ''}.{spec.digits}f}"


def mean_text(measure: str, cell: Cell | None) -> str:
    """Format as ``77.64 ± 0.31``; for two runs, the mean and both values, as their standard deviation says little."""
    if cell is None or cell["mean"] is None:
        return _NONE
    mean = value_text(measure, cell["mean"])
    if cell["n"] < FEWEST:
        low, high = (value_text(measure, end(cell["values"])) for end in (min, max))
        return mean if cell["n"] == 1 else f"{mean} ({low}–{high})"
    return f"{mean} ± {value_text(measure, cell['std'])}"


def interval_text(measure: str, cell: Cell | None) -> str:
    """``77.64 [76.98, 78.20]``."""
    if not cell or not cell.get("interval"):
        return _NONE
    return f"{value_text(measure, cell['mean'])} {_ends(measure, cell['interval'])}"


def difference_text(measure: str, versus: Mapping[str, Any] | None) -> str:
    """Format as ``+3.83 [+1.20, +6.46]; [+1.02, +6.64]``: paired, and by Welch's t test."""
    if versus is None:
        return _NONE
    mean = value_text(measure, versus["mean"], signed=True)
    if versus["low"] is None:
        return mean
    intervals = [versus, *([versus["welch"]] if versus.get("welch") else [])]
    return f"{mean} {'; '.join(_ends(measure, interval, signed=True) for interval in intervals)}"


def _ends(measure: str, interval: Mapping[str, Any], *, signed: bool = False) -> str:
    return f"[{', '.join(value_text(measure, interval[name], signed=signed) for name in ('low', 'high'))}]"


def cell_of(row: Row, data: str, measure: str) -> Cell | None:
    """The row's cell for a measure on a data set; None if it has no run."""
    cell: Cell | None = row["cells"].get(f"{data}.{measure}")
    return cell if cell and cell["n"] else None


def course_of(row: Row, data: str, measure: str) -> dict[int, Cell]:
    """Iterations → cell of the intermediate checkpoints and the final model; empty without checkpoints."""
    cell, end = cell_of(row, data, measure), cell_of(row, data, "iterations")
    if cell is None or end is None or "steps" not in cell:
        return {}
    return {**{int(step): numbers for step, numbers in cell["steps"].items()}, int(end["mean"]): cell}


def paper_name(document: Document, data: str) -> str:
    """The name of the published numbers next to those of ``data``, including their data set if it differs."""
    described = document["data"][data]
    return "paper" if described["papers"] else f"paper, {described['stands_for']}"


def panel_title(document: Document, data: str, title: str, between: str = "\n") -> str:
    """The title, with the data set if there are several."""
    return f"{document['data'][data]['title']}{between}{title}" if len(document["data"]) > 1 else title


def main_table(document: Document) -> Table:
    """The table itself: each column next to the paper's, if the paper has one."""

    def parts(column: Mapping[str, Any], title: str) -> Parts:
        paper = {paper_name(document, column["data"]): lambda measure, cell: value_text(measure, cell["paper"])}
        return [(title, mean_text), *(paper.items() if column["published"] else ())]

    header, rows = _pivot(document, parts)
    counted = [[label, _trainings(row), *texts] for (label, *texts), row in zip(rows, document["rows"], strict=True)]
    return ["", "n", *header[1:]], counted


def difference_table(document: Document) -> Table:
    """The differences from the paper and from the baseline."""

    def to_paper(measure: str, cell: Cell) -> str:
        both = cell["mean"] is not None and cell["paper"] is not None
        return value_text(measure, cell["mean"] - cell["paper"], signed=True) if both else _NONE

    def parts(column: Mapping[str, Any], title: str) -> Parts:
        paper = {f"{title} − {paper_name(document, column['data'])}": to_paper}
        baseline = f"{title} − baseline", lambda measure, cell: difference_text(measure, cell["versus_baseline"])
        return [*(paper.items() if column["published"] else ()), baseline]

    header, rows = _pivot(document, parts)
    return header, _filled(rows)


Parts = list[tuple[str, Callable[[str, Cell], str]]]
"""Titles of the sub-columns of a column, and the function that formats the cell of a measure for each."""


def _pivot(document: Document, parts_of: Callable[[Mapping[str, Any], str], Parts]) -> Table:
    """One line per row of the document, with the sub-columns of each column."""
    parts = []
    for column in document["columns"]:
        title = panel_title(document, column["data"], _measure(column["measure"]).title, ", ")
        parts += [(heading, column, text) for heading, text in parts_of(column, title)]
    rows = [
        [row["label"], *(text(column["measure"], row["cells"][column["key"]]) for _, column, text in parts)]
        for row in document["rows"]
    ]
    return ["", *(heading for heading, _, _ in parts)], rows


def _trainings(row: Row) -> str:
    """Number of trainings, for each data set if they differ."""
    numbers = [len(seeds) for seeds in row["seeds"].values()]
    return str(numbers[0]) if len(set(numbers)) == 1 else ", ".join(map(str, numbers))


def _filled(rows: Iterable[list[str]]) -> list[list[str]]:
    """The rows with at least one number."""
    return [row for row in rows if any(text != _NONE for text in row[1:])]


def measures_table(
    document: Document, data: str, names: Sequence[str], text: Callable[[str, Cell | None], str] = mean_text
) -> Table:
    """Other measures on one data set, without empty columns and rows.

    They have their own n: a measure requested later may be available for fewer trainings than those of the table.
    """
    by_row = {row["label"]: {name: cell_of(row, data, name) for name in names} for row in document["rows"]}
    shown = [name for name in names if any(cells[name] for cells in by_row.values())]
    rows = []
    for label, *texts in _filled(
        [label, *(text(name, cells[name]) for name in shown)] for label, cells in by_row.items()
    ):
        # seed_ari has one value per pair of trainings.
        n = sorted({cell["n"] for name in shown if name != "seed_ari" and (cell := by_row[label][name])})
        rows.append([label, f"{n[0]}–{n[-1]}" if len(n) > 1 else str(n[0]) if n else _NONE, *texts])
    return ["", "n", *(_measure(name).title for name in shown)], rows


def spread_table(document: Document, data: str) -> Table:
    """The variance components of the clustering accuracy, for rows with enough trainings."""
    text = partial(value_text, "clustering_accuracy")
    rows = []
    for row in document["rows"]:
        cells = [cell_of(row, data, name) for name in ("clustering_accuracy", "starts_mean", "starts_std")]
        if cells[2] is None or cells[2]["n"] < FEWEST:
            continue
        accuracies, means, stds = (cell["values"] for cell in cells if cell)
        parts = variance_components(means, stds, N_INIT)
        gains = summary([accuracy - mean for accuracy, mean in zip(accuracies, means, strict=True)])
        spreads = [text(summary(accuracies).std), text(summary(means).std)]
        seeds = f"{text(parts.seeds)} [{text(parts.seeds_low)}, {text(parts.seeds_high)}]"
        kept = f"{text(gains.mean, signed=True)} ± {text(gains.std)}"
        agreement = interval_text("seed_ari", cell_of(row, data, "seed_ari"))
        rows.append([row["label"], str(len(means)), *spreads, seeds, text(parts.starts), kept, agreement])
    header = ["", "n", "std of the table", "std of the starts' means", "σ_seed", "σ_start", "kept − mean"]
    return [*header, _measure("seed_ari").title], rows


def order_table(document: Document, data: str) -> Table:
    """For each column, the pairs of models with a significant difference."""
    texts = []
    for column in document["columns"]:
        cells = {row["label"]: row["cells"][column["key"]] for row in document["rows"] if row["kind"] == "model"}
        models = [label for label, cell in cells.items() if cell["n"] >= FEWEST]
        if column["data"] != data or len(models) < 2:
            continue
        pairs = list(itertools.combinations(sorted(models, key=lambda label: -cells[label]["mean"]), 2))
        tests = [welch_difference(cells[high]["values"], cells[low]["values"]) for high, low in pairs]
        corrected = holm([test.p for test in tests if test is not None and test.p is not None])
        apart = [f"{a} > {b} (p = {p:.2g})" for (a, b), p in zip(pairs, corrected, strict=True) if p < _LEVEL]
        texts.append([_measure(column["measure"]).title, f"{len(apart)} of {len(pairs)}", "; ".join(apart) or _NONE])
    return ["", "pairs", "told apart"], texts


def course_table(document: Document, data: str) -> Table:
    """Intermediate checkpoints: one row per model and measure, one column per number of iterations."""
    measures = [column["measure"] for column in document["columns"] if column["data"] == data]
    courses = [(row["label"], name, course_of(row, data, name)) for name in measures for row in document["rows"]]
    steps = sorted({step for _, _, course in courses for step in course})
    rows = [
        [label, _measure(name).title, *(mean_text(name, course.get(step)) for step in steps)]
        for label, name, course in courses
        if course
    ]
    return ["", "", *(f"{step:,}".replace(",", " ") for step in steps)], rows


def markdown(document: Document) -> str:
    """The complete report."""
    shown = {column["measure"] for column in document["columns"]}
    cells = (item for row in document["rows"] for item in row["cells"].items())
    measures = list(dict.fromkeys(key.rpartition(".")[2] for key, cell in cells if cell["n"]))
    unlisted = [name for name in measures if name not in MEASURES]  # measures defined only by a bottleneck

    def others(names: Sequence[str]) -> Callable[[str], Table]:
        return lambda data: measures_table(document, data, [name for name in names if name not in shown])

    def intervals(data: str) -> Table:
        return measures_table(document, data, [name for name in MEASURES if name in shown], interval_text)

    beyond = "; ".join(text for name, text in _BEYOND_LEGENDS.items() if name in measures and name not in shown)
    sections = (
        ("What the bottleneck carries", _CARRIED, others((*CARRIED, *unlisted))),
        ("95 % intervals", _INTERVALS, intervals),
        ("Which models differ", _ORDERS, partial(order_table, document)),
        ("Seeds and starts", _SPREAD, partial(spread_table, document)),
        ("Beyond the paper's evaluation", _wrapped(f"{beyond[:1].upper()}{beyond[1:]}."), others(BEYOND)),
        ("Along the training", _COURSE, partial(course_table, document)),
    )
    parts = [f"# {document['title']}", _how(document), markdown_table(document), _table_legend(document)]
    if document["failed"]:
        parts.append("Not available:\n\n" + "\n".join(f"- {f['cell']}: {f['error']}" for f in document["failed"]))
    header, rows = difference_table(document)
    if rows:
        parts += ["## Differences", _difference_legend(document), markdown_rows(header, rows)]
    for title, legend, table in sections:
        tables = {data: table(data) for data in document["data"]}
        if any(rows for _, rows in tables.values()):
            parts += [f"## {title}", legend]
        for data, (header, rows) in tables.items():
            if rows:
                parts += [f"{document['data'][data]['title']}:"] * (len(document["data"]) > 1)
                parts.append(markdown_rows(header, rows))
    return "\n\n".join(parts) + "\n"


def _how(document: Document) -> str:
    """Command, data, settings."""
    lines = [f"    {document['command']}", ""]
    for data in document["data"].values():
        shape = " x ".join(map(str, data["image_shape"]))
        replaced = "" if data["papers"] else f", in the place of the paper's {data['stands_for']}"
        # These distinguish the images of a custom data set from others.
        fingerprints = " and ".join(text[:16] for text in data.get("fingerprints", ()))
        of_user = "" if data["name"] in IMAGE_SHAPES else f"; fingerprints {fingerprints}"
        images = f"{data['train']} training and {data['test']} test images of {shape}"
        lines.append(f"- {data['title']}: {images}{replaced}{of_user}")
        lines += [f"- {text}" for text in settings_lines(data["settings"])]
    torch = f" with PyTorch {', '.join(document['torch'])}" if document.get("torch") else ""
    where = f"; measured on {', '.join(document['processors'])}{torch}" if document["processors"] else ""
    lines.append(f"- seeds: {', '.join(map(str, document['seeds']))}; softvq {document['softvq']}{where}")
    return "\n".join(lines + [f"- {note}" for note in document["notes"]])


def settings_lines(by_row: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings of a data set: first those common to all rows, then those of single rows."""
    if not by_row:
        return []
    first = next(iter(by_row.values()))
    shared = {name: value for name, value in first.items() if all(row.get(name) == value for row in by_row.values())}
    lines = [_settings_text(shared)]
    for row, settings in by_row.items():
        if special := {name: value for name, value in settings.items() if name not in shared}:
            lines.append(f"{row}: {_settings_text(special)}")
    return lines


def _settings_text(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in settings.items()
    )


def _table_legend(document: Document) -> str:
    """Explain the table's columns and its rows in italics."""
    shown = {column["measure"] for column in document["columns"]}
    two = any(cell["n"] == 2 for row in document["rows"] for cell in row["cells"].values())
    sentences = [_MEANS.format(" (of two, both values)" * two)]
    sentences += [text for name, text in _COLUMN_LEGENDS.items() if name in shown]
    if _models(document) < len(document["rows"]):
        inputs = any(row["row"].endswith(":z_q") for row in document["rows"])
        sentences.append(_ITALICS + (_INPUTS if inputs else "") + ".")
    return _wrapped(" ".join(sentences))


def _difference_legend(document: Document) -> str:
    """Explain which values are compared."""
    sentences = [_TO_PAPER] if any(column["published"] for column in document["columns"]) else []
    cells = [row["cells"][column["key"]] for row in document["rows"] for column in document["columns"]]
    if versus := [cell["versus_baseline"] for cell in cells if cell["versus_baseline"]]:
        labels = {row["row"]: row["label"] for row in document["rows"]}
        baseline = document.get("baseline") or BASELINE
        welch = _WELCH if any(each.get("welch") for each in versus) else ""
        sentences.append(_TO_BASELINE.format(labels.get(baseline) or BOTTLENECKS[baseline].label, welch))
    return _wrapped(" ".join(sentences))


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def csv_text(document: Document) -> str:
    """A long table: one line for each cell with a run, and one for each intermediate checkpoint.

    Accuracies are fractions of 1, and ``values`` has one number per seed. Data that replace a data set of the paper
    have their own name; the varied settings of a sweep are columns.
    """
    out = io.StringIO()
    axes = list(document.get("over") or ([document["setting"]] if "setting" in document else []))
    columns = ("row", *axes, "data", "measure", "step", *_CSV_NUMBERS)
    table = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in document["rows"]:
        settings = dict(zip(axes, row["row"].split(", "), strict=True)) if axes else {}
        for key, cell in row["cells"].items():
            data, _, measure = key.rpartition(".")
            place = {"row": row["row"], **settings, "data": document["data"][data]["name"], "measure": measure}
            for step, numbers in (*cell.get("steps", {}).items(), ("", cell)):
                if numbers["n"]:
                    values = " ".join(map(repr, numbers["values"]))
                    table.writerow({**place, "step": step, **_flat(numbers), "values": values})
    return out.getvalue()


_CSV_NUMBERS = (
    *("mean", "std", "n", "values", "interval_low", "interval_high", "paper"),
    *("versus_baseline", "versus_baseline_low", "versus_baseline_high", "versus_baseline_p"),
    *("versus_baseline_welch_low", "versus_baseline_welch_high", "versus_baseline_welch_p"),
)


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested numbers: names are joined, ``interval_low``, and a mean gets the name of its values."""
    flat: dict[str, Any] = {}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}_")
        else:
            flat[prefix.removesuffix("_") if prefix and name == "mean" else prefix + name] = value
    return flat


def latex(document: Document) -> str:
    """The table itself, for ``\\input`` in a document that uses booktabs."""
    header, rows = main_table(document)
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\toprule", _tex_row(header), "\\midrule"]
    lines += map(_tex_row, rows)
    models = _models(document)
    if models < len(rows):
        lines.insert(models - len(rows), "\\midrule")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _tex_row(texts: Sequence[str]) -> str:
    for plain, command in _TEX.items():
        texts = [text.replace(plain, command) for text in texts]
    return " & ".join(texts) + r" \\"


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


def markdown_table(document: Document) -> str:
    """The table itself in Markdown, with controls in italics."""
    return markdown_rows(*main_table(document), split=_models(document))


def _models(document: Document) -> int:
    """Number of rows above the controls at the end of the table."""
    kinds = [row["kind"] for row in document["rows"]]
    return max((i + 1 for i, kind in enumerate(kinds) if kind == "model"), default=len(kinds))


def markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]], split: int | None = None) -> str:
    """A Markdown table; controls, from row ``split`` on, are in italics."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for i, row in enumerate(rows):
        first = f"*{row[0]}*" if split is not None and i >= split else row[0]
        lines.append("| " + " | ".join([first, *row[1:]]) + " |")
    return "\n".join(lines)
