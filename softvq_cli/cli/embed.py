"""softvq embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import BatchSize, CheckpointFile, Data, DataDir, Device, Json, Overwrite, completion
from softvq_cli.cli.output import Streams
from softvq_cli.config import BATCH
from softvq_cli.words import REPRESENTATIONS, SPLITS


def embed(
    *,
    checkpoint: CheckpointFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The .npy file to write; its folder is made.")
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

    The images come from where train found them, unless --data or --data-dir says otherwise.

    Examples:
      softvq embed runs/vq
      softvq embed runs/vq --split train -o latents/train.npy
      softvq embed "$(softvq train)" --what reconstruction -o new.npy
    """
    from softvq_cli import embeddings
    from softvq_cli.cli.targets import refuse_existing
    from softvq_cli.pipeline.source import Source

    embeddings.check_name(out)
    files = (out, embeddings.labels_path(out), embeddings.info_path(out))
    refuse_existing(*files, overwrite=overwrite, makes_folder=True)
    with terminal.bars() as bars:
        source = Source.open(
            checkpoint,
            data=data,
            data_dir=data_dir,
            device=device,
            warn=terminal.warn,
            progress=bars.report,
            note=terminal.note,
        )
        written = source.embed(split, out, what=what, batch_size=batch_size)
    document = {"rows": len(written), "columns": written.z.shape[1], "labels": written.labels is not None}
    terminal.wrote(written.path, document=document, as_json=as_json)
    terminal.hint("softvq", "cluster", written.path, *([] if written.labels is not None else ["--clusters", "10"]))
