"""Generate the pages that repeat information from the program, so that they cannot differ from it.

- docs/commands/: the help pages, one page per command, and one page for the settings that commands share;
- docs/architecture.md: the list of files, from their docstrings;
- docs/results: Markdown, CSV, LaTeX and figures (apart from maps) from the JSON documents;
- docs/RESULTS.md and docs/studies: the text between ``<!-- table FILE MEASURE… -->`` and the like (see KINDS) and
  ``<!-- end -->``, from the same documents and docs/results/claims.toml.

``python docs/generate.py``
"""

from __future__ import annotations

import ast
import contextlib
import csv
import functools
import io
import json
import os
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any
from unittest import mock

from softvq_cli.__main__ import main
from softvq_cli.cli.app import COMMANDS
from softvq_cli.experiments import formats
from softvq_cli.experiments.document import versus
from softvq_cli.experiments.report import write_forms

WIDTH = 80
COMMAND_PAGES = Path(__file__).with_name("commands")
ARCHITECTURE = Path(__file__).with_name("architecture.md")
RESULTS = Path(__file__).with_name("results")
RESULT_PAGES = (Path(__file__).with_name("RESULTS.md"), *sorted(Path(__file__).with_name("studies").glob("*.md")))
CLAIMS = tomllib.loads((RESULTS / "claims.toml").read_text(encoding="utf-8"))
PACKAGE = Path(__file__).resolve().parents[1] / "softvq_cli"
SETTINGS = ("Data settings", "Model settings", "Loss settings", "Train settings")
"""The sections of a help page that several commands share."""
ALL_SETTINGS = "train"
"""The command with all of these sections."""


@functools.cache
def help_page(*words: str) -> str:
    """The output of ``softvq WORDS --help`` to a pipe, with fixed width and without colour."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    environment |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    out = io.StringIO()
    with mock.patch.dict(os.environ, environment, clear=True), contextlib.redirect_stdout(out):
        main([*words, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def sections(name: str) -> dict[str, str]:
    """Title → text of the sections of a help page; the first, without a title, is usage and description."""
    parts = re.split(r"^ {0,2}(\w[\w ]*):\n", help_page(name), flags=re.MULTILINE)
    return {"": parts[0], **{title: text.rstrip("\n") for title, text in zip(parts[1::2], parts[2::2], strict=True)}}


def options(text: str) -> list[str]:
    """The long names of the options in a section, ``--latent-dim``."""
    return re.findall(r"^ +(?:-\w, )?(--[a-z-]+|--K)", text, re.MULTILINE | re.IGNORECASE)


def block(text: str) -> str:
    """Text as a code block."""
    return f"```text\n{text.rstrip()}\n```"


def command_page(name: str) -> str:
    """The page of one command: its help page, with a link instead of the settings that commands share."""
    of_command = sections(name)
    usage, _, description = of_command[""].partition("\n")
    parts = [f"# softvq {name}", block(usage.removeprefix("Usage: ")), textwrap.dedent(description).strip("\n")]
    for title, text in of_command.items():
        if title and title not in SETTINGS:
            code = textwrap.dedent(text)
            parts += [f"## {title}", f"```sh\n{code}\n```" if title == "Examples" else block(code)]
    here = [option for title in SETTINGS for option in options(of_command.get(title, ""))]
    everywhere = [option for title in SETTINGS for option in options(sections(ALL_SETTINGS)[title])]
    missing = [option for option in everywhere if option not in here + options(of_command["Options"])]
    if here:
        few = len(here) < len(missing)
        text = f"The [settings](settings.md) {_code(here)}." if few else "All [settings](settings.md)."
        parts += ["## Settings", text + (f" Not available here: {_code(missing)}." if missing and not few else "")]
    return "\n\n".join(parts) + "\n"


def _code(options: list[str]) -> str:
    return ", ".join(f"`{option}`" for option in options)


def settings_page() -> str:
    """The settings that train, run, compare, sweep and reproduce share."""
    parts = [
        "# Settings",
        "The settings of a run. `train`, `run`, `compare`, `sweep` and `reproduce` take them as options; commands that "
        "read data take some of the data settings. In brackets: the default, by data set and bottleneck.",
    ]
    for title in SETTINGS:
        parts += [f"## {title}", block(textwrap.dedent(sections(ALL_SETTINGS)[title]))]
    return "\n\n".join(parts) + "\n"


def command_pages() -> dict[str, str]:
    """Name of a file in docs/commands → its text."""
    names = [name for group in COMMANDS.values() for name in group]
    return {"settings.md": settings_page(), **{f"{name}.md": command_page(name) for name in names}}


def files() -> str:
    """One line per file, folder by folder: the first sentence of its docstring."""
    sections: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = " ".join(docstring.split("\n\n")[0].split())
        folder = path.parent.relative_to(PACKAGE.parent).as_posix()
        sections.setdefault(folder, []).append(f"| `{path.name}` | {first.replace('|', chr(92) + '|')} |")
    return "\n\n".join(
        f"**{folder}/**\n\n| file | what it is |\n|---|---|\n" + "\n".join(lines) for folder, lines in sections.items()
    )


def architecture() -> str:
    """docs/architecture.md with the current list of files."""
    before, start, rest = ARCHITECTURE.read_text(encoding="utf-8").partition("<!-- files -->\n")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{start}{files()}\n{end}{after}"


def with_tables(page: Path) -> str:
    """A page in which the text between ``<!-- KIND ARGUMENTS -->`` and ``<!-- end -->`` is updated."""
    return re.sub(
        rf"(<!-- ({'|'.join(KINDS)})( [^>\n]+)? -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{KINDS[match[2]](*(match[3] or '').split())}\n{match[4]}",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )


def read_study(name: str) -> dict[str, Any]:
    """A document; for ``NAME@STEP``, with the models after this number of iterations."""
    file, _, step = name.partition("@")
    document: dict[str, Any] = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
    if step:
        document["rows"] = [row for row in document["rows"] if any("steps" in cell for cell in row["cells"].values())]
        for row in document["rows"]:
            row["cells"] = {
                key: {**cell, **cell["steps"][step]}
                for key, cell in row["cells"].items()
                if step in cell.get("steps", {})
            }
    return document


def table(names: str, *measures: str) -> str:
    """The table of a document, or chosen measures of several (``A+B``); ``spread`` adds the variance components."""
    documents = [read_study(name) for name in names.split("+")]
    if not measures:
        [document] = documents
        return formats.markdown_table(document)
    header, rows = [""], []
    for document in documents:
        [data] = document["data"]
        header, of_measures = formats.measures_table(document, data, [name for name in measures if name != "spread"])
        spread_header, of_spread = formats.spread_table(document, data)
        spread = {row[0]: row[2:] for row in of_spread}
        if "spread" in measures:
            header = [*header, *spread_header[2:]]
            of_measures = [[*row, *spread[row[0]]] for row in of_measures if row[0] in spread]
        rows += of_measures
    return formats.markdown_rows(header, rows)


def intervals(name: str) -> str:
    """The 95 % intervals of a document's columns."""
    document = read_study(name)
    [data] = document["data"]
    measures = [column["measure"] for column in document["columns"]]
    return formats.markdown_rows(*formats.measures_table(document, data, measures, formats.interval_text))


def course(name: str, measure: str) -> str:
    """One measure as a function of the iterations."""
    document = read_study(name)
    [data] = document["data"]
    document["columns"] = [column for column in document["columns"] if column["measure"] == measure]
    header, rows = formats.course_table(document, data)
    return formats.markdown_rows(["", *header[2:]], [[row[0], *row[2:]] for row in rows])


def orders(name: str) -> str:
    """The pairs of models that differ significantly after Holm's correction."""
    document = read_study(name)
    [data] = document["data"]
    header, rows = formats.order_table(document, data)
    return text_table([*header[:-1], "pairs that differ"], rows)


def against(name: str, row: str) -> str:
    """The differences between one row and each other model, paired and by Welch's t test."""
    document = read_study(name)
    columns = document["columns"]
    rows = []
    for other in document["rows"]:
        if other["kind"] == "model" and other["row"] != row:
            differences = [difference(document, row, other["row"], column["key"]) for column in columns]
            texts = map(formats.difference_text, (column["measure"] for column in columns), differences)
            rows.append([other["label"], *texts])
    return formats.markdown_rows(["above", *(column["title"] for column in columns)], rows)


def difference(document: dict[str, Any], row: str, other: str, key: str) -> dict[str, Any] | None:
    """The difference row minus other, if both have a result."""
    values = []
    for name in (row, other):
        [of_row] = [each for each in document["rows"] if each["row"] == name]
        numbers = of_row["cells"][key]["values"]
        # A measure that was requested later has fewer values than the row has seeds.
        seeds = of_row["seeds"][key.partition(".")[0]][: len(numbers)]
        values.append({seed: {key: value} for seed, value in zip(seeds, numbers, strict=True)})
    return versus(key, *values)


def csv_table(name: str) -> str:
    """A CSV file as it is."""
    header, *rows = csv.reader((RESULTS / f"{name}.csv").read_text(encoding="utf-8").splitlines())
    return formats.markdown_rows(header, rows)


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """Left-aligned columns of text."""
    return formats.markdown_rows(header, rows).replace("---:", "---")


def claims() -> str:
    """The paper's claims with their verdicts."""
    header = ["claim", "published", "measured [95 % interval]", "n", "nearest other row [Welch]", "settings", "verdict"]
    return text_table(header, [claim(**each) for each in CLAIMS["claim"]])


def claim(
    text: str,
    study: str,
    row: str,
    column: str,
    test: str = "",
    setting: str = "ours",
    verdict: str = "",
    published: str = "",
) -> list[str]:
    """One line of the table; the default verdict follows from the intervals."""
    document, measure = read_study(study), column.partition(".")[2]
    [of_row] = [each for each in document["rows"] if each["row"] == row]
    cell = of_row["cells"][column]
    measured = formats.interval_text(measure, cell)
    measured = formats.value_text(measure, cell["mean"]) if measured == "–" else measured
    if not published:
        published = "–" if cell.get("paper") is None else formats.value_text(measure, cell["paper"])
    nearest = "–"
    if test:
        sign, others = -1 if test == "lowest" else 1, [test.partition(":")[2]]
        if ":" not in test:
            others = [each["row"] for each in document["rows"] if each["kind"] == "model" and each["row"] != row]
        differences = {other: difference(document, row, other, column) for other in others}
        other, least = min(differences.items(), key=lambda item: sign * item[1]["mean"])
        label = {each["row"]: each["label"] for each in document["rows"]}[other]
        welch = {"mean": least["mean"], "low": None} | (least["welch"] or {})
        nearest = f"{label}: {formats.difference_text(measure, welch)}"
        ends = [sign * each["welch"]["low" if sign > 0 else "high"] for each in differences.values() if each["welch"]]
        expected = "in this order" if sign * least["mean"] > 0 else "in the other order"
        if not ends:
            verdict = verdict or f"not decided (n = 1), {expected}"
        verdict = verdict or ("holds" if min(ends) > 0 else f"not decided, {expected}")
    page = next((each["page"] for each in CLAIMS["study"] if each["file"] == study.partition("@")[0]), None)
    return [f"[{text}](studies/{page}.md)", published, measured, str(cell["n"]), nearest, setting, verdict]


def studies() -> str:
    """The studies with their commands, settings, number of trainings and computing time."""
    rows = []
    for each in CLAIMS["study"]:
        document = read_study(each["file"])
        n = {cell["n"] for row in document["rows"] if row["kind"] == "model" for cell in row["cells"].values()}
        report = f"[{each['title']}](studies/{each['page']}.md)"
        rows.append([report, f"`{document['command']}`", each["setting"], str(max(n)), each["compute"]])
    return text_table(["study", "command", "setting", "n", "compute"], rows)


KINDS = {
    "table": table,
    "intervals": intervals,
    "course": course,
    "orders": orders,
    "against": against,
    "csv": csv_table,
    "claims": claims,
    "studies": studies,
}
"""Kinds of generated text in a page → the function that creates it from the documents."""


if __name__ == "__main__":
    for each in RESULT_PAGES:
        each.write_text(with_tables(each), encoding="utf-8")
    ARCHITECTURE.write_text(architecture(), encoding="utf-8")
    COMMAND_PAGES.mkdir(exist_ok=True)
    for name, text in command_pages().items():
        (COMMAND_PAGES / name).write_text(text, encoding="utf-8")
    for path in RESULTS.rglob("*.json"):
        write_forms(json.loads(path.read_text(encoding="utf-8")), path.parent)
