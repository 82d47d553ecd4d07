"""softvq probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import Data, DataDir, Device, Reading, Seed, Streams, completion
from softvq_cli.words import SOLVERS


def probe(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT | TRAIN TEST",
            help="A checkpoint or run folder, or two embedding files (.npy or .parquet) with labels; parts of "
            "embed --shard count as one file.",
        ),
    ],
    solver: Annotated[
        str,
        typer.Option(
            "--solver",
            metavar="|".join(SOLVERS),
            help="lbfgs finds the optimum; adam trains as the paper's notebooks do.",
            autocompletion=completion(SOLVERS),
        ),
    ] = "lbfgs",
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="A .npy file with one integer label per row; give it twice, for the train and the test file. Default: "
            "NAME.labels.npy.",
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            "--neighbours",
            metavar="K",
            help="Also classify each test row by its K nearest neighbours in the training split.",
        ),
    ] = None,
    few_labels: Annotated[
        str | None,
        typer.Option(
            "--few-labels",
            metavar="N,…",
            help="Also train with this many labels per class, for example 10,100,1000; prints the mean of 5 draws.",
        ),
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    data_dir: DataDir = None,
    reading: Reading,
    device: Device = "auto",
    terminal: Streams,
) -> None:
    """Train a linear probe (softmax layer) on the latents of the training split and test it on the test split.

    Given a checkpoint, it embeds both splits first and writes no files. Into a pipe it prints one JSON document, which
    also has the accuracy of each class and the confusion matrix.

    Examples:
      softvq probe runs/vq
      softvq probe runs/vq --neighbours 5 --few-labels 10,100
      softvq probe train.npy test.npy --json | jq .probe_accuracy
    """
    from softvq_cli.cli.tables import probing_tables
    from softvq_cli.results.embedded import probe_files

    found = probe_files(
        files,
        labels=labels or (),
        solver=solver,  # type: ignore[arg-type]
        neighbours=neighbours,
        few_labels=[_whole(word) for word in (few_labels or "").split(",") if word.strip()],
        seed=seed,
        data=data,
        data_dir=data_dir,
        reading=reading,
        device=device,
        reporter=terminal,
    )
    terminal.result(found.as_dict(), lambda: probing_tables(found))
    following = ("tsne", files[-1], "-o", "tsne.png") if len(files) > 1 else ("embed", files[0])
    terminal.hint("softvq", *following)


def _whole(word: str) -> int:
    from softvq_cli.errors import UsageError, shown

    try:
        return int(word)
    except ValueError as error:
        raise UsageError(f"--few-labels takes whole numbers separated by commas, not {shown(word.strip())}") from error
