"""Completing jobs: train what is not trained, then measure what is not measured.

A folder has one writer. A job that was given to two processes is done by the first; the second waits, and finds it
done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.errors import Interrupted, Message, SoftVQError
from softvq_cli.experiments.job import Job, checkpoint_of, kept_of, measured
from softvq_cli.files import atomic_write
from softvq_cli.reporter import Reporter
from softvq_cli.results import result
from softvq_cli.results.result import BASIC, MAP, Evaluation
from softvq_cli.training import run_directory
from softvq_cli.words import BOTTLENECKS, PCA, RAW

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.experiments.measures import Latents
    from softvq_cli.training.checkpoint import Checkpoint

_PART_TITLES: Mapping[str, str] = {
    result.BASIC: "the paper's measures",
    result.PROBES: "the other probes",
    result.MAP: "the t-SNE map",
}
_PATIENCE = 1.0
"""Seconds between two looks at a folder in which another process works."""


def _title(part: str) -> str:
    step = result.step_of(part)
    return _PART_TITLES[part] if step is None else f"the model after {step} iterations"


def complete(
    jobs: Sequence[Job],
    *,
    device: str,
    threads: int,
    reporters: Sequence[Reporter],
    stop: threading.Event,
    machine: Mapping[str, str] | None = None,
) -> Iterator[tuple[Job, Evaluation | SoftVQError]]:
    """Train what is not trained, side by side, and then measure what is not measured, one job after the other.

    A folder has one writer: while another process works in one, this one waits, and then finds done what that has done.

    Args:
        jobs: in folders of their own.
        device: to train and embed on.
        threads: of the evaluation.
        reporters: one a job; is told what happens to it.
        stop: when set, a training writes its checkpoint after the step at hand and ends, and so does an evaluation
            after the part at hand.
        machine: who does it, for ``evaluation.json``.

    Yields:
        Each job in their order, with its evaluation or with what went wrong: it stops no other.
    """
    failures: dict[Job, SoftVQError] = {}
    with contextlib.ExitStack() as folders:
        for job, reporter in zip(jobs, reporters, strict=True):
            try:
                folders.enter_context(_alone(job, reporter, stop))
            except SoftVQError as error:
                failures[job] = error
        failures |= _train([job for job in jobs if job not in failures], jobs, device, reporters, stop)
        for job, reporter in zip(jobs, reporters, strict=True):
            outcome: Evaluation | SoftVQError
            try:
                outcome = failures.get(job) or _measure(job, device, threads, reporter, stop, machine)
            except SoftVQError as error:
                outcome = error
            yield job, outcome


@contextlib.contextmanager
def _alone(job: Job, reporter: Reporter, stop: threading.Event) -> Iterator[None]:
    """Hold the job's folder, from when nobody else does."""
    with contextlib.ExitStack() as folder:
        while True:
            try:
                folder.enter_context(run_directory.locked(job.folder, (result.EVALUATION, result.MAP_FILE)))
                break
            except run_directory.BusyError:
                if stop.is_set():
                    raise Interrupted(f"stopped while another process worked in {job.folder}") from None
                reporter.stage("waiting for another process")
                time.sleep(_PATIENCE)
        yield


def _train(
    ready: Sequence[Job],
    jobs: Sequence[Job],
    device: str,
    reporters: Sequence[Reporter],
    stop: threading.Event,
) -> dict[Job, SoftVQError]:
    """Those that could not be trained, and why."""
    from softvq_cli.training import TrainRequest, train_together

    requests: dict[Job, TrainRequest] = {}
    for job, reporter in zip(jobs, reporters, strict=True):
        if job in ready and job.trains:
            chosen = job.config.flat()
            if (job.folder / run_directory.CONFIG).exists():  # compared before: its own spelling of the data holds
                chosen = {name: chosen[name] for name in (*run_directory.CHANGEABLE, run_directory.LONGER)}
            # Only where there is a run: a grid that begins one is no news.
            resume = run_directory.is_used(job.folder)
            requests[job] = TrainRequest(chosen, job.folder, resume=resume, reporter=reporter)
    outcomes = train_together(list(requests.values()), device=device, stop=stop)
    return {job: one for job, one in zip(requests, outcomes, strict=True) if isinstance(one, SoftVQError)}


def _measure(
    job: Job,
    device: str,
    threads: int,
    reporter: Reporter,
    stop: threading.Event,
    machine: Mapping[str, str] | None,
) -> Evaluation:
    """The evaluation with all parts; each part is written as soon as it is there."""
    from softvq_cli import datasets

    checkpoint = None
    if job.trains:
        checkpoint = checkpoint_of(job, device)
        assert checkpoint is not None  # just written
    of = measured(job, None if checkpoint is None else checkpoint.sha256)
    found = result.read(job.folder, of)
    missing = [part for part in job.parts if part not in found.parts]
    if missing:
        train = datasets.load(job.config.data, "train", progress=reporter.progress)
        test = datasets.load(job.config.data, "test", progress=reporter.progress)
        material = _Material(job, checkpoint, train, test, device)
        for part in missing:
            if stop.is_set():
                raise Interrupted(f"stopped before measuring {_title(part)} of {job.name}")
            reporter.stage(f"measuring {job.name}" + ("" if part == BASIC else f", {part}"))
            try:
                values = material.measure(part, threads)
            except SoftVQError as error:
                if part == BASIC:  # without it there is no row
                    raise
                reporter.note(Message("without {}: {}", _title(part), error.message))
                continue
            found = replace(found.with_part(part, values), machine=machine or found.machine)
            result.write(job.folder, of, found)
    return found


@dataclass
class _Material:
    """What a job's evaluation measures: the rows of a control, or what a trained model makes of the images."""

    job: Job
    checkpoint: Checkpoint | None
    train: Dataset
    test: Dataset
    device: str
    extra: dict[str, float] = field(default_factory=dict)
    """Values that come with the rows of a control."""
    rows: Latents | None = None
    """Made when a part first needs them."""

    def measure(self, part: str, threads: int) -> dict[str, dict[str, float]]:
        """Representation → values by measure, of one part; the map itself goes to a file."""
        from softvq_cli.experiments import measures
        from softvq_cli.results.maps import on_map

        step = result.step_of(part)
        if step is not None:
            kept = kept_of(self.job, step, self.device)
            return {part: self._of_model(kept, measures.latents(kept.model, self.train, self.test), threads)}
        self.rows = self.rows or self._make()
        if part == MAP:
            found = on_map(self.rows.test, self.rows.test_labels, jobs=threads)
            with atomic_write(self.job.folder / result.MAP_FILE) as file:
                np.save(file, found.coordinates)
            return {self.job.representation: measures.of_map(found)}
        if part != BASIC or self.checkpoint is None:
            own = measures.of_rows(self.rows, part, jobs=threads)
            return {self.job.representation: own | (self.extra if part == BASIC else {})}
        own = self._of_model(self.checkpoint, self.rows, threads)
        if not BOTTLENECKS[self.job.subject].has_codebook:
            return {self.job.representation: own}
        inputs = measures.latents(self.checkpoint.model, self.train, self.test, "z_q")
        return {self.job.representation: own, "z_q": measures.of_rows(inputs, part, jobs=threads)}

    def _of_model(self, checkpoint: Checkpoint, rows: Latents, threads: int) -> dict[str, float]:
        """The paper's measures of the model's ``rows``, and what its bottleneck carries."""
        from softvq_cli.experiments import measures

        agreement = measures.of_rows(rows, BASIC, jobs=threads)
        return {**agreement, "iterations": checkpoint.step, **checkpoint.model.evaluate(self.test.images)}

    def _make(self) -> Latents:
        from softvq_cli.experiments import controls, measures

        job = self.job
        if job.subject == RAW:
            return controls.pixels(self.train, self.test)
        if job.subject == PCA:
            rows, self.extra["nmse"] = controls.principal_components(self.train, self.test, job.config.model.latent_dim)
            return rows
        model = self.checkpoint.model if self.checkpoint else controls.untrained(job.config, self.train)
        return measures.latents(model, self.train, self.test)
