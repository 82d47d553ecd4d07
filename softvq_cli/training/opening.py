"""From what is asked for to a run that can go on: its data, its settings, its directory, its checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softvq_cli import datasets
from softvq_cli.config import DataConfig, RunConfig, resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.devices import pick
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.training import checkpoint, log, run_directory
from softvq_cli.training.checkpoint import Checkpoint, DatasetInfo
from softvq_cli.training.observer import Observer
from softvq_cli.training.running import Run, Running
from softvq_cli.training.session import Session

DATA = frozenset(DataConfig.__dataclass_fields__)


@dataclass(frozen=True)
class Order:
    """One run that is asked for."""

    chosen: Mapping[str, Any]
    """Settings by name; the others come from the preset, or when resuming from the run itself."""
    out: Path | None = None
    """The run directory; by default one under ``runs/`` that is named after the settings."""
    resume: bool = False
    """Go on exactly where the run in the directory stopped; begin it if there is none."""
    overwrite: bool = False
    """Replace a run that is there."""
    observer: Observer = field(default_factory=Observer)
    """Is told what happens."""


@contextlib.contextmanager
def opened(order: Order, device: str) -> Iterator[Run | Running]:
    """The run in its directory, which is locked within the block; a finished one if there is nothing left to do.

    Raises:
        UsageError: a setting is wrong, or would change a run that is to be resumed.
        InputError: the data or the checkpoint cannot be used.
        RefusedError: the directory holds a run, or another process works in it.
        SoftVQError: it cannot be written.
    """
    observer, target = order.observer, pick(device)
    dataset, config, folder = _plan(order)
    with run_directory.locked(folder):
        saved = _saved(folder) if order.resume else None
        if saved and saved.finished:
            yield Run(folder, saved.config, saved.metrics, finished_before=True)
            return
        dataset = dataset or datasets.load(config.data, "train", progress=observer.data_progress)
        info = DatasetInfo.of(dataset)
        _check_data(config, dataset)
        if saved:
            _check_saved(saved, config, info)
        validation = datasets.load(config.data, "test", progress=observer.data_progress)
        session = Session(config, dataset, validation, target, observer.noted)
        if saved:
            _restore(session, saved)
        if order.resume and not run_directory.is_used(folder):
            observer.noted(f"there is no run in {folder} yet: it begins")
        if not (order.resume and run_directory.is_used(folder)):
            run_directory.claim(folder, config, overwrite=order.overwrite)
        elif not (folder / run_directory.CONFIG).exists():
            run_directory.write_config(folder, config)
        if log.truncate(folder, session.step) < session.step // config.train.log_every:
            observer.noted(f"{folder / log.FILE} was damaged: the lines from there to step {session.step} are lost")
        observer.started(config, folder, session.step)
        yield Running(session, folder, info, observer, saved.metrics if saved else {}, device)


def _plan(order: Order) -> tuple[Dataset | None, RunConfig, Path]:
    """The configuration and the folder; the data set too, where its shape was needed to find them."""
    chosen, out = dict(order.chosen), order.out
    if order.resume and out is not None and run_directory.is_used(out):
        return None, run_directory.for_resume(out, chosen), out
    data = DataConfig(**{name: value for name, value in RunConfig.from_flat(chosen).flat().items() if name in DATA})
    dataset = datasets.load(data, "train", progress=order.observer.data_progress)
    config = resolve(data.data, dataset.image_shape, chosen)
    folder = out or run_directory.default_folder(config, dataset.name)
    if order.resume and run_directory.is_used(folder):
        config = run_directory.for_resume(folder, chosen)
    return dataset, config, folder


def _saved(folder: Path) -> Checkpoint | None:
    path = folder / run_directory.CHECKPOINT
    return checkpoint.load(path) if path.exists() else None


def _check_data(config: RunConfig, dataset: Dataset) -> None:
    if all(image.min() == image.max() == dataset.images[0].min() for image in dataset.images):  # ends at the first
        raise InputError(f"all pixels of {dataset.name}'s training images are equal: there is nothing to learn")
    if config.train.batch_size > len(dataset):
        raise UsageError(
            f"{param('batch_size')} {config.train.batch_size} is larger than the training split of {dataset.name}, "
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
            f"bring the old data back, or train anew with another {param('out')}"
        )


def _restore(session: Session, saved: Checkpoint) -> None:
    try:
        session.load_state_dict(saved.step, saved.model, saved.training)
    except ValueError as error:
        raise InputError(f"{saved.path} cannot be resumed: {error}") from error
