"""softvq train."""

from __future__ import annotations

from softvq_cli.cli.options import Device, Out, Overwrite, Resume
from softvq_cli.cli.output import Streams
from softvq_cli.cli.settings import Settings


def train(
    *,
    settings: Settings,
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    terminal: Streams,
) -> None:
    """Train one autoencoder and print the path of its checkpoint.

    Without options: a soft VQ-VAE on the digits that come with scikit-learn. The paper's settings for the data
    set and the bottleneck hold unless an option or the --config file says otherwise; they are shown in
    brackets. Your own images get those of svhn, or of digits where they are smaller than 16x16 pixels.

    Ctrl-C stops after the step at hand, with a checkpoint; --resume then goes on as if nothing had happened.
    """
    from softvq_cli.cli.tables import training_table
    from softvq_cli.cli.targets import refuse_both
    from softvq_cli.cli.watch import watch
    from softvq_cli.training import train as train_model

    refuse_both(resume=resume, overwrite=overwrite)
    with watch(terminal) as (observer, stop):
        run = train_model(
            settings, out=out, resume=resume, overwrite=overwrite, device=device, observer=observer, stop=stop
        )
    if run.finished_before:
        terminal.note(f"{run.folder} had been finished before; nothing was left to do")
    terminal.wrote(run.path, lambda: training_table(run.config, run.metrics))
    terminal.hint("softvq", "embed", run.path)
