"""The data of a report page: read from a run's files or computed, with the same result."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

from softvq_cli import datasets
from softvq_cli.config import DataConfig
from softvq_cli.model import represent
from softvq_cli.reporter import Reporter
from softvq_cli.results import evaluate
from softvq_cli.results.page_data import collect, drawn_rows
from softvq_cli.results.pipeline import run_pipeline
from softvq_cli.results.subject import encode
from softvq_cli.training import checkpoint
from softvq_cli.words import BOTTLENECKS
from tests.helpers import once, shrunk_networks

SETTINGS = {"iterations": 6, "log_every": 3, "latent_dim": 6}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with shrunk_networks():
        yield


@pytest.fixture(scope="session")
def finished(shared_folder):
    """The folder of a quick ``run`` on digits; tests must not write into it."""

    def make(folder):
        with shrunk_networks():
            run_pipeline({**SETTINGS, "K": 8}, out=folder, device="cpu")

    return once(shared_folder / "finished", make)


@pytest.fixture(scope="session")
def test_split():
    return datasets.load(DataConfig(), "test")


@pytest.fixture(scope="module")
def shown(finished, small_networks):
    return collect(finished, "digits", device="cpu", jobs=1)


def test_the_files_say_what_the_evaluation_says(finished, test_split):
    from softvq_cli.evaluation.clustering import hungarian_accuracy

    n = len(test_split)
    for name, shape in {"map": (n, 2), "clusters": (n,), "predictions": (n,), "errors": (n,)}.items():
        rows = np.load(finished / evaluate.ARRAYS[name], allow_pickle=False)
        assert rows.shape == shape and np.isfinite(rows).all()
    trained = checkpoint.load(finished / "ckpt.pt")
    stored = evaluate.read(finished, {"checkpoint_sha256": trained.sha256})
    numbers = stored.numbers["z_e"]
    assert hungarian_accuracy(test_split.labels, stored.array("clusters")) == numbers["clustering_accuracy"]
    assert (stored.array("predictions") == test_split.labels).mean() == numbers["probe_accuracy"]
    for nmse in (numbers["test_nmse"], trained.metrics["test_nmse"]):
        assert stored.array("errors").mean() == pytest.approx(nmse, rel=1e-5)


def test_what_is_read_and_what_is_measured_is_the_same(finished, shown, tmp_path):
    shutil.copy(finished / "ckpt.pt", tmp_path / "ckpt.pt")  # as train leaves it
    measured = collect(tmp_path, "digits", device="cpu", jobs=1)
    for name in ("clusters", "predicted", "errors", "neighbours", "codewords", "coordinates", "centre_distances"):
        np.testing.assert_allclose(getattr(shown, name), getattr(measured, name), err_msg=name)
    assert [(one.name, one.value) for one in shown.numbers] == [(one.name, one.value) for one in measured.numbers]


def test_each_row_is_its_image(finished, shown, test_split):
    model = checkpoint.load(finished / "ckpt.pt").model
    assert (shown.rows == np.arange(len(test_split))).all()
    assert (shown.images == test_split.images).all()
    assert (shown.labels == test_split.labels).all()
    decoded = represent(model, test_split.images, "reconstruction").reshape(test_split.images.shape)
    np.testing.assert_allclose(shown.reconstructions, 255 * decoded, atol=0.51)
    squares = np.square(decoded - test_split.images / 255.0).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown.errors, squares / model.pixel_variance.item(), rtol=1e-4)
    z = represent(model, test_split.images).astype(np.float64)
    distances = np.linalg.norm(z[:, None] - z[None], axis=2) + np.diag(np.full(len(z), np.inf))
    np.testing.assert_allclose(shown.distances, np.sort(distances, axis=1)[:, :8], rtol=1e-4)


def test_the_codebook_is_decoded_counted_and_measured(finished, shown, test_split):
    import torch

    model = checkpoint.load(finished / "ckpt.pt").model
    codebook = shown.codebook
    with torch.inference_mode():
        decoded = 255 * model.unscale(model.decoder(model.bottleneck.centroids())).numpy()
        x = next(model.batches(test_split.images, len(test_split)))
        z_e, h = model.encode(x)
        sigma = model.bottleneck.log_sigma(h).exp().numpy()
        nearest = (z_e - model.bottleneck.centroids()[torch.from_numpy(shown.codewords)]).norm(dim=1).numpy()
    np.testing.assert_allclose(codebook.images, decoded, atol=0.51)
    np.testing.assert_allclose(codebook.sigma, np.median(sigma, axis=0), rtol=1e-5)
    np.testing.assert_allclose(shown.codeword_distances, nearest, rtol=1e-4)
    assert codebook.usage.sum() == pytest.approx(1)
    assert (codebook.counts == np.bincount(shown.codewords, minlength=8)).all()
    assert codebook.size == 8


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_every_bottleneck_can_be_shown(bottleneck, tmp_path, test_split):
    from softvq_cli.training import train

    used = {"K": 5} if BOTTLENECKS[bottleneck].has_codebook else {}
    train({**SETTINGS, **used, "bottleneck": bottleneck}, out=tmp_path / "run", device="cpu")
    model = checkpoint.load(tmp_path / "run" / "ckpt.pt").model
    found = encode(model, test_split.images, np.array([3, 5]))
    assert found.reconstructions.shape == (2, 8, 8, 1)
    assert (found.usage is not None) == bool(used)
    assert (found.codewords is not None) == (bool(used) and bottleneck != "rvq")  # which has several codes an image
    np.testing.assert_allclose(found.z, represent(model, test_split.images), rtol=1e-5, atol=1e-6)


def test_the_codes_of_a_grid_lie_over_their_images(tmp_path):
    from softvq_cli.training import train

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    settings = {"data": str(tmp_path / "x.npz"), "iterations": 2, "batch_size": 8, "arch": "cnn", "grid": 4}
    train({**settings, "bottleneck": "rvq", "K": 4, "stages": 2, "latent_dim": 32}, out=tmp_path / "run", device="cpu")
    view = collect(tmp_path / "run", "grid", device="cpu", jobs=1)
    assert view.code_maps.shape == (20, 16, 16, 3)
    codes = represent(checkpoint.load(tmp_path / "run" / "ckpt.pt").model, images[:20], "codes")
    over = view.code_maps - images[:20].mean(3, keepdims=True) / 2  # what the codes add, but for rounding
    tiles = over.reshape(20, 4, 4, 4, 4, 3).mean((2, 4))  # of each position
    first = codes.reshape(20, 4, 4, 2)[..., 0]
    for k in np.unique(first):
        assert np.ptp(tiles[first == k], axis=0).max() < 1
    assert "32 codes" not in str(view.facts) and "stage 2" in view.facts["stages of the test images"]
    assert view.codewords is None


def test_of_many_images_some_are_drawn_at_random_and_it_is_said(finished, shown):
    few = collect(finished, "digits", device="cpu", jobs=1, max_points=50)
    assert len(few.rows) == 50
    assert (few.images == shown.images[few.rows]).all()
    assert (few.clusters == shown.clusters[few.rows]).all()
    assert (few.errors == shown.errors[few.rows]).all()
    assert (few.coordinates == shown.coordinates[few.rows]).all()
    assert few.neighbours.max() < 50
    assert any("50" in note and "359" in note for note in few.notes)
    assert few.numbers == shown.numbers


def test_the_rows_that_are_drawn_are_the_same_every_time():
    rows = drawn_rows(1000, 10)
    assert (rows == drawn_rows(1000, 10)).all() and (np.diff(rows) > 0).all() and rows.max() < 1000
    assert drawn_rows(5, 10).tolist() == [0, 1, 2, 3, 4]


def test_images_without_labels_have_clusters_and_no_probe_and_the_page_says_what_was_left_out(tmp_path):
    from softvq_cli.training import train

    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, weights=np.ones(60))
    train({**SETTINGS, "data": str(tmp_path / "d.npz"), "batch_size": 16}, out=tmp_path / "run", device="cpu")
    reporter, told = Reporter(), []
    reporter.note = told.append
    view = collect(tmp_path / "run", "d", device="cpu", jobs=1, reporter=reporter)
    assert view.labels is None and view.predicted is None and len(np.unique(view.clusters)) == 10
    assert any("no labels" in note for note in view.notes)
    [note] = [note for note in view.notes if "weights" in note]
    assert note.startswith("the data: ") and str(tmp_path) not in note
    assert any("weights" in line for line in told)


@pytest.mark.parametrize("damage", [lambda rows: rows[:-1], lambda rows: rows * np.nan])
def test_a_damaged_file_is_measured_again(finished, shown, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("map", "errors"):
        path = folder / evaluate.ARRAYS[name]
        np.save(path, damage(np.load(path)))
    again = collect(folder, "digits", device="cpu", jobs=1)
    np.testing.assert_allclose(again.coordinates, shown.coordinates)
    assert again.numbers == shown.numbers


def test_a_map_of_reproduce_is_taken_over(finished, tmp_path):
    stored = evaluate.read(finished, {"checkpoint_sha256": checkpoint.load(finished / "ckpt.pt").sha256})
    key = json.loads((finished / "evaluation.json").read_text())["of"]
    shutil.copy(finished / "ckpt.pt", tmp_path / "ckpt.pt")
    coordinates = np.random.default_rng(0).normal(size=(359, 2))
    memory = {name: stored.array(name) for name in stored.arrays} | {"map": coordinates}
    evaluate.write(tmp_path, key, dataclasses.replace(stored, arrays={}, memory=memory))
    found = collect(tmp_path, "job", device="cpu", jobs=1)
    assert (found.coordinates == coordinates).all()
    assert stored.numbers["z_e"] in found.facts.values()
