"""Every option that is not a setting of a run, written once, so that it is the same word everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from softvq_cli.words import DEVICES


@dataclass(frozen=True)
class Bundle:
    """Several options that a command receives as one value; see :func:`softvq_cli.cli.app.command`."""

    parameters: Callable[[], list[inspect.Parameter]]
    build: Callable[[dict[str, Any]], Any]
    """From the options' values by parameter name."""


def parameter(name: str, annotation: Any, option: Any, default: Any = None) -> inspect.Parameter:
    """One of a bundle's options."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )


def completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete to one of ``words`` in the shell."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def list_completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Complete the last word of ``a,b`` to one of ``words`` that is not there yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in words if word.startswith(last) and word not in before.split(",")]

    return complete


CheckpointFile = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="The ckpt.pt of a run, or the run's folder.")
]
EmbeddingFile = Annotated[
    Path,
    typer.Argument(
        metavar="EMBEDDINGS",
        help="A .npy or .parquet file of rows, ours or anyone's; - for a .npy from standard input.",
    ),
]
EmbeddingFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="EMBEDDINGS", help="One .npy or .parquet file of rows a panel, ours or anyone's; - for standard input."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="A .npy of whole numbers, one a row. Default: NAME.labels.npy."),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="The run's folder. Default: one in runs/.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there; without it nothing is.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on exactly where the run in the folder stopped.")]
Device = Annotated[
    str,
    typer.Option("--device", metavar="|".join(DEVICES), help="Where to compute.", autocompletion=completion(DEVICES)),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="INT", help="Processors to use at most; the result is the same. Default: all."
    ),
]
Seed = Annotated[int, typer.Option("--seed", "-s", metavar="INT", help="Seed; the same one gives the same result.")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="INT", min=1, help="Images at a time.")]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        metavar="TEXT",
        help="Other data than the checkpoint was trained on: a name or a path.",
        allow_from_autoenv=False,
    ),
]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Where the named data sets lie now, if they were moved.")
]
