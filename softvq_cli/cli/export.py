"""softvq export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import CheckpointFile, Json, Overwrite
from softvq_cli.cli.output import Streams


def export(
    *,
    checkpoint: CheckpointFile,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="The format to write, and so far the only one.", show_default=False)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The file to write. Default: model.safetensors beside the checkpoint."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    terminal: Streams,
) -> None:
    """Write a trained model to a file that other programs can read, and print its path.

    The file holds the weights by name and, as metadata, the settings and the description of the data. What
    only --resume needs is left out, which makes it a third as large. embed, probe and info read it like a
    checkpoint.

    Examples:
      softvq export runs/first --safetensors
      softvq export runs/first --safetensors -o model.safetensors
    """
    from softvq_cli.cli.targets import refuse_existing
    from softvq_cli.errors import UsageError
    from softvq_cli.pipeline.source import checkpoint_file
    from softvq_cli.training import checkpoint as checkpoints

    if not safetensors:
        raise UsageError("which format? --safetensors is known")
    source = checkpoint_file(checkpoint)
    target = source.with_name("model.safetensors") if out is None else out
    if target.suffix != ".safetensors":
        raise UsageError(f"an exported model is written to a file that ends in .safetensors, not {target}")
    refuse_existing(target, overwrite=overwrite)
    checkpoints.load(source).export(target)
    terminal.wrote(target, as_json=as_json)
    terminal.hint("softvq", "info", target)
