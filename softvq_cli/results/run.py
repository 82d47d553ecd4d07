"""Everything for one configuration in one folder: train, then the stages, with what they found in one file."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli.errors import InputError, Interrupted
from softvq_cli.files import read_json, write_json
from softvq_cli.reporter import Reporter
from softvq_cli.results.stages import STAGES, Stage, TrainedRun

SUMMARY = "summary.json"
FILES = (SUMMARY, *(file for stage in STAGES for file in stage.files))
"""What a run's folder has beside what training leaves there."""


@dataclass(frozen=True)
class Summary:
    """What a finished run found."""

    folder: Path
    document: dict[str, Any]
    """As in ``summary.json``: the checkpoint's seal, ``config``, ``training`` (its last metrics), and what each
    stage found, by its name in :data:`STAGES`; ``clustering`` and ``probe`` are None for data without labels, ``tsne``
    where the test split is too small for a map, ``codebook`` for a model without one."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"folder": str(self.folder), **self.document}


def run_pipeline(
    chosen: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Train a configuration and evaluate it; the arguments are those of :func:`softvq_cli.training.train`.

    ``summary.json`` is rewritten after each stage. With ``resume``, a stage that it has for this very
    checkpoint, and whose files are there, is not done again.

    Raises:
        SoftVQError: as training, embedding and the evaluations do.
    """
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint, run_directory, train

    reporter = reporter or Reporter()
    run = train(chosen, out=out, resume=resume, overwrite=overwrite, device=device, reporter=reporter, stop=stop)
    with run_directory.locked(run.folder, FILES):
        trained = checkpoint.load(run.path, pick(device))
        document = {"checkpoint_sha256": trained.sha256, "config": run.config.as_dict(), "training": run.metrics}
        done = stored_results(run.folder, trained.sha256) if resume else {}
        trained_run = TrainedRun(run.folder, trained, reporter)
        for stage in STAGES:
            if stage.name in done and stage.is_done(run.folder, done[stage.name]):
                document[stage.name] = done[stage.name]
                continue
            reporter.stage(stage.title)
            document[stage.name] = _interruptible(stage, trained_run)
            write_json(run.folder / SUMMARY, document)
    return Summary(run.folder, document)


def stored_results(folder: Path, seal: str | None) -> dict[str, Any]:
    """What was found for the checkpoint with this seal, by stage; a stage with damaged numbers is left out."""
    try:
        document = read_json(folder / SUMMARY)
    except InputError:
        return {}
    if not isinstance(document, dict) or seal is None or document.get("checkpoint_sha256") != seal:
        return {}
    return {
        stage.name: document[stage.name]
        for stage in STAGES
        if stage.name in document and stage.fits(document[stage.name])
    }


def _interruptible(stage: Stage, run: TrainedRun) -> Any:
    try:
        return stage.do(run)
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped while {stage.title}", {"out": run.folder, "resume": True}) from error
