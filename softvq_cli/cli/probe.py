"""softvq probe."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import Data, DataDir, Device, Json, Seed, completion
from softvq_cli.cli.output import Streams
from softvq_cli.words import SOLVERS


def probe(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT | TRAIN TEST",
            help="A run's ckpt.pt or folder, or two .npy files of embeddings with labels.",
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
    device: Device = "auto",
    as_json: Json = False,
    terminal: Streams,
) -> None:
    """Train one softmax layer on the training split's latents and test it on the test split's.

    From a checkpoint, both splits are embedded on the way and nothing is written. Into a pipe goes one JSON
    document, with the accuracy of each class and the confusion matrix too.
    """
    from rich.console import Group

    from softvq_cli import embeddings
    from softvq_cli.cli.tables import few_labels_table, neighbours_table, probe_table
    from softvq_cli.cli.targets import checkpoint_file
    from softvq_cli.devices import pick
    from softvq_cli.errors import UsageError
    from softvq_cli.evaluation.neighbours import neighbours as neighbours_probe
    from softvq_cli.evaluation.probe import few_labels as few_labels_probe
    from softvq_cli.evaluation.probe import probe as softmax_probe
    from softvq_cli.pipeline.source import Source
    from softvq_cli.training import checkpoint

    if len(files) > 2:
        raise UsageError(f"give one checkpoint, or two embedding files (train, test), not {len(files)} files")
    if len(files) == 1 and files[0].suffix == ".npy":
        raise UsageError("a probe of embedding files needs two of them: those of the train and of the test split")
    if labels and (len(labels), len(files)) != (2, 2):
        raise UsageError("--labels goes with two embedding files and is given twice: for the train and the test rows")
    if len(files) == 2 and (data or data_dir):
        raise UsageError("--data and --data-dir go with a checkpoint, not with embedding files")
    sizes = [_whole(word) for word in (few_labels or "").split(",") if word.strip()]
    with terminal.bars() as bars, tempfile.TemporaryDirectory() as folder:
        if len(files) == 2:
            train, test = (embeddings.read(*pair) for pair in zip(files, labels or (None, None), strict=True))
        else:
            model = checkpoint.load(checkpoint_file(files[0]), pick(device))
            train, test = Source(model, data, data_dir, terminal.warn, bars.report).embed_splits(Path(folder))
        bars.begin("probing")
        rows = (train.z, train.labels, test.z, test.labels)
        found = softmax_probe(*rows, solver=solver, class_names=train.class_names, seed=seed)  # type: ignore[arg-type]
        document, tables = found.as_dict(), [probe_table(found)]
        if neighbours is not None:
            nearest = neighbours_probe(*rows, k=neighbours, class_names=train.class_names)
            document["neighbours"] = nearest.as_dict()
            tables.append(neighbours_table(nearest))
        if sizes:
            few = [few_labels_probe(*rows, labels_per_class=size, seed=seed) for size in sizes]
            document["few_labels"] = [one.as_dict() for one in few]
            tables.append(few_labels_table(few))
    terminal.result(document, lambda: Group(*tables), as_json=as_json or terminal.piped)
    following = ("tsne", files[1], "-o", "tsne.png") if len(files) == 2 else ("embed", files[0])
    terminal.hint("softvq", *following)


def _whole(word: str) -> int:
    from softvq_cli.errors import UsageError

    try:
        return int(word)
    except ValueError as error:
        raise UsageError(f"--few-labels takes whole numbers with commas between them, not {word.strip()!r}") from error
