"""A name or a path → the images of one split; and where the data of an earlier run lie now."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from softvq_cli.config import DataConfig
from softvq_cli.datasets import archive, arrays, images, lists, named, tables, vectors, webdataset
from softvq_cli.datasets.dataset import Dataset, part_of
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

_SUFFIXES = (*archive.ENDINGS, *arrays.ENDINGS, *tables.ENDINGS, *lists.ENDINGS)


def load(config: DataConfig, split: Split, *, reporter: Reporter | None = None) -> Dataset:
    """Load one split of the data set that ``config.data`` names.

    A known name is downloaded if it is missing. Image files are decoded the first time and mapped from the
    cache from then on. ``all`` is the train split and then the test split where the data has its own; else the
    rows in their own order, out of which train and test are drawn.

    Raises:
        UsageError: the name or the split is unknown.
        InputError: the data is missing, damaged or of no use.
        SoftVQError: it cannot be downloaded.
    """
    reporter = reporter or Reporter()
    if split not in SPLITS:
        raise UsageError(unknown_name("split", split, SPLITS))
    if is_address(config.data):
        raise UsageError("{data} {} is an address, and data are read on this machine: copy them first", config.data)
    path = path_of(config.data)
    if path is None and config.data not in names():
        raise UsageError(
            "{}; nor is there a file or folder of that name", unknown_name("data set", config.data, names())
        )
    if config.image_size is not None and (path is None or arrays.is_array(path)):
        raise UsageError("{image_size} is for folders and archives of images; {} is neither", config.data)
    if path is None:
        return _load_named(config, split, reporter)
    whole = dataclasses.replace(_read(path, config, reporter), name=_name_of(path))
    return part_of(whole, config, split)


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
    again: list[str] = []
    parts = [
        files.read(files, data, part, again.append) for part in (("train", "test") if split == "all" else (split,))
    ]
    pixels, labels = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    note = f"{shorten(again)}: packed again, so that only the shape and the number of each class could be checked"
    return Dataset(
        name, split, pixels, labels, files.class_names, notes=(*_namesake(name), *((note,) if again else ()))
    )


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
        return vectors.of_table(path, records(), *source.vectors())
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
    if name.endswith(lists.ENDINGS):
        listed = lists.ListSource(path, config)
        return listed, lambda: listed.records
    raise InputError(f"{path} is not a data set: it has to be a folder of images, {', '.join(_SUFFIXES)}")


def _opened_folder(path: Path, config: DataConfig) -> tuple[Source, Callable[[], Records]]:
    """Tables, archives or images, whichever lies in it."""
    source = open_folder(path)
    files = [name for name in source.listing.files.names if not is_document(name)]
    _refuse_kind(path, files)
    packed = [name for name in files if ".tar" in Path(name).suffixes or name.lower().endswith(archive.ENDINGS)]
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
_OTHERS = {
    (".h5", ".hdf5"): "read the arrays with h5py and save them with numpy.savez",
    (".7z", ".rar"): "unpack it and give the folder",
    (".tfrecord", ".tfrecords"): "write its images to files, or into a .tar as WebDataset has it",
    (".mdb", ".lmdb"): "write the images of the database to files, or into a .tar as WebDataset has it",
}


def _refuse_kind(path: Path, names: Sequence[str] | None = None) -> None:
    """Refuse what cannot be read with the way to read it."""
    for name in [path.name] if names is None else names:
        endings = {suffix.split("-")[0] for suffix in Path(name.lower()).suffixes}
        way = next((way for kinds, way in _OTHERS.items() if endings & {*kinds}), None)
        if way is not None:
            raise InputError(f"{path if names is None else path / name} is of a kind that is not read here: {way}")
    if names is None:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        with contextlib.suppress(OSError), open(path, "rb") as file:
            images.refuse_pointer(str(path), file.read(64))


def _opened_shards(path: Path, shards: list[Path], config: DataConfig) -> tuple[Source, Callable[[], Records]]:
    source = webdataset.Shards(path, shards, config.name_encoding)

    def records() -> Records:
        folders = any(name.count("/") > 1 for name in source.listing.files.names)
        if not folders or (all(map(webdataset.is_labelled_by_files, shards)) and webdataset.has_samples(source)):
            return webdataset.sample_records(source, config)
        source.as_folders()
        return arrange(source, config.folders)

    return source, records


def _arranged(source: Source, config: DataConfig) -> Records:
    """Image files: by the samples of a WebDataset, by a metadata file, by folders."""
    if source.archive and webdataset.is_labelled_by_files(source.path) and webdataset.has_samples(source):
        return webdataset.sample_records(source, config)
    return lists.metadata_records(source, config) or arrange(source, config.folders)


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

    Args:
        config: as the run has it.
        folder: of the run.
        was: the absolute path that the data had.
        fingerprint: of the training split; None: the first place will do.
        reporter: told of decoding, where several places have to be compared.

    Raises:
        InputError: there is none.
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
