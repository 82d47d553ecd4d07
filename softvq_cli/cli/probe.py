"""The command ``softvq probe``: train a linear probe on latents and test it."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import DATA, DATA_DIR, DEVICE, SEED, Reading, Streams, argument, option, words_of
from softvq_cli.cli.output import option_words
from softvq_cli.errors import UsageError, shown
from softvq_cli.words import SOLVERS


def probe(
    *,
    files: list[Path] = argument(
        "CHECKPOINT | TRAIN TEST",
        "A checkpoint or run folder, or two embedding files (.npy or .parquet) with labels; parts of embed "
        "--shard count as one file.",
    ),
    solver: str = option("lbfgs", "lbfgs finds the optimum; adam trains as the paper's notebooks do.", value=SOLVERS),
    labels: list[Path] | None = option(
        None,
        "A .npy file with one integer label per row; give it twice, for the train and the test file. Default: "
        "NAME.labels.npy.",
        value="FILE",
    ),
    neighbours: int | None = option(
        None, "Also classify each test row by its K nearest neighbours in the training split.", value="K"
    ),
    few_labels: str | None = option(
        None,
        "Also train with this many labels per class, for example 10,100,1000; prints the mean of 5 draws.",
        value="N,…",
    ),
    seed: int = SEED,
    data: str | None = DATA,
    data_dir: str | None = DATA_DIR,
    reading: Reading,
    device: str = DEVICE,
    terminal: Streams,
) -> None:
    """Train a linear probe (softmax layer) on the latents of the training split and test it on the test split.

    Given a checkpoint, it embeds both splits first and writes no files. In a pipe it prints one JSON document, which
    also has the accuracy of each class and the confusion matrix.

    Examples:
      softvq probe runs/vq
      softvq probe runs/vq --neighbours 5 --few-labels 10,100
      softvq probe train.npy test.npy --json | jq .probe_accuracy
    """
    from softvq_cli.cli.tables import probing_tables
    from softvq_cli.results.embedded import probe_files

    document = probe_files(
        files,
        labels=labels or (),
        solver=solver,  # type: ignore[arg-type]
        neighbours=neighbours,
        few_labels=[_whole(word) for word in words_of(few_labels)],
        seed=seed,
        device=device,
        reporter=terminal,
        data=data,
        data_dir=data_dir,
        reading=reading,
    )
    terminal.result(document, lambda: probing_tables(document))
    if len(files) == 1:
        terminal.hint("softvq", "embed", files[0], *option_words({"data": data, "data_dir": data_dir, **reading}))
    else:
        given = option_words({"labels": labels[-1] if labels else None})
        terminal.hint("softvq", "tsne", files[-1], *given, "-o", "tsne.png")


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise UsageError(f"--few-labels takes whole numbers separated by commas, not {shown(word)}") from error
