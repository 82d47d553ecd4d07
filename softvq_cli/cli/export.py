"""softvq export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softvq_cli.cli.options import CheckpointFile, Overwrite, Streams
from softvq_cli.cli.progress import Terminal


def export(
    *,
    checkpoint: CheckpointFile,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Write the weights, for other programs.", show_default=False)
    ] = False,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Write the model, to be run by an ONNX runtime.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The file of --safetensors. Default: model.safetensors beside the checkpoint.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    terminal: Streams,
) -> None:
    """Write a trained model to a file that other programs can read, and print its path.

    --safetensors: the weights by name and, as metadata, the settings and the description of the data. What only
    --resume needs is left out, which makes it a third as large, and so are the folders in which the data lie. embed,
    probe and info read it like a checkpoint.

    --onnx: a model that takes images, uint8 (N, H, W, C), or vectors, float32 (N, D), as they are and gives z_e, the
    codes and the reconstruction. It needs nothing of this program.

    Examples:
      softvq export runs/first --safetensors
      softvq export runs/first --onnx model.onnx
    """
    from softvq_cli.cli.output import refuse_existing
    from softvq_cli.errors import UsageError
    from softvq_cli.results.source import checkpoint_file
    from softvq_cli.training import checkpoint as checkpoints

    if safetensors == (onnx is not None):
        raise UsageError("which format? --safetensors writes the weights, --onnx FILE the model: give one of them")
    source = checkpoint_file(checkpoint)
    if onnx is not None:
        _export_onnx(source, onnx, out, overwrite=overwrite, terminal=terminal)
        return
    target = source.with_name("model.safetensors") if out is None else out
    if target.suffix != ".safetensors":
        raise UsageError(f"an exported model is written to a file that ends in .safetensors, not {target}")
    refuse_existing(target, overwrite=overwrite)
    checkpoints.load(source).export(target)
    terminal.wrote(target)
    terminal.hint("softvq", "info", target)


def _export_onnx(source: Path, target: Path, out: Path | None, *, overwrite: bool, terminal: Terminal) -> None:
    from softvq_cli.cli.output import refuse_existing
    from softvq_cli.errors import UsageError
    from softvq_cli.training import checkpoint as checkpoints
    from softvq_cli.training import export

    if out is not None:
        raise UsageError("--out is the file of --safetensors: --onnx names its own")
    if target.suffix != ".onnx":
        raise UsageError(f"an ONNX model is written to a file that ends in .onnx, not {target}")
    refuse_existing(target, overwrite=overwrite)
    export.require_onnx()
    model = checkpoints.load(source)
    model.export(target)
    names = export.outputs_of(model.model)
    terminal.wrote(target, document={"outputs": list(names)})
    meaning = export.input_meaning(model.config.data.pixel_range, of_vectors=model.model.of_vectors)
    terminal.note(f"it takes {meaning}")
    terminal.note("in Python:")
    terminal.note(f"  session = onnxruntime.InferenceSession({str(target)!r})")
    terminal.note(
        f"  {', '.join(names)} = session.run(None, {{{export.INPUT!r}: images}})  # {meaning[: meaning.index(')') + 1]}"
    )
