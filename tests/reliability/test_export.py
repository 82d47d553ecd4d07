"""Export of a model to the safetensors format and loading it again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import softvq_cli
from softvq_cli.training import checkpoint
from softvq_cli.words import BOTTLENECKS
from tests.helpers import blobs, save_blobs, shrunk_networks, softvq, temporaries, train, unfinish


@pytest.fixture(scope="module")
def run(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with shrunk_networks():
        folder = train(npz, tmp_path_factory.mktemp("exported") / "run", iterations=3)
        softvq("export", folder, "--safetensors", "-q").done()
    return folder


pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
@pytest.mark.parametrize("arch", ["mlp", "cnn"])
def test_the_weights_and_what_they_mean_come_back(bottleneck: str, arch: str, tmp_path: Path) -> None:
    data = save_blobs(tmp_path / "blobs.npz", shape=(16, 16, 3))
    run = train(data, tmp_path / "run", bottleneck=bottleneck, arch=arch, iterations=1)
    ended = softvq("export", run, "--safetensors", "-o", tmp_path / "m.safetensors").done()
    assert ended.out == f"{tmp_path}/m.safetensors\n"
    before = checkpoint.load(run / "ckpt.pt")
    after = softvq_cli.load(tmp_path / "m.safetensors")
    assert before.config.shared() == after.config
    assert str(tmp_path).encode() not in (tmp_path / "m.safetensors").read_bytes()
    for name in ("dataset", "step", "finished", "metrics"):
        assert getattr(before, name) == getattr(after, name)
    assert before.model.state_dict().keys() == after.model.state_dict().keys()
    for one, other in zip(before.model.state_dict().values(), after.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    images = blobs(8, shape=(16, 16, 3)).images
    assert np.array_equal(softvq_cli.embed(before, images), softvq_cli.embed(after, images))


def test_any_program_can_read_it(run: Path) -> None:
    state = checkpoint.load(run / "ckpt.pt").model.state_dict()
    found = load_file(run / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    with safe_open(run / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["config"])["model"]["K"] == 3
    assert json.loads(metadata["dataset"])["image_shape"] == [8, 8, 1]
    assert json.loads(metadata["format"]) == "softvq-checkpoint"


def test_every_command_takes_it_for_the_checkpoint(run: Path, tmp_path: Path) -> None:
    embedded = []
    for number, path in enumerate((run / "ckpt.pt", run / "model.safetensors")):
        out = tmp_path / f"{number}.npy"
        softvq("embed", path, "-o", out, "-q").done()
        embedded.append(out.read_bytes())
        softvq("probe", path, "--json").done()
        assert softvq("info", path, "--json").document["kind"] == "checkpoint"
    assert embedded[0] == embedded[1]
    softvq("export", run / "model.safetensors", "--safetensors", "-o", tmp_path / "2.safetensors").done()
    assert (tmp_path / "2.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_the_content_decides_and_not_the_name(run: Path, tmp_path: Path) -> None:
    for old, new in (("model.safetensors", "ckpt.pt"), ("ckpt.pt", "m.safetensors")):
        (tmp_path / new).write_bytes((run / old).read_bytes())
        softvq("info", tmp_path / new).done()


def test_a_run_is_not_resumed_from_it(run: Path, npz: Path, tmp_path: Path) -> None:
    stop = train(npz, tmp_path / "stop", iterations=3)
    unfinish(stop)
    softvq("export", stop, "--safetensors", "-o", tmp_path / "m.safetensors", "-q").done()
    (stop / "ckpt.pt").write_bytes((tmp_path / "m.safetensors").read_bytes())
    softvq("train", "-o", stop, "--resume", "-q").refused(3, "ckpt.pt")


def test_files_of_other_programs_and_changed_ones_are_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    softvq("info", other).refused(3, "other.safetensors")
    with safe_open(run / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    weights = load_file(run / "model.safetensors")
    for tensors, described in (
        ({**weights, "to_latent.bias": weights["to_latent.bias"] + 1e-7}, metadata),
        (weights, {**metadata, "config": metadata["config"].replace('"K": 3', '"K": 4')}),
        ({name: weights[name] for name in weights if name != "to_latent.bias"}, metadata),
        (weights, {**metadata, "new": "1"}),
    ):
        save_file(tensors, other, described)
        softvq("info", other).refused(3, "other.safetensors")


def test_what_is_asked_for_has_to_be_clear(run: Path, tmp_path: Path) -> None:
    softvq("export", run).refused(2, "--safetensors")
    softvq("export", run, "--safetensors", "-o", tmp_path / "m.pt").refused(2, ".safetensors")
    before = (run / "model.safetensors").read_bytes()
    softvq("export", run, "--safetensors").refused(4, "--overwrite")
    assert (run / "model.safetensors").read_bytes() == before
    assert not temporaries(tmp_path)


def test_without_the_package_the_message_says_how_to_get_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ("export", run, "--safetensors", "-o", tmp_path / "m.safetensors")
    softvq(*words).refused(1, "softvq[safetensors]")
    softvq("info", run / "model.safetensors").refused(1, "softvq[safetensors]")
    softvq("info", run / "ckpt.pt").done()
