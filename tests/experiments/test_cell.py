"""One cell: trained and measured once, and again only if something is not what it was."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading

import numpy as np
import pytest

from softvq_cli import embeddings
from softvq_cli.errors import InputError, Interrupted, RefusedError
from softvq_cli.evaluation import softmax
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.evaluation.probe import probe
from softvq_cli.experiments.cell import inspect
from softvq_cli.experiments.tables import BASIC, MAP, PROBES
from softvq_cli.pipeline.run import ChainObserver
from softvq_cli.pipeline.source import Source
from softvq_cli.training import checkpoint, train
from softvq_cli.words import BOTTLENECKS
from tests.experiments.conftest import do, write_blobs


@pytest.fixture
def nothing_to_do(monkeypatch):
    """From here on neither training steps nor K-means run."""

    def never(*args, **kwargs):
        raise AssertionError("this was done before")

    def from_now_on():
        monkeypatch.setattr("softvq_cli.training.run.Session", never)
        monkeypatch.setattr("softvq_cli.evaluation.clustering.cluster", never)

    return from_now_on


@pytest.mark.parametrize("row", BOTTLENECKS)
def test_a_model_is_measured_as_the_commands_measure_it(row, make_cell, tmp_path):
    cell = make_cell(row)
    figures = do(cell).own
    trained = checkpoint.load(cell.folder / "ckpt.pt")
    train_rows, test_rows = Source(trained).embed_splits(tmp_path)
    found = cluster(test_rows.z, test_rows.labels)
    assert figures["clustering_accuracy"] == found.accuracy
    assert figures["nmi"] == found.nmi
    assert (figures["starts_min"], figures["starts_max"]) == (found.accuracies.min(), found.accuracies.max())
    assert figures["starts_min"] <= figures["starts_median"] <= figures["starts_max"]
    fitted = probe(train_rows.z, train_rows.labels, test_rows.z, test_rows.labels)
    assert figures["probe_accuracy"] == fitted.accuracy
    assert figures["iterations"] == 4


def test_nmse_is_the_reconstructions_error_over_the_training_pixels_variance(make_cell, tmp_path):
    cell = make_cell("soft-vq", iterations=20)
    figures = do(cell).own
    trained = checkpoint.load(cell.folder / "ckpt.pt")
    source = Source(trained)
    images = source.load("test").images / 255.0
    made = embeddings.embed(trained, source.load("test"), tmp_path / "x.npy", what="reconstruction").z
    variance = (source.load("train").images / 255.0).var()
    error = np.square(made.reshape(images.shape) - images).mean() / variance
    assert figures["nmse"] == pytest.approx(error, rel=1e-5)


def test_the_decoders_input_of_a_codebook_is_measured_too(make_cell, tmp_path):
    cell = make_cell("vq")
    found = do(cell)
    assert list(found.figures) == ["z_e", "z_q"]
    trained = checkpoint.load(cell.folder / "ckpt.pt")
    rows = embeddings.embed(trained, Source(trained).load("test"), tmp_path / "q.npy", what="z_q")
    assert found.figures["z_q"]["nmi"] == cluster(rows.z, rows.labels).nmi
    assert "nmse" not in found.figures["z_q"]
    assert list(do(make_cell("vae")).figures) == ["z_e"]


@pytest.mark.parametrize("row", ["soft-vq", "raw", "pca", "untrained"])
def test_what_is_done_is_not_done_again(row, make_cell, nothing_to_do):
    cell = make_cell(row)
    assert not inspect(cell).done
    first = do(cell)
    nothing_to_do()
    assert inspect(cell).evaluation == first
    assert do(cell) == first


def test_other_parts_are_added_to_those_that_are_there(make_cell, nothing_to_do, monkeypatch):
    first = do(make_cell("ae"))
    more = make_cell("ae", parts=(BASIC, PROBES))
    assert not inspect(more).done
    quick = lambda *rows, **how: softmax.fit_adam(*rows, **{**how, "iterations": 100})  # noqa: E731
    monkeypatch.setattr("softvq_cli.evaluation.probe.fit_adam", quick)
    nothing_to_do()
    found = do(more)
    assert found.own.items() > first.own.items()
    assert set(found.own) - set(first.own) == {
        "probe_adam_accuracy",
        "knn_accuracy",
        "probe_10_accuracy",  # there are 40 training images a class, too few for 100
    }


def test_a_map_is_measured_and_kept(make_cell):
    cell = make_cell("raw", parts=(MAP,))
    figures = do(cell).own
    coordinates = np.load(cell.folder / "map.npy")
    assert coordinates.shape == (30, 2)
    assert 0 < figures["knn_recall"] <= 1
    assert inspect(cell).done
    (cell.folder / "map.npy").unlink()
    assert not inspect(cell).done


def test_an_evaluation_of_another_checkpoint_is_not_used(make_cell, npz):
    cell = make_cell("ae")
    first = do(cell)
    train({**cell.config.flat(), "iterations": 9}, out=cell.folder, overwrite=True)
    train(cell.config.flat(), out=cell.folder, overwrite=True)
    assert do(cell) == first  # the same run again gives the same file
    longer = dataclasses.replace(cell, config=dataclasses.replace(cell.config, train=_with(cell, iterations=9)))
    train(longer.config.flat(), out=cell.folder, overwrite=True)
    assert not inspect(longer).done
    assert do(longer).own["iterations"] == 9


def test_an_evaluation_on_other_data_is_not_used(make_cell):
    cell = make_cell("pca")
    do(cell)
    assert not inspect(dataclasses.replace(cell, fingerprints=(cell.fingerprints[0], "other"))).done
    assert not inspect(make_cell("pca", latent_dim=3)).done


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: "[]",
        lambda text: text[:-20],
        lambda text: text.replace('"nmi"', '"mni"'),
        lambda text: text.replace('"nmi": ', '"nmi": 1'),
        lambda text: text.replace('"basic"', '["basic"]'),
    ],
)
def test_a_damaged_evaluation_is_made_again(damage, make_cell):
    cell = make_cell("ae")
    first = do(cell)
    text = (cell.folder / "evaluation.json").read_text()
    assert damage(text) != text
    (cell.folder / "evaluation.json").write_text(damage(text))
    assert not inspect(cell).done
    assert do(cell) == first
    assert json.loads((cell.folder / "evaluation.json").read_text())["figures"] == first.figures


def test_a_damaged_map_is_made_again(make_cell):
    cell = make_cell("ae", parts=(BASIC, MAP))
    first = do(cell)
    path = cell.folder / "map.npy"
    path.write_bytes(path.read_bytes()[:-8])
    assert not inspect(cell).done
    assert do(cell) == first


def test_a_part_that_cannot_be_measured_costs_no_other(make_cell, monkeypatch):
    from softvq_cli.experiments import measure

    def fails(*args, **kwargs):
        raise InputError("too few rows")

    monkeypatch.setattr(measure, "on_map", fails)
    notes = []

    class Listening(ChainObserver):
        def noted(self, text):
            notes.append(text)

    found = do(make_cell("pca", parts=(MAP, BASIC)), Listening())
    assert found.parts == (BASIC,)
    assert notes == ["without the t-SNE map: too few rows"]


def test_what_a_killed_process_was_writing_is_removed(make_cell):
    cell = make_cell("pca")
    cell.folder.mkdir()
    for name in (".evaluation.json.x.tmp", ".map.npy.x.tmp"):
        (cell.folder / name).write_text("half")
    do(cell)
    assert sorted(path.name for path in cell.folder.iterdir()) == ["evaluation.json"]


def test_a_finished_run_from_elsewhere_is_used_as_it_is(make_cell, npz, tmp_path, monkeypatch):
    cell = make_cell("vq")
    monkeypatch.chdir(npz.parent)
    elsewhere = {**cell.config.flat(), "data": npz.name, "log_every": 4, "checkpoint_every": 2, "alpha_max": 0.1}
    train(elsewhere, out=tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", cell.folder)
    seal = checkpoint.load(cell.folder / "ckpt.pt").sha256
    assert inspect(cell).finished
    do(cell)
    assert checkpoint.load(cell.folder / "ckpt.pt").sha256 == seal


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(make_cell):
    whole = make_cell("soft-vq", iterations=6)
    reference = do(whole)
    shutil.rmtree(whole.folder)

    stop = threading.Event()

    class Stopping(ChainObserver):
        def stepped(self, step):
            if step == 3:
                stop.set()

    with pytest.raises(Interrupted):
        do(whole, Stopping(), stop)
    state = inspect(whole)
    assert (state.step, state.finished, state.done) == (3, False, False)
    assert do(whole) == reference


def test_a_run_with_other_settings_is_refused_by_name(make_cell):
    do(make_cell("ae"))
    with pytest.raises(RefusedError, match=r"--iterations 4, and this asks for 5: give another --out"):
        inspect(make_cell("ae", iterations=5))
    assert inspect(make_cell("ae", alpha_max=0.1, K=99)).done  # the autoencoder reads neither


def test_a_run_of_other_data_is_refused(make_cell, tmp_path):
    cell = make_cell("ae")
    other = write_blobs(tmp_path / "blobs.npz", seed=5)
    train({**cell.config.flat(), "data": str(other)}, out=cell.folder)
    with pytest.raises(RefusedError, match="trained on other data"):
        inspect(cell)


def _with(cell, **changes):
    return dataclasses.replace(cell.config.train, **changes)
