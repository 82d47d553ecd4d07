"""The command ``softvq run``: train, embed, cluster, probe and draw one configuration."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import DEVICE, OUT, OVERWRITE, RESUME, Settings, Streams, note_unused


def run(
    *,
    settings: Settings,
    out: Path | None = OUT,
    resume: bool = RESUME,
    overwrite: bool = OVERWRITE,
    device: str = DEVICE,
    terminal: Streams,
) -> None:
    """Train, embed, cluster, probe and draw one configuration in one folder.

    It does the work of train, embed, cluster, probe and tsne. The folder then holds the checkpoint, the embeddings of
    both splits, the pictures tsne.png, reconstructions.png and curves.png, pictures of the codebook if there is one,
    and all results in evaluation.json. --resume continues where a run stopped. softvq report makes a page of it.

    Examples:
      softvq run --data digits -o runs/first
      softvq run --data mnist -b vae --seed 1
      softvq run -o runs/first --resume
    """
    from softvq_cli.cli.output import refuse_both
    from softvq_cli.cli.tables import run_table
    from softvq_cli.results.pipeline import run_pipeline

    refuse_both(resume=resume, overwrite=overwrite)
    note_unused(settings, terminal)
    document = run_pipeline(
        settings, out=out, resume=resume, overwrite=overwrite, device=device, reporter=terminal, stop=terminal.stop
    )
    terminal.result(document, lambda: run_table(document))
    for remark in document["remarks"]:
        terminal.note(remark)
    terminal.note(f"all files are in {document['folder']}")
    terminal.hint("softvq", "report", document["folder"])
