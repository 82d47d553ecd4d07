"""Completing jobs: train what is not trained, then measure what is not measured.

A folder has one writer. A job that was given to two processes is done by the first; the second waits, and finds it
done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from softvq_cli.errors import Interrupted, SoftVQError
from softvq_cli.experiments.job import Job, checkpoint_of, kept_of, subject_of
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import FILES, Evaluation, evaluate
from softvq_cli.training import run_directory

_PATIENCE = 1.0
"""Seconds between two looks at a folder in which another process works."""


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
                folder.enter_context(run_directory.locked(job.folder, FILES))
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
    reporter.stage(f"measuring {job.name}")
    return evaluate(
        subject_of(job, checkpoint_of(job, device) if job.trains else None, reporter),
        job.all_parts,
        folder=job.folder,
        threads=threads,
        kept=lambda step: kept_of(job, step, device),
        machine=machine,
        reporter=reporter,
        stop=stop,
    )
