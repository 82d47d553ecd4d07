"""Jobs: a folder with a model to train, or a control, and the parts of its evaluation; and how jobs are completed.

A folder has one writer. If two processes have the same job, the second one waits until the first has completed it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.config import DataConfig, RunConfig
from softvq_cli.errors import InputError, Interrupted, RefusedError, SoftVQError, param
from softvq_cli.presets import unused_settings
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASIC, FILES, QUANTISED, Evaluation
from softvq_cli.results.subject import Control, Subject
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, RAW

if TYPE_CHECKING:
    from softvq_cli.training.checkpoint import Checkpoint

_EVALUATION_UNITS = 1000
"""Evaluating 64 latent dimensions takes about as long as this many iterations; used to sort jobs and estimate time."""
_ITERATION: dict[str, tuple[int, float]] = {"mlp": (784, 0.0165), "cnn": (3072, 0.107)}
"""Architecture → (values per image, seconds per iteration of 32 images), as measured."""
_OF_NO_EFFECT = (*DataConfig.__dataclass_fields__, *run_directory.CHANGEABLE, "log_every")
"""Settings in which a run may differ from its job. Fingerprints show whether the data are the same."""
_PATIENCE = 1.0
"""Seconds between two checks of a folder in which another process works."""


@dataclass(frozen=True)
class Job:
    """The description of a job, which is sent to another process."""

    folder: Path
    row: str
    """The row of the study in which it is reported."""
    subject: str
    """A bottleneck to train, or a control."""
    data: str
    """The data set in the study; the configuration may replace it by another."""
    config: RunConfig
    """All settings. For a control only the data and what it needs: model and seed, or the dimensions."""
    fingerprints: tuple[str, str]
    """Fingerprints of the training and test split."""
    pixels: int
    """Values per image, over all channels."""
    parts: tuple[str, ...]
    """Parts to measure: BASIC, PROBES and MAP, and those of intermediate checkpoints, see :func:`evaluate.at`."""
    file: str | None = None
    """Embeddings that another program computed from the same images; measured instead of a model's."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self.config.train.seed

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.subject in BOTTLENECKS

    @property
    def steps(self) -> int:
        """The iterations of its training."""
        return self.config.train.iterations if self.trains else 0

    @property
    def all_parts(self) -> tuple[str, ...]:
        """``parts``; for codebook models, the paper's measures of z_e imply those of the decoder's input."""
        quantised = self.trains and BOTTLENECKS[self.subject].has_codebook and BASIC in self.parts
        return (*self.parts, *((QUANTISED,) if quantised else ()))

    def seconds(self, iterations: int) -> float:
        """Estimated seconds for that many iterations on one core (docs/PERFORMANCE.md)."""
        model, train = self.config.model, self.config.train
        pixels, seconds = _ITERATION.get(model.arch, _ITERATION["mlp"])
        return float(iterations * seconds * train.batch_size / 32 * (0.5 + 0.5 * self.pixels / pixels))

    @property
    def evaluation_units(self) -> int:
        """Rough duration of its evaluation, in iterations."""
        columns = self.pixels if self.subject == RAW else self.config.model.latent_dim
        return len(self.parts) * max(1, _EVALUATION_UNITS * columns // 64)


@dataclass(frozen=True)
class State:
    """What a job's folder already has."""

    step: int = 0
    evaluation: Evaluation | None = None
    """The evaluation of the finished training with all requested parts."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.evaluation is not None


def inspect(job: Job) -> State:
    """Check the job's folder without changing anything (RefusedError: it has another run)."""
    if not job.trains:
        return State(evaluation=_evaluation(job, None))
    try:
        checkpoint = _checkpoint(job)
        if checkpoint is None and (job.folder / run_directory.CONFIG).exists():
            _refuse_other_settings(job, run_directory.stored_config(job.folder))
    except InputError:  # it occurs again and is reported when the job runs
        return State()
    if checkpoint is None:
        return State()
    _refuse_other_settings(job, checkpoint.config)
    if checkpoint.dataset.fingerprint != job.fingerprints[0]:
        raise RefusedError(
            "{} was trained on other data than {}, whose fingerprint differs: give another {out}",
            *(job.folder, job.config.data.data),
        )
    return State(checkpoint.step, _evaluation(job, checkpoint) if checkpoint.step == job.steps else None)


def _checkpoint(job: Job, device: str = "cpu") -> Checkpoint | None:
    """The checkpoint in the job's folder, or None (InputError: it is damaged)."""
    path = job.folder / run_directory.CHECKPOINT
    return _load(path, device) if path.exists() else None


def _kept(job: Job, step: int, device: str) -> Checkpoint:
    """The checkpoint that was kept after ``step`` iterations (InputError: it is not from this job's training)."""
    checkpoint = _load(run_directory.kept_checkpoint(job.folder, step), device)
    if checkpoint.step != step or checkpoint.dataset.fingerprint != job.fingerprints[0]:
        raise InputError(f"{checkpoint.path} belongs to another training or another step: remove it")
    _refuse_other_settings(job, checkpoint.config)
    return checkpoint


def _load(path: Path, device: str) -> Checkpoint:
    from softvq_cli.devices import pick
    from softvq_cli.training import checkpoint

    return checkpoint.load(path, pick(device))


def _refuse_other_settings(job: Job, stored_config: RunConfig) -> None:
    stored, wanted = stored_config.flat(), job.config.flat()
    unused = unused_settings(job.subject, wanted)
    for name, value in wanted.items():
        longer = name == run_directory.LONGER and stored[name] < value
        if name not in (*_OF_NO_EFFECT, *unused) and stored[name] != value and not longer:
            raise RefusedError(
                "{} holds a run with {} {}, but this command asks for {}: give another {out}, or the settings of the "
                "first time",
                *(job.folder, param(name), stored[name], value),
            )


def _subject(job: Job, checkpoint: Checkpoint | None, reporter: Reporter | None = None) -> Subject:
    """The subject of the evaluation: the checkpoint's model, or the control."""
    from softvq_cli import datasets

    reporter = reporter or Reporter()
    return Subject(
        checkpoint or Control(job.subject, job.config, job.file),
        lambda split: datasets.load(job.config.data, split, reporter=reporter),
        fingerprints=job.fingerprints,
        reporter=reporter,
    )


def _evaluation(job: Job, checkpoint: Checkpoint | None) -> Evaluation | None:
    """The stored evaluation, if it has all parts."""
    stored = evaluate.read(job.folder, _subject(job, checkpoint).key)
    return stored if stored.has(job.all_parts) else None


def complete(
    jobs: Sequence[Job],
    *,
    device: str,
    threads: int,
    reporters: Sequence[Reporter],
    stop: threading.Event,
    machine: Mapping[str, str] | None = None,
) -> Iterator[tuple[Job, Evaluation | SoftVQError]]:
    """Train what is not trained, in parallel, then measure what is not measured, one job after the other.

    ``reporters`` are one per job, ``threads`` are for the evaluation, and ``machine`` is stored in evaluation.json.
    After ``stop`` is set, a training writes its checkpoint after the current step, and an evaluation ends after the
    current part. Returns the evaluation or the error of each job; an error does not stop the others.
    """
    failures: dict[Job, SoftVQError] = {}
    with contextlib.ExitStack() as folders:
        for job, reporter in zip(jobs, reporters, strict=True):
            try:
                folders.enter_context(_alone(job, reporter, stop))
            except SoftVQError as error:
                failures[job] = error
        ready = {job: reporter for job, reporter in zip(jobs, reporters, strict=True) if job not in failures}
        failures |= _train(ready, device, stop)
        for job, reporter in zip(jobs, reporters, strict=True):
            if job in failures:
                yield job, failures[job]
                continue
            reporter.stage(f"measuring {job.name}")
            try:
                evaluation = evaluate.evaluate(
                    _subject(job, _checkpoint(job, device) if job.trains else None, reporter),
                    job.all_parts,
                    folder=job.folder,
                    threads=threads,
                    kept=functools.partial(_kept, job, device=device),
                    machine=machine,
                    reporter=reporter,
                    stop=stop,
                )
            except SoftVQError as error:
                yield job, error
            else:
                yield job, evaluation


@contextlib.contextmanager
def _alone(job: Job, reporter: Reporter, stop: threading.Event) -> Iterator[None]:
    """Lock the job's folder, after waiting for other processes."""
    with contextlib.ExitStack() as folder:
        while True:
            try:
                folder.enter_context(run_directory.locked(job.folder, FILES))
                break
            except run_directory.BusyError:
                if stop.is_set():
                    raise Interrupted(f"stopped while another process worked in {job.folder}") from None
                reporter.stage("waiting for another process")
                time.sleep(_PATIENCE)
        yield


def _train(jobs: Mapping[Job, Reporter], device: str, stop: threading.Event) -> dict[Job, SoftVQError]:
    """Train the jobs; returns those that failed, and why."""
    from softvq_cli.training.run import TrainRequest, train_together

    requests: dict[Job, TrainRequest] = {}
    for job, reporter in jobs.items():
        if job.trains:
            settings = job.config.flat()
            if (job.folder / run_directory.CONFIG).exists():  # already compared; the run's spelling of the data is kept
                settings = {name: settings[name] for name in (*run_directory.CHANGEABLE, run_directory.LONGER)}
            # Only for an existing run, because starting a run of a grid needs no note.
            resume = run_directory.is_used(job.folder)
            requests[job] = TrainRequest(settings, job.folder, resume=resume, reporter=reporter)
    outcomes = train_together(list(requests.values()), device=device, stop=stop)
    return {job: error for job, error in zip(requests, outcomes, strict=True) if isinstance(error, SoftVQError)}
