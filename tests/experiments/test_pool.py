"""Many jobs side by side, on processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import ssl
import threading
import time

import dask
import pytest
from distributed import Security

from softvq_cli.errors import Interrupted, RefusedError, UsageError
from softvq_cli.experiments import pool
from softvq_cli.experiments.cluster import Cluster, Where, limit_threads
from softvq_cli.experiments.job import inspect
from softvq_cli.experiments.pool import PoolObserver
from tests.helpers import do

HERE = Where(jobs=1, device="cpu")


class Recorder(PoolObserver):
    """What a pool told."""

    def __init__(self):
        self.order, self.done, self.errors, self.last = [], [], {}, None

    def planned(self, jobs, todo):
        self.order = [job.name for job in todo]

    def progressed(self, progress):
        self.last = progress

    def completed(self, job):
        self.done.append(job.name)

    def failed(self, job, message):
        self.errors[job.name] = message


@pytest.fixture(scope="module")
def one():
    """One process, in which a job is tried again once."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), Cluster(HERE) as cluster:
        cluster.client  # noqa: B018 (the scheduler reads its configuration as it starts)
        yield cluster


@pytest.fixture(scope="module")
def two():
    """Two processes; each may train two seeds of a model at once."""
    with Cluster(Where(jobs=2, device="cpu", together=2)) as cluster:
        yield cluster


def empty(jobs):
    for job in jobs:
        for file in job.folder.iterdir():
            file.unlink()


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_number_depends_on_how_many_run_side_by_side(make_job, two):
    jobs = [make_job("soft-vq", seed) for seed in (0, 1, 2)] + [make_job("vae", seed) for seed in (0, 1)]
    reference = [do(job) for job in jobs]
    empty(jobs)
    recorder = Recorder()
    found = pool.run(jobs, two, observer=recorder)
    assert [found.evaluations[job].numbers for job in jobs] == [one.numbers for one in reference]
    assert recorder.order == ["soft-vq-s0", "soft-vq-s1", "vae-s0", "vae-s1", "soft-vq-s2"]
    assert sorted(recorder.done) == sorted(recorder.order)
    assert recorder.last.units == recorder.last.total


def test_who_completed_a_job_is_kept_with_its_numbers(make_job, one):
    job = make_job("pca")
    found = pool.run([job], one)
    machine = found.evaluations[job].machine
    assert machine["host"] == os.uname().nodename
    assert machine["processor"]
    assert inspect(job).evaluation.machine == machine


def test_of_seeds_trained_at_once_one_that_fails_stops_no_other(make_job, two):
    damaged, good = make_job("ae", 0), make_job("ae", 1)
    do(damaged)
    (damaged.folder / "ckpt.pt").write_bytes(b"PK nonsense")
    found = pool.run([damaged, good], two)
    assert (list(found.failures), list(found.evaluations)) == ([damaged], [good])


def test_finished_jobs_are_only_read_and_no_process_is_started_for_them(make_job):
    job = make_job("ae")
    found = do(job)
    recorder, before = Recorder(), {child.pid for child in multiprocessing.active_children()}
    with Cluster(Where(device="cpu")) as cluster:
        assert pool.run([job], cluster, observer=recorder).evaluations == {job: found}
        assert {child.pid for child in multiprocessing.active_children()} <= before
    assert (recorder.order, recorder.done) == ([], [])


def test_the_longest_job_is_begun_first_and_a_failing_one_stops_no_other(make_job, one):
    short, long, damaged = make_job("ae", 0), make_job("ae", 1, iterations=9), make_job("ae", 2, iterations=5)
    do(short)
    (short.folder / "evaluation.json").unlink()
    do(damaged)
    (damaged.folder / "ckpt.pt").write_bytes(b"PK nonsense")
    recorder = Recorder()
    found = pool.run([short, damaged, long], one, observer=recorder)
    assert recorder.order == ["ae-s1", "ae-s2", "ae-s0"]
    assert set(found.evaluations) == {short, long}
    assert list(found.failures) == [damaged]
    assert "not a complete softvq checkpoint" in recorder.errors["ae-s2"]


def kill_the_worker(cluster):
    with contextlib.suppress(OSError):  # it is just being started again
        for pid in cluster.client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)


def test_a_job_whose_process_was_killed_goes_on_from_its_checkpoint(make_job, one):
    job = make_job("soft-vq", iterations=600, checkpoint_every=20, log_every=200)
    reference = do(job)
    empty([job])
    killed = []

    class Killer(Recorder):
        def progressed(self, progress):
            if not killed and (job.folder / "ckpt.pt").exists() and progress.running.get(job.name) == "training":
                killed.append(inspect(job).step)
                kill_the_worker(one)

    recorder = Killer()
    found = pool.run([job], one, observer=recorder)
    assert killed[0] >= 20
    assert not found.failures
    assert found.evaluations[job].numbers == reference.figures
    assert recorder.done == [job.name]


def test_a_job_that_kills_its_processes_again_and_again_fails_alone(make_job, one):
    endless, other = make_job("ae", 0, iterations=10_000_000), make_job("ae", 1)

    class Killer(Recorder):
        def progressed(self, progress):
            if progress.running.get("ae-s0") == "training" and endless.name not in self.errors:
                kill_the_worker(one)
                progress.running.pop("ae-s0")

    found = pool.run([endless, other], one, observer=Killer())
    assert list(found.evaluations) == [other], found.failures
    assert "its process was killed 2 times" in found.failures[endless]


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

    class Stopper(Recorder):
        def progressed(self, progress):
            if progress.units > 0:
                stop.set()

    with pytest.raises(Interrupted, match="stopped with 0 of 1 jobs done") as caught:
        pool.run([endless], one, observer=Stopper(), stop=stop)
    assert caught.value.again == {}
    state = inspect(endless)
    assert state.step > 0
    assert not state.finished


def test_an_exception_ends_the_processes(make_job):
    class Broken(Recorder):
        def progressed(self, progress):
            raise KeyboardInterrupt

    before = {child.pid for child in multiprocessing.active_children()}
    with pytest.raises(KeyboardInterrupt), Cluster(HERE) as cluster:
        pool.run([make_job("ae", iterations=10_000_000)], cluster, observer=Broken())
    wait_until(lambda: {child.pid for child in multiprocessing.active_children()} <= before)


def test_other_settings_are_refused_before_anything_runs(make_job, one):
    do(make_job("ae"))
    recorder = Recorder()
    with pytest.raises(RefusedError):
        pool.run([make_job("vq"), make_job("ae", iterations=3)], one, observer=recorder)
    assert recorder.order == []


def test_jobs_below_1_are_refused():
    with pytest.raises(UsageError, match="jobs must be at least 1, not 0"):
        Where(jobs=0)
    assert Where(device="cpu").workers() >= 1
    assert Where(jobs=5, device="cpu").workers() == 5


def test_no_more_processes_are_meant_to_start_than_there_can_be_jobs():
    assert Cluster(Where(jobs=8, device="cpu"), 2).workers == 2
    assert Cluster(Where(jobs=8, device="cpu"), 20).workers == 8
    assert Cluster(Where(jobs=8, device="cpu")).workers == 8


def test_a_process_that_starts_as_it_does_outside_of_tests_computes_with_one_thread(make_job):
    job = make_job("pca")
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}), Cluster(HERE) as cluster:
        assert list(pool.run([job], cluster).evaluations) == [job]
        [threads] = cluster.client.run(limit_threads, 1).values()
        [environment] = cluster.client.run(lambda: dict(os.environ)).values()
    assert threads["torch"] == 1
    assert {found["num_threads"] for found in threads["pools"]} <= {1}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert environment[name] == "1"


def _greeting(address, context):
    """The first byte that the scheduler says of itself to whoever connects so; nothing where it hangs up."""
    host, port = address.removeprefix("tls://").split(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=20) as line,
            context.wrap_socket(line) as secure,
        ):
            return secure.recv(1)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_a_stranger_cannot_connect(one):
    address = one.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert _greeting(address, one.client.security.get_connection_args("client")["ssl_context"])  # a friend can
    unknown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    other = Security.temporary().get_connection_args("client")["ssl_context"]
    for context in (unknown, other):  # without a certificate, and with one that somebody else signed
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the stranger itself takes any scheduler
        assert not _greeting(address, context)


def test_without_tls_there_is_no_talking_to_the_scheduler(one):
    host, port = one.client.scheduler.address.removeprefix("tls://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line, contextlib.suppress(ConnectionError):
        line.sendall(bytes(64))
        assert line.recv(1) in (b"", b"\x15")  # hung up, perhaps after an alert of TLS


def test_every_address_is_this_machines_and_speaks_tls(one):
    [workers] = [one.client.scheduler_info()["workers"]]
    assert all(worker.startswith("tls://127.0.0.1:") for worker in workers)
