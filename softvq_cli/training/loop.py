"""Training from the first step or from a checkpoint to the end, with everything kept on disk."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softvq_cli import datasets
from softvq_cli.config import DataConfig, RunConfig, TrainConfig, resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import pick
from softvq_cli.errors import InputError, Interrupted, SoftVQError, UsageError
from softvq_cli.training import checkpoint, log, run_directory
from softvq_cli.training.checkpoint import Checkpoint, DatasetInfo
from softvq_cli.training.observer import Observer
from softvq_cli.training.session import Session


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: RunConfig
    metrics: dict[str, float]
    """The last line of its log."""
    finished_before: bool = False
    """It was asked to resume and there was nothing left to do."""

    @property
    def path(self) -> Path:
        """Its checkpoint."""
        return self.folder / run_directory.CHECKPOINT


def train(
    chosen: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    observer: Observer | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """Train one model in its run directory.

    Args:
        chosen: settings by name (see :mod:`softvq_cli.config`); the others come from the preset, or when
            resuming from the run itself.
        out: the run directory; by default one under ``runs/`` that is named after the settings.
        resume: go on exactly where the run in the directory stopped; begin it if there is none.
        overwrite: replace a run that is there.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        observer: is told what happens.
        stop: when set, the run writes a checkpoint after the step at hand and raises.

    Raises:
        UsageError: a setting is wrong, or would change a run that is to be resumed.
        InputError: the data or the checkpoint cannot be used.
        RefusedError: the directory holds a run, or another process works in it.
        Interrupted: ``stop`` was set.
        SoftVQError: writing failed, or the loss was not finite.
    """
    observer = observer or Observer()
    stop = stop or threading.Event()
    target = pick(device)
    dataset, config, folder = _plan(chosen, out, resume, observer)
    with run_directory.locked(folder):
        saved = _saved(folder) if resume else None
        if saved and saved.finished:
            return Run(folder, saved.config, saved.metrics, finished_before=True)
        dataset = dataset or datasets.load(config.data, "train", progress=observer.data_progress)
        info = DatasetInfo.of(dataset)
        _check_data(config, dataset)
        if saved:
            _check_saved(saved, config, info)
        validation = datasets.load(config.data, "test", progress=observer.data_progress)
        session = Session(config, dataset, validation, target, observer.noted)
        if saved:
            _restore(session, saved)
        if not (resume and run_directory.is_used(folder)):
            run_directory.claim(folder, config, overwrite=overwrite)
        elif not (folder / run_directory.CONFIG).exists():
            run_directory.write_config(folder, config)
        if log.truncate(folder, session.step) < session.step // config.train.log_every:
            observer.noted(f"{folder / log.FILE} was damaged: the lines from there to step {session.step} are lost")
        observer.started(config, folder, session.step)
        try:
            metrics = _loop(session, folder, info, observer, stop, saved.metrics if saved else {})
        except Interrupted as error:
            words = ["softvq", "train", "--out", str(folder), "--resume"]
            words += [] if device == "auto" else ["--device", device]
            raise Interrupted(f"{error}; to go on: {shlex.join(words)}") from None
    return Run(folder, config, metrics)


def _plan(
    chosen: Mapping[str, Any], out: Path | None, resume: bool, observer: Observer
) -> tuple[Dataset | None, RunConfig, Path]:
    """The configuration and the folder; the data set too, where its shape was needed to find them."""
    chosen = dict(chosen)
    if resume and out is not None and run_directory.is_used(out):
        return None, run_directory.for_resume(out, chosen), out
    data = DataConfig(**{name: value for name, value in RunConfig.from_flat(chosen).flat().items() if name in DATA})
    dataset = datasets.load(data, "train", progress=observer.data_progress)
    config = resolve(data.data, dataset.image_shape, chosen)
    folder = out or run_directory.default_folder(config, dataset.name)
    if resume and run_directory.is_used(folder):
        config = run_directory.for_resume(folder, chosen)
    return dataset, config, folder


DATA = frozenset(DataConfig.__dataclass_fields__)


def _saved(folder: Path) -> Checkpoint | None:
    path = folder / run_directory.CHECKPOINT
    return checkpoint.load(path) if path.exists() else None


def _check_data(config: RunConfig, dataset: Dataset) -> None:
    if config.train.batch_size > len(dataset):
        raise UsageError(
            f"--batch-size {config.train.batch_size} is larger than the training split of {dataset.name}, "
            f"which has {len(dataset)} images"
        )


def _check_saved(saved: Checkpoint, config: RunConfig, info: DatasetInfo) -> None:
    """Make sure that going on from ``saved`` is going on with the run that the folder describes."""
    changed = run_directory.first_change(saved.config, config)
    if changed:
        raise InputError(
            f"{saved.path} was trained with {changed}, and {run_directory.CONFIG} beside it says otherwise: "
            f"put that right, or remove {run_directory.CONFIG} and the checkpoint's settings hold"
        )
    if saved.dataset != info:
        raise InputError(
            f"{config.data.data} is not the data that {saved.path} was trained on (its fingerprint differs): "
            f"bring the old data back, or train anew with another --out"
        )


def _restore(session: Session, saved: Checkpoint) -> None:
    try:
        session.load_state_dict(saved.step, saved.model, saved.training)
    except ValueError as error:
        raise InputError(f"{saved.path} cannot be resumed: {error}") from error


def _loop(
    session: Session,
    folder: Path,
    info: DatasetInfo,
    observer: Observer,
    stop: threading.Event,
    metrics: dict[str, float],
) -> dict[str, float]:
    """Advance to the last step; report, save and stop where it is due. ``metrics`` are the last ones so far."""
    settings = session.config.train
    clock = _Clock(session.step, metrics.get("seconds", 0.0))
    while session.step < settings.iterations:
        if stop.is_set():
            _save(session, folder, info, metrics)
            raise Interrupted(f"stopped at step {session.step} of {settings.iterations}")
        session.advance(_steps_to_boundary(session.step, settings))
        observer.stepped(session.step)
        last = session.step == settings.iterations
        if last or session.step % settings.log_every == 0:
            _refuse_not_finite(session, folder)
            metrics = {**session.report(), **clock.read(session.step)}
            log.append(folder, metrics)
            observer.reported(metrics)
        if last or session.step % settings.checkpoint_every == 0:
            _save(session, folder, info, metrics)
    if session.diagnosis:
        observer.noted(session.diagnosis)
    return metrics


def _steps_to_boundary(step: int, settings: TrainConfig) -> int:
    """How far the run may go before something is due."""
    due = (settings.log_every - step % settings.log_every, settings.checkpoint_every - step % settings.checkpoint_every)
    return min(settings.iterations - step, *due)


def _save(session: Session, folder: Path, info: DatasetInfo, metrics: dict[str, float]) -> None:
    _refuse_not_finite(session, folder)
    checkpoint.save(
        folder / run_directory.CHECKPOINT,
        config=session.config,
        dataset=info,
        step=session.step,
        finished=session.step == session.config.train.iterations,
        metrics=metrics,
        model=session.model,
        training=session.state_dict(),
    )


def _refuse_not_finite(session: Session, folder: Path) -> None:
    """Raise, naming the step and the term, rather than let such a state replace a good checkpoint."""
    where = session.not_finite()
    if where is None:
        return
    path = folder / run_directory.CHECKPOINT
    kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint had been written yet"
    raise SoftVQError(f"{where}; {kept}; try a smaller --lr than {session.config.train.lr:g}")


class _Clock:
    """Seconds of training so far, over all the pieces of a resumed run, and steps a second since the last reading."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.before, self.start = step, seconds, time.perf_counter()
        self.last = self.start

    def read(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        rate = (step - self.step) / max(now - self.last, 1e-9)
        self.step, self.last = step, now
        return {"seconds": round(self.before + now - self.start, 3), "steps_per_second": round(rate, 2)}
