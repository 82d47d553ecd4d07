"""The Python API as documented."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import softvq_cli as softvq
from softvq_cli.errors import InputError, SoftVQError, UsageError
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.reporter import Reporter
from softvq_cli.training import run_directory, train
from tests.helpers import blobs

pytestmark = pytest.mark.usefixtures("small_networks")

SMALL = {"latent_dim": 4, "K": 6, "iterations": 40, "batch_size": 16}


def embedder(bottleneck: str = "soft-vq", **settings: object) -> softvq.AutoencoderEmbedder:
    return softvq.AutoencoderEmbedder(bottleneck, **{**SMALL, **settings})  # type: ignore[arg-type]


def test_a_checkpoint_embeds_images_like_the_model_that_was_trained(tmp_path: Path) -> None:
    dataset = blobs(120)
    np.savez(tmp_path / "blobs.npz", images=dataset.images, labels=dataset.labels)
    run = train({**SMALL, "data": str(tmp_path / "blobs.npz")}, out=tmp_path / "run")
    checkpoint = softvq.load(run.path)
    assert checkpoint.config == run.config
    assert "tensor" not in repr(checkpoint) and str(run.path) in repr(checkpoint)
    z_e = softvq.embed(checkpoint, dataset.images)
    assert z_e.shape == (120, 4)
    assert z_e.dtype == np.float32
    np.testing.assert_array_equal(z_e, softvq.embed(checkpoint, dataset.images[..., 0]))


@pytest.mark.parametrize(("dtype", "low", "high"), [("f4", 0.0, 1.0), ("u2", 100, 4180)])
def test_a_checkpoint_embeds_numbers_in_the_units_of_its_training(
    dtype: str, low: float, high: float, tmp_path: Path
) -> None:
    images = (low + blobs(120).images / 255.0 * (high - low)).astype(dtype)
    images.flat[0], images.flat[1] = low, high
    np.savez(tmp_path / "a.npz", images=images)
    run = train({**SMALL, "data": str(tmp_path / "a.npz"), "iterations": 5}, out=tmp_path / "run")
    pixels = softvq.embed(softvq.load(run.path), images, "pixels")
    np.testing.assert_allclose(pixels, (images.reshape(120, -1) - low) / (high - low), atol=1e-5)


def test_the_estimators_checkpoint_embeds_as_it_does(tmp_path: Path) -> None:
    images = blobs(64).images[..., 0] / 7.0
    fitted = embedder(device="cpu").fit(images)
    fitted.save(tmp_path / "ckpt.pt")
    np.testing.assert_array_equal(softvq.embed(softvq.load(tmp_path / "ckpt.pt"), images), fitted.transform(images))
    as_bytes = blobs(64).images
    np.testing.assert_array_equal(softvq.embed(softvq.load(tmp_path / "ckpt.pt"), as_bytes), fitted.transform(as_bytes))
    np.testing.assert_allclose(
        softvq.embed(softvq.load(tmp_path / "ckpt.pt"), as_bytes, "pixels"), as_bytes.reshape(64, -1) / 255.0, atol=1e-6
    )
    rows = images.reshape(64, -1)
    fitted = embedder(device="cpu", image_shape=(8, 8)).fit(rows)
    fitted.save(tmp_path / "rows.pt")
    checkpoint = softvq.load(tmp_path / "rows.pt")
    np.testing.assert_array_equal(softvq.embed(checkpoint, rows), fitted.transform(rows))
    with pytest.raises(InputError, match=r"64.*63"):
        softvq.embed(checkpoint, rows[:, 1:])


def test_embed_takes_what_holds_images(tmp_path: Path) -> None:
    import torch
    from PIL import Image

    images = blobs(8).images
    fitted = embedder(device="cpu").fit(blobs(64).images)
    fitted.save(tmp_path / "ckpt.pt")
    path, expected = tmp_path / "ckpt.pt", fitted.transform(images)
    pictures = [Image.fromarray(image[..., 0]) for image in images]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    files = [tmp_path / f"{number}.png" for number in range(8)]
    tensor = torch.from_numpy(images)
    for given in (
        images,
        list(images),
        list(images[..., 0]),
        pictures,
        files,
        tensor,
        tensor.permute(0, 3, 1, 2),
        list(tensor),
    ):
        np.testing.assert_array_equal(softvq.embed(path, given), expected)
    colour = np.zeros((32, 32, 3), np.uint8)
    for one in (colour, images[0], images[0, ..., 0], pictures[0], str(files[0])):
        with pytest.raises(InputError):
            softvq.embed(path, one)
    with pytest.raises(InputError):
        softvq.embed(path, [])


def test_fit_says_how_far_it_is_and_calls_back(capsys: pytest.CaptureFixture[str]) -> None:
    losses: list[float] = []
    told = Reporter()
    stages: list[str] = []
    told.progress = lambda name, done, total, detail="": stages.append(name)  # type: ignore[method-assign]
    callbacks = [lambda metrics: losses.append(metrics["loss"]), told]
    fitted = embedder(device="cpu", verbose=True, callbacks=callbacks).fit(blobs(64).images)
    assert losses == [line["loss"] for line in fitted.history_] and stages
    steps = fitted.config_.train.iterations
    assert f"{steps}/{steps}" in capsys.readouterr().err
    embedder(device="cpu").fit(blobs(64).images)
    assert capsys.readouterr().err == ""


def test_fractions_are_refused_by_an_estimator_that_was_fitted_on_bytes(tmp_path: Path) -> None:
    images = blobs(64).images
    fitted = embedder(device="cpu").fit(images)
    fitted.save(tmp_path / "ckpt.pt")
    for model in (softvq.load(tmp_path / "ckpt.pt"), fitted.model_):
        with pytest.raises(InputError):
            softvq.embed(model, images / 255.0)
    rows = embedder(device="cpu", image_shape=(8, 8)).fit(images.reshape(64, -1))
    for call in (lambda: fitted.transform(images / 255.0), lambda: rows.transform(images.reshape(64, -1) / 255.0)):
        with pytest.raises(InputError):
            call()
    np.testing.assert_array_equal(rows.transform(images.reshape(64, -1) * 1.0), rows.transform(images.reshape(64, -1)))


def test_the_estimators_history_and_model_are_those_of_a_run_on_the_same_images(tmp_path: Path) -> None:
    dataset = blobs(64)
    np.savez(tmp_path / "both.npz", x_train=dataset.images, x_test=dataset.images)
    shared: dict[str, Any] = {"lr": 1e-3, "log_every": 15}
    fitted = embedder(settings=shared, device="cpu").fit(dataset.images)
    run = train({**SMALL, **shared, "data": str(tmp_path / "both.npz")}, out=tmp_path / "run", device="cpu")
    clock = ("seconds", "steps_per_second")
    rows = [
        [{k: v for k, v in row.items() if k not in clock} for row in lines]
        for lines in (fitted.history_, run_directory.read_metrics(run.folder))
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [15, 30, 40]
    np.testing.assert_array_equal(fitted.transform(dataset.images), softvq.embed(softvq.load(run.path), dataset.images))


def test_what_speaks_against_a_fit_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    with pytest.warns(UserWarning, match=r"torch\.compile.*no compiler found"):
        embedder(settings={"compile": True}).fit(blobs(32).images)


def test_the_estimator_is_a_scikit_learn_transformer(papers_networks: None) -> None:
    dataset = blobs(96)
    assert clone(embedder(K=3)).get_params()["K"] == 3
    pipeline = make_pipeline(embedder(bottleneck="ae", iterations=150, lr=1e-3), LogisticRegression(max_iter=500))
    assert pipeline.fit(dataset.images, dataset.labels).score(dataset.images, dataset.labels) > 0.9


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 8, 8, 2), np.uint8), np.zeros((4, 8, 8, 8, 1)), np.zeros((0, 8, 8), np.uint8)]
)
def test_arrays_that_are_not_images_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(N, H, W\)"):
        embedder().fit(bad)


def test_wrong_settings_are_refused_by_name() -> None:
    images = blobs(64).images
    with pytest.raises(UsageError, match="'beta'"):
        embedder(settings={"betta": 1.0}).fit(images)
    with pytest.raises(UsageError, match=r"batch_size 65.* 64"):
        embedder(batch_size=65).fit(images)
    with pytest.raises(AttributeError, match="emmbed"):
        softvq.emmbed  # noqa: B018


TINY: dict[str, Any] = {"latent_dim": 2, "K": 3, "iterations": 3, "batch_size": 2, "device": "cpu"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        softvq.AutoencoderEmbedder(**TINY),
        softvq.AutoencoderEmbedder("ae", **TINY),
        softvq.KMeansManyStarts(n_clusters=3, n_init=5),
    ],
    ids=["soft-vq", "ae", "k-means"],
)
def test_scikit_learn_has_nothing_against_the_estimators(estimator: Any) -> None:
    checks = check_estimator(estimator, on_skip=None, on_fail=None)
    assert [(check["check_name"], check["exception"]) for check in checks if check["status"] == "failed"] == []
    assert sum(check["status"] == "passed" for check in checks) >= 40


def rows_of(images: np.ndarray) -> np.ndarray:
    """The images as numbers in other units, float64 (N, H*W*C)."""
    flat: np.ndarray = images.reshape(len(images), -1) / 50.0 - 1.5
    return flat


def test_rows_of_bytes_are_the_images_that_they_hold() -> None:
    images = blobs(64).images
    of_rows = embedder(image_shape=(8, 8)).fit(images.reshape(64, 64))
    np.testing.assert_array_equal(of_rows.transform(images.reshape(64, 64)), embedder().fit_transform(images))
    np.testing.assert_array_equal(of_rows.transform(images.reshape(64, 64)), of_rows.transform(images))
    assert of_rows.n_features_in_ == 64


def test_numbers_are_not_rounded_and_come_back_in_their_units(papers_networks: None) -> None:
    rows = rows_of(blobs(96).images)
    fitted = embedder(bottleneck="ae", iterations=300, lr=1e-3, image_shape=(8, 8, 1)).fit(rows)
    again = fitted.reconstruct(rows)
    assert again.shape == rows.shape
    assert np.square(again - rows).mean() / rows.var() == pytest.approx(-fitted.score(rows), rel=1e-4)
    assert -1.0 < fitted.score(rows) < 0.0
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(rows)), again, atol=1e-5)  # ae has no noise
    a_little = rows.copy()
    a_little[:, 0] += 1e-4  # less than half a level of 256
    assert not np.array_equal(fitted.transform(a_little), fitted.transform(rows))


@pytest.mark.parametrize("dimensions", [3, 4])
def test_images_of_floats_are_the_rows_that_they_hold_and_keep_their_form(tmp_path: Path, dimensions: int) -> None:
    rows = rows_of(blobs(64).images)
    images = rows.reshape((64, 8, 8, 1)[:dimensions])
    fitted, of_rows = embedder(device="cpu").fit(images), embedder(device="cpu", image_shape=(8, 8)).fit(rows)
    np.testing.assert_array_equal(fitted.transform(images), of_rows.transform(rows))
    np.testing.assert_array_equal(fitted.transform(rows), of_rows.transform(images))
    np.testing.assert_array_equal(fitted.reconstruct(images), of_rows.reconstruct(rows).reshape(images.shape))
    z = fitted.transform(images)
    fitted.save(tmp_path / "ckpt.pt")
    for one in (fitted, softvq.AutoencoderEmbedder.load(tmp_path / "ckpt.pt")):
        np.testing.assert_array_equal(one.inverse_transform(z), of_rows.inverse_transform(z).reshape(64, 8, 8, 1))
        np.testing.assert_array_equal(one.transform(images.astype(np.float32)), of_rows.transform(rows.astype("f4")))
    with pytest.raises(InputError, match=r"\(8, 8, 1\)"):
        fitted.transform(images[:, :4])
    with pytest.raises(ValueError, match="NaN"):
        embedder().fit(np.full((64, 8, 8), np.nan))


def test_two_partial_fits_are_one_fit_of_twice_as_many_steps(tmp_path: Path) -> None:
    X = rows_of(blobs(64).images)
    whole = embedder(device="cpu", image_shape=(8, 8), iterations=40, settings={"log_every": 15}).fit(X)
    parts = embedder(device="cpu", image_shape=(8, 8), iterations=20, settings={"log_every": 15}).partial_fit(X)
    first = parts.transform(X)
    parts.save(tmp_path / "half.pt")
    np.testing.assert_array_equal(parts.partial_fit(X).transform(X), whole.transform(X))
    assert not np.array_equal(first, whole.transform(X))
    assert [row["step"] for row in parts.history_] == [15, 20, 30, 40]
    assert parts.config_ == whole.config_
    half = softvq.AutoencoderEmbedder.load(tmp_path / "half.pt")
    np.testing.assert_array_equal(half.transform(X), first)
    np.testing.assert_array_equal(half.partial_fit(X).transform(X), whole.transform(X))
    data, variance = parts.config_.data, float(parts.model_.pixel_variance)
    parts.partial_fit(X[40:] * 3)  # other images, on the scale of the first
    assert (parts.config_.data, float(parts.model_.pixel_variance)) == (data, variance)
    with pytest.raises(InputError):
        parts.partial_fit(X.reshape(64, 8, 8)[:, :4])


def test_what_has_no_state_cannot_be_trained_further(tmp_path: Path) -> None:
    images = blobs(64).images
    embedder().fit(images).save(tmp_path / "ckpt.pt")
    softvq.load(tmp_path / "ckpt.pt").export(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="exported"):
        softvq.AutoencoderEmbedder.load(tmp_path / "model.safetensors").partial_fit(images)


def test_rows_that_do_not_make_images_are_refused() -> None:
    rows = rows_of(blobs(64).images)
    with pytest.raises(UsageError, match=r"image_shape \(8, 9, 1\).* 72 .* 64"):
        embedder(image_shape=(8, 9)).fit(rows)
    with pytest.raises(UsageError, match="image_shape"):
        embedder(image_shape=(1, 8, 8)).fit(rows)
    for equal in (np.full((64, 8), 0.5), np.full((64, 8, 8), 7, np.uint8)):
        with pytest.raises(InputError):
            embedder().fit(equal)
    with pytest.raises(UsageError, match="pixel_range"):
        embedder(settings={"pixel_range": "0,1"}).fit(rows)


def test_a_data_frame_gives_a_data_frame_and_its_columns_are_kept(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows_of(blobs(64).images), columns=[f"pixel{i}" for i in range(64)])
    fitted = embedder().set_output(transform="pandas").fit(frame)
    latents = fitted.transform(frame)
    assert list(latents.columns) == [f"autoencoderembedder{i}" for i in range(4)]
    assert list(latents.columns) == list(fitted.get_feature_names_out())
    fitted.save(tmp_path / "ckpt.pt")
    loaded = softvq.AutoencoderEmbedder.load(tmp_path / "ckpt.pt")
    np.testing.assert_array_equal(loaded.feature_names_in_, frame.columns)
    for one in (fitted, loaded):
        with pytest.raises(ValueError, match="feature names"):
            one.transform(frame[frame.columns[::-1]])


def test_random_state_stands_for_the_seed() -> None:
    images = blobs(64).images
    first, again, other = (embedder(**s).fit_transform(images) for s in ({"random_state": 5}, {"seed": 5}, {"seed": 6}))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    drawn = embedder(random_state=np.random.RandomState(1)).fit(images)
    assert drawn.config_.train.seed == np.random.RandomState(1).randint(2**31 - 1)


@pytest.mark.parametrize("of_rows", [True, False])
def test_a_fitted_estimator_survives_a_pickle_and_a_checkpoint(tmp_path: Path, of_rows: bool) -> None:
    images = blobs(64).images
    X = rows_of(images) if of_rows else images
    fitted = embedder(device="cpu", seed=3, settings={"beta": 2.0}, image_shape=(8, 8) if of_rows else None).fit(X)
    fitted.save(tmp_path / "ckpt.pt")
    for other in (pickle.loads(pickle.dumps(fitted)), softvq.AutoencoderEmbedder.load(tmp_path / "ckpt.pt")):
        np.testing.assert_array_equal(other.transform(X), fitted.transform(X))
        np.testing.assert_array_equal(other.reconstruct(X), fitted.reconstruct(X))
        np.testing.assert_array_equal(other.fit(X).transform(X), fitted.transform(X))  # its arguments are the same
    assert softvq.load(tmp_path / "ckpt.pt").config == fitted.config_
    assert fitted.config_.data.data == "X"  # no data set that a command would find


def test_errors_about_values_are_value_errors_and_keep_their_exit_codes() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(InputError, ValueError)
    assert (UsageError.exit_code, InputError.exit_code) == (2, 3)
    assert not issubclass(SoftVQError, ValueError)


def test_the_clusterer_is_the_projects_k_means() -> None:
    z = rows_of(blobs(90).images)
    fitted = softvq.KMeansManyStarts(3, n_init=12, random_state=4).fit(z)
    found = cluster(z, clusters=3, n_init=12, seed=4)
    np.testing.assert_array_equal(fitted.labels_, found.assignments)
    assert fitted.inertia_ == found.inertia
    assert fitted.inertias_.shape == (12,)
    np.testing.assert_allclose(np.square(z - fitted.cluster_centers_[fitted.labels_]).sum(), fitted.inertia_, rtol=1e-5)
    np.testing.assert_array_equal(fitted.predict(z), fitted.labels_)


def test_fewer_different_rows_than_clusters_are_a_warning() -> None:
    with pytest.warns(ConvergenceWarning, match=r"2 .* 4 "):
        fitted = softvq.KMeansManyStarts(4, n_init=3).fit(np.repeat([[0.0, 1.0], [5.0, 2.0]], 6, axis=0))
    assert len(fitted.cluster_centers_) == 2


def test_modules_of_ones_own_are_trained_and_needed_again(tmp_path: Path) -> None:
    dataset = blobs(120)
    n, side = dataset.images[0].size, dataset.images.shape[1]
    torch.manual_seed(0)
    own: dict[str, Any] = {
        "encoder": nn.Sequential(nn.Flatten(), nn.Linear(n, 12), nn.BatchNorm1d(12), nn.ReLU()),
        "decoder": nn.Sequential(nn.Linear(4, n), nn.Sigmoid(), nn.Unflatten(1, (1, side, side))),
    }
    before = own["decoder"][0].weight.clone()
    np.savez(tmp_path / "blobs.npz", images=dataset.images, labels=dataset.labels)
    settings = {**SMALL, "data": str(tmp_path / "blobs.npz"), "lr": 0.01}
    whole = train(settings, out=tmp_path / "whole", **own)
    assert torch.equal(own["decoder"][0].weight, before)  # they are copied
    assert (whole.config.model.arch, whole.metrics["nmse"] < 0.9) == ("own", True)
    half = train({**settings, "iterations": 20}, out=tmp_path / "half", **own)
    half = train({"iterations": 40}, out=half.folder, resume=True, **own)
    checkpoint, resumed = (softvq.load(run.path, **own) for run in (whole, half))
    there = checkpoint.model.state_dict()
    assert all(torch.equal(weight, there[name]) for name, weight in resumed.model.state_dict().items())
    assert np.isfinite(softvq.embed(checkpoint, dataset.images)).all()
    for wrong in ({}, {"encoder": own["encoder"]}, {"encoder": own["decoder"], "decoder": own["encoder"]}):
        with pytest.raises((InputError, UsageError)):
            softvq.load(whole.path, **wrong)
    with pytest.raises(UsageError):
        train({**settings, "arch": "own"}, out=tmp_path / "none")
    fitted = embedder(**own).fit(dataset.images)
    fitted.partial_fit(dataset.images).save(tmp_path / "e.pt")
    loaded = softvq.AutoencoderEmbedder.load(tmp_path / "e.pt", **own)
    np.testing.assert_array_equal(loaded.transform(dataset.images), fitted.transform(dataset.images))
    clone(fitted)
