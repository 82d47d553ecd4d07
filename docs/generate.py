"""Write the pages that repeat what the program knows, so that they cannot differ from it.

- docs/commands/: the live help pages, one page per command, and one for the settings that commands share;
- docs/architecture.md: the list of files, from their docstrings;
- docs/schemas: the JSON schemas, from the classes in softvq_cli/cli/documents.py;
- docs/results: Markdown, CSV, LaTeX and figures (apart from maps) of the JSON documents;
- docs/RESULTS.md: the tables from ``<!-- table FILE MEASURE… -->`` to ``<!-- end -->``, from the same documents.

``python docs/generate.py``
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints
from unittest import mock

from softvq_cli.__main__ import main
from softvq_cli.cli.app import COMMANDS
from softvq_cli.cli.documents import DOCUMENTS, OPEN
from softvq_cli.experiments import formats
from softvq_cli.experiments.report import write_forms

WIDTH = 80
COMMAND_PAGES = Path(__file__).with_name("commands")
ARCHITECTURE = Path(__file__).with_name("architecture.md")
RESULTS = Path(__file__).with_name("results")
RESULTS_PAGE = Path(__file__).with_name("RESULTS.md")
PACKAGE = Path(__file__).resolve().parents[1] / "softvq_cli"
SCHEMAS = Path(__file__).with_name("schemas")
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
SETTINGS = ("Data settings", "Model settings", "Loss settings", "Train settings")
"""The sections of a help page that several commands share."""
ALL_SETTINGS = "train"
"""The command that has all of them."""


@functools.cache
def help_page(*words: str) -> str:
    """What ``softvq WORDS --help`` prints into a pipe, at a fixed width and without colour."""
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "GITHUB_ACTIONS")}
    environment |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    out = io.StringIO()
    with mock.patch.dict(os.environ, environment, clear=True), contextlib.redirect_stdout(out):
        main([*words, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def sections(name: str) -> dict[str, str]:
    """Title → text of the parts of a command's help page; the first, without a title, is usage and description."""
    parts = re.split(r"^ {0,2}(\w[\w ]*):\n", help_page(name), flags=re.MULTILINE)
    return {"": parts[0], **{title: text.rstrip("\n") for title, text in zip(parts[1::2], parts[2::2], strict=True)}}


def options(text: str) -> list[str]:
    """The long names of the options in a section, ``--latent-dim``."""
    return re.findall(r"^ +(?:-\w, )?(--[a-z-]+|--K)", text, re.MULTILINE | re.IGNORECASE)


def block(text: str) -> str:
    """Text in a fixed-width font."""
    return f"```text\n{text.rstrip()}\n```"


def command_page(name: str) -> str:
    """One command: its help page, with a link in the place of the settings that commands share."""
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
    ARCHITECTURE.write_text(architecture(), encoding="utf-8")
    for folder, texts in ((SCHEMAS, schemas()), (COMMAND_PAGES, command_pages())):
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    for path in RESULTS.rglob("*.json"):
        write_forms(json.loads(path.read_text(encoding="utf-8")), path.parent)
