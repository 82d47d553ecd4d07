"""Run the program in this process, as a shell would see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from softvq_cli.__main__ import main
from softvq_cli.cli.output import Terminal
from tests import helpers
from tests.helpers import QUICK, Result

Softvq = Callable[..., Result]


@pytest.fixture
def softvq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Softvq:
    """Run one command in an empty current folder; its streams are not terminals."""
    monkeypatch.chdir(tmp_path)
    return helpers.softvq


@pytest.fixture
def for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print what a person at a terminal gets."""
    monkeypatch.setattr(Terminal, "piped", False)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run on digits; tests must not write into it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--quiet", "--out", str(folder), *QUICK]) == 0
    return folder


@pytest.fixture(scope="session")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick ``softvq run`` on digits; tests must not write into it."""
    folder = tmp_path_factory.mktemp("chained") / "run"
    assert main(["run", "--quiet", "--out", str(folder), *QUICK]) == 0
    return folder
