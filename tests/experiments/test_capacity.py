"""The number of workers that the system's limits allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softvq_cli.errors import SoftVQError
from softvq_cli.experiments import capacity
from tests.helpers import ROOT

resource = pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("limit", "number", "way"),
    [("RLIMIT_NOFILE, (32, 32)", "32", "ulimit -n"), ("RLIMIT_AS, (4 * 10**9, 4 * 10**9)", "4.0 GB", "ulimit -v")],
)
def test_limits_that_leave_no_room_are_named(tmp_path: Path, limit: str, number: str, way: str) -> None:
    program = f"import resource, sys; resource.setrlimit(resource.{limit}); from softvq_cli.__main__ import main; "
    grid = ("sweep", "--data", "digits", "--over", "K=2,3", "--jobs", "2", "-q", "-o", str(tmp_path / "s"))
    ended = subprocess.run(
        [sys.executable, "-c", f"{program} sys.exit(main(sys.argv[1:]))", *grid],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert number in ended.stderr and way in ended.stderr


def limits(monkeypatch: pytest.MonkeyPatch, **given: tuple[int, int]) -> list[tuple[int, tuple[int, int]]]:
    """Set these limits; changes to them are recorded."""
    kinds = {getattr(resource, f"RLIMIT_{name}"): value for name, value in given.items()}
    changed: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: kinds.get(kind, (-1, -1)))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, value: changed.append((kind, value)))
    return changed


def test_the_soft_limit_on_open_files_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = limits(monkeypatch, NOFILE=(50, 4096))
    capacity.check(1)
    assert changed == []
    capacity.check(4)
    assert changed == [(resource.RLIMIT_NOFILE, (80, 4096))]


def test_as_many_jobs_as_there_is_room_for_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, NOFILE=(64, 64))
    with pytest.raises(SoftVQError) as error:
        capacity.check(8)
    assert error.value.settings == ("jobs",)
    assert [number in str(error.value) for number in ("64", "128", "2")] == [True] * 3


def test_processes_of_this_user_count(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, NPROC=(60, 60))
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # the system sets root no limit
    capacity.check(1)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(capacity, "_tasks_of_user", lambda: 20)
    with pytest.raises(SoftVQError, match=r"60 .* 20, .* 48"):
        capacity.check(1)
