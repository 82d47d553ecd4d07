"""The command ``softvq export``: write a model in the safetensors or ONNX format."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import CHECKPOINT, OVERWRITE, Streams, option


def export(
    *,
    checkpoint: Path = CHECKPOINT,
    safetensors: bool = option(False, "Write the weights in the safetensors format.", show_default=False),
    onnx: Path | None = option(None, "Write the model in the ONNX format.", value="FILE"),
    out: Path | None = option(
        None, "Output file of --safetensors. Default: model.safetensors next to the checkpoint.", "-o", value="FILE"
    ),
    overwrite: bool = OVERWRITE,
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

    if safetensors == (onnx is not None):
        raise UsageError("which format? Give --safetensors for the weights or --onnx FILE for the model")
    if onnx is not None and out is not None:
        raise UsageError("--out works only with --safetensors: --onnx takes its own file name")
    source = checkpoint_file(checkpoint)
    check_present(source)
    target = onnx or out or source.with_name("model.safetensors")
    suffix = ".safetensors" if onnx is None else ".onnx"
    if target.suffix != suffix:
        raise UsageError(f"the file must end in {suffix}: {target}")
    refuse_existing(target, overwrite=overwrite)
    from softvq_cli.training import checkpoint as checkpoints
    from softvq_cli.training import export  # imported here, because it loads PyTorch

    if onnx is not None:
        export.require_onnx()
    model = checkpoints.load(source)
    model.export(target)
    if onnx is None:
        terminal.wrote(target)
        terminal.hint("softvq", "info", target)
        return
    names = export.outputs_of(model.model)
    terminal.wrote(target, document={"outputs": list(names)})
    meaning = export.input_meaning(model.config.data.pixel_range, of_vectors=model.model.of_vectors)
    terminal.note(f"it takes {meaning}")
    terminal.note(f"in Python: session = onnxruntime.InferenceSession({str(target)!r})")
    terminal.note(f"           {', '.join(names)} = session.run(None, {{{export.INPUT!r}: images}})")
