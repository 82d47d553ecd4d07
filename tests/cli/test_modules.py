"""The modules that a command imports: no heavy ones that it does not use; and its threads wait passively."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import QUICK, once, softvq

HEAVY = frozenset(
    {"torch", "torchvision", "sklearn", "scipy", "matplotlib", "openTSNE", "onnx", "bokeh", "distributed"}
    | {"numpy", "PIL", "pandas", "pyarrow"}
)
ARRAYS = {"numpy", "PIL"}
MODEL = {*ARRAYS, "torch"}
CLUSTERING = {*ARRAYS, "sklearn", "scipy", "pandas", "pyarrow"}
"""scikit-learn imports the last two if they are installed."""
CODE = """
import sys
from softvq_cli.__main__ import main
code = main()
print(code, *sys.modules, file=sys.stderr)
"""


def modules(*words: object, cwd: Path, **environment: str) -> tuple[set[str], str]:
    """The heavy modules that are loaded after a successful command, and its output."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, *names = done.stderr.splitlines()[-1].split()
    assert code == "0", done.stderr
    return HEAVY & set(names), done.stderr


@pytest.fixture(scope="session")
def trained(shared_folder):
    """The folder of a quick run with the networks of the paper, for commands in fresh processes."""
    return once(shared_folder / "full", lambda folder: softvq("train", "--quiet", "--out", folder, *QUICK))


@pytest.mark.parametrize(
    ("words", "may"),
    [
        (("data",), ARRAYS),
        (("info", "z.npy"), ARRAYS),
        (("info", "{run}"), set()),
        (("info", "{run}/ckpt.pt"), set()),
        (("cluster", "z.npy", "--n-init", "1"), CLUSTERING),
        (("probe", "z.npy", "z.npy"), CLUSTERING),
        (("tsne", "z.npy", "-o", "map.png", "--perplexity", "3", "-j", "1"), {*CLUSTERING, "openTSNE", "matplotlib"}),
        (("train", "-d", "images.npy", "-n", "1", "--batch-size", "8", "--latent-dim", "2", "-o", "run"), MODEL),
        (("embed", "{run}"), MODEL | CLUSTERING),  # it reads the digits, which are scikit-learn's
        (("export", "{run}", "--safetensors", "-o", "m.safetensors"), MODEL),
    ],
)
def test_a_command_loads_what_it_uses(words, may, trained, tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "z.npy", random.normal(size=(40, 3)).astype(np.float32))
    np.save(tmp_path / "z.labels.npy", np.arange(40) % 3)
    np.save(tmp_path / "images.npy", random.integers(0, 256, (40, 8, 8), np.uint8))
    assert modules(*(word.format(run=trained) for word in words), cwd=tmp_path)[0] <= may


@pytest.mark.skipif(platform.system() != "Linux", reason="torch has GNU's OpenMP on Linux")
@pytest.mark.parametrize(("environment", "spins"), [({}, "0"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_wait_passively_unless_the_user_says_otherwise(environment, spins, trained, tmp_path, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    loaded, said = modules("embed", trained, "-o", "z.npy", cwd=tmp_path, OMP_DISPLAY_ENV="verbose", **environment)
    assert loaded <= MODEL | CLUSTERING
    assert f"GOMP_SPINCOUNT = '{spins}'" in said
