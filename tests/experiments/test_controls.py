"""The rows without a trained encoder."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from softvq_cli.config import RunConfig
from softvq_cli.experiments.controls import pixels, principal_components, untrained
from softvq_cli.training.session import pixel_variance
from tests.helpers import blobs


@pytest.fixture
def splits():
    return blobs(90), blobs(40, seed=1)


def test_pixels_are_the_images_between_0_and_1(splits):
    train, test = splits
    rows = pixels(train, test)
    np.testing.assert_allclose(rows.train, train.images.reshape(90, 64) / 255, atol=1e-7)
    assert rows.test.shape == (40, 64)
    assert rows.test.dtype == np.float32


@pytest.mark.parametrize("d", [1, 5, 64])
def test_principal_components_are_scikit_learns(splits, d):
    train, test = splits
    rows, nmse = principal_components(train, test, d)
    x, y = (split.images.reshape(len(split), -1) / 255 for split in splits)
    reference = PCA(d, svd_solver="full").fit(x)
    np.testing.assert_allclose(np.abs(rows.test), np.abs(reference.transform(y)), atol=1e-5)
    residual = np.square(reference.inverse_transform(reference.transform(y)) - y).mean()
    assert nmse == pytest.approx(residual / pixel_variance(train.images), abs=1e-9)


def test_more_components_than_pixels_are_all_pixels(splits):
    assert principal_components(*splits, 100)[0].train.shape == (90, 64)


def test_the_untrained_model_is_where_training_starts(splits):
    from softvq_cli.training.session import Session
    from softvq_cli.training.steppers import EagerStepper

    train, _ = splits
    config = RunConfig.from_flat({"latent_dim": 4, "bottleneck": "ae", "batch_size": 16, "seed": 3})
    import torch

    session = Session(config, train, train, torch.device("cpu"))
    start = {name: value.clone() for name, value in session.model.state_dict().items()}
    EagerStepper(session).advance()
    model = untrained(config, train)
    assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
    assert not all(torch.equal(value, start[name]) for name, value in session.model.state_dict().items())
