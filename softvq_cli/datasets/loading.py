"""A name or a path → the images of one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import archives, arrays, images, named, splits
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.fetching import fetch
from softvq_cli.datasets.folders import open_folder
from softvq_cli.datasets.layout import arrange
from softvq_cli.datasets.progress import Progress, silent
from softvq_cli.datasets.status import names
from softvq_cli.errors import InputError, SoftVQError, UsageError, param, unknown_name
from softvq_cli.words import SPLITS, Split


def load(config: DataConfig, split: Split, *, progress: Progress | None = None) -> Dataset:
    """Load one split of the data set that ``config.data`` names.

    A known name is downloaded if it is missing. An image folder or archive is decoded the first time and
    mapped from the cache from then on. ``all`` is the train split and then the test split where the data
    has its own; else the rows in their own order, out of which train and test are drawn.

    Raises:
        UsageError: the name or the split is unknown.
        InputError: the data is missing, damaged or of no use.
        SoftVQError: it cannot be downloaded.
    """
    if split not in SPLITS:
        raise UsageError(unknown_name("split", split, SPLITS))
    path = _path(config.data)
    if path is None and config.data not in names():
        raise UsageError(
            f"{unknown_name('data set', config.data, names())}; nor is there a file or folder of that name"
        )
    if config.image_size is not None and (path is None or not _holds_image_files(path)):
        raise UsageError(f"{param('image_size')} is for folders and archives of images; {config.data} is none")
    if path is None:
        return _load_named(config, split, progress or silent)
    return splits.take(_read(path, config, progress or silent), _name_of(path), config, split)


def _path(data: str) -> Path | None:
    """The file or folder that ``data`` means, or None if it is a name. A known name wins over a file."""
    if data in names():
        return None
    try:
        path = Path(data).expanduser()
        path.stat()
        return path if data else None
    except (OSError, ValueError, RuntimeError) as error:  # no such file; a zero byte; no such user
        if not _looks_like_path(data):
            return None
        raise InputError(f"cannot read {data!r}: {getattr(error, 'strerror', None) or error}") from error


def _load_named(config: DataConfig, split: Split, progress: Progress) -> Dataset:
    name = config.data
    if name == named.DIGITS:
        pixels, labels = named.read_digits()
        return splits.take(splits.Whole(name, pixels, labels, named.DIGIT_NAMES), name, config, split)
    known, data = named.NAMED[name], named.data_folder(config.data_dir)
    if any(known.find(data, file) is None for file in known.files):
        try:
            fetch(name, data, progress)
        except SoftVQError as error:
            raise SoftVQError(f"{name} is not in {data}, and {error.marked}") from error
    parts = [known.read(known, data, part) for part in (("train", "test") if split == "all" else (split,))]
    pixels, labels = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    return Dataset(name, split, pixels, labels, known.class_names)


def _read(path: Path, config: DataConfig, progress: Progress) -> splits.Whole:
    """All of a folder or file."""
    if _holds_image_files(path):
        source = open_folder(path) if path.is_dir() else archives.open_archive(path, config.name_encoding)
        return images.read(source, lambda: arrange(source, config.folders), config, progress)
    if path.name.lower().endswith(arrays.ENDINGS):
        return arrays.read(path, config, progress)
    raise InputError(f"{path} is no data set: it has to be a folder of images, {', '.join(_SUFFIXES)}")


_SUFFIXES = (*archives.ENDINGS, *arrays.ENDINGS)


def _holds_image_files(path: Path) -> bool:
    return path.is_dir() or path.name.lower().endswith(archives.ENDINGS)


def _looks_like_path(data: str) -> bool:
    return any(mark in data for mark in "/\\~") or data.startswith(".") or data.lower().endswith(_SUFFIXES)


def _name_of(path: Path) -> str:
    """``data/flowers.tar.gz`` → ``flowers``."""
    name = path.resolve().name
    suffixes = sorted((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len)
    return (name[: -len(suffixes[-1])] if suffixes and path.is_file() else name) or name
