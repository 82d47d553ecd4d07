"""A name or a path → the images of one split; and where the data of an earlier run lie now."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import archive, arrays, cache, folder, images, named, tables, vectors, webdataset
from softvq_cli.datasets.dataset import Dataset, blocks, part_of
from softvq_cli.datasets.fetch import fetch
from softvq_cli.datasets.folder import open_folder
from softvq_cli.datasets.layout import arrange
from softvq_cli.datasets.named import names
from softvq_cli.datasets.naming import is_document, role_of, shorten
from softvq_cli.datasets.records import Records, Source
from softvq_cli.errors import InputError, Message, SoftVQError, UsageError, unknown_name
from softvq_cli.files import as_utf8, is_address, on_disk
from softvq_cli.reporter import Reporter
from softvq_cli.words import SPLITS, Split

_SUFFIXES = (*archive.ENDINGS, *arrays.ENDINGS, *tables.ENDINGS, *folder.LISTS)


def load(config: DataConfig, split: Split, *, reporter: Reporter | None = None) -> Dataset:
    """Load one split of the data set that ``config.data`` names.

    A known name is downloaded if it is missing. Image files are decoded the first time and mapped from the
    cache from then on. ``all`` is the train split and then the test split where the data has its own; else the
    rows in their own order, out of which train and test are drawn.
    """
    reporter = reporter or Reporter()
    if split not in SPLITS:
        raise UsageError(unknown_name("split", split, SPLITS))
    path = place_of(config.data)
    if config.image_size is not None and (path is None or arrays.is_array(path)):
        raise UsageError("{image_size} is for folders and archives of images; {} is neither", config.data)
    if path is None:
        return _load_named(config, split, reporter)
    whole = dataclasses.replace(_read(path, config, reporter), name=_name_of(path))
    return part_of(whole, config, split)


def place_of(data: str) -> Path | None:
    """As :func:`path_of`, but what is neither a known name nor a path is refused (UsageError)."""
    if is_address(data):
        raise UsageError("{data} {} is an address, and data are read on this machine: copy them first", data)
    path = path_of(data)
    if path is None and data not in names():
        raise UsageError("{}; nor is there a file or folder of that name", unknown_name("data set", data, names()))
    return path


def path_of(data: str) -> Path | None:
    """The file, folder or pattern that ``data`` means, or None if it is a name. A known name wins over a file."""
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


def _looks_like_path(data: str) -> bool:
    return any(mark in data for mark in "/\\~") or data.startswith(".") or data.lower().endswith(_SUFFIXES)


def _name_of(path: Path) -> str:
    """``data/flowers.tar.gz`` → ``flowers``; ``train-{000..009}.tar`` → ``train``."""
    name = as_utf8(path.resolve().name)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return name.split("{")[0].rstrip("-_.") or path.resolve().parent.name
    suffixes = sorted((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len)
    return (name[: -len(suffixes[-1])] if suffixes and path.is_file() else name) or name


def _load_named(config: DataConfig, split: Split, reporter: Reporter) -> Dataset:
    name = config.data
    if name == named.DIGITS:
        pixels, labels = named.read_digits()
        return part_of(Dataset(name, "all", pixels, labels, named.DIGIT_NAMES, notes=_namesake(name)), config, split)
    files, data = named.NAMED[name], named.data_folder(config.data_dir)
    if any(files.find(data, file) is None for file in files.files):
        try:
            fetch(name, data, reporter)
        except SoftVQError as error:
            raise SoftVQError("{} is not in {}, and {}", name, data, error.message) from error
    parts = [files.read(files, data, part) for part in (("train", "test") if split == "all" else (split,))]
    pixels, labels = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    return Dataset(name, split, pixels, labels, files.class_names, notes=_namesake(name))


def _namesake(name: str) -> tuple[str, ...]:
    """A note where a file or folder is called as a known data set."""
    if not Path(name).exists():
        return ()
    return (Message("this is the known data set; the path of that name is read by {data} {}", f"./{name}"),)


# ---- paths


def _read(path: Path, config: DataConfig, reporter: Reporter) -> Dataset:
    """All images of a folder, file or pattern."""
    if arrays.is_array(path):
        return arrays.read(path, config)
    if path.name.lower().endswith((".csv", ".tsv")) and path.is_file():
        of_vectors = vectors.read_csv(path, config)
        if of_vectors is not None:
            return of_vectors
    source, records = _opened(path, config)
    if isinstance(source, tables.TableSource) and source.of_vectors():
        key = cache.key_of("vectors", source.stamp, tables.chosen_columns(config))
        return vectors.of_table(path, records(), *source.vectors(), key)
    return images.read(source, records, config, reporter)


def _opened(path: Path, config: DataConfig) -> tuple[Source, Callable[[], Records]]:
    """Where the files are, and what finds the images among them: the reader of its kind."""
    name = path.name.lower()
    if path.is_dir():
        return _opened_folder(path, config)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return _opened_shards(path, [Path(shard) for shard in webdataset.expand(str(path))], config)
    _refuse_kind(path)
    if name.endswith(archive.ENDINGS):
        source = archive.open_archive(path, config.name_encoding)
        return source, lambda: _arranged(source, config)
    if name.endswith(tables.ENDINGS):
        table = tables.TableSource(path, config)
        return table, table.records
    if name.endswith(folder.LISTS):
        listed = folder.ListSource(path, config)
        return listed, lambda: listed.records
    raise InputError(f"{path} is not a data set: it has to be a folder of images, {', '.join(_SUFFIXES)}")


def _opened_folder(path: Path, config: DataConfig) -> tuple[Source, Callable[[], Records]]:
    """Tables, archives or images, whichever lies in it."""
    source = open_folder(path)
    files = [name for name in source.listing.files.names if not is_document(name)]
    _refuse_kind(path, files)
    packed = [name for name in files if name.lower().endswith(archive.ENDINGS) or ".tar." in name]
    stems = {name.split(".tar")[0] for name in packed}
    of_shards = {name for name in files if name.rpartition(".")[0].removesuffix("_stats") in stems} - {*packed}
    files = [name for name in files if name not in of_shards]  # what img2dataset writes next to its shards
    inner = [name for name in files if name.lower().endswith(tables.ENDINGS)]
    if not inner and not packed:
        return source, lambda: _arranged(source, config)
    used = sorted(inner or packed)
    others = [name for name in files if name not in used and not name.lower().endswith(".json")]
    if others:
        raise InputError(f"{path} holds {shorten(used)} and also {shorten(others)}: give the path of one")
    _refuse_pooling(path, used)
    if packed:
        return _opened_shards(path, [path / name for name in used], config)
    table = tables.TableSource(path, config, used)
    return table, table.records


def _refuse_pooling(path: Path, names: Sequence[str]) -> None:
    """Refuse tables or archives that do not belong together: configurations, classes, a second download."""
    again = next((name for name in names if (copy := _COPY.sub(r"\1", name)) != name and copy in names), None)
    if again is not None:
        raise InputError(f"{path}: {again} is a second download of a file that is here; remove one of them")
    folders = {"/".join(part for part in name.split("/")[:-1] if role_of(part) is None) for name in names}
    if len(folders) > 1:
        raise InputError(
            f"{path} holds tables or archives in several folders, {shorten(sorted(folders))}, which may be "
            "configurations or classes: give the path of one"
        )


_COPY = re.compile(r" ?\(\d+\)(\.[^/]+)$")
_WAYS = {
    **dict.fromkeys(("h5", "hdf5"), "read the arrays with h5py and save them with numpy.savez"),
    **dict.fromkeys(("7z", "rar"), "unpack it and give the folder"),
    **dict.fromkeys(("tfrecord", "tfrecords"), "write its images to files, or into a .tar as WebDataset has it"),
    **dict.fromkeys(("mdb", "lmdb"), "write the images of the database to files, or into a .tar as WebDataset has it"),
}
"""Endings of what is not read here → the way to read it."""


def _refuse_kind(path: Path, names: Sequence[str] | None = None) -> None:
    """Refuse what cannot be read, with the way to read it."""
    for name in [path.name] if names is None else names:
        for suffix in name.rpartition("/")[2].lower().split(".")[1:]:
            way = _WAYS.get(suffix.partition("-")[0])
            if way is not None:
                where = path if names is None else path / name
                raise InputError(f"{where} is of a kind that is not read here: {way}")
    if names is None:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        with contextlib.suppress(OSError), open(path, "rb") as file:
            images.refuse_pointer(str(path), file.read(64))


def _opened_shards(path: Path, shards: list[Path], config: DataConfig) -> tuple[Source, Callable[[], Records]]:
    source = webdataset.Shards(path, shards, config.name_encoding)

    def records() -> Records:
        folders = any(name.count("/") > 1 for name in source.listing.files.names)
        of_files = all(map(webdataset.is_labelled_by_files, shards))
        samples = webdataset.samples_of(source, doubt=folders) if of_files or not folders else None
        if samples is not None:
            return webdataset.sample_records(source, samples, config)
        source.as_folders()
        return arrange(source, config.folders)

    return source, records


def _arranged(source: Source, config: DataConfig) -> Records:
    """Image files: by the samples of a WebDataset, by a metadata file, by folders."""
    if source.archive and webdataset.is_labelled_by_files(source.path):
        samples = webdataset.samples_of(source, doubt=True)
        if samples is not None:
            return webdataset.sample_records(source, samples, config)
    return folder.metadata_records(source, config) or arrange(source, config.folders)


# ---- folders are moved, and commands are called from elsewhere


def find(
    config: DataConfig,
    folder: Path,
    *,
    was: str | None,
    fingerprint: str | None,
    reporter: Reporter | None = None,
) -> DataConfig:
    """``config`` with the place where its data lie now: as it stands there, else next to the run, else where they were.

    Of several places, the one whose training split has the fingerprint; if none has, the first.
    """
    if config.data in names():
        return config
    places = [dataclasses.replace(config, data=place) for place in _places(config.data, folder, was)]
    if not places:
        raise InputError(
            "the run in {} was trained on {}, which is neither here nor next to it{}; say where it is with {data}",
            *(folder, config.data, "" if was is None else f" nor at {was}"),
        )
    if len(places) == 1 or fingerprint is None:
        return places[0]
    splits = ((place, load(place, "train", reporter=reporter)) for place in places)
    return next((place for place, split in splits if split.fingerprint == fingerprint), places[0])


def _places(data: str, folder: Path, was: str | None) -> Iterator[str]:
    """Where such a path leads to something, each place once."""
    relative = not os.path.isabs(data) and not data.startswith("~")
    near = [str(parent / on_disk(data)) for parent in folder.resolve().parents] if relative else []
    seen: set[Path] = set()
    for place in (data, *near, *([] if was is None else [was])):
        try:
            path = path_of(place)
        except InputError:
            continue
        if path is None or path.resolve() in seen or folder.resolve().is_relative_to(path.resolve()):
            continue  # a run that is called as its data is not the data
        seen.add(path.resolve())
        yield place


# ---- the data in numbers


@dataclass(frozen=True)
class Overview:
    """Counts and what is odd."""

    name: str
    image_shape: tuple[int, ...]
    counts: dict[str, int]
    """Images of the training and of the test split."""
    classes: dict[str, dict[str, int]]
    """Class → split → images; empty without labels."""
    drawn: bool
    """The test split was drawn; the data have none of their own."""
    pixels: tuple[float, float]
    """The smallest and the largest, of 0 to 255; of vectors the smallest and the largest number."""
    pixel_range: str | None
    """The values that became 0 and 255; None: the images were bytes."""
    duplicates: int
    """Images that are equal to one before them in the same split."""
    shared: int
    """Images of the test split that are in the training split too."""
    constant: int
    """Images of one value all over, or vectors of one number."""
    fingerprints: dict[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"notes": [*map(str, self.notes)]}


def look(config: DataConfig, reporter: Reporter | None = None) -> tuple[Overview, Dataset, Dataset]:
    """Both splits and what they hold in numbers; raises as :func:`softvq_cli.datasets.load`."""
    train, test = load(config, "train", reporter=reporter), load(config, "test", reporter=reporter)
    splits: dict[str, Dataset] = {"train": train, "test": test}
    classes: dict[str, dict[str, int]] = {}
    for name, split in splits.items():
        if split.labels is not None:
            counts = np.bincount(split.labels, minlength=len(split.class_names)).tolist()
            for class_name, count in zip(split.class_names, counts, strict=True):
                classes.setdefault(class_name, {})[name] = count
    numbers = [_numbers_of(split) for split in splits.values()]
    trained, tested = (each.digests for each in numbers)
    kind = float if train.of_vectors else int
    overview = Overview(
        name=train.name,
        image_shape=train.image_shape,
        counts={name: len(split) for name, split in splits.items()},
        classes=classes,
        drawn=train.drawn,
        pixels=(kind(min(each.low for each in numbers)), kind(max(each.high for each in numbers))),
        pixel_range=train.pixel_range,
        duplicates=sum(len(digests) - len(set(digests)) for digests in (trained, tested)),
        shared=sum(map(set(trained).__contains__, tested)),
        constant=sum(each.constant for each in numbers),
        fingerprints={name: split.fingerprint for name, split in splits.items()},
        notes=train.notes,
    )
    return overview, train, test


class _Numbers(NamedTuple):
    """What one pass over a split tells."""

    low: float
    high: float
    constant: int
    digests: list[bytes]


def _numbers_of(split: Dataset) -> _Numbers:
    low, high, constant, digests = math.inf, -math.inf, 0, []
    for block in blocks(split.images):
        rows = np.ascontiguousarray(block)
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
        first = rows[:, :1] if split.of_vectors else rows[:, :1, :1]
        constant += int((rows == first).reshape(len(rows), -1).all(axis=1).sum())
        digests += [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
    return _Numbers(low, high, constant, digests)
