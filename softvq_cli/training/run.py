"""Train a run, or several runs in parallel: from the requested settings to the finished run folder."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from softvq_cli import datasets
from softvq_cli.config import DataConfig, RunConfig, parse_keep, resolve
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.naming import shorten
from softvq_cli.devices import pick
from softvq_cli.errors import InputError, SoftVQError, UsageError, one_line, param, unknown_name
from softvq_cli.model import Autoencoder, Networks
from softvq_cli.reporter import Reporter, Reporters, tell_notes
from softvq_cli.training import checkpoint, run_directory, tensorboard
from softvq_cli.training.checkpoint import Checkpoint, DatasetInfo, restore
from softvq_cli.training.ranks import Ranks, joined
from softvq_cli.training.run_directory import Run
from softvq_cli.training.session import Session
from softvq_cli.training.tensorboard import TensorBoard
from softvq_cli.training.trainer import RunFiles, Trainer, run_in_turn
from softvq_cli.words import LOGGER_PLUGINS, LOGGERS

DATA = frozenset(DataConfig.__dataclass_fields__)


@dataclass(frozen=True)
class TrainRequest:
    """The request for one run."""

    chosen: Mapping[str, Any]
    """Settings by name; others come from the preset or, with ``resume``, from the run itself."""
    out: Path | None = None
    """The run folder; the default is a folder in ``runs/`` named after the settings."""
    resume: bool = False
    """Continue exactly where the run in the folder stopped, or start it if there is none."""
    overwrite: bool = False
    """Replace an existing run."""
    reporter: Reporter = field(default_factory=Reporter)
    """Receives the events of the run."""
    logs: Sequence[str] = ()
    """Additional loggers, of ``words.LOGGERS``."""
    networks: Networks | None = None
    """A custom encoder and decoder."""


def train(
    chosen: Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
    logs: Sequence[str] = (),
    encoder: torch.nn.Module | None = None,
    decoder: torch.nn.Module | None = None,
) -> Run:
    """Train one model in a run folder.

    Args:
        chosen: settings by name (see ``softvq_cli.config``).
        out: the run folder; the default is a folder in ``runs/`` named after the settings.
        resume: continue exactly where the run in the folder stopped.
        overwrite: replace an existing run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        reporter: receives the events of the run.
        stop: when it is set, the run completes the current step, writes a checkpoint and raises ``Interrupted``.
        logs: additional loggers, of ``words.LOGGERS``.
        encoder: a custom encoder: x (B, C, H, W) with pixels in [0, 1], or vectors (B, D), → (B, any width). A linear
            layer to z_e is added. It is copied. The checkpoint has only its weights; ``load`` needs a module with the
            same architecture.
        decoder: a custom decoder, required with ``encoder``: (B, latent_dim) → the shape of x.

    Raises:
        UsageError: a setting or logger is wrong, or would change a run that is resumed.
        InputError: the data or the checkpoint cannot be used.
        RefusedError: the folder has a run, or another process uses it.
        Interrupted: ``stop`` was set.
        SoftVQError: writing failed, or the loss is not finite.
    """
    for name in logs:
        if name not in LOGGERS:
            raise UsageError(unknown_name("logger", name, LOGGERS))
        _logger(name)
    networks = networks_of(encoder, decoder)
    if networks:
        chosen = {**chosen, "arch": "own"}
    if out is not None and not os.fspath(out).strip():
        raise UsageError("{} is empty: give the folder of the run, or nothing for one under runs/", param("out"))
    folder = None if out is None else Path(out)
    request = TrainRequest(chosen, folder, resume, overwrite, reporter or Reporter(), logs, networks)
    [result] = train_together([request], device=device, stop=stop)
    if isinstance(result, SoftVQError):
        raise result
    return result


def networks_of(encoder: torch.nn.Module | None, decoder: torch.nn.Module | None) -> Networks | None:
    """The pair of both, or None for neither (UsageError: only one)."""
    if encoder is None and decoder is None:
        return None
    if encoder is None or decoder is None:
        raise UsageError("encoder and decoder go together: {} is missing", "encoder" if encoder is None else "decoder")
    return encoder, decoder


def train_together(
    requests: Sequence[TrainRequest], *, device: str = "auto", stop: threading.Event | None = None
) -> list[Run | SoftVQError]:
    """Train several models together, up to one report or checkpoint of each in turn.

    The models are independent: each has the same result as if trained alone, and an error in one does not stop the
    others. On a GPU, all must fit into memory. Their steps run concurrently, because one small model leaves most of a
    GPU idle. Returns, in order, the finished runs, or the error that ``train`` would have raised.
    """
    stop, ranks = stop or threading.Event(), joined(pick(device))
    if ranks and len(requests) > 1:
        raise UsageError("torchrun divides one training, and these are {}: start them by one process", len(requests))
    if ranks and ranks.rank:
        return [_follow(ranks, requests[0], device, stop)]
    results: dict[int, Run | SoftVQError] = {}
    trainers: dict[int, Trainer] = {}
    with contextlib.ExitStack() as directories:
        for number, request in enumerate(requests):
            try:
                ready = directories.enter_context(_open_run(request, device, ranks))
            except SoftVQError as error:
                if ranks:
                    ranks.tell({"result": error})
                results[number] = error
                continue
            if isinstance(ready, Run):
                results[number] = ready
            else:
                trainers[number] = ready
        failures = run_in_turn([*trainers.values()], ranks.follow(stop) if ranks else stop)
    for (number, trainer), failure in zip(trainers.items(), failures, strict=True):
        results[number] = failure or trainer.finished()
    return [results[number] for number in range(len(requests))]


@dataclass(frozen=True)
class TrainedInMemory:
    """The result of a training without a run folder."""

    config: RunConfig
    model: Autoencoder
    """In evaluation mode, without gradients."""
    state: Mapping[str, Any]
    """State of optimiser, random numbers and log interval, as in a checkpoint; empty in an exported model."""
    history: list[dict[str, float]]
    """The metrics of all reports."""


def train_in_memory(
    config: RunConfig,
    dataset: Dataset,
    device: torch.device,
    reporter: Reporter | None = None,
    after: TrainedInMemory | None = None,
    networks: Networks | None = None,
) -> TrainedInMemory:
    """Train on images in memory, without a run folder; validation uses the same images.

    ``after``: a training with the same settings, which is continued to the iterations of ``config``. It is not
    modified (InputError: it has no state for this device). ``networks`` are a custom encoder and decoder.
    """
    reporter, history = reporter or Reporter(), _History()
    session = Session(config, dataset, dataset, device, reporter.note, networks)
    if after:
        history.lines.extend(after.history)
        try:
            restore(session, after.config.train.iterations, after.model.state_dict(), after.state, reported=True)
        except ValueError as error:
            raise InputError(f"this model cannot be trained further: {error}") from error
    trainer = Trainer(session, None, Reporters(history, reporter), after.history[-1] if after else None)
    [failure] = run_in_turn([trainer], threading.Event())
    if failure:
        raise failure
    model = session.model.eval().requires_grad_(False)
    return TrainedInMemory(config, model, session.state_dict(), history.lines)


class _History(Reporter):
    """Stores the reports of a training."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        if metrics:
            self.lines.append(dict(metrics))


@contextlib.contextmanager
def _open_run(request: TrainRequest, device: str, ranks: Ranks | None) -> Iterator[Run | Trainer]:
    """Lock the folder within the block and yield its trainer; if nothing is left to do, the finished run."""
    reporter = request.reporter
    dataset, config, folder = _plan(request)
    with run_directory.locked(folder):
        path, saved = folder / run_directory.CHECKPOINT, None
        if request.resume and path.exists():
            saved = checkpoint.load(path, networks=request.networks)
        if saved and saved.step == config.train.iterations:
            run = Run(folder, saved.config, saved.metrics, finished_before=True)
            if ranks:
                ranks.tell({"result": run})
            yield run
            return
        place = _place(request, config, folder, saved)
        dataset = dataset or datasets.load(place, "train", reporter=reporter)
        tell_notes(reporter, dataset.name, dataset.notes)
        info = DatasetInfo.of(dataset)
        if saved:
            _check_saved(saved, config, info)
            info = saved.dataset
        validation = datasets.load(place, "test", reporter=reporter)
        session = Session(config, dataset, validation, pick(device), reporter.note, request.networks, ranks)
        if saved:
            try:
                restore(session, saved.step, saved.model.state_dict(), saved.training)
            except ValueError as error:
                raise InputError(f"{saved.path} cannot be resumed: {error}") from error
        _prepare_folder(folder, request, session)
        _say_start(folder, session, saved, reporter, dataset, ranks)
        files = RunFiles(folder, (dataset, validation), info, device, tuple(request.logs))
        # The run may have stopped between saving and keeping a checkpoint; and its former end must not be lost.
        if session.step in (*config.train.kept, saved.config.train.iterations if saved else -1):
            files.keep(session.step)
        with contextlib.ExitStack() as loggers:
            for name in dict.fromkeys(request.logs):
                logger = loggers.enter_context(contextlib.closing(_logger(name)(folder, session, validation)))
                reporter = Reporters(logger, reporter)
            if ranks:
                told = {"config": config, "place": place, "folder": folder, "fingerprint": info.fingerprint}
                ranks.tell({**told, "state": (session.step, session.model.state_dict(), session.state_dict())})
            yield Trainer(session, files, reporter, saved.metrics if saved else None)


def _follow(ranks: Ranks, request: TrainRequest, device: str, stop: threading.Event) -> Run:
    """Train as a rank other than the first, which writes nothing."""
    told = ranks.tell()
    result: Run | SoftVQError | None = told.get("result")
    if result is None:
        config, place = told["config"], told["place"]
        splits = datasets.load(place, "train"), datasets.load(place, "test")
        if DatasetInfo.of(splits[0]).fingerprint != told["fingerprint"]:
            raise InputError("process {} of {} finds other images in {}", ranks.rank + 1, ranks.size, place.data)
        session = Session(config, *splits, pick(device), networks=request.networks, ranks=ranks)
        restore(session, *told["state"])
        trainer = Trainer(session, None, Reporter())
        request.reporter.stage("training", stoppable=True)  # a signal to this process alone also stops all of them
        [failure] = run_in_turn([trainer], ranks.follow(stop))
        result = failure or Run(told["folder"], config, trainer.metrics, splits=splits)
    if isinstance(result, SoftVQError):  # the first rank reports the error; this process ends silently
        raise SystemExit(result.exit_code)
    return result


def _logger(name: str) -> Any:
    """The logger class of that name, built-in or from another package (SoftVQError: it cannot be loaded)."""
    if name not in LOGGER_PLUGINS:
        tensorboard.require()
        return TensorBoard
    try:
        return LOGGER_PLUGINS[name].load()
    except Exception as error:  # in a module of another package
        where = LOGGER_PLUGINS[name].value
        raise SoftVQError(f"the logger {name}, {where}, cannot be loaded: {one_line(error)}") from error


def _place(request: TrainRequest, config: RunConfig, folder: Path, saved: Checkpoint | None) -> DataConfig:
    """The settings for finding the data: from the request, or for a resumed run from its folder."""
    if not (request.resume and run_directory.is_used(folder)):
        return config.data
    given = replace(config.data, data=request.chosen.get("data", config.data.data))
    if given != config.data:
        return given
    fingerprint = saved.dataset.fingerprint if saved else None
    was = run_directory.data_path(folder)
    return datasets.find(config.data, folder, was=was, fingerprint=fingerprint, reporter=request.reporter)


def _plan(request: TrainRequest) -> tuple[Dataset | None, RunConfig, Path]:
    """The configuration and the folder; also the data set if its shape was needed for them."""
    chosen, out = dict(request.chosen), request.out
    if request.resume and out is not None and run_directory.is_used(out):
        return None, run_directory.for_resume(out, chosen), out
    data = DataConfig(**{name: value for name, value in RunConfig.from_flat(chosen).flat().items() if name in DATA})
    read, dataset = datasets.load_for_training(data, request.reporter)
    if read != data:
        chosen["image_size"] = read.image_size
    if data.pixel_range == "auto" and dataset.pixel_range is not None:
        chosen["pixel_range"] = dataset.pixel_range  # later data are read with the same range
    config = resolve(data.data, dataset.image_shape, chosen, len(dataset))
    folder = out or run_directory.default_folder(config, dataset.name)
    if request.resume and run_directory.is_used(folder):
        config = run_directory.for_resume(folder, chosen)
    return dataset, config, folder


def _check_saved(saved: Checkpoint, config: RunConfig, info: DatasetInfo) -> None:
    """Check that ``saved`` belongs to the run that the folder describes."""
    # An exported model has another name for its data; restore reports that it cannot be resumed at all.
    changed = run_directory.first_change(saved.config, config) if saved.training else None
    if changed:
        raise InputError(
            "{} was trained with {}, but {} next to it says otherwise: correct it, or remove {} and the "
            "checkpoint's settings are used",
            *(saved.path, changed, run_directory.CONFIG, run_directory.CONFIG),
        )
    if saved.dataset != replace(info, name=saved.dataset.name):  # the folder may have been renamed
        raise InputError(
            "{} is not the data that {} was trained on ({}): restore the old data, or train again with another {out}",
            *(config.data.data, saved.path, saved.dataset.difference(info)),
        )


def _prepare_folder(folder: Path, request: TrainRequest, session: Session) -> None:
    """Claim the folder; for a resumed run, reset its log to the step of the checkpoint."""
    config, reporter = session.config, request.reporter
    if not (request.resume and run_directory.is_used(folder)):
        if request.resume:
            reporter.note(f"there is no run in {folder} yet: a new one begins")
        if left := run_directory.claim(folder, config, overwrite=request.overwrite):
            reporter.warn(f"left in {folder}, perhaps of the run before: {shorten(left, 8)}")
    elif not (folder / run_directory.CONFIG).exists():
        run_directory.write_config(folder, config)
    elif run_directory.stored_config(folder).train.iterations != config.train.iterations:
        run_directory.lengthen(folder, config.train.iterations)
    if run_directory.truncate_metrics(folder, session.step) < session.step // config.train.log_every:
        reporter.note(
            f"{folder / run_directory.METRICS} was damaged: the lines from there to step {session.step} are lost"
        )


def _say_start(
    folder: Path, session: Session, saved: Checkpoint | None, reporter: Reporter, dataset: Dataset, ranks: Ranks | None
) -> None:
    """Report the size of the training, checkpoints that cannot be kept, and added iterations."""
    train, parameters = session.config.train, sum(weights.numel() for weights in session.model.parameters())
    unkept = [step for step in parse_keep(train.keep or "") if step > train.iterations]
    unkept += [
        step for step in train.kept if step < session.step and not run_directory.kept_checkpoint(folder, step).exists()
    ]
    if unkept:
        reporter.note(
            f"no checkpoint is kept at {', '.join(map(str, unkept))}: the run goes from iteration {session.step} to "
            f"{train.iterations}"
        )
    start = f", from step {session.step}" if session.step else ""
    epochs, share = train.iterations * train.batch_size / len(dataset), session.config.data.test_fraction
    drawn = f", drawn at random; {share:.3g} of the data are kept for the test" if dataset.drawn else ""
    divided = f"; {ranks.size} processes divide each batch" if ranks else ""
    reporter.note(
        f"training in {folder}{start}: {parameters / 1e6:.3g} M parameters, a checkpoint of "
        f"{12 * parameters / 1e6:.3g} MB; {train.iterations} steps of {train.batch_size} are {epochs:.3g} epochs of "
        f"{len(dataset)} {'vectors' if dataset.of_vectors else 'images'}{drawn}{divided}"
    )
    before = saved.config.train.iterations if saved else train.iterations
    if before < train.iterations:
        kept = f"; its old state is kept in {run_directory.kept_checkpoint(folder, before)}"
        reporter.note(
            f"the run in {folder} had {before} iterations and continues to {train.iterations}"
            f"{kept if session.step == before else ''}"
        )
    reporter.stage("training", stoppable=True)
    reporter.progress("training", session.step, train.iterations)
