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
from softvq_cli.reporter import Reporter
from softvq_cli.training import checkpoint, run_directory, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import stopped


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in rows]


def assert_same_tree(a: Any, b: Any) -> None:
    """Equal to the last bit, through dicts and lists."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same_tree(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_tree(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def assert_same_run(a: Path, b: Path) -> None:
    first, second = checkpoint.load(a / "ckpt.pt"), checkpoint.load(b / "ckpt.pt")
    assert first.step == second.step
    assert_same_tree(first.model.state_dict(), second.model.state_dict())
    assert_same_tree(first.training, second.training)
    assert without_clock(lines(a)) == without_clock(lines(b))


class Listening(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        if not text.startswith("training in"):
            self.notes.append(text)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_every_bottleneck_trains_and_writes_a_run_directory(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    run = train({**small, "bottleneck": bottleneck, "iterations": 60}, out=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["bottleneck"] == bottleneck
    rows = lines(tmp_path)
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["nmse"] < rows[0]["nmse"]
    assert {"loss", "nmse", "test_nmse", "seconds", "steps_per_second"} <= rows[-1].keys()
    own = checkpoint.load(run.path).model.bottleneck
    assert set(own.term_names) <= rows[-1].keys()
    if BOTTLENECKS[bottleneck].has_codebook:
        assert {"perplexity", "active_codes", "posterior_entropy_bits"} <= rows[-1].keys()
        K = own.centroids().shape[-2]  # of each stage, where there are several
        assert 1 <= rows[-1]["perplexity"] <= K
        assert "K" not in BOTTLENECKS[bottleneck].settings or K == 6
    assert run.metrics == rows[-1]
    assert checkpoint.load(run.path).finished


def test_the_logged_loss_is_the_weighted_sum_of_its_terms(small: dict[str, Any], tmp_path: Path) -> None:
    weights = {"reconstruction_scale": 2.0, "latent_weight": 3.0, "beta": 5.0}
    train({**small, **weights}, out=tmp_path)
    for row in lines(tmp_path):
        expected = 2 * row["nmse"] + 3 * (row["codebook"] + 5 * row["commitment"])
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_one_step_is_adam_on_the_gradient_of_the_loss(small: dict[str, Any], tmp_path: Path) -> None:
    """After one step from zero moments every weight with a gradient has moved by about the learning rate."""
    train({**small, "iterations": 1, "bottleneck": "ae"}, out=tmp_path / "one")
    train({**small, "iterations": 2, "bottleneck": "ae"}, out=tmp_path / "two")
    one, two = (checkpoint.load(tmp_path / name / "ckpt.pt") for name in ("one", "two"))
    moved = (one.model.decoder.layers[-2].bias - two.model.decoder.layers[-2].bias).abs()
    assert moved.max().item() <= 1.01 * small["lr"] * np.sqrt(2)
    assert one.model.decoder.layers[-2].bias.abs().mean().item() == pytest.approx(small["lr"], rel=0.01)


@pytest.mark.parametrize("bottleneck", ["vae", "soft-vq"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "bottleneck": bottleneck, "noise_std": 0.1}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train({**settings, "seed": seed}, out=tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert lines(tmp_path / "a")[-1]["loss"] != lines(tmp_path / "c")[-1]["loss"]


def test_training_leaves_the_global_random_state_alone(small: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(small, out=tmp_path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stops", [[1], [10], [13], [7, 8, 25]])
def test_a_stopped_run_resumes_to_the_same_bytes(stops: list[int], small: dict[str, Any], tmp_path: Path) -> None:
    settings = {**small, "bottleneck": "soft-vq", "noise_std": 0.1, "checkpoint_every": 5}
    train(settings, out=tmp_path / "whole")
    out = tmp_path / "pieces"
    stopped(settings, out, stops[0])
    for step in stops[1:]:
        stopped({}, out, step, resume=True)
    train({}, out=out, resume=True)
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.parametrize(
    "settings",
    [
        {"bottleneck": "ema-vq", "codebook_init": "kmeans", "revive": 0.5, "decay": 0.5},
        {"bottleneck": "fsq", "levels": "4,3"},
        {"bottleneck": "sq-vae", "temperature_decay": 0.1},
        {"bottleneck": "gumbel-vq", "temperature_decay": 0.1},
        {"bottleneck": "vq", "codebook_init": "kmeans"},
    ],
    ids=lambda settings: settings["bottleneck"],
)
def test_what_a_bottleneck_remembers_of_its_steps_goes_on_too(
    settings: dict[str, Any], small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, **settings, "checkpoint_every": 5}
    train(settings, out=tmp_path / "whole")
    stopped(settings, tmp_path / "pieces", 7)
    stopped({}, tmp_path / "pieces", 13, resume=True)
    train({}, out=tmp_path / "pieces", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")


def test_the_bytes_of_a_run_depend_on_its_threads_and_not_on_the_machines(
    small: dict[str, Any], tmp_path: Path, papers_networks: None
) -> None:
    settings = {**small, "threads": 2, "batch_size": 64, "checkpoint_every": 5}
    before = torch.get_num_threads()
    train(settings, out=tmp_path / "whole")
    try:
        torch.set_num_threads(3)  # as on a machine with more cores
        stopped(settings, tmp_path / "pieces", 7)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        train({}, out=tmp_path / "pieces", resume=True)
    finally:
        torch.set_num_threads(before)
    assert_same_run(tmp_path / "whole", tmp_path / "pieces")


def test_every_step_is_taken_with_the_runs_threads(small: dict[str, Any], tmp_path: Path) -> None:
    class Threads(Reporter):
        def __init__(self) -> None:
            self.seen: set[int] = set()

        def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
            if name == "training" and done:
                self.seen.add(torch.get_num_threads())

        def step(self, metrics: Mapping[str, float], session: Any = None) -> None:
            self.seen.add(torch.get_num_threads())

    reporter = Threads()
    train({**small, "threads": 3}, out=tmp_path, reporter=reporter)
    assert reporter.seen == {3}
    assert json.loads((tmp_path / "config.json").read_text())["train"]["threads"] == 3
    assert checkpoint.load(tmp_path / "ckpt.pt").config.train.threads == 3
    with pytest.raises(UsageError, match="threads 1 would change the run"):
        train({"threads": 1}, out=tmp_path, resume=True)


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


def test_lines_logged_after_the_last_checkpoint_are_written_again_once(small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path / "whole")
    out = tmp_path / "killed"
    stopped(small, out, 13)
    with (out / "metrics.jsonl").open("a") as file:  # as if killed between a report and its checkpoint
        file.write('{"step": 20, "loss": 1.0}\n{"step": 30, "lo')
    train({}, out=out, resume=True)
    assert_same_run(tmp_path / "whole", out)


def test_resume_begins_a_run_that_was_killed_before_its_first_checkpoint(small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path / "whole")
    out = tmp_path / "early"
    stopped(small, out, 1)
    (out / "ckpt.pt").unlink()
    train({}, out=out, resume=True)
    assert_same_run(tmp_path / "whole", out)


def test_resuming_a_finished_run_does_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path)
    before = (tmp_path / "ckpt.pt").read_bytes(), (tmp_path / "metrics.jsonl").read_bytes()
    run = train({}, out=tmp_path, resume=True)
    assert run.finished_before
    assert before == ((tmp_path / "ckpt.pt").read_bytes(), (tmp_path / "metrics.jsonl").read_bytes())


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.5), ("K", 7), ("seed", 9), ("bottleneck", "vae"), ("iterations", 9)]
)
def test_resume_refuses_an_option_that_would_change_the_result_by_name(
    name: str, value: Any, small: dict[str, Any], tmp_path: Path
) -> None:
    stopped(small, tmp_path, 5)
    with pytest.raises(UsageError, match=f"^{name} {value} would change"):
        train({name: value}, out=tmp_path, resume=True)


@pytest.mark.parametrize("bottleneck", ["soft-vq", "gumbel-vq"])
def test_a_finished_run_goes_on_to_more_iterations_as_if_it_had_them_from_the_start(
    bottleneck: str, small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "bottleneck": bottleneck, "temperature_decay": 0.1}
    train({**settings, "iterations": 60}, out=tmp_path / "whole")
    out, said = tmp_path / "pieces", Listening()
    train({**settings, "iterations": 20}, out=out)
    stopped({"iterations": 60}, out, 33, resume=True)
    assert json.loads((out / "config.json").read_text())["train"]["iterations"] == 60
    run = train({}, out=out, resume=True)
    assert_same_run(tmp_path / "whole", out)
    assert not run.finished_before
    with pytest.raises(UsageError, match=r"^iterations 20 would change"):
        train({"iterations": 20}, out=out, resume=True)
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
    first, second = (checkpoint.load(folder / "ckpt.pt") for folder in (tmp_path / "whole", out))
    assert_same_tree(first.model.state_dict(), second.model.state_dict())
    assert_same_tree(first.training, second.training)
    assert [line["step"] for line in lines(out)] == [10, 20, 25, 30, 40, 50, 60]


def test_resume_refuses_other_data(small: dict[str, Any], npz: Path, tmp_path: Path) -> None:
    data = tmp_path / "own.npz"
    data.write_bytes(npz.read_bytes())
    stopped({**small, "data": str(data)}, tmp_path / "run", 5)
    with np.load(npz) as arrays:
        np.savez(data, images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(InputError, match="fingerprint differs"):
        train({}, out=tmp_path / "run", resume=True)


def test_a_run_is_only_overwritten_on_request(small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path)
    before = (tmp_path / "ckpt.pt").read_bytes()
    with pytest.raises(RefusedError, match=r"resume.*overwrite.*out"):
        train({**small, "seed": 5}, out=tmp_path)
    assert (tmp_path / "ckpt.pt").read_bytes() == before
    train({**small, "seed": 5}, out=tmp_path, overwrite=True)
    assert checkpoint.load(tmp_path / "ckpt.pt").config.train.seed == 5


def test_a_kept_checkpoint_is_that_of_a_shorter_run(small: dict[str, Any], tmp_path: Path) -> None:
    settings = {**small, "bottleneck": "soft-vq", "noise_std": 0.1}
    train({**settings, "keep": "7, 3"}, out=tmp_path / "long")
    for step in (3, 7):
        train({**settings, "iterations": step}, out=tmp_path / str(step))
        kept = checkpoint.load(tmp_path / "long" / f"ckpt-{step}.pt")
        short = checkpoint.load(tmp_path / str(step) / "ckpt.pt")
        assert kept.step == step
        assert_same_tree(kept.model.state_dict(), short.model.state_dict())
    train(settings, out=tmp_path / "plain")
    assert_same_run(tmp_path / "long", tmp_path / "plain")
    train(settings, out=tmp_path / "long", overwrite=True)
    assert list((tmp_path / "long").glob("ckpt-*")) == []


def test_what_cannot_be_kept_is_said(small: dict[str, Any], tmp_path: Path) -> None:
    stopped(small, tmp_path, 5)
    reporter = Listening()
    train({"keep": "2,5,8,40,50"}, out=tmp_path, resume=True, reporter=reporter)
    assert [re.findall(r"\d+", note) for note in reporter.notes] == [["40", "50", "30"], ["2", "5"]]
    assert sorted(path.name for path in tmp_path.glob("ckpt*")) == ["ckpt-5.pt", "ckpt-8.pt", "ckpt.pt"]
    with pytest.raises(UsageError, match=r"^keep .*'5,x'$"):
        train({**small, "keep": "5,x"}, out=tmp_path / "other")


def test_overwrite_destroys_nothing_when_the_new_run_cannot_begin(small: dict[str, Any], tmp_path: Path) -> None:
    train(small, out=tmp_path)
    with pytest.raises(UsageError, match=r"^batch_size 5000 is larger"):
        train({**small, "batch_size": 5000}, out=tmp_path, overwrite=True)
    assert checkpoint.load(tmp_path / "ckpt.pt").finished


def test_a_second_process_in_the_same_directory_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    hold = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    other = [sys.executable, "-c", hold, str(tmp_path / run_directory.LOCK)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        with pytest.raises(RefusedError, match="another softvq is working"):
            train(small, out=tmp_path)
        process.communicate(b"\n")
    train(small, out=tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    small: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**small, "bottleneck": "ae", "arch": "mlp", "lr": 1e30, "iterations": 40, "checkpoint_every": 1}
    with pytest.raises(SoftVQError, match=r"not finite .*step \d+.*try a smaller lr than 1e\+30"):
        train(settings, out=tmp_path)
    state = checkpoint.load(tmp_path / "ckpt.pt").model.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())


def test_run_directories_are_named_after_the_settings(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(small).folder == Path("runs/blobs-soft-vq-K6-d4-s0")
    assert train({**small, "bottleneck": "ae", "seed": 3}).folder == Path("runs/blobs-ae-d4-s3")


def test_an_empty_name_is_no_folder():
    for out in ("", "  "):
        with pytest.raises(UsageError) as refused:
            train({"data": "digits"}, out=out)
        assert "out" in refused.value.settings


def test_bfloat16_starts_at_about_the_same_loss_and_comes_down_too(
    small: dict[str, Any], tmp_path: Path, papers_networks: None
) -> None:
    settings = {**small, "iterations": 60, "log_every": 1, "arch": "mlp", "lr": 1e-3}
    lines = {}
    for precision in ("float32", "bfloat16"):
        train({**settings, "precision": precision}, out=tmp_path / precision)
        lines[precision] = run_directory.read_metrics(tmp_path / precision)
    full, half = (lines[precision][0]["nmse"] for precision in ("float32", "bfloat16"))
    assert full != half
    assert half == pytest.approx(full, rel=0.02)
    assert all(ends[-1]["test_nmse"] < 0.8 * ends[0]["test_nmse"] for ends in lines.values())


def test_torch_compile_that_fails_is_noted_and_the_run_goes_on_the_same(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler found\nlong story")

    train(small, out=tmp_path / "eager")
    monkeypatch.setattr(torch, "compile", lambda function: broken)
    reporter = Listening()
    train({**small, "compile": True}, out=tmp_path / "compiled", reporter=reporter)
    [note] = reporter.notes
    assert note.startswith("torch.compile") and note.endswith("no compiler found")
    assert without_clock(lines(tmp_path / "eager")) == without_clock(lines(tmp_path / "compiled"))
