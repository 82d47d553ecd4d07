"""softvq reproduce and softvq sweep in a shell."""

from __future__ import annotations

import json
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from softvq_cli.training import checkpoint
from tests.helpers import grey_files, save_blobs, wait_for, write_folder

pytestmark = pytest.mark.usefixtures("forked_workers")

SMALL = ("--iterations", "4", "--batch-size", "16", "--latent-dim", "4", "--K", "6", "--device", "cpu", "--jobs", "1")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blobs(tmp_path_factory.mktemp("images") / "blobs.npz", 150)


def test_the_path_is_printed_and_json_on_demand(softvq, images):
    words = ("reproduce", "table1", "--data", f"mnist={images}", "--seeds", 2, "--only", "ae, pca", *SMALL)
    result = softvq(*words)
    assert (result.code, result.out) == (0, "reproduce/table1/table1.json\n")
    assert "blobs-ae-s1 done" in result.err
    assert "warning" not in result.err
    result = softvq(*words, "--json", "--quiet")
    assert (result.code, result.err) == (0, "")
    assert result.document == {"version": 1, **json.loads(Path("reproduce/table1/table1.json").read_text())}
    assert result.document["rows"][0]["cells"]["mnist.nmi"]["n"] == 2


def test_a_cell_that_failed_is_reported_and_the_others_are_there(softvq, images):
    folder = Path("out/runs/blobs-vq-s0")
    folder.mkdir(parents=True)
    (folder / "ckpt.pt").write_bytes(b"nothing")
    only = ("--only", "vq,pca", "--seeds", 1, "--out", "out", "--quiet")
    result = softvq("reproduce", "table1", "--data", f"mnist={images}", *only, *SMALL)
    assert (result.code, result.out) == (1, "out/table1.json\n")
    first, last = result.err.splitlines()
    assert first.startswith("warning: blobs-vq-s0 failed: ")
    assert last.startswith("softvq: error: ") and "blobs-vq-s0: " in last
    document = json.loads(Path("out/table1.json").read_text())
    assert [one["cell"] for one in document["failed"]] == ["blobs-vq-s0"]
    assert {row["row"]: row["cells"]["mnist.nmi"]["n"] for row in document["rows"]} == {"vq": 0, "pca": 1, "vq:z_q": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reproduce", "table9"), "'table9'"),
        (("reproduce", "table1", "--only", "aee"), "'ae'"),
        (("reproduce", "table1", "--data", "mnist"), "--data"),
        (("reproduce", "table1", "--seeds", "0"), "--seeds"),
        (("reproduce", "table1", "--jobs", "0", "--data", "mnist=digits", "--only", "pca"), "--jobs"),
        (("reproduce", "table1", "--bottleneck", "ae"), "--bottleneck"),
        (("sweep", "--over", "K"), "--K"),
        (("reproduce", "table1", "--data", "mnist=digits", "--job", "mnist-ae"), "'mnist-ae'"),
        (("sweep", "--over", "M=1"), "'M'"),
        (("sweep",), "--over"),
    ],
)
def test_wrong_words_are_one_line(softvq, words, message):
    softvq(*words).refused(2, message)


@pytest.mark.parametrize(
    ("where", "stopped"),
    [(("--jobs", 1), "0 of 1"), (("--job", "blobs-ae-s0"), r"\d+ of 10000000")],
    ids=["jobs", "job"],
)
def test_ctrl_c_leaves_checkpoints_and_says_how_to_go_on(where, stopped, images, tmp_path, zygote):
    endless = ("--iterations", 10**7, "--log-every", 1, "--batch-size", 16, "--device", "cpu", *where)
    words = ("reproduce", "table1", "--data", f"mnist={images}", "--seeds", 1, "--only", "ae", "--out", "out", *endless)
    fork = zygote.begin(*words, cwd=tmp_path)
    run = tmp_path / "out" / "runs" / "blobs-ae-s0"
    wait_for(run / "metrics.jsonl")
    fork.send(signal.SIGINT)
    result = fork.end()
    assert result.code == 130
    again = shlex.join(["softvq", *map(str, words)])
    assert re.fullmatch(f"softvq: .*{stopped}.*: {re.escape(again)}", result.err.splitlines()[-1])
    assert "Traceback" not in result.err and "failed" not in result.err
    assert checkpoint.load(run / "ckpt.pt").step > 0


def test_a_command_that_is_killed_leaves_checkpoints_and_retrains_nothing(softvq, images, tmp_path, zygote):
    words = ("reproduce", "table1", "--data", f"mnist={images}", "--seeds", 1, "--only", "ae", "--out", "out")
    endless = ("--iterations", 10**7, "--log-every", 100, "--batch-size", 16, "--device", "cpu", "--jobs", 1)
    fork = zygote.begin(*words, *endless, cwd=tmp_path)
    run = tmp_path / "out" / "runs" / "blobs-ae-s0"
    wait_for(run / "metrics.jsonl")
    fork.send(signal.SIGKILL)
    assert fork.end().code == -signal.SIGKILL
    for _ in range(600):  # the process of the job notices, and takes its progress away when it has stopped
        if not (run / "progress.json").exists():
            break
        time.sleep(0.1)
    assert not (run / "progress.json").exists()
    assert checkpoint.load(run / "ckpt.pt").step > 0
    words = (*words[:-1], "twice", "--seeds", 2, *SMALL)
    softvq(*words).done()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "twice" / "runs").glob("*/ckpt.pt")}
    (tmp_path / "twice" / "runs" / "blobs-ae-s1" / "evaluation.json").unlink()
    softvq(*words).done()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "twice" / "runs").glob("*/ckpt.pt")} == done


def test_bottlenecks_are_compared_on_ones_own_data(softvq, images):
    words = ("compare", "--data", images, "--bottleneck", "ae,vq", "--seeds", 1, *SMALL)
    result = softvq(*words)
    assert (result.code, result.out) == (0, "compare/blobs/compare.json\n"), result.err
    document = softvq(*words, "--json", "-q").document
    assert [row["row"] for row in document["rows"]][:3] == ["ae", "vq", "chance"]
    assert document["command"].startswith("softvq compare --bottleneck ae,vq --seeds 1 --data ")


def test_a_sweep_prints_the_path_of_its_report(softvq, images):
    words = ("sweep", "--over", "K=2,4", "--bottleneck", "vq", "--data", images, "--iterations", 3, "--batch-size", 16)
    result = softvq(*words, "--arch", "mlp", "--latent-dim", 3, "--device", "cpu", "--jobs", 1, "--json").done()
    assert result.document["values"] == [2, 4]
    assert Path("sweep/K/sweep.png").exists()


def test_a_dry_run_prints_a_command_a_job_and_the_report_reads_what_they_did(softvq, images):
    words = ("reproduce", "table1", "--data", f"mnist={images}", "--seeds", 1, "--only", "ae,pca", "--out", "out")
    small = SMALL[:-2]  # without --jobs, which such a command has no use for
    result = softvq(*words, *small, "--dry-run").done()
    commands = [shlex.split(line) for line in result.out.splitlines()]
    place = ["--device", "cpu", "--job"]
    assert [command[-4:] for command in commands] == [[*place, "blobs-ae-s0"], [*place, "blobs-pca"]]
    assert not Path("out").exists()
    for command in commands:
        result = softvq(*command[1:])
        assert (result.code, result.out) == (0, f"out/runs/{command[-1]}\n"), result.err
    assert not list(Path("out").glob("table1.*"))
    assert softvq(*words, *small, "--dry-run").out == ""
    result = softvq(*words, *SMALL)
    assert "0 jobs to do, 2 done before" in result.err
    document = json.loads(Path("out/table1.json").read_text())
    assert {row["row"]: row["cells"]["mnist.nmi"]["n"] for row in document["rows"]} == {"ae": 1, "pca": 1}


def test_a_report_names_no_folder_of_the_machine(softvq, images, tmp_path):
    photos = write_folder(tmp_path / "bob" / "photos", grey_files([f"{i % 2}/{i}.png" for i in range(30)]))
    table, sweep = tmp_path / "bob" / "table", tmp_path / "bob" / "sweep"
    broken = table / "runs" / "photos-vq-s0"
    broken.mkdir(parents=True)
    (broken / "ckpt.pt").write_bytes(b"nothing")
    words = ("--data", f"mnist={photos}", "--only", "ae,vq", "--seeds", 1, "--out", table, "--batch-size", 8)
    assert softvq("reproduce", "table1", *words, *SMALL[:2], *SMALL[4:], "-q").code == 1
    softvq("sweep", "--over", "K=2,4", "--data", images, "--out", sweep, *SMALL[:6], *SMALL[8:], "-q").done()
    shared = [path for folder in (table, sweep) for path in folder.iterdir() if path.is_file()]
    assert {path.suffix for path in shared} >= {".json", ".md", ".csv", ".tex", ".png"}
    assert [path for path in shared if str(tmp_path).encode() in path.read_bytes()] == []
    document = json.loads((table / "table1.json").read_text())
    assert "--data mnist=photos --latent-dim 4 " in document["command"]
    assert document["command"].endswith("--out table")
    assert document["failed"][0]["error"].startswith("table/runs/photos-vq-s0/ckpt.pt is not")
    prints = document["data"]["mnist"]["fingerprints"]
    assert f"; fingerprints {prints[0][:16]} and {prints[1][:16]}" in (table / "table1.md").read_text()
    assert str(photos) in (table / "runs" / "photos-ae-s0" / "config.json").read_text()


def test_a_scheduler_that_is_not_there_is_named(softvq, images, monkeypatch):
    monkeypatch.setattr("softvq_cli.experiments.backends.LONGEST_CONNECT", 0.2)
    words = ("reproduce", "table1", "--data", f"mnist={images}", "--only", "pca", "--quiet", *SMALL)
    softvq(*words, "--scheduler", "tcp://127.0.0.1:9").refused(1, "tcp://127.0.0.1:9")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    softvq(*words).refused(1, "tcp://127.0.0.1:9")
