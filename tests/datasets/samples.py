"""Small files that the tests of the data stage make."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from softvq_cli.config import DataConfig
from softvq_cli.datasets import Dataset, load
from softvq_cli.errors import spelled


def pixels(seed: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    """uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def grey_files(names: list[str]) -> dict[str, bytes]:
    """A grey PNG for each name; the seed of its noise is its position."""
    return {name: encoded(pixels(seed)) for seed, name in enumerate(names)}


CATS_AND_DOGS = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(5)]


def notes(data: Dataset) -> tuple[str, ...]:
    """What is to be said of the data, with settings as Python spells them."""
    return tuple(map(spelled, data.notes))


def read(path: object, split: str = "all", **settings: object) -> Dataset:
    return load(DataConfig(data=str(path), **settings), split)  # type: ignore[arg-type]
