"""One job: a folder with a model to train, or a control, and the parts of its evaluation; and how jobs are completed.

A folder has one writer. A job that was given to two processes is completed by the first; the second waits, and finds it
done.
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
"""An evaluation of 64 columns takes about as long as this many iterations: enough to sort jobs and guess the end."""
_ITERATION: dict[str, tuple[int, float]] = {"mlp": (784, 0.0165), "cnn": (3072, 0.107)}
"""Architecture → the pixels of the images on which an iteration of 32 was timed, and its seconds."""
_OF_NO_EFFECT = (*DataConfig.__dataclass_fields__, *run_directory.CHANGEABLE, "log_every")
"""Settings in which a run may differ from its job. That the data are the same is seen from their fingerprint."""
_PATIENCE = 1.0
"""Seconds between two looks at a folder in which another process works."""


@dataclass(frozen=True)
class Job:
    """What is to be completed; it travels to another process."""

    folder: Path
    row: str
    """The row of the study that reports it."""
    subject: str
    """A bottleneck to train, or a control."""
    data: str
    """The data set that the study speaks of; the configuration may put another in its place."""
    config: RunConfig
    """All settings. Of a control only the data, and what it needs: the model and the seed, or the dimensions."""
    fingerprints: tuple[str, str]
    """Of the training and the test split."""
    pixels: int
    """Of an image, over all channels."""
    parts: tuple[str, ...]
    """What is to be measured: of BASIC, PROBES and MAP, and models on the way, see :func:`evaluate.at`."""
    file: str | None = None
    """Embeddings that another program made of the same images; measured in the place of a model's."""

    @property
    def name(self) -> str:
        """What to call it: the name of its folder."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """Of its training."""
        return self.config.train.seed

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.subject in BOTTLENECKS

    @property
    def steps(self) -> int:
        """Iterations of its training."""
        return self.config.train.iterations if self.trains else 0

    @property
    def all_parts(self) -> tuple[str, ...]:
        """``parts``, and with the paper's measures of a codebook's z_e those of the decoder's input."""
        quantised = self.trains and BOTTLENECKS[self.subject].has_codebook and BASIC in self.parts
        return (*self.parts, *((QUANTISED,) if quantised else ()))

    def seconds(self, iterations: int) -> float:
        """About how long so many of its iterations take on one core (docs/PERFORMANCE.md)."""
        model, train = self.config.model, self.config.train
        pixels, seconds = _ITERATION.get(model.arch, _ITERATION["mlp"])
        return float(iterations * seconds * train.batch_size / 32 * (0.5 + 0.5 * self.pixels / pixels))

    @property
    def evaluation_units(self) -> int:
        """How long its evaluation takes, in iterations, roughly."""
        columns = self.pixels if self.subject == RAW else self.config.model.latent_dim
        return len(self.parts) * max(1, _EVALUATION_UNITS * columns // 64)


@dataclass(frozen=True)
class State:
    """What a job's folder already holds."""

    step: int = 0
    evaluation: Evaluation | None = None
    """Of the finished training, with all parts that are asked for."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.evaluation is not None


def inspect(job: Job) -> State:
    """Look into the job's folder without changing anything; RefusedError where it holds another run."""
    if not job.trains:
        return State(evaluation=_evaluation(job, None))
    try:
        checkpoint = _checkpoint(job)
        if checkpoint is None and (job.folder / run_directory.CONFIG).exists():
            _refuse_other_settings(job, run_directory.stored_config(job.folder))
    except InputError:  # it will be met again when the job's turn comes, and reported
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
    """The one in the job's folder, if there is one (InputError where it is damaged)."""
    path = job.folder / run_directory.CHECKPOINT
    return _load(path, device) if path.exists() else None


def _kept(job: Job, step: int, device: str) -> Checkpoint:
    """The checkpoint that was kept after ``step`` iterations; InputError where it is not of this job's training."""
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
    """What the job evaluates: its checkpoint's model, or its control."""
    from softvq_cli import datasets

    reporter = reporter or Reporter()
    return Subject(
        checkpoint or Control(job.subject, job.config, job.file),
        lambda split: datasets.load(job.config.data, split, reporter=reporter),
        fingerprints=job.fingerprints,
        reporter=reporter,
    )


def _evaluation(job: Job, checkpoint: Checkpoint | None) -> Evaluation | None:
    """The stored one, if it has all parts."""
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
    """Train what is not trained, side by side, then measure what is not measured, one job after the other.

    ``reporters`` are one per job, ``threads`` are the evaluation's, and ``machine`` is written into evaluation.json.
    When ``stop`` is set, a training writes its checkpoint after its step and ends, and an evaluation ends after its
    part. Each job comes with its evaluation or with what went wrong, which stops no other.
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
    """Hold the job's folder, from when no other process does."""
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
    """Those that could not be trained, and why."""
    from softvq_cli.training import TrainRequest, train_together

    requests: dict[Job, TrainRequest] = {}
    for job, reporter in jobs.items():
        if job.trains:
            settings = job.config.flat()
            if (job.folder / run_directory.CONFIG).exists():  # compared before: its own spelling of the data holds
                settings = {name: settings[name] for name in (*run_directory.CHANGEABLE, run_directory.LONGER)}
            # Only where there is a run: a grid that begins one is no news.
            resume = run_directory.is_used(job.folder)
            requests[job] = TrainRequest(settings, job.folder, resume=resume, reporter=reporter)
    outcomes = train_together(list(requests.values()), device=device, stop=stop)
    return {job: error for job, error in zip(requests, outcomes, strict=True) if isinstance(error, SoftVQError)}
