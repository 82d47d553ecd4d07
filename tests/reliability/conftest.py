"""Commands in this process, in forked ones and in installed ones; what a run holds, to the last bit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.__main__ import main
from softvq_cli.model import decoder, encoder
from softvq_cli.training import archive
from tests.conftest import blobs
from tests.reliability.zygote import WIDTHS

ROOT = Path(__file__).resolve().parents[2]
CLOCKS = ("seconds", "steps_per_second")
EXIT_CODES = (0, 1, 2, 3, 4, 130)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Negative: the signal that killed it."""
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def refused(self, code: int, *words: str) -> None:
        """Check that it ended with ``code`` and one line of error with all of ``words``."""
        lines = self.err.splitlines()
        assert (self.code, self.out, len(lines)) == (code, "", 1), self
        assert lines[0].startswith("softvq: error: "), self
        assert not [word for word in ("this should not happen", "Traceback") if word in self.err], self
        assert not [word for word in words if word not in lines[0]], self


def softvq(*words: object) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ended(code, out.getvalue(), err.getvalue())


def ended_well(ended: Ended) -> None:
    """Success without an error, or an exit code and a line of the contract."""
    assert ended.code in EXIT_CODES, ended
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("softvq: error: ")]
    assert len(errors) == (ended.code not in (0, 130)) and (not errors or lines[-1] == errors[0]), ended
    for word in ("Traceback", "this should not happen", "\x1b"):
        assert word not in ended.err + ended.out, ended
    if ended.code == 0 and "\n" not in ended.out.strip() and ended.out.startswith("{"):
        json.loads(ended.out)


class Zygote:
    """Runs commands in forked processes, with networks of :data:`WIDTHS`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.zygote"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def run(
        self, *words: object, cwd: Path, after: float | None = None, number: int = signal.SIGKILL, **job: Any
    ) -> Ended:
        """Run a command; ``after`` so many seconds it gets the signal, unless it is over by then."""
        self.begin(*words, cwd=cwd, **job)
        if after is not None:
            time.sleep(after)
            self.send(number)
        return self.end()

    def begin(self, *words: object, cwd: Path, **job: Any) -> None:
        self._out, self._err = self._folder / "out", self._folder / "err"
        job |= {"argv": [str(word) for word in words], "cwd": str(cwd), "out": str(self._out), "err": str(self._err)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        self._pid = int(self._line())

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def end(self) -> Ended:
        status = os.waitstatus_to_exitcode(int(self._line()))
        return Ended(status, self._out.read_text(), self._err.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote"))
    yield zygote
    zygote.close()


@contextlib.contextmanager
def shrunk_networks() -> Iterator[None]:
    """The same networks as in the zygote's children, for commands in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "MLP_WIDTHS", WIDTHS)
        patch.setattr(decoder, "MLP_WIDTHS", WIDTHS)
        yield


@pytest.fixture
def small_networks() -> Iterator[None]:
    """:func:`shrunk_networks` for one test."""
    with shrunk_networks():
        yield


def save_blobs(path: Path, n: int = 40, **more: Any) -> Path:
    """Images of three classes in a .npz file."""
    dataset = blobs(n, **more)
    np.savez(path, images=dataset.images, labels=dataset.labels)
    return path


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blobs(tmp_path_factory.mktemp("data") / "blobs.npz")


def tiny(npz: Path, **more: object) -> list[str]:
    """The words of a training of a few steps that has all that is to be resumed: noise, a codebook, moments."""
    options = {"data": npz, "latent_dim": 2, "K": 3, "batch_size": 8, "noise_std": 0.1, "device": "cpu"} | more
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def state(folder: Path) -> dict[str, Any]:
    """All that a run is, to compare with ``==``: each tensor as its bytes, the log without its clocks."""
    content, _ = archive.read(folder / "ckpt.pt")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    without_clocks = [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
    content["metrics"] = {name: value for name, value in content["metrics"].items() if name not in CLOCKS}
    return {"checkpoint": _plain(content), "log": without_clocks, "config": (folder / "config.json").read_text()}


def step_of(folder: Path) -> int:
    """The step of a run's checkpoint, of whatever widths its network is."""
    step = archive.read(folder / "ckpt.pt")[0]["step"]
    assert isinstance(step, int)
    return step


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        flat = value.contiguous().flatten().view(torch.uint8)
        return str(value.dtype), tuple(value.shape), value.stride(), flat.numpy().tobytes()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def temporaries(folder: Path) -> list[str]:
    """What is left of files that were being written."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]
