"""Options that come from environment variables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softvq_cli.cli.app import Commands
from softvq_cli.cli.options import READING
from softvq_cli.cli.output import option_name
from tests.helpers import QUICK


@pytest.fixture
def variables(monkeypatch):
    def give(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return give


def test_every_option_has_a_variable_of_its_name():
    without = set()
    for name, command in Commands().items():
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
    assert result.code == 2
    assert result.err == "from the environment: SOFTVQ_K\nsoftvq: error: --K takes a whole number, not 'many'\n"


def test_flags_are_options_too(softvq, tmp_path, variables):
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(20, 3)))
    variables(SOFTVQ_QUIET=1, SOFTVQ_CLUSTERS=4, SOFTVQ_N_INIT=3)
    result = softvq("cluster", "z.npy")
    assert (result.document["clusters"], result.document["n_init"], result.err) == (4, 3, "")


def test_debug_shows_the_traceback(softvq, variables):
    assert "Traceback" not in softvq("info", "nothing.npy").err
    variables(SOFTVQ_DEBUG=1)
    assert "Traceback" in softvq("info", "nothing.npy").err


def test_the_folder_of_the_named_data_sets_is_no_data_set(softvq, tmp_path, variables):
    variables(SOFTVQ_DATA=tmp_path / "sets")
    assert softvq("train", "-q", "-o", "run", *QUICK).code == 0
    assert softvq("embed", "run", "-q").code == 0
    assert softvq("data").document["data_dir"] == str(tmp_path / "sets")
    variables(SOFTVQ_DATA_DIR=tmp_path / "others")
    assert softvq("data").document["data_dir"] == str(tmp_path / "others")
    variables(SOFTVQ_DATASET="mnits")
    softvq("train", "-q").refused(2, "'mnist'")
