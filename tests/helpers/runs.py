"""Runs of tiny networks, and exact comparisons of their content. Torch is only imported on first use."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from softvq_cli.errors import Interrupted, SoftVQError
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from softvq_cli.experiments.job import Job
    from softvq_cli.experiments.report import Report
    from softvq_cli.experiments.study import Study
    from softvq_cli.results.evaluate import Evaluation

WIDTHS, CHANNELS = (8, 8, 16), (4, 4, 8, 8)
"""Of the layers of the small networks: a checkpoint has 30 kB instead of 30 MB."""
PAPERS_WIDTHS, PAPERS_CHANNELS = (500, 500, 2000), (64, 128, 256, 512)
STEPS = 12
"""Of :func:`training`."""
CLOCKS = ("seconds", "steps_per_second")


def trust_the_disk() -> None:
    """Do not wait in this process until the disk has what is written: no test cuts the power, and there are thousands.

    That it is asked for, and that its failure is told, tests see all the same.
    """
    os.fsync = lambda fd: None


@contextlib.contextmanager
def networks_of(widths: tuple[int, ...], channels: tuple[int, ...]) -> Iterator[None]:
    """Within the block, networks have these layer widths, and convolutions these channels."""
    from softvq_cli.model import decoder, encoder

    with (
        mock.patch.multiple(encoder, MLP_WIDTHS=widths, CNN_CHANNELS=channels),
        mock.patch.object(decoder, "MLP_WIDTHS", widths),
    ):
        yield


def shrunk_networks() -> contextlib.AbstractContextManager[None]:
    """Networks of :data:`WIDTHS` and :data:`CHANNELS`."""
    return networks_of(WIDTHS, CHANNELS)


def papers_networks() -> contextlib.AbstractContextManager[None]:
    """Within :func:`shrunk_networks`, use the paper's networks."""
    return networks_of(PAPERS_WIDTHS, PAPERS_CHANNELS)


@contextlib.contextmanager
def coarse_pictures() -> Iterator[None]:
    """Figures are written as empty files, because drawing takes most of the time of a run of a small network."""
    from matplotlib.figure import Figure

    with mock.patch.object(Figure, "savefig", lambda figure, file, **more: file.write(b"a picture")):
        yield


def tiny(npz: Path, **more: object) -> list[str]:
    """The words of a short training in which everything must be resumed: noise, a codebook, moments."""
    options = {"data": npz, "latent_dim": 2, "K": 3, "batch_size": 8, "noise_std": 0.1, "device": "cpu"} | more
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def training(npz: Path, out: str = "run", **more: object) -> list[str]:
    """A run that writes a checkpoint every step and a line of its log every five steps."""
    return ["train", "--out", out, *tiny(npz, **{"iterations": STEPS, "log_every": 5, "checkpoint_every": 1} | more)]


def train(data: Path, out: Path, **more: object) -> Path:
    """Train a network of a few steps on ``data`` in this process; returns its folder, ``out``."""
    from tests.helpers.commands import softvq  # imported here, because it imports the workers, and they this module

    softvq("train", "-q", "-o", out, *tiny(data, **more)).done()
    return out


def do(job: Job, reporter: Reporter | None = None, stop: threading.Event | None = None) -> Evaluation:
    """Complete a job in this process."""
    from softvq_cli.experiments.job import complete
    from softvq_cli.reporter import Reporter

    [(_, result)] = complete(
        [job],
        device="cpu",
        threads=1,
        reporters=[reporter or Reporter()],
        stop=stop or threading.Event(),
    )
    if isinstance(result, SoftVQError):
        raise result
    return result


class Recorder(Reporter):
    """Records notes and warnings, and calls a function with each detail of the progress."""

    def __init__(self, act: Callable[[str], object] = lambda detail: None) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.last: tuple[float, int | None] | None = None
        self.act = act

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        self.last = done, total
        self.act(detail)

    @property
    def done(self) -> list[str]:
        """The jobs of a pool that were done."""
        return [note.split()[0] for note in self.notes if " done, " in note]


def carried_out(studies: Sequence[Study], reporter: Reporter | None = None) -> list[Report]:
    """Carry out studies with one process."""
    from softvq_cli.experiments.backends import Where
    from softvq_cli.experiments.report import carry_out

    return carry_out(studies, where=Where(jobs=1, device="cpu"), reporter=reporter)


def cell_of(document: dict[str, Any], row: str, column: str) -> dict[str, Any]:
    """The cell of a report's document."""
    [cells] = [each["cells"] for each in document["rows"] if each["row"] == row]
    found: dict[str, Any] = cells[column]
    return found


def state(folder: Path) -> dict[str, Any]:
    """The content of a run for comparison with ``==``: each tensor as bytes, the log without times."""
    from softvq_cli.training import archive

    content, _ = archive.read(folder / "ckpt.pt")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    without_clocks = [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
    content["metrics"] = {name: value for name, value in content["metrics"].items() if name not in CLOCKS}
    return {"checkpoint": plain(content), "log": without_clocks, "config": (folder / "config.json").read_text()}


def outcome(folder: Path) -> Any:
    """The result of a training for comparison with ``==``: step, weights, state and log."""
    whole = state(folder)
    return [whole["log"], *(whole["checkpoint"][name] for name in ("step", "model", "training"))]


def unfinish(run: Path, step: int = 1) -> None:
    """Change the checkpoint of a finished run to that of an earlier step."""
    from softvq_cli.training import archive

    content, _ = archive.read(run / "ckpt.pt")
    archive.write(run / "ckpt.pt", {**content, "step": step, "finished": False})


def step_of(folder: Path) -> int:
    """The step of a run's checkpoint, for any network widths."""
    from softvq_cli.training import archive

    step = archive.read(folder / "ckpt.pt")[0]["step"]
    assert isinstance(step, int)
    return step


def plain(value: Any) -> Any:
    """A copy for comparison with ``==``: each tensor as its type, shape, strides and bytes."""
    import torch

    if isinstance(value, torch.Tensor):
        flat = value.contiguous().flatten().view(torch.uint8)
        return str(value.dtype), tuple(value.shape), value.stride(), flat.numpy().tobytes()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def temporaries(folder: Path) -> list[str]:
    """The temporary files that remain."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]


class StopAt(Reporter):
    """Asks the run to stop after a step."""

    def __init__(self, step: int, stop: threading.Event) -> None:
        self.at, self.stop = step, stop

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        if (name, done) == ("training", self.at):
            self.stop.set()


def stopped(settings: dict[str, Any], out: Path, step: int, **more: Any) -> None:
    """Train up to a step, and check the message on how to continue."""
    from softvq_cli.training import train

    stop = threading.Event()
    with pytest.raises(Interrupted, match=f"stopped at step {step} ") as interruption:
        train(settings, out=out, stop=stop, reporter=StopAt(step, stop), **more)
    logs = {"log": list(more["logs"])} if "logs" in more else {}
    assert interruption.value.again == {"out": out, "resume": True, "device": more.get("device"), **logs}
