"""Checks of correctness on an accelerator, done before its speed is measured; each check also runs on the CPU."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import table, table_line
from softvq_cli.__main__ import main
from softvq_cli.errors import one_line
from softvq_cli.reporter import Reporter
from softvq_cli.training import checkpoint
from softvq_cli.training.objective import objective
from softvq_cli.training.run import TrainRequest, train_together
from softvq_cli.training.steppers import STEPS, EagerStepper, GraphStepper

ROOT = Path(__file__).resolve().parents[1]
Check = Callable[[Setting], tuple[str, bool]]
"""Returns the result as text, and whether it is correct."""


def section(setting: Setting) -> Iterator[str]:
    """Yield a table line by line, because a check may take half a minute; an error in one does not stop the others."""
    yield table(["what has to hold", "found", "holds"], [])
    for title, check in CHECKS.items():
        try:
            found, right = check(setting)
        except Exception as error:
            found, right = f"{type(error).__name__}: {one_line(error)}", False
        yield table_line([title, found, "yes" if right else "**NO**"])


def graphs(setting: Setting) -> tuple[str, bool]:
    """Compare steps in a CUDA graph with eager ones: the same kernels in the same order."""
    one, other = (session("mnist", setting, log_every=4 * STEPS, noise_std=0.1) for _ in range(2))
    eager, graph = EagerStepper(one), GraphStepper(other)
    steps = STEPS if setting.quick else 4 * STEPS
    while one.step < steps:
        eager.advance()
    while other.step < steps:
        graph.advance(steps - other.step)
    gap = _gap(one.model.state_dict(), other.model.state_dict())
    return f"weights after {steps} steps differ by {gap:.1e} of the largest", gap < 1e-4


def gradients(setting: Setting) -> tuple[str, bool]:
    """Compare the gradients of the device with those of the CPU, for the same weights, images and noise."""
    worst = 0.0
    for data in ("mnist", "svhn"):
        one = session(data, setting)
        images = one.source.batch(0)
        own = _gradients(one.model, one.model.scale(images), one.config.loss)
        reference = _gradients(one.model.cpu(), one.model.scale(images.cpu()), one.config.loss)
        worst = max(worst, _gap(reference, own))
    return f"gradients of both networks differ by {worst:.1e} of the largest", worst < 1e-3


def _gradients(model: Any, x: Tensor, weights: Any) -> dict[str, Tensor]:
    model.zero_grad()
    objective(model, x, None, weights).loss.backward()
    return {name: weight.grad.detach().clone() for name, weight in model.named_parameters()}


def resuming(setting: Setting) -> tuple[str, bool]:
    """Check that a resumed run has exactly the same result as one without a stop."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _train(setting, [Path(folder) / "whole"])
        stop = threading.Event()

        class Stopping(Reporter):
            def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
                if name == "training" and done >= STEPS:
                    stop.set()

        pieces = Path(folder) / "pieces"
        request = TrainRequest(_settings(setting, 0), pieces, reporter=Stopping())
        train_together([request], device=setting.device.type, stop=stop)
        at = checkpoint.load(pieces / "ckpt.pt").step
        again = _train(setting, [pieces], resume=True)
        return f"stopped at step {at}, then to the end", _same(whole[0], again[0])


def streams(setting: Setting) -> tuple[str, bool]:
    """Compare eight seeds trained together with each trained alone."""
    count = 2 if setting.quick else 8
    with tempfile.TemporaryDirectory() as folder:
        together = _train(setting, [Path(folder) / f"together-{seed}" for seed in range(count)])
        alone = [_train(setting, [Path(folder) / f"alone-{seed}"], first=seed)[0] for seed in range(count)]
        equal = sum(_same(*pair) for pair in zip(together, alone, strict=True))
    return f"{equal} of {count} seeds end in the same bytes", equal == count


def bfloat16(setting: Setting) -> tuple[str, bool]:
    """Check that training in bfloat16 reduces the loss like training in float32."""
    errors = {}
    for precision in ("float32", "bfloat16"):
        one = session("mnist", setting, precision=precision, log_every=STEPS)
        before = one.validation_nmse()
        training(one)(STEPS if setting.quick else 10 * STEPS)
        errors[precision] = one.validation_nmse() / before
    gap = abs(errors["bfloat16"] - errors["float32"]) / errors["float32"]
    return f"share of the error that is left: {errors['float32']:.3f}, bfloat16 {errors['bfloat16']:.3f}", gap < 0.1


def whole_run(setting: Setting) -> tuple[str, bool]:
    """Run ``softvq run`` from training to its last figure."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        words = ["run", "--data", "digits", "--out", f"{folder}/run", "--quiet", "--device", setting.device.type]
        code = main([*words, "--iterations", str(STEPS if setting.quick else 2000)])
        pictures = len(list(Path(folder).glob("run/*.png")))
    return f"exit code {code}, {pictures} pictures", code == 0 and pictures >= 4


def own_tests(setting: Setting) -> tuple[str, bool]:
    """Run the tests that are skipped without CUDA."""
    if setting.device.type != "cuda":
        return "there is no CUDA here", True
    files = [str(ROOT / "tests" / "training" / name) for name in ("test_steppers.py", "test_together.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return (done.stdout.strip().splitlines() or ["nothing"])[-1], done.returncode == 0


CHECKS: Mapping[str, Check] = {
    "captured steps are eager steps": graphs,
    "gradients are the CPU's": gradients,
    "a stopped run goes on to the same bytes": resuming,
    "seeds trained at once are seeds alone": streams,
    "bfloat16 trains": bfloat16,
    "a whole run": whole_run,
    "the tests for CUDA": own_tests,
}


def _settings(setting: Setting, seed: int) -> dict[str, Any]:
    """Settings of a short run with noise and a codebook, so that all kinds of state must be resumed."""
    iterations = 3 * STEPS if setting.quick else 20 * STEPS
    return {"data": "digits", "iterations": iterations, "log_every": STEPS, "noise_std": 0.1, "seed": seed}


def _train(setting: Setting, folders: list[Path], first: int = 0, resume: bool = False) -> list[dict[str, Tensor]]:
    """Train in parallel, one seed per folder, and read the weights."""
    requests = [
        TrainRequest(_settings(setting, first + number), folder, resume=resume) for number, folder in enumerate(folders)
    ]
    for outcome in train_together(requests, device=setting.device.type):
        if isinstance(outcome, Exception):
            raise outcome
    return [checkpoint.load(folder / "ckpt.pt").model.state_dict() for folder in folders]


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _gap(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The largest difference of any value, relative to the largest value of its tensor."""
    pairs = [(a[name].detach().cpu().double(), b[name].detach().cpu().double()) for name in a]
    return max(float((x - y).abs().max() / x.abs().max().clamp_min(1e-30)) for x, y in pairs)
