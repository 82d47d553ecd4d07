"""Load the images of one split from a name or a path, and find the data of earlier runs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import archive, arrays, cache, folder, images, named, tables, vectors, webdataset
from softvq_cli.datasets.dataset import Dataset, blocks, digests, part_of
from softvq_cli.datasets.fetch import fetch
from softvq_cli.datasets.layout import arrange
from softvq_cli.datasets.named import names
from softvq_cli.datasets.naming import USUAL, check_alike, is_document, shorten, stem_of
from softvq_cli.datasets.records import Records, Source
from softvq_cli.errors import InputError, Message, SoftVQError, UsageError, unknown_name
from softvq_cli.files import as_utf8, is_address, on_disk
from softvq_cli.reporter import Reporter
from softvq_cli.words import SPLITS, Split

_SUFFIXES = (*archive.ENDINGS, *arrays.ENDINGS, *tables.ENDINGS, *folder.LISTS)


def load(config: DataConfig, split: Split, *, reporter: Reporter | None = None) -> Dataset:
    """Load one split of the data set ``config.data``.

    A named data set is downloaded if it is missing. Image files are decoded on first use and then memory-mapped from
    the cache. ``all`` is the train split followed by the test split if the data have both; otherwise the rows in their
    original order, from which train and test are drawn.
    """
    if split not in SPLITS:
        raise UsageError(unknown_name("split", split, SPLITS))
    return next(_load(config, [split], reporter or Reporter()))


LARGEST_SIDE, REDUCED_SIDE = 96, 64
"""Image files with a side above the first value (pixels) are reduced to the second, unless a size is given."""


def load_for_training(config: DataConfig, reporter: Reporter) -> tuple[DataConfig, Dataset]:
    """The training split, and the settings with which all else is read: large image files are reduced, with a note."""
    dataset = load(config, "train", reporter=reporter)
    height, width, *_ = (*dataset.image_shape, 1)
    if dataset.of_vectors or config.image_size is not None or max(height, width) <= LARGEST_SIDE:
        return config, dataset
    if dataset.file_names is None:
        reporter.note(f"{dataset.name}: the images of an array are trained at {width}x{height}, which takes long")
        return config, dataset
    size = f"{REDUCED_SIDE}x{REDUCED_SIDE}"
    note = "{}: images of {}x{} are trained at {}; {image_size} {} keeps more of them and takes longer"
    reporter.note(Message(note, dataset.name, width, height, size, max(height, width)))
    config = dataclasses.replace(config, image_size=REDUCED_SIDE)
    return config, load(config, "train", reporter=reporter)


def _load(config: DataConfig, splits: Sequence[Split], reporter: Reporter) -> Iterator[Dataset]:
    """Yield several splits, reading the data once."""
    path = place_of(config.data)
    if config.image_size is not None and (path is None or arrays.is_array(path)):
        raise UsageError("{image_size} is for folders and archives of images; {} is neither", config.data)
    if path is None:
        yield from (_load_named(config, split, reporter) for split in splits)
        return
    whole = dataclasses.replace(_read(path, config, reporter), name=_name_of(path))
    if whole.of_vectors and config.image_shape is not None:
        raise UsageError("{} holds vectors; rows that are images need numpy.save and {image_shape}", whole.name)
    if whole.of_vectors and config.pixel_range != DataConfig.pixel_range:
        raise UsageError("{pixel_range} is for images, but {} holds vectors", whole.name)
    yield from (part_of(whole, config, split) for split in splits)


def place_of(data: str) -> Path | None:
    """The same as :func:`path_of`, but raises UsageError if ``data`` is neither a known name nor a path."""
    if is_address(data):
        raise UsageError("{data} {} is an address, and data are read on this machine: copy them first", data)
    path = path_of(data)
    if path is None and data not in names():
        raise UsageError("{}; nor is there a file or folder of that name", unknown_name("data set", data, names()))
    return path


def path_of(data: str) -> Path | None:
    """The file, folder or pattern ``data``; None for a known name, which takes precedence over a file."""
    if data in names():
        return None
    try:
        path = Path(on_disk(data)).expanduser()
        if webdataset.is_pattern(data) and not path.exists():
            return path
        path.stat()
        return path if data else None
    except (OSError, ValueError, RuntimeError) as error:  # no such file; a zero byte; no such user
        like_a_path = any(mark in data for mark in "/\\~") or data.startswith(".") or data.lower().endswith(_SUFFIXES)
        if not like_a_path:
            return None
        raise InputError(f"cannot read {data!r}: {getattr(error, 'strerror', None) or error}") from error


def _name_of(path: Path) -> str:
    """``data/flowers.tar.gz`` → ``flowers``; ``train-{000..009}.tar`` → ``train``."""
    name = as_utf8(path.resolve().name)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return name.split("{")[0].rstrip("-_.") or path.resolve().parent.name
    suffix = max((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
    return (name.removesuffix(name[len(name) - len(suffix) :]) if path.is_file() else name) or name


def _load_named(config: DataConfig, split: Split, reporter: Reporter) -> Dataset:
    name = config.data
    notes: tuple[str, ...] = ()
    if Path(name).exists():
        notes = (Message("this is the known data set; the path of that name is read by {data} {}", f"./{name}"),)
    if name == named.DIGITS:
        pixels, labels = named.read_digits()
        return part_of(Dataset(name, "all", pixels, labels, named.DIGIT_NAMES, notes=notes), config, split)
    files, data = named.NAMED[name], named.data_folder(config.data_dir)
    if any(files.find(data, file) is None for file in files.files):
        try:
            fetch(name, data, reporter)
        except SoftVQError as error:
            raise SoftVQError("{} is not in {}, and {}", name, data, error.message) from error
    parts = [files.read(files, data, part) for part in (("train", "test") if split == "all" else (split,))]
    pixels, labels = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    return Dataset(name, split, pixels, labels, files.class_names, notes=notes)


# ---- paths


def _read(path: Path, config: DataConfig, reporter: Reporter) -> Dataset:
    """Read all images or vectors of a folder, file or pattern, by the reader of its kind."""
    if arrays.is_array(path):
        return arrays.read(path, config)
    if path.is_dir():
        return _read_folder(path, config, reporter)
    if webdataset.is_pattern(str(path)) and not path.exists():
        return _read_shards(path, [Path(shard) for shard in webdataset.expand(str(path))], config, reporter)
    return _read_file(path, config, reporter)


def _read_file(path: Path, config: DataConfig, reporter: Reporter) -> Dataset:
    if not path.is_file():
        raise InputError(f"{path} is not a regular file")
    _refuse_kind(path, path.stat().st_size)
    name = path.name.lower()
    if name.endswith(tables.ENDINGS):
        return _read_tables(tables.TableSource(path, config), config, reporter)
    if name.endswith(archive.ENDINGS):
        return _read_files(archive.open_archive(path, config.name_encoding), config, reporter)
    if not name.endswith(folder.LISTS):
        raise InputError(f"{path} is not a data set: it has to be a folder of images, {', '.join(_SUFFIXES)}")
    of_vectors = None if name.endswith(".jsonl") else vectors.read_csv(path, config)
    if of_vectors is not None:
        return of_vectors
    source, records = folder.open_list(path, config)
    return images.read(source, lambda: records, config, reporter)


def _read_files(source: Source, config: DataConfig, reporter: Reporter) -> Dataset:
    """Read a folder or archive of images: by WebDataset samples, by a metadata file, or by folders."""

    def records() -> Records:
        if source.archive and not source.path.name.lower().endswith(".zip"):  # a .zip is treated like its folder
            samples = webdataset.samples_of(source, doubt=True)
            if samples is not None:
                return webdataset.sample_records(source, samples, config)
        return folder.metadata_records(source, config) or arrange(source, config.folders)

    return images.read(source, records, config, reporter)


def _read_tables(source: tables.TableSource, config: DataConfig, reporter: Reporter) -> Dataset:
    if source.of_vectors():
        key = cache.key_of("vectors", source.stamp, tables.chosen_columns(config))
        whole = vectors.of_table(source.path, source.division(), *source.vectors(), key)
    else:
        whole = images.read(source, source.records, config, reporter)
    return whole if len(source.names) == 1 else _with_repeats(whole)


def _read_folder(path: Path, config: DataConfig, reporter: Reporter) -> Dataset:
    source = folder.open_folder(path)
    source.stamp += "".join(sorted(source.hidden))  # a note names these files
    others = [name for name in source.files.names if not name.endswith(USUAL) and not is_document(name)]
    for name, size in zip(source.files.names, source.files.sizes.tolist(), strict=True):
        if not name.endswith(USUAL):
            _refuse_kind(path / name, size)
    packed = [name for name in others if name.lower().endswith(archive.ENDINGS) or ".tar." in name]
    stems = {name.split(".tar")[0] for name in packed}  # files that img2dataset writes next to its shards
    others = [name for name in others if name in packed or name.rpartition(".")[0].removesuffix("_stats") not in stems]
    inner = [name for name in others if name.lower().endswith(tables.ENDINGS)]
    if not inner and not packed:
        return _read_files(source, config, reporter)
    used = sorted(inner or packed)
    rest = [name for name in source.files.names if name.endswith(USUAL)]
    rest += [name for name in others if name not in used and not name.lower().endswith(".json")]
    if rest:
        raise InputError(f"{path} holds {shorten(used)} and also {shorten(rest)}: give the path of one")
    _refuse_copies(path, used)
    if packed:
        return _read_shards(path, [path / name for name in used], config, reporter)
    return _read_tables(tables.TableSource(path, config, used), config, reporter)


def _refuse_copies(path: Path, names: Sequence[str]) -> None:
    """Refuse tables or archives that are a second download or another form of one that is here."""
    known: dict[str, str] = {}
    for name in names:
        first = known.setdefault(_COPY.sub(r"\1", stem_of(name).lower()), name)
        if first != name:
            raise InputError(f"{path}: {first} and {name} may be the same file; remove one of them")


_COPY = re.compile(r"(-of-\d+)[ ._-]\d+$|(?: ?\(\d+\)| - copy| copy)$")
"""What a second download of a file has at the end of its name."""
_WAYS = {
    **dict.fromkeys(("h5", "hdf5"), "read the arrays with h5py and save them with numpy.savez"),
    **dict.fromkeys(("7z", "rar"), "unpack it and give the folder"),
    **dict.fromkeys(("tfrecord", "tfrecords"), "write its images to files, or into a .tar as WebDataset has it"),
    **dict.fromkeys(("mdb", "lmdb"), "write the images of the database to files, or into a .tar as WebDataset has it"),
}
"""Suffixes of unsupported formats → how to convert them."""


_SUFFIX = re.compile(r"\.([a-z0-9]+)(?:-\d+-of-\d+)?(?:\.\d+|\.gz)?$")
"""The last suffix of a file that may be a part of several."""


def _refuse_kind(path: Path, size: int) -> None:
    """Refuse an unsupported format, and a Git LFS pointer of any format."""
    suffix = _SUFFIX.search(path.name.lower())
    if suffix and suffix[1] in _WAYS:
        raise InputError(f"{path} is of a kind that is not read here: {_WAYS[suffix[1]]}")
    if size <= 1024:  # as pointers are, so that not every image is opened
        with contextlib.suppress(OSError):
            images.refuse_pointer(str(path), path.read_bytes())


def _read_shards(path: Path, shards: list[Path], config: DataConfig, reporter: Reporter) -> Dataset:
    source = webdataset.Shards(path, shards, config.name_encoding)

    def records() -> Records:
        folders = any("/" in name for name in source.inner_names())
        zips = any(shard.name.lower().endswith(".zip") for shard in shards)
        samples = None if zips and folders else webdataset.samples_of(source, doubt=folders or source.differ)
        if samples is not None:
            if not source.chosen:
                check_alike(path, source.shards, source.roles)
            return webdataset.sample_records(source, samples, config)
        source.as_folders()
        return arrange(source, config.folders)

    return _with_repeats(images.read(source, records, config, reporter))


def _with_repeats(pooled: Dataset) -> Dataset:
    """Add a note on equal rows of several files: a file or a configuration may be there twice, under any name."""

    def repeats() -> int:
        rows = [digest for block in blocks(pooled.images) for digest in digests(block)]
        train = pooled.train or 0
        return len(rows) - len(set(rows[:train])) - len(set(rows[train:]))

    count = pooled.remembered("repeats", repeats)
    text = f"{count} of {len(pooled)} rows of these files are equal to an earlier one of the same split"
    return dataclasses.replace(pooled, notes=(*pooled.notes, text)) if count else pooled


# ---- data that were moved, or are addressed from another folder


def find(
    config: DataConfig,
    folder: Path,
    *,
    was: str | None,
    fingerprint: str | None,
    reporter: Reporter | None = None,
) -> DataConfig:
    """``config`` with the current location of its data: as stated, or else next to the run, or else the old location.

    Of several locations, the one whose training split has the fingerprint; if none has it, the first.
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
    """Yield the existing locations for the path, each once."""
    relative = not os.path.isabs(data) and not data.startswith("~")
    near = [str(parent / on_disk(data)) for parent in folder.resolve().parents] if relative else []
    seen: set[Path] = set()
    for place in (data, *near, *([] if was is None else [was])):
        with contextlib.suppress(InputError):
            path = path_of(place)
            if path is None or path.resolve() in seen or folder.resolve().is_relative_to(path.resolve()):
                continue  # a run with the same name as its data is not the data
            seen.add(path.resolve())
            yield place


# ---- statistics of the data


@dataclass(frozen=True)
class Overview:
    """Statistics and problems of a data set."""

    name: str
    image_shape: tuple[int, ...]
    counts: dict[str, int]
    """Number of images in the training and test split."""
    classes: dict[str, dict[str, int]]
    """Class → split → number of images; empty without labels."""
    drawn: bool
    """Whether the test split was drawn because the data have none."""
    pixels: tuple[float, float]
    """The smallest and the largest pixel, from 0 to 255; for vectors, the smallest and the largest number."""
    pixel_range: str | None
    """The values that were mapped to 0 and 255; None: the images were 8-bit."""
    duplicates: int
    """Number of images equal to an earlier one in the same split."""
    shared: int
    """Number of images in the test split that are also in the training split."""
    constant: int
    """Number of constant images, in which all pixels are equal, or constant vectors."""
    fingerprints: dict[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self) | {"notes": [*map(str, self.notes)]}


def look(config: DataConfig, reporter: Reporter | None = None) -> tuple[Overview, Dataset, Dataset]:
    """Both splits and their statistics; raises the errors of :func:`softvq_cli.datasets.load`."""
    train, test = _load(config, ("train", "test"), reporter or Reporter())
    splits: dict[str, Dataset] = {"train": train, "test": test}
    classes: dict[str, dict[str, int]] = {}
    low, high, constant, hashes = math.inf, -math.inf, 0, dict[str, list[bytes]]()
    for name, split in splits.items():
        if split.labels is not None:
            counts = np.bincount(split.labels, minlength=len(split.class_names)).tolist()
            for class_name, count in zip(split.class_names, counts, strict=True):
                classes.setdefault(class_name, {})[name] = count
        hashes[name] = []
        for block in blocks(split.images):
            rows = np.ascontiguousarray(block)
            low, high = min(low, float(rows.min())), max(high, float(rows.max()))
            first = rows[:, :1] if split.of_vectors else rows[:, :1, :1]
            constant += int((rows == first).reshape(len(rows), -1).all(axis=1).sum())
            hashes[name] += digests(rows)
    number = float if train.of_vectors else int
    overview = Overview(
        name=train.name,
        image_shape=train.image_shape,
        counts={name: len(split) for name, split in splits.items()},
        classes=classes,
        drawn=train.drawn,
        pixels=(number(low), number(high)),
        pixel_range=train.pixel_range,
        duplicates=sum(len(part) - len(set(part)) for part in hashes.values()),
        shared=sum(map(set(hashes["train"]).__contains__, hashes["test"])),
        constant=constant,
        fingerprints={name: split.fingerprint for name, split in splits.items()},
        notes=train.notes,
    )
    return overview, train, test
