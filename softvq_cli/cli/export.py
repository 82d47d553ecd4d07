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
        bool, typer.Option("--safetensors", help="Write the weights in the safetensors format.", show_default=False)
    ] = False,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Write the model in the ONNX format.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file of --safetensors. Default: model.safetensors next to the checkpoint.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    terminal: Streams,
) -> None:
    """Write a trained model in the safetensors or ONNX format and print its path.

    --safetensors writes the weights by name, with the settings and the description of the data as metadata. It leaves
    out the paths of the data and what only --resume needs, so the file is a third as large. embed, probe and info read
    it like a checkpoint.

    --onnx writes a model that takes images, uint8 (N, H, W, C), or vectors, float32 (N, D), without preprocessing and
    returns z_e, the codes and the reconstruction. It runs in any ONNX runtime.

    Examples:
      softvq export runs/first --safetensors
      softvq export runs/first --onnx model.onnx
    """
    from softvq_cli.cli.output import check_present, refuse_existing
    from softvq_cli.errors import UsageError
    from softvq_cli.results.source import checkpoint_file
    from softvq_cli.training import checkpoint as checkpoints

    if safetensors == (onnx is not None):
        raise UsageError("which format? Give --safetensors for the weights or --onnx FILE for the model")
    source = checkpoint_file(checkpoint)
    check_present(source)
    if onnx is not None:
        _export_onnx(source, onnx, out, overwrite=overwrite, terminal=terminal)
        return
    target = source.with_name("model.safetensors") if out is None else out
    if target.suffix != ".safetensors":
        raise UsageError(f"the file must end in .safetensors: {target}")
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
        raise UsageError("--out works only with --safetensors: --onnx takes its own file name")
    if target.suffix != ".onnx":
        raise UsageError(f"the file must end in .onnx: {target}")
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
