"""A network failure: a study whose Dask worker becomes unreachable during a training.

    sudo env PATH="$PATH" python -m benchmarks.partition --seconds 45

Two network namespaces, connected by a virtual cable, hold the scheduler with the command, and the worker; they share
the disk. The cable is disconnected while the worker trains. The study must have the same results as on this machine
alone. By default, Dask gives up a connection after 30 s; this limit is raised here, as docs/cluster.md explains.
Requires Linux, root, iproute2 and softvq[cluster].
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from softvq_cli.experiments.worker import PROGRESS, TRAINING

HERE, THERE = "softvq-here", "softvq-there"
ADDRESS = "tcp://10.77.0.1:8786"
CLOCKS = ("seconds", "steps_per_second")
"""Metrics that differ from run to run."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def inside(namespace: str, *words: object, **more: object) -> subprocess.Popen[bytes]:
    """Run a Python module in a namespace."""
    limit = "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=300s"
    command = ["ip", "netns", "exec", namespace, "env", limit, sys.executable, "-m", *map(str, words)]
    return subprocess.Popen(command, **more)  # type: ignore[call-overload, no-any-return]


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    """Create the two namespaces, 10.77.0.1 and 10.77.0.2."""
    remove()
    try:
        ip("link", "add", "sv1", "type", "veth", "peer", "name", "sv2")
        for number, name in enumerate((HERE, THERE), 1):
            ip("netns", "add", name)
            ip("link", "set", f"sv{number}", "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", f"sv{number}")
            ip("-n", name, "link", "set", f"sv{number}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        remove()


def remove() -> None:
    """Remove the namespaces and the cable, of this run or of a killed one."""
    for name in (HERE, THERE):
        subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Start a scheduler in one namespace and a worker in the other."""
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = ("distributed.cli.dask_scheduler", "--host", "10.77.0.1", "--port", 8786, "--no-dashboard")
    worker = ("distributed.cli.dask_worker", ADDRESS, "--nthreads", 1, "--no-dashboard")
    processes = [inside(HERE, *scheduler, **quiet)]
    try:
        time.sleep(5)
        processes.append(inside(THERE, *worker, **quiet))
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def numbers(folder: Path) -> list[dict[str, str]]:
    """The table of a study without times."""
    with (folder / "table1.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["measure"] not in CLOCKS]


def trains(folder: Path) -> bool:
    """Whether a job of the study has started to train."""
    return any(json.dumps(TRAINING) in path.read_text() for path in folder.rglob(PROGRESS))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partition", description="Pull the network's cable.")
    parser.add_argument("--seconds", type=float, default=45, help="how long the cable is pulled")
    parser.add_argument("--iterations", type=int, default=2000, help="of the training, which must take longer")
    chosen = parser.parse_args()
    study = ["softvq_cli", "reproduce", "table1", "--data", "mnist=digits", "--only", "soft-vq", "--seeds", 1]
    study += ["--iterations", chosen.iterations, "--quiet", "--out"]
    with tempfile.TemporaryDirectory() as temporary, namespaces(), cluster(Path(temporary)):
        folder = Path(temporary)
        there = inside(HERE, *study, "there", "--scheduler", ADDRESS, cwd=folder)
        while not trains(folder / "there"):
            assert there.poll() is None, "the study ended before its cable was pulled"
            time.sleep(0.2)
        ip("-n", THERE, "link", "set", "sv2", "down")
        print(f"the cable is out for {chosen.seconds:g} s", flush=True)
        time.sleep(chosen.seconds)
        assert trains(folder / "there"), "the trainings were over too soon: more --iterations"
        ip("-n", THERE, "link", "set", "sv2", "up")
        assert there.wait() == 0, there.returncode
        alone = inside(HERE, *study, "alone", "--jobs", 1, cwd=folder)
        assert alone.wait() == 0, alone.returncode
        assert numbers(folder / "there") == numbers(folder / "alone")
    print("survived: the training has the numbers of one on this machine alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
