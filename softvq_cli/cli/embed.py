"""softvq embed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import (
    BatchSize,
    CheckpointFile,
    Data,
    DataDir,
    Device,
    Json,
    Overwrite,
    completion,
    list_completion,
)
from softvq_cli.cli.output import Streams
from softvq_cli.config import BATCH
from softvq_cli.errors import UsageError, unknown_name
from softvq_cli.words import REPRESENTATIONS, SPLITS, TABLE_COLUMNS


def embed(
    *,
    checkpoint: CheckpointFile,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The .npy or .parquet file; its folder is made. -: a .npy to standard output.",
        ),
    ] = Path("embeddings.npy"),
    split: Annotated[
        str,
        typer.Option("--split", metavar="|".join(SPLITS), help="Which images.", autocompletion=completion(SPLITS)),
    ] = "test",
    what: Annotated[
        str,
        typer.Option(
            "--what",
            metavar="NAME",
            help=f"What to write of each image: {', '.join(REPRESENTATIONS)}.",
            autocompletion=completion(REPRESENTATIONS),
        ),
    ] = "z_e",
    columns: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="NAME,…",
            help=f"What else a .parquet holds: {', '.join(TABLE_COLUMNS)}.",
            autocompletion=list_completion(TABLE_COLUMNS),
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", "-k", metavar="INT", help="Of the column cluster. Default: as many as classes."),
    ] = None,
    data: Data = None,
    data_dir: DataDir = None,
    batch_size: BatchSize = BATCH,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
    terminal: Streams,
) -> None:
    """Write what a trained model makes of each image to NumPy files, and print the path.

    NAME.npy holds one row an image, float32 (int64 for indices), in the order of the data set; NAME.labels.npy
    and NAME.json stand beside it. z_e is the encoder's output, before noise and bottleneck; z_q is the decoder's input.

    NAME.parquet is one table for other programs, with the vector, the label, the class, the file and the number of
    each image, and what --with adds: the image, its place on a t-SNE map, its K-means cluster, its nearest neighbours.

    The images come from where train found them, unless --data or --data-dir says otherwise.

    Examples:
      softvq embed runs/vq
      softvq embed runs/vq --split train -o latents/train.npy
      softvq embed "$(softvq train)" --what reconstruction -o new.npy
      softvq embed runs/vq -o z.parquet --with image,map,cluster
    """
    from softvq_cli import embeddings
    from softvq_cli.cli import pipes
    from softvq_cli.cli.targets import refuse_existing
    from softvq_cli.embeddings.table import ENDING, check_available
    from softvq_cli.pipeline.source import Source
    from softvq_cli.pipeline.table import embed_table

    chosen = _columns(columns)
    is_table = out.suffix == ENDING
    if (chosen or clusters is not None) and not is_table:
        raise UsageError("--with and --clusters go with a .parquet: give one to --out")
    if clusters is not None and "cluster" not in chosen:
        raise UsageError("--clusters goes with --with cluster")
    if out == pipes.PIPE:
        if as_json:
            raise UsageError("--json and -o - both write to standard output: give one of them")
        pipes.refuse_terminal()
    elif is_table:
        check_available()
        refuse_existing(out, overwrite=overwrite, makes_folder=True)
    else:
        embeddings.check_name(out)
        files = (out, embeddings.labels_path(out), embeddings.info_path(out))
        refuse_existing(*files, overwrite=overwrite, makes_folder=True)
    with terminal.bars() as bars, tempfile.TemporaryDirectory() as folder:
        source = Source.open(
            checkpoint,
            data=data,
            data_dir=data_dir,
            device=device,
            warn=terminal.warn,
            progress=bars.report,
            note=terminal.note,
        )
        if is_table:
            written = embed_table(
                source,
                split,
                out,
                columns=chosen,
                what=what,
                batch_size=batch_size,
                clusters=clusters,
                begun=bars.begin,
            )
        else:
            target = Path(folder) / "rows.npy" if out == pipes.PIPE else out
            written = source.embed(split, target, what=what, batch_size=batch_size)
        if out == pipes.PIPE:
            pipes.send(written.path)
            return
    document = {"rows": len(written), "columns": written.z.shape[1], "labels": written.labels is not None}
    terminal.wrote(written.path, document=document, as_json=as_json)
    terminal.hint("softvq", "cluster", written.path, *([] if written.labels is not None else ["--clusters", "10"]))


def _columns(text: str | None) -> list[str]:
    """The names in ``image,map``, checked."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in TABLE_COLUMNS:
            raise UsageError(unknown_name("value of --with", name, TABLE_COLUMNS))
    return names
