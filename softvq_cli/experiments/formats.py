"""A report's document as Markdown, CSV, LaTeX, and as rows of text for the terminal.

Everything is written from the JSON document alone, so that a committed table can be checked against it.
"""

from __future__ import annotations

import csv
import io
import itertools
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from softvq_cli.evaluation.clustering import N_INIT
from softvq_cli.evaluation.statistics import FEWEST, holm, summary, variance_components, welch_difference
from softvq_cli.experiments.paper import BASELINE
from softvq_cli.results.measures import BEYOND, CARRIED, MEASURES
from softvq_cli.results.measures import measure as _measure
from softvq_cli.words import BOTTLENECKS, IMAGE_SHAPES

Table = tuple[list[str], list[list[str]]]
"""(header, rows) as texts."""
_NONE = "–"
_LEVEL = 0.05
"""Of significance."""

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
"""A measure that is there → what it and those that come with it are."""
_COURSE = """\
The same of the models as they were after fewer iterations of the same trainings, kept on the way; the last number of a
row is the table's."""


def value_text(measure: str, value: float | None, *, signed: bool = False) -> str:
    """A number as people read it: per cent for accuracies."""
    if value is None:
        return _NONE
    spec = _measure(measure)
    value = 100 * value if spec.per_cent else value
    return f"{value:+.{spec.digits}f}" if signed else f"{value:.{spec.digits}f}"


def mean_text(measure: str, cell: Mapping[str, Any] | None) -> str:
    """``77.64 ± 0.31``; of two runs the mean and both values, whose standard deviation would say little."""
    if cell is None or cell["mean"] is None:
        return _NONE
    mean = value_text(measure, cell["mean"])
    if cell["n"] < FEWEST:
        low, high = (value_text(measure, end(cell["values"])) for end in (min, max))
        return mean if cell["n"] == 1 else f"{mean} ({low}–{high})"
    return f"{mean} ± {value_text(measure, cell['std'])}"


def interval_text(measure: str, cell: Mapping[str, Any] | None) -> str:
    """``77.64 [76.98, 78.20]``."""
    ends = cell and cell.get("interval")
    return f"{value_text(measure, cell['mean'])} {_ends(measure, ends)}" if cell and ends else _NONE


def _ends(measure: str, interval: Mapping[str, Any], *, signed: bool = False) -> str:
    return f"[{', '.join(value_text(measure, interval[name], signed=signed) for name in ('low', 'high'))}]"


def cell_of(row: Mapping[str, Any], data: str, measure: str) -> Mapping[str, Any] | None:
    """The row's cell of a measure on a data set; None where it has no run."""
    cell: Mapping[str, Any] | None = row["cells"].get(f"{data}.{measure}")
    return cell if cell and cell["n"] else None


def paper_name(document: Mapping[str, Any], data: str) -> str:
    """What to call the published numbers next to those of ``data``: of which data they are, where they are others."""
    described = document["data"][data]
    return "paper" if described["papers"] else f"paper, {described['stands_for']}"


def main_table(document: Mapping[str, Any]) -> Table:
    """The table itself: each column next to the paper's, where the paper has one."""
    columns = document["columns"]
    header = ["", "n"]
    for column in columns:
        header.append(_title(document, column))
        if column["published"]:
            header.append(paper_name(document, column["data"]))
    rows = []
    for row in document["rows"]:
        texts = [row["label"], _trainings(row)]
        for column in columns:
            cell = row["cells"][column["key"]]
            texts.append(mean_text(column["measure"], cell))
            if column["published"]:
                texts.append(value_text(column["measure"], cell["paper"]))
        rows.append(texts)
    return header, rows


def difference_table(document: Mapping[str, Any]) -> Table:
    """The differences to the paper and to the baseline."""
    columns = document["columns"]
    header = [""]
    for column in columns:
        title = _title(document, column)
        published = [f"{title} − {paper_name(document, column['data'])}"] if column["published"] else []
        header += [*published, f"{title} − baseline"]
    rows = []
    for row in document["rows"]:
        texts = [row["label"]]
        for column in columns:
            cell, measure = row["cells"][column["key"]], column["measure"]
            if column["published"]:
                texts.append(value_text(measure, difference(cell), signed=True))
            texts.append(difference_text(measure, cell["versus_baseline"]))
        rows.append(texts)
    return header, _filled(rows)


def _filled(rows: Iterable[list[str]]) -> list[list[str]]:
    """Those with any number."""
    return [row for row in rows if any(text != _NONE for text in row[1:])]


def difference(cell: Mapping[str, Any]) -> float | None:
    """Our mean minus the published number, where there are both."""
    if cell["mean"] is None or cell["paper"] is None:
        return None
    return float(cell["mean"] - cell["paper"])


def measures_table(
    document: Mapping[str, Any], data: str, names: Sequence[str], text: Callable[..., str] = mean_text
) -> Table:
    """Other measures on one data set, without those and the rows that have none.

    They have their own n: a measure that was asked for later may be there for fewer trainings than the table's.
    """
    by_row = {row["label"]: {name: cell_of(row, data, name) for name in names} for row in document["rows"]}
    shown = [name for name in names if any(cells[name] for cells in by_row.values())]
    rows = ([label, *(text(name, cells[name]) for name in shown)] for label, cells in by_row.items())
    trainings = [name for name in shown if name != "seed_ari"]  # whose values are of pairs
    counted = [
        [label, _range_of_n(by_row[label][name] for name in trainings), *texts] for label, *texts in _filled(rows)
    ]
    return ["", "n", *(_measure(name).title for name in shown)], counted


def spread_table(document: Mapping[str, Any], data: str) -> Table:
    """What the spread of the clustering accuracy is made of; of rows with enough trainings."""
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


def order_table(document: Mapping[str, Any], data: str) -> Table:
    """Per column the pairs of models that are told apart."""
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


def course_of(row: Mapping[str, Any], data: str, measure: str) -> dict[int, Mapping[str, Any]]:
    """Iterations → numbers of the models on the way and of the last one; empty where none was kept."""
    cell, end = cell_of(row, data, measure), cell_of(row, data, "iterations")
    if cell is None or end is None or "steps" not in cell:
        return {}
    return {**{int(step): numbers for step, numbers in cell["steps"].items()}, int(end["mean"]): cell}


def course_table(document: Mapping[str, Any], data: str) -> Table:
    """The models on the way: a row per model and measure, a column per number of iterations."""
    texts = []
    courses = {
        (column["measure"], row["label"]): course_of(row, data, column["measure"])
        for column in document["columns"]
        if column["data"] == data
        for row in document["rows"]
    }
    steps = sorted({step for course in courses.values() for step in course})
    for (measure, label), course in courses.items():
        if course:
            means = [mean_text(measure, course.get(step)) for step in steps]
            texts.append([label, _measure(measure).title, *means])
    return ["", "", *(f"{step:,}".replace(",", " ") for step in steps)], texts


def markdown(document: Mapping[str, Any]) -> str:
    """The whole report."""
    models = _models(document)
    parts = [f"# {document['title']}", _how(document), markdown_table(document)]
    parts.append(_table_legend(document, controls=models < len(document["rows"])))
    if document["failed"]:
        parts.append("Not available:\n\n" + "\n".join(f"- {f['cell']}: {f['error']}" for f in document["failed"]))
    header, rows = difference_table(document)
    if rows:
        parts += ["## Differences", _difference_legend(document), markdown_rows(header, rows)]
    shown = {column["measure"] for column in document["columns"]}
    measures = _measure_names(document)
    unlisted = [name for name in measures if name not in MEASURES]  # what only a bottleneck's own file names

    def others(*names: str) -> Callable[[str], Table]:
        return lambda data: measures_table(document, data, [name for name in names if name not in shown])

    def intervals(data: str) -> Table:
        return measures_table(document, data, [name for name in MEASURES if name in shown], interval_text)

    sections = (
        ("What the bottleneck carries", _CARRIED, others(*CARRIED, *unlisted)),
        ("95 % intervals", _INTERVALS, intervals),
        ("Which models differ", _ORDERS, partial(order_table, document)),
        ("Seeds and starts", _SPREAD, partial(spread_table, document)),
        ("Beyond the paper's evaluation", _beyond_legend({*measures} - shown), others(*BEYOND)),
        ("Along the training", _COURSE, partial(course_table, document)),
    )
    for title, text, table in sections:
        tables = {data: table(data) for data in document["data"]}
        if any(rows for _, rows in tables.values()):
            parts += [f"## {title}", text]
        for data, (header, rows) in tables.items():
            if rows:
                parts += [f"{document['data'][data]['title']}:"] * (len(document["data"]) > 1)
                parts.append(markdown_rows(header, rows))
    return "\n\n".join(parts) + "\n"


def _measure_names(document: Mapping[str, Any]) -> list[str]:
    """Of all cells with a run."""
    cells = (item for row in document["rows"] for item in row["cells"].items())
    return list(dict.fromkeys(key.rpartition(".")[2] for key, cell in cells if cell["n"]))


def _how(document: Mapping[str, Any]) -> str:
    """Command, data, settings."""
    lines = [f"    {document['command']}", ""]
    for data in document["data"].values():
        fingerprints = (text[:16] for text in data.get("fingerprints", ()))
        lines.append(
            f"- {data['title']}: {data['train']} training and {data['test']} test images of "
            f"{' x '.join(map(str, data['image_shape']))}"
            + ("" if data["papers"] else f", in the place of the paper's {data['stands_for']}")
            # These tell the images of a name of the user's own from others.
            + ("" if data["name"] in IMAGE_SHAPES else f"; fingerprints {' and '.join(fingerprints)}")
        )
        lines += [f"- {text}" for text in settings_lines(data["settings"])]
    torch = f" with PyTorch {', '.join(document['torch'])}" if document.get("torch") else ""
    where = f"; measured on {', '.join(document['processors'])}{torch}" if document["processors"] else ""
    lines.append(f"- seeds: {', '.join(map(str, document['seeds']))}; softvq {document['softvq']}{where}")
    return "\n".join(lines + [f"- {note}" for note in document["notes"]])


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
    """A long table: one line for each cell with a run, and for each step of its course.

    Accuracies are fractions of 1, and ``values`` has one number a seed. The data have their own name, whatever data set
    of the paper they stand for; the settings of a sweep have columns.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    axes = list(document.get("over") or ([document["setting"]] if "setting" in document else []))
    table.writerow(("row", *axes, "data", "measure", "step", *_CSV_NUMBERS))
    for row in document["rows"]:
        place = row["row"].split(", ") if axes else []  # the values that name a row of a sweep
        for key, cell in row["cells"].items():
            data, _, measure = key.rpartition(".")
            for step, numbers in (*cell.get("steps", {}).items(), ("", cell)):
                if numbers["n"]:
                    name = (row["row"], *place, document["data"][data]["name"], measure, step)
                    table.writerow([*name, *_csv_numbers(numbers)])
    return out.getvalue()


_VERSUS = ("", "_low", "_high", "_p", "_welch_low", "_welch_high", "_welch_p")
_CSV_NUMBERS = (
    *("mean", "std", "n", "values", "interval_low", "interval_high", "paper"),
    *(f"versus_baseline{name}" for name in _VERSUS),
)


def _csv_numbers(numbers: Mapping[str, Any]) -> list[Any]:
    versus = numbers.get("versus_baseline") or {}
    flat = {**numbers, "values": " ".join(map(repr, numbers["values"])), "versus_baseline": versus.get("mean")}
    for prefix, part in (("interval", numbers.get("interval")), ("versus_baseline", versus)):
        flat |= {f"{prefix}_{name}": value for name, value in (part or {}).items()}
    flat |= {f"versus_baseline_welch_{name}": value for name, value in (versus.get("welch") or {}).items()}
    return [flat.get(name) for name in _CSV_NUMBERS]


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


def markdown_table(document: Mapping[str, Any]) -> str:
    """The table itself, with controls in italics."""
    return markdown_rows(*main_table(document), split=_models(document))


def _models(document: Mapping[str, Any]) -> int:
    """How many rows come before the controls that stand below the models."""
    kinds = [row["kind"] for row in document["rows"]]
    return max((i + 1 for i, kind in enumerate(kinds) if kind == "model"), default=len(kinds))


def markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]], split: int | None = None) -> str:
    """A Markdown table; controls, from row ``split`` on, are in italics."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for i, row in enumerate(rows):
        first = f"*{row[0]}*" if split is not None and i >= split else row[0]
        lines.append("| " + " | ".join([first, *row[1:]]) + " |")
    return "\n".join(lines)


def _title(document: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    title = _measure(column["measure"]).title
    return title if len(document["data"]) == 1 else f"{document['data'][column['data']]['title']}, {title}"


def _trainings(row: Mapping[str, Any]) -> str:
    """Number of trainings; of the data sets, if they differ, each."""
    numbers = [len(seeds) for seeds in row["seeds"].values()]
    return str(numbers[0]) if len(set(numbers)) == 1 else ", ".join(map(str, numbers))


def _range_of_n(cells: Iterable[Mapping[str, Any] | None]) -> str:
    """Number of trainings behind some cells; ``1–2`` where they differ in it."""
    numbers = [cell["n"] for cell in cells if cell]
    if not numbers:
        return _NONE
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def difference_text(measure: str, versus: Mapping[str, Any] | None) -> str:
    """``+3.83 [+1.20, +6.46]; [+1.02, +6.64]``: paired, and Welch's."""
    if versus is None:
        return _NONE
    mean = value_text(measure, versus["mean"], signed=True)
    if versus["low"] is None:
        return mean
    intervals = [versus, *([versus["welch"]] if versus.get("welch") else [])]
    return f"{mean} {'; '.join(_ends(measure, interval, signed=True) for interval in intervals)}"


def _table_legend(document: Mapping[str, Any], *, controls: bool) -> str:
    """What the table's columns and its rows in italics are."""
    shown = {column["measure"] for column in document["columns"]}
    two = any(cell["n"] == 2 for row in document["rows"] for cell in row["cells"].values())
    sentences = [
        _MEANS.format(" (of two, both values)" * two),
        *(text for name, text in _COLUMN_LEGENDS.items() if name in shown),
    ]
    if controls:
        inputs = any(row["row"].endswith(":z_q") for row in document["rows"])
        sentences.append(_ITALICS + (_INPUTS if inputs else "") + ".")
    return _wrapped(" ".join(sentences))


def _difference_legend(document: Mapping[str, Any]) -> str:
    """What is compared with what."""
    keys = [column["key"] for column in document["columns"]]
    sentences = [_TO_PAPER] if any(column["published"] for column in document["columns"]) else []
    if versus := [cell for row in document["rows"] for key in keys if (cell := row["cells"][key]["versus_baseline"])]:
        labels = {row["row"]: row["label"] for row in document["rows"]}
        baseline = document.get("baseline") or BASELINE
        welch = _WELCH if any(each.get("welch") for each in versus) else ""
        sentences.append(_TO_BASELINE.format(labels.get(baseline) or BOTTLENECKS[baseline].label, welch))
    return _wrapped(" ".join(sentences))


def _beyond_legend(measures: Collection[str]) -> str:
    text = "; ".join(legend for name, legend in _BEYOND_LEGENDS.items() if name in measures)
    return _wrapped(f"{text[:1].upper()}{text[1:]}.")


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)
