"""The command ``softvq info``: show information about a file, a run or a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.cli.options import Streams, argument

if TYPE_CHECKING:
    from rich.console import Group


def info(
    *,
    path: Path = argument("PATH", "A checkpoint, embeddings, an .onnx file, or the folder of a run or study."),
    terminal: Streams,
) -> None:
    """Show the settings, steps, data and results of a checkpoint, an embedding file, a run or a study.

    It does not need the data.

    Examples:
      softvq info runs/first
      softvq info embeddings.npy
      softvq info runs/first --json | jq .results
    """
    from softvq_cli.results.info import describe

    def tables() -> Group:
        from softvq_cli.cli.tables import info_tables

        return info_tables(document)

    document = describe(path)
    terminal.result(document, tables)
    following = {"checkpoint": "embed", "run": "embed", "embeddings": "cluster"}
    arch = document.get("config", {}).get("model", {}).get("arch")
    if document["kind"] in following and document.get("representation") != "codes" and arch != "own":
        terminal.hint("softvq", following[document["kind"]], path)
