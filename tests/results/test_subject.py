"""Representations without a trained encoder."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from softvq_cli.config import RunConfig
from softvq_cli.evaluation import numerics
from softvq_cli.model import represent
from softvq_cli.results.subject import Control, Subject
from softvq_cli.training.session import pixel_variance
from tests.helpers import blobs


@pytest.fixture
def splits():
    return blobs(90), blobs(40, seed=1)


def control(kind, splits, **settings):
    train, test = splits
    config = RunConfig.from_flat({"bottleneck": "ae", **settings})
    return Subject(Control(kind, config), lambda split: train if split == "train" else test)


def test_pixels_are_the_images_between_0_and_1(splits):
    rows = control("raw", splits).rows
    np.testing.assert_allclose(rows.train, splits[0].images.reshape(90, 64) / 255, atol=1e-7)
    assert rows.test.shape == (40, 64)
    assert rows.test.dtype == np.float32


@pytest.mark.parametrize("whole", [0, 100])  # only the wanted eigenvectors, and all
@pytest.mark.parametrize("n", [90, 30])
@pytest.mark.parametrize("d", [1, 5, 29, 64, 100])
def test_principal_components_are_scikit_learns(n, d, whole, monkeypatch):
    monkeypatch.setattr(numerics, "_WHOLE", whole)
    splits = blobs(n), blobs(40, seed=1)
    subject = control("pca", splits, latent_dim=d)
    rows = subject.rows
    x, y = (split.images.reshape(len(split), -1) / 255 for split in splits)
    # More components than pixels are all pixels; images vary in one direction fewer than there are images.
    reference = PCA(min(d, 64, n - 1), svd_solver="full").fit(x)
    expected = np.zeros((40, min(d, 64, n)))
    expected[:, : reference.n_components_] = np.abs(reference.transform(y))
    np.testing.assert_allclose(np.abs(rows.test), expected, atol=1e-5)
    residual = np.square(reference.inverse_transform(reference.transform(y)) - y).mean()
    assert subject.numbers["test_nmse"] == pytest.approx(residual / pixel_variance(splits[0].images), abs=1e-9)


def test_the_untrained_model_is_where_training_starts(splits):
    from softvq_cli.training.session import Session
    from softvq_cli.training.steppers import EagerStepper

    train, _ = splits
    settings = {"latent_dim": 4, "batch_size": 16, "seed": 3}
    config = RunConfig.from_flat({"bottleneck": "ae", **settings})
    import torch

    session = Session(config, train, train, torch.device("cpu"))
    start = {name: value.clone() for name, value in session.model.state_dict().items()}
    EagerStepper(session).advance()
    assert not all(torch.equal(value, start[name]) for name, value in session.model.state_dict().items())
    session.model.load_state_dict(start)
    rows = control("untrained", splits, **settings).rows
    np.testing.assert_array_equal(rows.train, represent(session.model.eval(), train.images))
