"""The same jobs on a running scheduler with workers in separate programs."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from softvq_cli.errors import Interrupted, SoftVQError
from softvq_cli.experiments import pool
from softvq_cli.experiments.backends import SchedulerWorkers, Where
from softvq_cli.experiments.job import inspect
from tests.helpers import Fork, Recorder, Zygote, do, wait_for


class Site:
    """A scheduler and its workers, each in a process of its own."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self._zygote, self._folder = zygote, folder
        file = folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", file, "--no-dashboard")
        self._forks = [self._start("scheduler", *words)]
        wait_for(file)
        self.address = json.loads(file.read_text())["address"]

    def work(self, before: str = "") -> Fork:
        """Start another worker, without a nanny that would restart it; ``before`` is called first in its process."""
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
        self._forks.append(self._start("worker", self.address, *words, before=before))
        return self._forks[-1]

    def close(self) -> None:
        for fork in self._forks:
            fork.send(signal.SIGKILL)
            fork.end()

    def _start(self, kind: str, *words: object, before: str = "") -> Fork:
        code = f"{before}\nfrom distributed.cli.dask_{kind} import main; main()"
        return self._zygote.begin(*words, cwd=self._folder, code=code)


@pytest.fixture
def site(zygote, tmp_path):
    (tmp_path / "site").mkdir()
    site = Site(zygote, tmp_path / "site")
    yield site
    site.close()


def acting(jobs, act):
    """A reporter that calls a function once, when all jobs train and have checkpoints."""
    acted = []

    def look(detail):
        if not acted and all(f"{job.name} training" in detail and (job.folder / "ckpt.pt").exists() for job in jobs):
            acted.append(True)
            act()

    return Recorder(look)


def test_a_killed_workers_job_is_completed_by_another_with_the_same_numbers(site, make_job):
    jobs = [make_job("soft-vq", seed, iterations=600, checkpoint_every=20, log_every=200) for seed in (0, 1)]
    reference = [do(job).numbers for job in jobs]
    for job in jobs:
        for file in job.folder.iterdir():
            file.unlink()
    first, _ = site.work(), site.work()
    killed = []
    observer = acting(jobs, lambda: killed.append(first.send(signal.SIGKILL)))
    with SchedulerWorkers(Where(device="cpu", scheduler=site.address)) as cluster:
        cluster.start()
        cluster.client.wait_for_workers(2, timeout=60)  # else one of them gets both jobs
        found = pool.run(jobs, cluster, reporter=observer)
    assert killed
    assert not found.failures
    assert [found.evaluations[job].numbers for job in jobs] == reference
    assert sorted(observer.done) == ["soft-vq-s0", "soft-vq-s1"]


def test_a_stop_leaves_checkpoints_and_the_workers(site, make_job):
    job, stop = make_job("ae", iterations=10_000_000, checkpoint_every=100), threading.Event()
    worker = site.work()
    with (
        pytest.raises(Interrupted, match="0 of 1"),
        SchedulerWorkers(Where(device="cpu", scheduler=site.address)) as cluster,
    ):
        pool.run([job], cluster, reporter=acting([job], stop.set), stop=stop)
    assert worker.lives()
    assert 0 < inspect(job).step < 10_000_000
    again = make_job("pca")
    with SchedulerWorkers(Where(device="cpu", scheduler=site.address)) as cluster:
        assert list(pool.run([again], cluster).evaluations) == [again]


OWN_MOUNT = """
import ctypes, subprocess
if ctypes.CDLL(None).unshare(0x20000) or subprocess.call(["mount", "-t", "tmpfs", "tmpfs", {folder!r}]):
    raise SystemExit(9)
"""
"""A new namespace of mounts, in which the folder is another one."""


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_worker_whose_folder_is_its_own_is_noticed(site, make_job, tmp_path):
    job = make_job("pca")
    worker = site.work(OWN_MOUNT.format(folder=str(tmp_path)))
    with SchedulerWorkers(Where(device="cpu", scheduler=site.address)) as cluster:
        cluster.start()
        try:
            cluster.client.wait_for_workers(1, timeout=60)
        except TimeoutError:
            assert worker.end().code == 9
            pytest.skip("mounting is not permitted here")
        outcome = pool.run([job], cluster)
    assert not outcome.evaluations
    assert str(tmp_path) in outcome.failures[job]


@pytest.mark.parametrize(
    "identity",
    [
        lambda present: {"n_workers": present, "workers": {}},
        lambda present: {"workers": {"tcp://x:1": {}} if present else {}},
    ],
)
def test_it_is_said_each_time_that_the_last_worker_has_left(identity):
    cluster, warnings = SchedulerWorkers(Where(device="cpu", scheduler="tcp://x:1")), []
    reporter = SimpleNamespace(warn=warnings.append)
    counts = []
    for present in (1, 0, 0, 1, 0):
        cluster.client = SimpleNamespace(_scheduler_identity=identity(present))
        cluster.watch(reporter)
        counts.append(len(warnings))
    assert counts == [0, 1, 1, 1, 2]


def test_an_address_where_nobody_answers_is_named(monkeypatch):
    monkeypatch.setattr("softvq_cli.experiments.backends.LONGEST_CONNECT", 0.2)
    with (
        pytest.raises(SoftVQError, match=r"tcp://127\.0\.0\.1:9"),
        SchedulerWorkers(Where(device="cpu", scheduler="tcp://127.0.0.1:9")) as cluster,
    ):
        cluster.start()
