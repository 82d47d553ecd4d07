"""The Python API, as the documentation shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import softvq_cli as softvq
from softvq_cli.errors import InputError, SoftVQError, UsageError
from softvq_cli.training import log, train
from tests.helpers import blobs

SMALL = {"latent_dim": 4, "K": 6, "iterations": 40, "batch_size": 16}


def embedder(**settings: object) -> softvq.AutoencoderEmbedder:
    return softvq.AutoencoderEmbedder(**{**SMALL, **settings})  # type: ignore[arg-type]


def test_a_checkpoint_embeds_images_like_the_model_that_was_trained(tmp_path: Path) -> None:
    dataset = blobs(120)
    np.savez(tmp_path / "blobs.npz", images=dataset.images, labels=dataset.labels)
    run = train({**SMALL, "data": str(tmp_path / "blobs.npz")}, out=tmp_path / "run")
    checkpoint = softvq.load(run.path)
    assert checkpoint.config == run.config
    z_e = softvq.embed(checkpoint, dataset.images)
    assert z_e.shape == (120, 4)
    assert z_e.dtype == np.float32
    np.testing.assert_array_equal(z_e, softvq.embed(checkpoint, dataset.images[..., 0]))


def test_the_estimator_fits_transforms_and_reconstructs() -> None:
    images = blobs(96).images
    fitted = embedder(iterations=150, lr=1e-3).fit(images)
    assert fitted.transform(images).shape == (96, 4)
    assert fitted.reconstruct(images).shape == images.shape
    assert fitted.history_[-1]["nmse"] < 1.0


def test_the_estimator_repeats_itself_with_the_same_seed() -> None:
    images = blobs(64).images
    first, again, other = (embedder(seed=seed).fit_transform(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_estimators_history_and_model_are_those_of_a_run_on_the_same_images(tmp_path: Path) -> None:
    dataset = blobs(64)
    np.savez(tmp_path / "both.npz", x_train=dataset.images, x_test=dataset.images)
    shared: dict[str, Any] = {"lr": 1e-3, "log_every": 15}
    fitted = embedder(settings=shared, device="cpu").fit(dataset.images)
    run = train({**SMALL, **shared, "data": str(tmp_path / "both.npz")}, out=tmp_path / "run", device="cpu")
    clock = ("seconds", "steps_per_second")
    rows = [
        [{k: v for k, v in row.items() if k not in clock} for row in lines]
        for lines in (fitted.history_, log.read(run.folder))
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [15, 30, 40]
    np.testing.assert_array_equal(fitted.transform(dataset.images), softvq.embed(softvq.load(run.path), dataset.images))


def test_what_speaks_against_a_fit_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    with pytest.warns(UserWarning, match=r"torch\.compile is not available here.*no compiler found"):
        embedder(settings={"compile": True}).fit(blobs(32).images)


def test_a_fit_whose_loss_is_not_finite_says_where() -> None:
    with pytest.raises(SoftVQError, match=r"not finite .*step \d+.*; try a smaller lr than 1e\+30$"):
        embedder(bottleneck="ae", lr=1e30).fit(blobs(64).images)


def test_images_of_one_colour_are_refused() -> None:
    with pytest.raises(InputError, match=r"all pixels of X's training images are equal"):
        embedder().fit(np.full((64, 8, 8), 7, np.uint8))


def test_the_estimator_is_a_scikit_learn_transformer() -> None:
    dataset = blobs(96)
    assert clone(embedder(K=3)).get_params()["K"] == 3
    pipeline = make_pipeline(embedder(bottleneck="ae", iterations=150, lr=1e-3), LogisticRegression(max_iter=500))
    assert pipeline.fit(dataset.images, dataset.labels).score(dataset.images, dataset.labels) > 0.9


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 8, 8, 2), np.uint8), np.zeros((4, 8, 8, 1)), np.zeros((0, 8, 8), np.uint8)]
)
def test_arrays_that_are_not_images_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        embedder().fit(bad)


def test_wrong_settings_are_refused_by_name() -> None:
    images = blobs(64).images
    with pytest.raises(UsageError, match="did you mean 'beta'"):
        embedder(settings={"betta": 1.0}).fit(images)
    with pytest.raises(
        UsageError, match=r"^batch_size 65 is larger than the training split of X, which has 64 images$"
    ):
        embedder(batch_size=65).fit(images)
    with pytest.raises(AttributeError, match="no attribute 'emmbed'"):
        softvq.emmbed  # noqa: B018
