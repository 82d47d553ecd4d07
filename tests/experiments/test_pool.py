"""Many jobs in parallel, in processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from threadpoolctl import threadpool_info

from softvq_cli.errors import Interrupted, Message, UsageError
from softvq_cli.experiments import backends, pool, worker
from softvq_cli.experiments.backends import LocalWorkers, Where
from softvq_cli.experiments.job import inspect
from softvq_cli.experiments.worker import Order
from softvq_cli.version import __version__
from tests.helpers import Recorder, do

HERE = Where(jobs=1, device="cpu")


@pytest.fixture(scope="module")
def one():
    """One process."""
    with LocalWorkers(HERE) as workers:
        yield workers


@pytest.fixture(scope="module")
def two():
    """Two processes."""
    with LocalWorkers(Where(jobs=2, device="cpu")) as workers:
        yield workers


@pytest.fixture
def seeds_together(monkeypatch):
    """A process trains two seeds of a model at once."""
    monkeypatch.setitem(backends.TOGETHER, "cpu", 2)


@pytest.fixture
def submitted(monkeypatch):
    """The jobs' names in the order of submission."""
    names, submit = [], LocalWorkers.submit

    def recording(self, group, order):
        names.extend(job.name for job in group)
        return submit(self, group, order)

    monkeypatch.setattr(LocalWorkers, "submit", recording)
    return names


def empty(jobs):
    for job in jobs:
        for file in job.folder.iterdir():
            file.unlink()


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def children():
    return {child.pid for child in multiprocessing.active_children()}


def test_no_number_depends_on_how_many_run_side_by_side(make_job, two, submitted, seeds_together):
    jobs = [make_job("soft-vq", seed) for seed in (0, 1, 2)] + [make_job("vae", seed) for seed in (0, 1)]
    reference = [do(job) for job in jobs]
    empty(jobs)
    recorder = Recorder()
    outcome = pool.run(jobs, two, reporter=recorder)
    assert [outcome.evaluations[job].numbers for job in jobs] == [evaluation.numbers for evaluation in reference]
    assert submitted == ["soft-vq-s0", "soft-vq-s1", "vae-s0", "vae-s1", "soft-vq-s2"]
    assert sorted(recorder.done) == sorted(submitted)
    assert recorder.last[0] == recorder.last[1] > 0
    assert not [file for job in jobs for file in job.folder.glob("*progress*")]
    machine = outcome.evaluations[jobs[0]].machine
    assert machine["host"] == os.uname().nodename and machine["processor"]
    assert inspect(jobs[0]).evaluation.machine == machine


def test_finished_jobs_are_only_read_and_no_process_is_started_for_them(make_job, submitted):
    job = make_job("ae")
    evaluation = do(job)
    progress = job.folder / worker.PROGRESS
    progress.write_text("{}")  # of a worker that was killed at its very end
    recorder, before = Recorder(), children()
    with LocalWorkers(Where(device="cpu")) as workers:
        assert pool.run([job], workers, reporter=recorder).evaluations == {job: evaluation}
        assert children() <= before
    assert (submitted, recorder.done, progress.exists()) == ([], [], False)


def test_the_longest_job_is_begun_first_and_a_failing_one_stops_no_other(make_job, one, submitted):
    short, long, damaged = make_job("ae", 0), make_job("ae", 1, iterations=9), make_job("ae", 2, iterations=5)
    do(short)
    (short.folder / "evaluation.json").unlink()
    do(damaged)
    (damaged.folder / "ckpt.pt").write_bytes(b"PK nonsense")
    recorder = Recorder()
    outcome = pool.run([short, damaged, long], one, reporter=recorder)
    assert submitted == ["ae-s1", "ae-s2", "ae-s0"]
    assert set(outcome.evaluations) == {short, long}
    assert list(outcome.failures) == [damaged]
    assert [text for text in recorder.warnings if text.startswith("ae-s2 failed: ")]


def kill_the_process(workers):
    [slot] = workers.slots
    with contextlib.suppress(OSError, TypeError):  # it is just being started again
        os.kill(slot.pid, signal.SIGKILL)


def test_signals_for_the_command_do_not_end_its_processes(make_job, one):
    """A closed terminal and SLURM send these signals to all processes."""
    job, asked = make_job("ae", iterations=600, checkpoint_every=20, log_every=200), []

    def ask(detail):
        if not asked and f"{job.name} training" in detail:
            asked.append(one.slots[0].pid)
            for number in worker.SIGNALS:
                os.kill(one.slots[0].pid, number)

    outcome = pool.run([job], one, reporter=Recorder(ask))
    assert list(outcome.evaluations) == [job]
    assert asked == [one.slots[0].pid]


def test_a_job_that_kills_its_processes_again_and_again_fails_alone(make_job, one, monkeypatch):
    monkeypatch.setattr(backends, "TRIES", 2)
    endless, other = make_job("ae", 0, iterations=10_000_000), make_job("ae", 1)
    outcome = pool.run(
        [endless, other], one, reporter=Recorder(lambda detail: "ae-s0 training" in detail and kill_the_process(one))
    )
    assert list(outcome.evaluations) == [other], outcome.failures
    assert list(outcome.failures) == [endless]


def test_a_killed_process_is_replaced_and_takes_no_other_job_with_it(make_job, two):
    jobs = [make_job(row, iterations=1500, checkpoint_every=20, log_every=500) for row in ("soft-vq", "vae")]
    reference = [do(job).numbers for job in jobs]
    empty(jobs)
    pids = []

    def kill(detail):
        training = all((job.folder / "ckpt.pt").exists() and f"{job.name} training" in detail for job in jobs)
        if not pids and training:
            pids.extend(slot.pid for slot in two.slots)
            os.kill(pids[0], signal.SIGKILL)

    recorder = Recorder(kill)
    outcome = pool.run(jobs, two, reporter=recorder)
    assert [outcome.evaluations[job].numbers for job in jobs] == reference
    assert sorted(recorder.done) == [job.name for job in jobs] and not outcome.failures
    assert two.slots[0].pid != pids[0] and two.slots[1].pid == pids[1]


def test_a_job_that_is_done_twice_at_once_yields_to_the_first(make_job):
    job, stop = make_job("soft-vq", iterations=40), threading.Event()
    results = []
    threads = [threading.Thread(target=lambda: results.append(do(job, stop=stop))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(results) == 2
    assert results[0] == results[1]


def test_a_stop_leaves_checkpoints(make_job, one):
    endless, stop = make_job("ae", iterations=10_000_000), threading.Event()
    recorder = Recorder(lambda detail: "training" in detail and stop.set())
    with pytest.raises(Interrupted) as caught:
        pool.run([endless, make_job("vq")], one, reporter=recorder, stop=stop)
    assert caught.value.again == {}
    state = inspect(endless)
    assert state.step > 0
    assert not state.done
    assert not (endless.folder / worker.PROGRESS).exists()
    assert inspect(make_job("vq")).step == 0


def test_an_exception_ends_the_processes(make_job):
    def interrupt(detail):
        raise KeyboardInterrupt

    before = children()
    with pytest.raises(KeyboardInterrupt), LocalWorkers(HERE) as workers:
        pool.run([make_job("ae", iterations=10_000_000)], workers, reporter=Recorder(interrupt))
    wait_until(lambda: children() <= before)


def order(folder, versions=None, token=""):
    return Order("this", "cpu", 1, str(folder), {}, {**worker.versions(), **(versions or {})}, token)


def test_progress_is_read_with_its_notes_and_a_file_of_another_command_says_nothing(make_job, tmp_path):
    job = make_job("ae")
    job.folder.mkdir()
    progress = worker.Progress(job, order(tmp_path))
    progress.note("vectors of 8 numbers")
    progress.warn("collapsed")
    progress.note(Message("{}: {}", "items", Message("{} rows need {image_shape}", 8)))
    there = worker.Progress.read(job, order(tmp_path))
    assert there.notes[:2] == [("note", "vectors of 8 numbers"), ("warn", "collapsed")]
    assert there.notes[2][1].settings == ("image_shape",) and "8 rows" in there.notes[2][1]
    for text in ("", "[]", '{"order": "other", "units": 1, "doing": "", "notes": []}'):
        (job.folder / worker.PROGRESS).write_text(text)
        assert worker.Progress.read(job, order(tmp_path)) is None


@pytest.mark.parametrize(
    ("versions", "token", "words"),
    [
        ({"softvq": "9.9"}, False, ("9.9", __version__)),
        ({"settings": "other"}, False, ("settings",)),
        ({}, True, ("runs",)),
    ],
)
def test_a_worker_with_another_softvq_or_another_folder_does_nothing(
    versions, token, words, make_job, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "_TOKEN_LOOKS", 1)
    job = make_job("pca")
    if token:
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / ".shared").write_text("of another command")
    [answer] = worker.work((job,), order(tmp_path, versions, "runs/.shared" * token))
    assert answer.evaluation is None and answer.error is not None
    assert [word for word in words if word not in answer.error] == []
    assert not job.folder.exists()


def test_another_pytorch_is_said_and_recorded(make_job, tmp_path):
    job = make_job("pca")
    [answer] = worker.work((job,), order(tmp_path, {"torch": "0.1"}))
    assert answer.evaluation.machine["torch"] == worker.versions()["torch"]
    assert answer.evaluation.machine["softvq"] == __version__
    assert [(kind, "0.1" in text) for kind, text in answer.notes] == [("warn", True)]


def test_how_many_processes_start():
    with pytest.raises(UsageError, match="jobs"):
        Where(jobs=0)
    eight = Where(jobs=8, device="cpu")
    assert Where(device="cpu").processes(99) >= 1
    assert (eight.processes(99), eight.processes(2), eight.processes(20)) == (8, 2, 8)


def test_a_process_that_starts_as_it_does_outside_of_tests_computes_with_one_thread(make_job, monkeypatch):
    monkeypatch.setattr(backends, "METHOD", "spawn")
    job = make_job("pca")
    with LocalWorkers(HERE) as workers:
        assert list(pool.run([job], workers).evaluations) == [job]
        [slot] = workers.slots
        threads = slot._executor.submit(torch.get_num_threads).result()
        pools = slot._executor.submit(threadpool_info).result()
        environment = [slot._executor.submit(os.getenv, name).result() for name in worker.THREAD_VARIABLES]
    assert threads == 1
    assert {library["num_threads"] for library in pools} <= {1}
    assert environment == ["1"] * len(environment)
