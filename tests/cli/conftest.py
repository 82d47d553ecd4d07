"""Run the program in this process, as a shell would see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from softvq_cli.__main__ import main

QUICK = ("--iterations", "6", "--log-every", "3", "--device", "cpu")
"""Options of a training that is over at once."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Check that the command ended with ``code`` and one line of error that has all of ``words``."""
        lines = self.err.splitlines()
        assert self.code == code, self.err
        assert self.out == ""
        assert len(lines) == 1, self.err
        assert lines[0].startswith("softvq: error: ")
        for word in words:
            assert word in lines[0]


Softvq = Callable[..., Result]


@pytest.fixture
def softvq(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Softvq:
    """Run one command in an empty current folder; its streams are not terminals."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return run


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
