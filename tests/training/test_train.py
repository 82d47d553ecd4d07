"""Training as a library call: what it writes, that it learns, that it repeats itself and goes on exactly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softvq_cli.errors import InputError, RefusedError, SoftVQError, UsageError
from softvq_cli.training import checkpoint, run_directory, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import Listener, outcome, stopped

NOISY = {"bottleneck": "soft-vq", "noise_std": 0.1, "checkpoint_every": 5}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())  # type: ignore[no-any-return]


class Listening(Listener):
    """Keeps the notes but the first one, on the size of the training, and with how many threads it is told of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def note(self, text: str) -> None:
        if not text.startswith("training in"):
            super().note(text)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        if name == "training" and done:
            self.threads.add(torch.get_num_threads())

    def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
        self.threads.add(torch.get_num_threads())


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_every_bottleneck_trains_and_writes_a_run_directory(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    run = train({**small, "bottleneck": bottleneck, "iterations": 60}, out=tmp_path)
    assert config_of(tmp_path)["model"]["bottleneck"] == bottleneck
    rows, trained = lines(tmp_path), checkpoint.load(run.path)
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["nmse"] < rows[0]["nmse"]
    assert {"loss", "nmse", "test_nmse", "seconds", "steps_per_second"} <= rows[-1].keys()
    assert set(trained.model.bottleneck.term_names) <= rows[-1].keys()
    if BOTTLENECKS[bottleneck].has_codebook:
        assert {"perplexity", "active_codes", "posterior_entropy_bits"} <= rows[-1].keys()
        assert 1 <= rows[-1]["perplexity"] <= trained.model.bottleneck.centroids().shape[-2]
    assert run.metrics == rows[-1]
    assert trained.finished


def test_the_logged_loss_is_the_weighted_sum_of_its_terms(small: dict[str, Any], tmp_path: Path) -> None:
    train({**small, "reconstruction_scale": 2.0, "latent_weight": 3.0, "beta": 5.0}, out=tmp_path)
    for row in lines(tmp_path):
        expected = 2 * row["nmse"] + 3 * (row["codebook"] + 5 * row["commitment"])
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bottleneck", ["vae", "soft-vq"])
def test_the_seed_decides_and_the_global_random_state_stays(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train({**small, "bottleneck": bottleneck, "noise_std": 0.1, "seed": seed}, out=tmp_path / name)
    assert torch.equal(before, torch.get_rng_state())
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    assert lines(tmp_path / "a")[-1]["loss"] != lines(tmp_path / "c")[-1]["loss"]


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        *((NOISY, stops) for stops in ([1], [10], [7, 8, 25])),
        ({"bottleneck": "ema-vq", "codebook_init": "kmeans", "revive": 0.5, "decay": 0.5}, [7, 13]),
        ({"bottleneck": "fsq", "levels": "4,3"}, [7, 13]),
        ({"bottleneck": "sq-vae", "temperature_decay": 0.1}, [7, 13]),
        ({"bottleneck": "gumbel-vq", "temperature_decay": 0.1}, [7, 13]),
        ({"bottleneck": "vq", "codebook_init": "kmeans"}, [7, 13]),
    ],
)
def test_a_stopped_run_resumes_to_the_same_bytes(
    settings: dict[str, Any], stops: list[int], small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "checkpoint_every": 5, **settings}
    train(settings, out=tmp_path / "whole")
    out = tmp_path / "pieces"
    stopped(settings, out, stops[0])
    for step in stops[1:]:
        stopped({}, out, step, resume=True)
    train({}, out=out, resume=True)
    assert outcome(out) == outcome(tmp_path / "whole")


def test_the_bytes_of_a_run_depend_on_its_threads_and_not_on_the_machines(
    small: dict[str, Any], tmp_path: Path, papers_networks: None
) -> None:
    settings = {**small, "threads": 2, "batch_size": 64, "checkpoint_every": 5}
    before, reporter = torch.get_num_threads(), Listening()
    train(settings, out=tmp_path / "whole", reporter=reporter)
    assert reporter.threads == {2}
    try:
        torch.set_num_threads(3)  # as on a machine with more cores
        stopped(settings, tmp_path / "pieces", 7)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        train({}, out=tmp_path / "pieces", resume=True)
    finally:
        torch.set_num_threads(before)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")
    assert config_of(tmp_path / "whole")["train"]["threads"] == 2


@pytest.mark.parametrize(("asked", "side"), [({}, 64), ({"image_size": 99}, 99)])
def test_large_image_files_are_trained_smaller_unless_a_size_is_asked_for(
    asked: dict[str, Any], side: int, tmp_path: Path
) -> None:
    for number in range(12):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (97, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    reporter, settings = Listening(), {"data": str(tmp_path / "photos"), "iterations": 1, "batch_size": 4, **asked}
    run = train(settings, out=tmp_path / "run", reporter=reporter)
    assert run.config.data.image_size == side
    assert checkpoint.load(run.path).dataset.image_shape == (side, side, 3)
    assert any("image_size" in note for note in reporter.notes) == (not asked)


@pytest.mark.parametrize("killed", ["after a report", "before the first checkpoint"])
def test_a_killed_run_goes_on_to_the_same_bytes(killed: str, small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path / "whole")
    out = tmp_path / "killed"
    stopped(small, out, 13)
    if killed == "after a report":
        with (out / "metrics.jsonl").open("a") as file:
            file.write('{"step": 20, "loss": 1.0}\n{"step": 30, "lo')
    else:
        (out / "ckpt.pt").unlink()
    train({}, out=out, resume=True)
    assert outcome(out) == outcome(tmp_path / "whole")
    before = (out / "ckpt.pt").read_bytes(), (out / "metrics.jsonl").read_bytes()
    assert train({}, out=out, resume=True).finished_before
    assert before == ((out / "ckpt.pt").read_bytes(), (out / "metrics.jsonl").read_bytes())


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.5), ("K", 7), ("seed", 9), ("bottleneck", "vae"), ("iterations", 9), ("threads", 3)]
)
def test_resume_refuses_an_option_that_would_change_the_result_by_name(
    name: str, value: Any, small: dict[str, Any], tmp_path: Path
) -> None:
    stopped(small, tmp_path, 5)
    with pytest.raises(UsageError) as refused:
        train({name: value}, out=tmp_path, resume=True)
    assert name in refused.value.settings


@pytest.mark.parametrize("bottleneck", ["soft-vq", "gumbel-vq"])
def test_a_finished_run_goes_on_to_more_iterations_as_if_it_had_them_from_the_start(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "bottleneck": bottleneck, "temperature_decay": 0.1}
    train({**settings, "iterations": 60}, out=tmp_path / "whole")
    out, said = tmp_path / "pieces", Listening()
    train({**settings, "iterations": 20}, out=out)
    stopped({"iterations": 60}, out, 33, resume=True)
    assert config_of(out)["train"]["iterations"] == 60
    assert not train({}, out=out, resume=True).finished_before
    assert outcome(out) == outcome(tmp_path / "whole")
    end = (out / "ckpt.pt").read_bytes()
    train({"iterations": 61}, out=out, resume=True, reporter=said)
    [note] = said.notes
    assert all(word in note for word in (str(out), "60", "61", "ckpt-60.pt"))
    assert (out / "ckpt-60.pt").read_bytes() == end


def test_a_run_that_ended_between_two_reports_is_lengthened_too(small: dict[str, Any], tmp_path: Path) -> None:
    train({**small, "iterations": 60}, out=tmp_path / "whole")
    out = tmp_path / "pieces"
    train({**small, "iterations": 25}, out=out)
    stopped({"iterations": 60}, out, 27, resume=True)
    train({}, out=out, resume=True)
    assert outcome(out)[1:] == outcome(tmp_path / "whole")[1:]
    assert [line["step"] for line in lines(out)] == [10, 20, 25, 30, 40, 50, 60]


def test_epochs_can_be_repeated_to_resume_and_replace_the_length_of_a_stored_run(
    small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {name: value for name, value in small.items() if name != "iterations"} | {"epochs": 0.5}
    first = train(settings, out=tmp_path / "run")
    assert first.config.train.epochs == 0.5
    again = train(settings, out=tmp_path / "run", resume=True)
    assert (again.finished_before, again.config) == (True, first.config)
    copied = train(first.config.flat(), out=tmp_path / "copy")
    assert copied.config.train.iterations == first.config.train.iterations
    with pytest.raises(UsageError) as refused:
        train({"epochs": 1.0}, out=tmp_path / "run", resume=True)
    assert "epochs" in refused.value.settings


def test_resume_refuses_other_data(small: dict[str, Any], npz: Path, tmp_path: Path) -> None:
    data = tmp_path / "own.npz"
    data.write_bytes(npz.read_bytes())
    stopped({**small, "data": str(data)}, tmp_path / "run", 5)
    with np.load(npz) as arrays:
        np.savez(data, images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(InputError, match=r"own\.npz"):
        train({}, out=tmp_path / "run", resume=True)


def test_a_run_is_only_overwritten_on_request_and_when_the_new_one_can_begin(
    small: dict[str, Any], tmp_path: Path
) -> None:
    train(small, out=tmp_path)
    before = (tmp_path / "ckpt.pt").read_bytes()
    with pytest.raises(RefusedError) as refused:
        train({**small, "seed": 5}, out=tmp_path)
    assert {"resume", "overwrite", "out"} <= {*refused.value.settings}
    with pytest.raises(UsageError) as larger:
        train({**small, "batch_size": 5000}, out=tmp_path, overwrite=True)
    assert "batch_size" in larger.value.settings
    assert (tmp_path / "ckpt.pt").read_bytes() == before
    train({**small, "seed": 5}, out=tmp_path, overwrite=True)
    assert checkpoint.load(tmp_path / "ckpt.pt").config.train.seed == 5


def test_a_kept_checkpoint_is_that_of_a_shorter_run(small: dict[str, Any], tmp_path: Path) -> None:
    settings = {**small, **NOISY}
    train({**settings, "keep": "7, 3"}, out=tmp_path / "long")
    for step in (3, 7):
        train({**settings, "iterations": step}, out=tmp_path / str(step))
        kept = checkpoint.load(tmp_path / "long" / f"ckpt-{step}.pt")
        short = checkpoint.load(tmp_path / str(step) / "ckpt.pt").model.state_dict()
        assert kept.step == step
        assert all(torch.equal(weights, short[name]) for name, weights in kept.model.state_dict().items())
    train(settings, out=tmp_path / "plain")
    assert outcome(tmp_path / "long") == outcome(tmp_path / "plain")
    train(settings, out=tmp_path / "long", overwrite=True)
    assert list((tmp_path / "long").glob("ckpt-*")) == []


def test_what_cannot_be_kept_is_said(small: dict[str, Any], tmp_path: Path) -> None:
    stopped(small, tmp_path, 5)
    reporter = Listening()
    train({"keep": "2,5,8,40,50"}, out=tmp_path, resume=True, reporter=reporter)
    [note] = reporter.notes
    assert re.findall(r"\d+", note) == ["40", "50", "2", "5", "30"]  # and the step at which it goes on, and the last
    assert sorted(path.name for path in tmp_path.glob("ckpt*")) == ["ckpt-5.pt", "ckpt-8.pt", "ckpt.pt"]


@pytest.mark.parametrize(
    ("settings", "arguments", "name"),
    [({"keep": "5,x"}, {}, "keep"), ({}, {"out": ""}, "out"), ({}, {"out": "  "}, "out")],
)
def test_a_wrong_setting_or_argument_is_refused_by_name(
    settings: dict[str, Any], arguments: dict[str, Any], name: str, small: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        train({**small, **settings}, **{"out": tmp_path, **arguments})
    assert name in refused.value.settings


def test_a_second_process_in_the_same_directory_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    hold = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    other = [sys.executable, "-c", hold, str(tmp_path / run_directory.LOCK)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        with pytest.raises(run_directory.BusyError):
            train(small, out=tmp_path)
        process.communicate(b"\n")
    train(small, out=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "bottleneck": "ae", "arch": "mlp", "lr": 1e30, "iterations": 40, "checkpoint_every": 1}
    with pytest.raises(SoftVQError) as stop:
        train(settings, out=tmp_path)
    assert "lr" in stop.value.settings
    state = checkpoint.load(tmp_path / "ckpt.pt").model.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())


def test_run_directories_are_named_after_the_settings(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(small).folder == Path("runs/blobs-soft-vq-K6-d4-s0")
    assert train({**small, "bottleneck": "ae", "seed": 3}).folder == Path("runs/blobs-ae-d4-s3")


def test_bfloat16_starts_at_about_the_same_loss_and_comes_down_too(
    small: dict[str, Any], tmp_path: Path, papers_networks: None
) -> None:
    settings = {**small, "iterations": 60, "log_every": 1, "arch": "mlp", "lr": 1e-3}
    courses = [
        lines(train({**settings, "precision": precision}, out=tmp_path / precision).folder)
        for precision in ("float32", "bfloat16")
    ]
    full, half = (course[0]["nmse"] for course in courses)
    assert full != half
    assert half == pytest.approx(full, rel=0.02)
    assert all(course[-1]["test_nmse"] < 0.8 * course[0]["test_nmse"] for course in courses)


def test_torch_compile_that_fails_is_noted_and_the_run_goes_on_the_same(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler found")

    train(small, out=tmp_path / "eager")
    monkeypatch.setattr(torch, "compile", lambda function: broken)
    reporter = Listening()
    train({**small, "compile": True}, out=tmp_path / "compiled", reporter=reporter)
    [note] = reporter.notes
    assert "torch.compile" in note and "no compiler found" in note
    assert outcome(tmp_path / "eager") == outcome(tmp_path / "compiled")
