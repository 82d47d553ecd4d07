"""The ONNX model in ONNX Runtime, compared with the package on the same images."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from softvq_cli.config import RunConfig
from softvq_cli.errors import SoftVQError
from softvq_cli.model import represent
from softvq_cli.training import checkpoint, export, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import blobs

pytest.importorskip("onnxscript", reason="the exporter needs onnxscript, which is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


WITHOUT = ("ae", "vae", "beta-vae", "info-dropout")
"""Bottlenecks without a codebook."""


def trained(folder, bottleneck: str, arch: str):
    """A quick run on 16x16 images in colour, the smallest that the CNN takes."""
    shape = (16, 16, 3) if arch == "grid" else (16, 17, 3)
    data = blobs(80, shape)
    np.savez(folder / "blobs.npz", x_train=data.images, y_train=data.labels, x_test=data.images, y_test=data.labels)
    settings = {"data": str(folder / "blobs.npz"), "iterations": 4, "batch_size": 16, "latent_dim": 6, "arch": arch}
    settings |= {"arch": "cnn", "grid": 4, "latent_dim": 32} if arch == "grid" else {}
    settings |= {"K": 9} if BOTTLENECKS[bottleneck].has_codebook else {}
    run = train({**settings, "bottleneck": bottleneck}, out=folder / "run", device="cpu")
    return checkpoint.load(run.path), data.images


@pytest.mark.parametrize(
    ("bottleneck", "arch"),
    # A bottleneck does not know what is before and behind it: with and without a codebook is enough for the CNN.
    [
        *((bottleneck, "mlp") for bottleneck in BOTTLENECKS),
        *(("soft-vq", "cnn"), ("ae", "cnn"), ("soft-vq", "grid"), ("rvq", "grid")),
    ],
)
def test_the_onnx_model_gives_what_the_package_gives(bottleneck, arch, tmp_path):
    model, images = trained(tmp_path, bottleneck, arch)
    model.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == [n for n in ("z_e", "codes", "reconstruction") if n != "codes" or bottleneck not in WITHOUT]
    for n in (80, 1):  # N is free
        found = dict(zip(names, session.run(None, {"images": images[:n]}), strict=True))
        expected = {name: represent(model.model, images[:n], name) for name in names}
        np.testing.assert_allclose(found["z_e"], expected["z_e"], atol=1e-5)
        assert found["reconstruction"].shape == (n, *images.shape[1:])
        np.testing.assert_allclose(found["reconstruction"].reshape(n, -1), expected["reconstruction"], atol=1e-5)
        if "codes" in names:
            assert found["codes"].dtype == np.int64
            assert (found["codes"].reshape(n, -1) == expected["codes"]).all()


def test_the_file_says_what_it_is_and_not_where_it_was_made(tmp_path):
    model, _ = trained(tmp_path, "soft-vq", "mlp")
    model.export(tmp_path / "model.onnx")
    known = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert RunConfig.from_dict(json.loads(known["config"])) == model.config.shared()
    assert json.loads(known["dataset"])["class_names"] == ["0", "1", "2"]
    assert known["checkpoint_sha256"] == model.sha256
    assert known["images"].startswith("uint8 (N, H, W, C)")
    content = (tmp_path / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b"autoencoder.py" not in content


def test_of_a_model_of_other_numbers_than_bytes_the_file_says_how_to_map_them(tmp_path):
    images = (100 + blobs(80, (16, 17, 3)).images * 16.0).astype(np.uint16)
    images.flat[:2] = 100, 4180
    np.savez(tmp_path / "deep.npz", images=images)
    settings = {"data": str(tmp_path / "deep.npz"), "iterations": 2, "batch_size": 16, "latent_dim": 6, "arch": "mlp"}
    run = train({**settings, "K": 9}, out=tmp_path / "run", device="cpu")
    checkpoint.load(run.path).export(tmp_path / "model.onnx")
    known = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert all(value in known["images"] for value in (" 100 ", " 4180", "(x - 100) * 255 / 4080"))


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_the_packages_the_error_names_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SoftVQError, match=rf"{package} .*softvq\[onnx\]"):
        export.require_onnx()
