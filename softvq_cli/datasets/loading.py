"""A name or a path → the images of one split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import archives, arrays, images, lists, named, splits, tables, webdataset
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.datasets.fetch import fetch
from softvq_cli.datasets.folders import open_folder
from softvq_cli.datasets.layout import Layout, arrange, is_document
from softvq_cli.datasets.named import names
from softvq_cli.datasets.naming import shorten
from softvq_cli.datasets.progress import Progress, Told, silent
from softvq_cli.datasets.sources import Source
from softvq_cli.errors import InputError, SoftVQError, UsageError, unknown_name
from softvq_cli.files import as_utf8, on_disk
from softvq_cli.words import SPLITS, Split


def load(config: DataConfig, split: Split, *, progress: Progress | None = None) -> Dataset:
    """Load one split of the data set that ``config.data`` names.

    A known name is downloaded if it is missing. Image files are decoded the first time and mapped from the
    cache from then on. ``all`` is the train split and then the test split where the data has its own; else the
    rows in their own order, out of which train and test are drawn.

    Raises:
        UsageError: the name or the split is unknown.
        InputError: the data is missing, damaged or of no use.
        SoftVQError: it cannot be downloaded.
    """
    if split not in SPLITS:
        raise UsageError(unknown_name("split", split, SPLITS))
    path = path_of(config.data)
    if path is None and config.data not in names():
        raise UsageError(
            "{}; nor is there a file or folder of that name", unknown_name("data set", config.data, names())
        )
    if config.image_size is not None and (path is None or path.name.lower().endswith(arrays.ENDINGS)):
        raise UsageError("{image_size} is for folders and archives of images; {} is none", config.data)
    if path is None:
        return _load_named(config, split, progress or silent)
    return splits.take(_read(path, config, progress or silent), _name_of(path), config, split)


def path_of(data: str) -> Path | None:
    """The file, folder or pattern that ``data`` means, or None if it is a name. A known name wins over a file.

    Raises:
        InputError: it can only be a path, and leads nowhere.
    """
    if data in names():
        return None
    try:
        path = Path(on_disk(data)).expanduser()
        if webdataset.is_pattern(data) and not path.exists():
            return path
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
            fetch(name, data, Told(progress))
        except SoftVQError as error:
            raise SoftVQError("{} is not in {}, and {}", name, data, error.message) from error
    again: list[str] = []
    parts = [
        known.read(known, data, part, again.append) for part in (("train", "test") if split == "all" else (split,))
    ]
    pixels, labels = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    note = f"{shorten(again)}: packed again, so that only the shape and the number of each class could be checked"
    return Dataset(name, split, pixels, labels, known.class_names, notes=(note,) if again else ())


def _read(path: Path, config: DataConfig, progress: Progress) -> splits.Whole:
    """All of a folder, file or pattern: the reader of its kind."""
    name = path.name.lower()
    if path.is_dir():
        return _read_folder(path, config, progress)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return _read_shards(path, [Path(shard) for shard in webdataset.expand(str(path))], config, progress)
    if name.endswith(archives.ENDINGS):
        source = archives.open_archive(path, config.name_encoding)
        return images.read(source, lambda: _arrange_files(source, config), config, progress)
    if name.endswith(tables.ENDINGS):
        source = tables.open_tables(path)
        return images.read(source, lambda: tables.arrange_tables(source, config), config, progress)
    if name.endswith(lists.ENDINGS):
        source, layout = lists.open_list(path, config)
        return images.read(source, lambda: layout, config, progress)
    if name.endswith(arrays.ENDINGS):
        return arrays.read(path, config)
    raise InputError(f"{path} is no data set: it has to be a folder of images, {', '.join(_SUFFIXES)}")


_SUFFIXES = (*archives.ENDINGS, *arrays.ENDINGS, *tables.ENDINGS, *lists.ENDINGS)


def _read_folder(path: Path, config: DataConfig, progress: Progress) -> splits.Whole:
    """Tables, shards or images, whichever lies in it."""
    source = open_folder(path)
    files = [member.name for member in source.listing.members if not is_document(member.name)]
    inner = [name for name in files if name.lower().endswith(tables.ENDINGS)]
    if inner:
        _refuse_beside(path, files, inner, (".json",))
        source = tables.open_tables(path, inner)
        return images.read(source, lambda: tables.arrange_tables(source, config, inner), config, progress)
    inner = [name for name in files if ".tar" in Path(name).suffixes or name.lower().endswith(archives.ENDINGS)]
    if inner:
        _refuse_beside(path, files, inner, (".json",))
        return _read_shards(path, [path / name for name in sorted(inner)], config, progress)
    return images.read(source, lambda: _arrange_files(source, config), config, progress)


def _refuse_beside(path: Path, files: Sequence[str], used: Sequence[str], passed: tuple[str, ...]) -> None:
    """Make sure that tables or archives are all that a folder holds."""
    others = [name for name in files if name not in used and not name.lower().endswith(passed)]
    if others:
        raise InputError(f"{path} holds {shorten(used)} and also {shorten(others)}: give the path of one")


def _read_shards(path: Path, shards: list[Path], config: DataConfig, progress: Progress) -> splits.Whole:
    source = webdataset.open_shards(path, shards, config.name_encoding)
    return images.read(source, lambda: webdataset.arrange_samples(source, config, shards=True), config, progress)


def _arrange_files(source: Source, config: DataConfig) -> Layout:
    """Image files: by the samples of a WebDataset, by a metadata file, by folders."""
    if source.archive and webdataset.has_samples(source):
        return webdataset.arrange_samples(source, config, shards=False)
    return lists.metadata_layout(source, config) or arrange(source, config.folders)


def _looks_like_path(data: str) -> bool:
    return any(mark in data for mark in "/\\~") or data.startswith(".") or data.lower().endswith(_SUFFIXES)


def _name_of(path: Path) -> str:
    """``data/flowers.tar.gz`` → ``flowers``; ``train-{000..009}.tar`` → ``train``."""
    name = as_utf8(path.resolve().name)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return name.split("{")[0].rstrip("-_.") or path.resolve().parent.name
    suffixes = sorted((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len)
    return (name[: -len(suffixes[-1])] if suffixes and path.is_file() else name) or name
