"""One job: trained and measured once, and again only if something has changed."""

from __future__ import annotations

import dataclasses
import shutil
import threading

import numpy as np
import pytest

from softvq_cli import embeddings
from softvq_cli.errors import InputError, Interrupted, RefusedError
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.evaluation.probe import fit_adam, probe
from softvq_cli.experiments.job import State, inspect
from softvq_cli.reporter import Reporter
from softvq_cli.results.evaluate import BASIC, MAP, PROBES, QUANTISED, at
from softvq_cli.results.source import Source
from softvq_cli.training import checkpoint, train
from softvq_cli.words import BOTTLENECKS
from tests.helpers import StopAt, do, save_blobs


@pytest.fixture
def nothing_to_do(monkeypatch):
    """From here on, training steps and K-means raise an error."""

    def never(*args, **kwargs):
        raise AssertionError("this was done before")

    def from_now_on():
        monkeypatch.setattr("softvq_cli.training.run.Session", never)
        monkeypatch.setattr("softvq_cli.evaluation.clustering.cluster", never)

    return from_now_on


@pytest.mark.parametrize("row", BOTTLENECKS)
def test_a_model_is_measured_as_the_commands_measure_it(row, make_job, tmp_path):
    job = make_job(row)
    evaluation = do(job)
    figures = own(evaluation)
    trained = checkpoint.load(job.folder / "ckpt.pt")
    source = Source(trained)
    train_rows, test_rows = (source.embed(split, tmp_path / f"{split}.npy") for split in ("train", "test"))
    found = cluster(test_rows.z, test_rows.labels)
    assert figures["clustering_accuracy"] == found.accuracy
    assert figures["nmi"] == found.nmi
    assert (figures["starts_min"], figures["starts_max"]) == (found.accuracies.min(), found.accuracies.max())
    assert figures["starts_min"] <= figures["starts_median"] <= figures["starts_max"]
    fitted = probe(train_rows.z, train_rows.labels, test_rows.z, test_rows.labels)
    assert figures["probe_accuracy"] == fitted.accuracy
    assert figures["iterations"] == 4
    assert list(evaluation.numbers) == ["z_e", "z_q"][: 1 + BOTTLENECKS[row].has_codebook]
    if BOTTLENECKS[row].has_codebook:
        rows = embeddings.embed(trained, source.load("test"), tmp_path / "q.npy", what="z_q")
        assert evaluation.numbers["z_q"]["nmi"] == cluster(rows.z, rows.labels).nmi
        assert "test_nmse" not in evaluation.numbers["z_q"]


def test_nmse_is_the_reconstructions_error_over_the_training_pixels_variance(make_job, tmp_path):
    job = make_job("soft-vq", iterations=20)
    figures = own(do(job))
    trained = checkpoint.load(job.folder / "ckpt.pt")
    source = Source(trained)
    images = source.load("test").images / 255.0
    made = embeddings.embed(trained, source.load("test"), tmp_path / "x.npy", what="reconstruction").z
    variance = (source.load("train").images / 255.0).var()
    error = np.square(made.reshape(images.shape) - images).mean() / variance
    assert figures["test_nmse"] == pytest.approx(error, rel=1e-5)


def test_a_model_on_the_way_is_measured_as_one_that_ends_there(make_job):
    job = make_job("soft-vq", parts=(BASIC, at(2)), keep="2")
    found = do(job)
    shorter = own(do(dataclasses.replace(make_job("soft-vq", iterations=2), folder=job.folder.with_name("shorter"))))
    assert found.numbers["z_e@2"] == shorter
    assert inspect(job).done
    asked_later = dataclasses.replace(job, parts=(BASIC, at(2), at(3)), config=make_job("soft-vq", keep="2,3").config)
    assert do(asked_later).parts == (BASIC, at(2), QUANTISED)  # the run is over
    (job.folder / "ckpt-2.pt").write_bytes((job.folder / "ckpt.pt").read_bytes())
    (job.folder / "evaluation.json").unlink()
    assert do(job).parts == (BASIC, QUANTISED)  # that is another step's


@pytest.mark.parametrize("row", ["soft-vq", "raw", "pca", "untrained"])
def test_what_is_done_is_not_done_again(row, make_job, nothing_to_do):
    job = make_job(row)
    assert not inspect(job).done
    first = do(job)
    nothing_to_do()
    assert inspect(job).evaluation == first
    assert do(job) == first


def test_other_parts_are_added_to_those_that_are_there(make_job, nothing_to_do, monkeypatch):
    first = do(make_job("ae"))
    more = make_job("ae", parts=(BASIC, PROBES))
    assert not inspect(more).done
    quick = lambda *rows, **how: fit_adam(*rows, **{**how, "iterations": 100})  # noqa: E731
    monkeypatch.setattr("softvq_cli.evaluation.probe.fit_adam", quick)
    nothing_to_do()
    found = do(more)
    assert own(found).items() > own(first).items()
    assert set(own(found)) - set(own(first)) == {
        "probe_adam_accuracy",
        "knn_accuracy",
        "probe_10_accuracy",  # there are 40 training images a class, too few for 100
    }


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-8])])
def test_a_map_is_kept_and_made_again_where_it_is_damaged(damage, make_job):
    job = make_job("raw", parts=(MAP,))
    first = do(job)
    assert np.load(job.folder / "map-test.npy").shape == (30, 2)
    assert 0 < own(first)["knn_recall"] <= 1
    assert inspect(job).done
    damage(job.folder / "map-test.npy")
    assert not inspect(job).done
    assert do(job) == first


def test_an_evaluation_of_another_checkpoint_is_not_used(make_job, npz):
    job = make_job("ae")
    first = do(job)
    train({**job.config.flat(), "iterations": 9}, out=job.folder, overwrite=True)
    train(job.config.flat(), out=job.folder, overwrite=True)
    assert do(job) == first  # the same run again gives the same file
    longer = dataclasses.replace(job, config=dataclasses.replace(job.config, train=_with(job, iterations=9)))
    train(longer.config.flat(), out=job.folder, overwrite=True)
    assert not inspect(longer).done
    assert own(do(longer))["iterations"] == 9


def test_an_evaluation_on_other_data_is_not_used(make_job):
    job = make_job("pca")
    do(job)
    assert not inspect(dataclasses.replace(job, fingerprints=(job.fingerprints[0], "other"))).done
    assert not inspect(make_job("pca", latent_dim=3)).done


def test_a_part_that_cannot_be_measured_costs_no_other(make_job, monkeypatch):
    def fails(*args, **kwargs):
        raise InputError("too few rows")

    monkeypatch.setattr("softvq_cli.results.measures.of_map", fails)
    notes, reporter = [], Reporter()
    reporter.note = notes.append
    found = do(make_job("pca", parts=(MAP, BASIC)), reporter)
    assert found.parts == (BASIC,)
    assert len(notes) == 1 and "too few rows" in notes[0]


def test_what_a_killed_process_was_writing_is_removed(make_job):
    job = make_job("pca")
    job.folder.mkdir()
    for name in (".evaluation.json.x.tmp", ".map-test.npy.x.tmp"):
        (job.folder / name).write_text("half")
    do(job)
    arrays = ["centres.npy", "clusters-test.npy", "evaluation.json", "predictions-test.npy", "probe.npy"]
    assert sorted(path.name for path in job.folder.iterdir()) == [".lock", *arrays]


def test_a_finished_run_from_elsewhere_is_used_as_it_is(make_job, npz, tmp_path, monkeypatch):
    job = make_job("vq")
    monkeypatch.chdir(npz.parent)
    elsewhere = {**job.config.flat(), "data": npz.name, "log_every": 4, "checkpoint_every": 2, "alpha_max": 0.1}
    train(elsewhere, out=tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", job.folder)
    seal = checkpoint.load(job.folder / "ckpt.pt").sha256
    assert inspect(job).step == job.steps
    do(job)
    assert checkpoint.load(job.folder / "ckpt.pt").sha256 == seal


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(make_job):
    whole = make_job("soft-vq", iterations=6)
    reference = do(whole)
    shutil.rmtree(whole.folder)

    stop = threading.Event()
    with pytest.raises(Interrupted):
        do(whole, StopAt(3, stop), stop)
    state = inspect(whole)
    assert (state.step, state.done) == (3, False)
    assert do(whole) == reference


def test_a_run_with_other_settings_is_refused_by_name(make_job):
    do(make_job("ae"))
    with pytest.raises(RefusedError) as caught:
        inspect(make_job("ae", iterations=3))
    assert caught.value.settings == ("iterations", "out")
    assert inspect(make_job("ae", alpha_max=0.1, K=99)).done  # the autoencoder reads neither


def test_a_job_of_more_iterations_goes_on_with_the_run_that_is_there(make_job):
    longer = make_job("soft-vq", iterations=6)
    reference = do(longer)
    shutil.rmtree(longer.folder)
    do(make_job("soft-vq"))
    assert inspect(longer) == State(step=4)
    assert do(longer) == reference
    assert inspect(longer).done


def test_a_run_of_other_data_is_refused(make_job, tmp_path):
    job = make_job("ae")
    other = save_blobs(tmp_path / "blobs.npz", 150, seed=5)
    train({**job.config.flat(), "data": str(other)}, out=job.folder)
    with pytest.raises(RefusedError):
        inspect(job)


def own(evaluation):
    """The values of a job's own rows; for a model z_e."""
    [values] = [values for name, values in evaluation.numbers.items() if name != "z_q"]
    return values


def _with(job, **changes):
    return dataclasses.replace(job.config.train, **changes)
