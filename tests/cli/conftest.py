"""Fixtures that run the program in this process, as a shell would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from softvq_cli.__main__ import main
from softvq_cli.cli.progress import Terminal
from tests import helpers
from tests.helpers import QUICK, Result, once

Softvq = Callable[..., Result]


@pytest.fixture
def softvq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Softvq:
    """Run one command in an empty current folder; its streams are not terminals."""
    monkeypatch.chdir(tmp_path)
    return helpers.softvq


def small_run(command: str, folder: Path) -> None:
    with helpers.shrunk_networks():
        assert main([command, "--quiet", "--out", str(folder), *QUICK]) == 0


@pytest.fixture
def for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print their output for people, as at a terminal."""
    monkeypatch.setattr(Terminal, "piped", False)


@pytest.fixture(scope="session")
def trained(shared_folder: Path) -> Path:
    """The folder of a quick run on digits; tests must not write into it."""
    return once(shared_folder / "trained", lambda folder: small_run("train", folder))


@pytest.fixture(scope="session")
def chained(shared_folder: Path) -> Path:
    """The folder of a quick ``softvq run`` on digits; tests must not write into it."""
    return once(shared_folder / "chained", lambda folder: small_run("run", folder))
