"""Write docs/commands.md from the live help pages, the list of files in docs/architecture.md from their docstrings, and
in docs/results whatever is made from the JSON documents: tables and figures, but for maps, whose points are not there.
In docs/RESULTS.md the tables from ``<!-- table FILE MEASURE… -->`` to ``<!-- end -->`` come from these documents, too.

The schemas of what commands print, docs/schemas, are made of the classes in softvq_cli/cli/documents.py.

``python docs/generate.py``
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from softvq_cli.cli.app import COMMANDS
from softvq_cli.cli.documents import DOCUMENTS, OPEN
from softvq_cli.experiments import formats
from softvq_cli.experiments.report import write_forms

WIDTH = 80
PAGE = Path(__file__).with_name("commands.md")
ARCHITECTURE = Path(__file__).with_name("architecture.md")
RESULTS = Path(__file__).with_name("results")
RESULTS_PAGE = Path(__file__).with_name("RESULTS.md")
PACKAGE = Path(__file__).resolve().parents[1] / "softvq_cli"
SCHEMAS = Path(__file__).with_name("schemas")
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
INTRODUCTION = """\
# The commands

This page is generated from the program's own help by `python docs/generate.py`.

Results go to standard output, everything else to standard error. Where standard output is not a terminal, `train`,
`embed`, `tsne`, `export`, `reproduce` and `sweep` print just the path that they wrote, so that
`softvq embed "$(softvq train)"` works, and `cluster`, `probe`, `run`, `info` and `data` one JSON document in the place
of a table; `--json` has every command print one.

Each option can also be given by an environment variable: `--latent-dim` by `SOFTVQ_LATENT_DIM`, a flag such as
`--quiet` by `SOFTVQ_QUIET=1`. The command line wins over the variable, and the variable over the file of `--config`;
a note says which variables were used. `--data` is `SOFTVQ_DATASET`, since `SOFTVQ_DATA` is the folder in which the
named data sets lie where `--data-dir` is not given; the `--data` of `embed`, `probe` and `reproduce`, which puts other
data in the place of a run's own, has no variable. `SOFTVQ_CACHE` is the folder of decoded images.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | it failed |
| 2 | wrong usage |
| 3 | bad input: a file, the data, a checkpoint |
| 4 | refused to overwrite |
| 130 | interrupted by Ctrl-C or SIGTERM; a training has written its checkpoint and shows how to go on |
"""


def help_page(*words: str) -> str:
    """What ``softvq WORDS --help`` prints into a pipe, at a fixed width and without colour."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    environment |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "softvq_cli", *words, "--help"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def page() -> str:
    """The whole of docs/commands.md."""
    sections = [INTRODUCTION, f"## softvq\n\n```text\n{help_page()}\n```\n"]
    for names in COMMANDS.values():
        for name in names:
            sections.append(f"## softvq {name}\n\n```text\n{help_page(name)}\n```\n")
    return "\n".join(sections)


def schema(kind: Any) -> dict[str, Any]:  # noqa: PLR0911 (one for each kind of type)
    """The JSON schema of a type: of a class with named fields, of a container, or of plain values."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return {}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is NotRequired:
        return schema(arguments[0])
    if origin in (Union, UnionType):
        return {"anyOf": [schema(each) for each in arguments]}
    if origin is list:
        return {"type": "array", "items": schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    fields = get_type_hints(kind, include_extras=True)
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "properties": {name: schema(of_field) for name, of_field in fields.items()},
        "required": [name for name, of_field in fields.items() if get_origin(of_field) is not NotRequired],
        "additionalProperties": kind in OPEN,
    }


def schemas() -> dict[str, str]:
    """Name of a file in docs/schemas → its text."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    documents = {name: {**head, "title": f"softvq {name}", **schema(kind)} for name, kind in DOCUMENTS.items()}
    return {f"{name}.json": json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in documents.items()}


def files() -> str:
    """One line a file, folder by folder: the first sentence of its docstring."""
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
    """docs/architecture.md with the list of files as it is now."""
    before, start, rest = ARCHITECTURE.read_text(encoding="utf-8").partition("<!-- files -->\n")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{start}{files()}\n{end}{after}"


def results_page() -> str:
    """docs/RESULTS.md with its tables as the documents have them."""
    text = RESULTS_PAGE.read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- table ([^>\n]+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{results_table(*found[2].split())}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def results_table(names: str, *measures: str) -> str:
    """The table of a document, or chosen measures of some (``A+B``); ``spread`` adds what the spread is made of."""
    documents = [json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in names.split("+")]
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


if __name__ == "__main__":
    RESULTS_PAGE.write_text(results_page(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    ARCHITECTURE.write_text(architecture(), encoding="utf-8")
    SCHEMAS.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (SCHEMAS / name).write_text(text, encoding="utf-8")
    for path in RESULTS.rglob("*.json"):
        write_forms(json.loads(path.read_text(encoding="utf-8")), path.parent)
