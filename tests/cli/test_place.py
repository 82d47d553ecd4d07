"""The places where a command starts and writes: variables, homes, folders, links, devices."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softvq_cli import files
from softvq_cli.cli import app
from softvq_cli.cli.app import COMMANDS, build
from softvq_cli.cli.options import READING
from softvq_cli.cli.output import option_name
from softvq_cli.errors import SoftVQError
from softvq_cli.files import atomic_write
from tests.helpers import QUICK, ROOT, installed

NO_PLACE = """
import json, os, pwd, sys, tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

def nobody(_uid):
    raise KeyError("uid not found")

pwd.getpwuid = nobody
os.environ.pop("HOME", None)
tempfile._candidate_tempdir_list = lambda: ["/nowhere"]
from softvq_cli.__main__ import main

ended = []
for words in json.loads(sys.argv[1]):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    ended.append([code, err.getvalue()])
print(json.dumps(ended))
"""
"""A program that runs commands without a home and a temporary folder; it prints how each ended."""


def nowhere(*commands: str, cwd: Path, **variables: str) -> list[tuple[int, str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    words = json.dumps([command.split() for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", NO_PLACE, words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return [(code, err) for code, err in json.loads(ended.stdout)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "z.npy", rng.normal(size=(40, 3)).astype(np.float32))
    np.save(tmp_path / "z.labels.npy", np.repeat(np.arange(4), 10))
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="homes and temporary folders are found otherwise")
def test_without_a_home_and_temporary_files_all_is_made_that_needs_none(rows):
    quick = " ".join(QUICK)
    ended = nowhere(
        f"train -q --data digits -o run {quick}",
        "tsne z.npy -o z.png --perplexity 5 -q",
        "embed run -o e.parquet -q",
        "report run -q",
        "probe run -q",
        f"sweep --over K=2 --data digits -q {quick}",
        "--help",
        "embed run -o -",
        cwd=rows,
        MPLCONFIGDIR="/dev/null/none",
    )
    assert ended[:-1] == [(0, "")] * 7
    assert ended[-1][0] == 1 and "TMPDIR" in ended[-1][1]
    names = {"e.parquet", "report.html", "run", "sweep", "z.labels.npy", "z.npy", "z.png"}
    assert {path.name for path in rows.iterdir()} == names


def test_temporary_files_lie_beside_the_result_where_they_may(monkeypatch, tmp_path):
    monkeypatch.setattr(files.tempfile, "tempdir", os.devnull)
    with files.temporary_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())
    with pytest.raises(SoftVQError, match="TMPDIR"), files.temporary_folder():
        pass
    with pytest.raises(SoftVQError, match="none"), files.temporary_folder(tmp_path / "none"):
        pass


def test_a_backend_and_a_folder_that_are_not_here_do_not_matter_to_a_figure(rows):
    environment = os.environ | {"MPLBACKEND": "module://not_here", "MPLCONFIGDIR": "/dev/null/none"}
    process = installed("tsne", "z.npy", "-o", "z.png", "--perplexity", "5", cwd=rows, env=environment)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "z.png\n", "next: softvq cluster z.npy --on-map\n")


def test_libraries_speak_to_nobody_but_with_debug(capfd):
    import logging

    with app._work_place("train", debug=False):
        logging.getLogger("matplotlib").error("of no use")
    assert capfd.readouterr().err == ""
    with app._work_place("train", debug=True):
        assert logging.root.manager.disable == logging.NOTSET
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit")
def test_too_little_address_space_is_said_before_pytorch_aborts(rows):
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9)); "
    program = f"{limit} from softvq_cli.__main__ import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", program, "train", "--data", "digits", "-o", "run"]
    ended = subprocess.run(words, cwd=rows, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert all(word in line for word in ("3.5 GB", "3.0", "ulimit"))
    assert not (rows / "run").exists()


@pytest.mark.parametrize("place", ["", "s3://bucket/run", "s3:/bucket/run"])
@pytest.mark.parametrize(
    "words",
    [("train", *QUICK), ("cluster", "z.npy", "-k", "2", "--assignments"), ("embed", "run"), ("sweep", "--over", "K=2")],
    ids=lambda words: words[0],
)
def test_a_path_is_one_on_this_machine(softvq, rows, words, place):
    before = sorted(rows.iterdir())
    words = words if words[-1] == "--assignments" else (*words, "--out")
    assert softvq(*words, place).code == 2
    assert sorted(rows.iterdir()) == before


@pytest.mark.parametrize(
    "words", [("cluster", "s3://b/z.npy"), ("embed", "gs://b/run"), ("train", "--data", "s3://b/i")]
)
def test_input_is_on_this_machine_too(softvq, words):
    softvq(*words).refused(2, "address", words[-1])


def test_the_home_is_meant_where_the_shell_leaves_it(softvq, rows, monkeypatch):
    monkeypatch.setenv("HOME", str(rows / "home"))
    (rows / "home").mkdir()
    softvq("cluster", "z.npy", "-k", "2", "--assignments=~/a.npy").done()
    assert (rows / "home" / "a.npy").is_file()
    assert not (rows / "~").exists()


def test_a_symbolic_link_is_written_through(softvq, rows):
    (rows / "there").mkdir()
    os.symlink(rows / "there" / "a.npy", rows / "a.npy")
    for _ in range(2):
        softvq("cluster", "z.npy", "-k", "2", "--assignments", "a.npy", "--overwrite").done()
        assert (rows / "a.npy").is_symlink()
        assert len(np.load(rows / "there" / "a.npy")) == 40
    assert [path.name for path in (rows / "there").iterdir()] == ["a.npy"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no devices")
def test_a_device_stays_one(softvq, rows):
    os.mkfifo(rows / "pipe")
    reader = os.open(rows / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(rows / "pipe") as file:
        file.write(b"all of it")
    assert os.read(reader, 100) == b"all of it"
    os.close(reader)
    softvq("cluster", "z.npy", "-k", "2", "--assignments", "/dev/null").done()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.fixture
def variables(monkeypatch):
    def give(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return give


def test_every_option_has_a_variable_of_its_name():
    without = set()
    for name, command in {name: build(name) for names in COMMANDS.values() for name in names}.items():
        for param in command.params:
            if param.param_type_name == "option":
                long = next(word for word in param.opts if word.startswith("--"))
                wanted = "SOFTVQ_" + long[2:].replace("-", "_").upper()
                if not param.envvar:
                    without.add((name, long))
                elif wanted == "SOFTVQ_DATA":
                    assert param.envvar == "SOFTVQ_DATASET"
                else:
                    assert param.envvar[0] == wanted
    # Other data than a run's and how they are read, and what data takes with show alone.
    other = {(name, "--data") for name in ("embed", "probe", "report", "reproduce")}
    reading = {(name, option_name(one)) for name in ("data", "embed", "issues", "probe", "report") for one in READING}
    assert without == {*other, *reading, ("data", "--out")}


def test_a_run_takes_its_settings_from_the_environment_and_says_so(softvq, tmp_path, variables):
    (tmp_path / "my.toml").write_text("K = 5\nlatent-dim = 6\nbatch-size = 8\n")
    variables(SOFTVQ_CONFIG="my.toml", SOFTVQ_K=7, SOFTVQ_LATENT_DIM=3, SOFTVQ_COMPILE=0, SOFTVQ_OUT="there")
    result = softvq("train", *QUICK, "--latent-dim", 4)
    assert (result.code, result.out) == (0, "there/ckpt.pt\n")
    assert result.err.splitlines()[0] == "from the environment: SOFTVQ_CONFIG, SOFTVQ_K, SOFTVQ_COMPILE, SOFTVQ_OUT"
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    assert (config["model"]["K"], config["model"]["latent_dim"], config["train"]["batch_size"]) == (7, 4, 8)


def test_a_wrong_value_is_refused_after_saying_where_it_comes_from(softvq, variables):
    variables(SOFTVQ_K="many")
    result = softvq("train")
    first, last = result.err.splitlines()
    assert result.code == 2 and first.endswith(": SOFTVQ_K") and "--K" in last and "'many'" in last


def test_flags_are_options_too(softvq, tmp_path, variables):
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(20, 3)))
    variables(SOFTVQ_DEBUG=1)
    assert "Traceback" in softvq("info", "nothing.npy").err
    variables(SOFTVQ_QUIET=1, SOFTVQ_CLUSTERS=4, SOFTVQ_N_INIT=3, SOFTVQ_DEBUG=0)
    result = softvq("cluster", "z.npy")
    assert (result.document["clusters"], result.document["n_init"], result.err) == (4, 3, "")


def test_the_folder_of_the_named_data_sets_is_no_data_set(softvq, tmp_path, variables):
    variables(SOFTVQ_DATA=tmp_path / "sets")
    softvq("train", "-q", "-o", "run", *QUICK).done()
    softvq("embed", "run", "-q").done()
    assert softvq("data").document["data_dir"] == str(tmp_path / "sets")
    variables(SOFTVQ_DATA_DIR=tmp_path / "others")
    assert softvq("data").document["data_dir"] == str(tmp_path / "others")
    variables(SOFTVQ_DATASET="mnits")
    softvq("train", "-q").refused(2, "'mnist'")
