"""The same jobs on a scheduler that is already there, with workers as separate programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from softvq_cli.errors import Interrupted, SoftVQError
from softvq_cli.experiments import pool
from softvq_cli.experiments.cluster import Cluster, Where
from softvq_cli.experiments.job import inspect
from softvq_cli.experiments.pool import PoolObserver
from tests.helpers import do

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file, "--no-dashboard")
        end = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def work(self) -> subprocess.Popen[bytes]:
        """One more worker, without a nanny that would start it again."""
        return self._start("dask_worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, module: str, *words: object) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"distributed.cli.{module}", *map(str, words)]
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    yield site
    site.close()


class Acting(PoolObserver):
    """Does something once, when a checkpoint is there and training goes on."""

    def __init__(self, jobs, act):
        self.jobs, self.act, self.acted, self.done = jobs, act, False, []

    def progressed(self, progress):
        going = [job for job in self.jobs if progress.running.get(job.name) == "training"]
        if not self.acted and len(going) == len(self.jobs) and all((job.folder / "ckpt.pt").exists() for job in going):
            self.acted = True
            self.act()

    def completed(self, job):
        self.done.append(job.name)


def test_a_killed_workers_job_is_completed_by_another_with_the_same_numbers(site, make_job):
    jobs = [make_job("soft-vq", seed, iterations=150, checkpoint_every=10, log_every=10) for seed in (0, 1)]
    reference = [do(job).figures for job in jobs]
    for job in jobs:
        for file in job.folder.iterdir():
            file.unlink()
    first, _ = site.work(), site.work()
    observer = Acting(jobs, lambda: os.kill(first.pid, signal.SIGKILL))
    with Cluster(Where(device="cpu", scheduler=site.address)) as cluster:
        found = pool.run(jobs, cluster, observer=observer)
    assert observer.acted
    assert not found.failures
    assert [found.evaluations[job].figures for job in jobs] == reference
    assert sorted(observer.done) == ["soft-vq-s0", "soft-vq-s1"]


def test_a_stop_leaves_checkpoints_and_the_workers(site, make_job):
    job, stop = make_job("ae", iterations=10_000_000, checkpoint_every=100), threading.Event()
    worker = site.work()
    with (
        pytest.raises(Interrupted, match="stopped with 0 of 1 jobs done"),
        Cluster(Where(device="cpu", scheduler=site.address)) as cluster,
    ):
        pool.run([job], cluster, observer=Acting([job], stop.set), stop=stop)
    assert worker.poll() is None
    assert 0 < inspect(job).step < 10_000_000
    again = make_job("pca")
    with Cluster(Where(device="cpu", scheduler=site.address)) as cluster:
        assert list(pool.run([again], cluster).evaluations) == [again]


def test_an_address_where_nobody_answers_is_named(monkeypatch):
    monkeypatch.setattr("softvq_cli.experiments.cluster._LONGEST_CONNECT", 1)
    with (
        pytest.raises(SoftVQError, match=r"there is no Dask scheduler at tcp://127\.0\.0\.1:9"),
        Cluster(Where(device="cpu", scheduler="tcp://127.0.0.1:9")) as cluster,
    ):
        cluster.client  # noqa: B018
