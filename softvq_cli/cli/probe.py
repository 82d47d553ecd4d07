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
            help="A run's ckpt.pt or folder, or two .npy or .parquet files of embeddings with labels.",
        ),
    ],
    solver: Annotated[
        str,
        typer.Option(
            "--solver",
            metavar="|".join(SOLVERS),
            help="lbfgs finds the optimum; adam is the training of the paper's notebooks.",
            autocompletion=completion(SOLVERS),
        ),
    ] = "lbfgs",
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="A .npy of whole numbers, one a row; given twice, for the train and the test file. Default: "
            "NAME.labels.npy.",
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option("--neighbours", metavar="K", help="Also classify each test row by its K nearest training rows."),
    ] = None,
    few_labels: Annotated[
        str | None,
        typer.Option(
            "--few-labels",
            metavar="N,…",
            help="Also train the layer on so many labels of each class, for example 10,100,1000: the mean of 5 draws.",
        ),
    ] = None,
    seed: Seed = 0,
    data: Data = None,
    data_dir: DataDir = None,
    reading: Reading,
    device: Device = "auto",
    terminal: Streams,
) -> None:
    """Train one softmax layer on the training split's latents and test it on the test split's.

    From a checkpoint, both splits are embedded on the way and nothing is written. Into a pipe goes one JSON
    document, with the accuracy of each class and the confusion matrix too.

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
    following = ("tsne", files[1], "-o", "tsne.png") if len(files) == 2 else ("embed", files[0])
    terminal.hint("softvq", *following)


def _whole(word: str) -> int:
    from softvq_cli.errors import UsageError, shown

    try:
        return int(word)
    except ValueError as error:
        raise UsageError(
            f"--few-labels takes whole numbers with commas between them, not {shown(word.strip())}"
        ) from error
