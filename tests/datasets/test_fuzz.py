"""Readers of damaged files return valid images or raise one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from softvq_cli.datasets.decode import read_image
from softvq_cli.errors import InputError
from tests.helpers import CATS_AND_DOGS, TARS, encoded, grey_files, make, mutations, pixels, read

pytestmark = pytest.mark.usefixtures("at_once")

COUNT = 150


def survive(path: Path, whole: bytes, seed: int, count: int = COUNT) -> int:
    """Read ``count`` mutations of the file; returns how many were refused."""
    refused = 0
    for mutated in mutations(whole, count, seed):
        path.write_bytes(mutated)
        try:
            data = read(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
            refused += 1
        else:
            assert data.images.dtype == np.uint8 and data.images.ndim == 4 and data.images.shape[3] in (1, 3)
            assert data.labels is None or data.labels.max() < len(data.class_names)
    return refused


@pytest.mark.parametrize("seed, suffix", list(enumerate([".zip", *TARS])))
def test_mutated_archives(tmp_path: Path, suffix: str, seed: int) -> None:
    whole = make(tmp_path / f"a{suffix}", grey_files(CATS_AND_DOGS)).read_bytes()
    assert survive(tmp_path / f"b{suffix}", whole, seed) > COUNT // 3


@pytest.mark.parametrize("seed, suffix", list(enumerate([".npy", ".npz"])))
def test_mutated_arrays(tmp_path: Path, suffix: str, seed: int) -> None:
    images, labels = pixels(0, (6, 4, 4)), np.arange(6) % 3
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=labels)
    assert survive(tmp_path / f"b{suffix}", (tmp_path / f"a{suffix}").read_bytes(), seed, 400) > 100


@pytest.mark.parametrize(
    "seed, kind", list(enumerate(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"]))
)
def test_mutated_images(kind: str, seed: int) -> None:
    whole = encoded(pixels(0, (16, 16, 3)), kind)
    for mutated in mutations(whole, 300, seed):
        try:
            image = read_image("a.png", mutated)
        except InputError as error:
            assert str(error).startswith("a.png ") and "\n" not in str(error)
        else:
            assert image.ndim == 2 or image.shape[2:] == (3,)
            assert image.dtype == np.uint8
