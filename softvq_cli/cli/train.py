"""The command ``softvq train``: train one autoencoder."""

from __future__ import annotations

from pathlib import Path

from softvq_cli.cli.options import DEVICE, OUT, OVERWRITE, RESUME, Settings, Streams, note_unused, option
from softvq_cli.words import LOGGERS


def train(
    *,
    settings: Settings,
    out: Path | None = OUT,
    resume: bool = RESUME,
    overwrite: bool = OVERWRITE,
    device: str = DEVICE,
    log: list[str] | None = option(
        None,
        "Also log the training for this program, in the folder of the run. Can be given several times.",
        value=LOGGERS,
    ),
    terminal: Streams,
) -> None:
    """Train one autoencoder and print the path of its checkpoint.

    Without options it trains a soft VQ-VAE on the digits that come with scikit-learn. The defaults are the settings of
    the paper and its authors' notebooks for this data set and bottleneck. They are shown in brackets; docs/RESULTS.md
    says where they differ from the paper. Your own images get the defaults of svhn, or those of digits if they are
    smaller than 16x16 pixels.

    Ctrl-C finishes the current step and saves a checkpoint; so do SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU.
    --resume continues from it with the same result as a run without a stop. With more --iterations it also continues
    a finished run.

    Examples:
      softvq train
      softvq train --data mnist --bottleneck vq --K 64 -o runs/vq
      softvq train --data photos/ --image-size 32
      softvq train -o runs/vq --resume --iterations 60000
    """
    from softvq_cli.cli.output import refuse_both
    from softvq_cli.cli.tables import training_table
    from softvq_cli.training import train as train_model

    refuse_both(resume=resume, overwrite=overwrite)
    note_unused(settings, terminal)
    run = train_model(
        settings,
        out=out,
        resume=resume,
        overwrite=overwrite,
        device=device,
        reporter=terminal,
        stop=terminal.stop,
        logs=log or (),
    )
    if run.finished_before:
        terminal.note(f"{run.folder} is already finished: nothing to do")
    if "tensorboard" in (log or ()):
        terminal.note(f"view the curves with: tensorboard --logdir {run.folder}")
    document = {"config": run.config.as_dict(), "metrics": run.metrics}
    terminal.wrote(run.path, lambda: training_table(document), document=document)
    terminal.hint("softvq", "embed", run.path)
