"""A folder, .zip or .tar of image files → arrays, decoded once and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from softvq_cli.datasets import cache
from softvq_cli.datasets.archives import TAR, ZIP
from softvq_cli.datasets.decode import ColourError, Form, Item, decode, form_of
from softvq_cli.datasets.folders import FOLDER
from softvq_cli.datasets.layout import Layout, arrange
from softvq_cli.datasets.progress import Progress
from softvq_cli.datasets.sources import Listing, Source
from softvq_cli.datasets.splits import Whole

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""How the name of an archive ends."""


def read(path: Path, image_size: int | None, progress: Progress) -> Whole:
    """Every image below ``path``.

    Args:
        path: a folder or an archive.
        image_size: scale and crop to this many pixels a side; None: they have to agree.
        progress: told as the images are decoded.

    Raises:
        InputError: the folder or archive, its layout or one of its files cannot be used.
    """
    source = FOLDER if path.is_dir() else ZIP if path.name.lower().endswith(".zip") else TAR
    listing = source.list(path) if source is FOLDER else None
    key = cache.key_of("images", os.path.abspath(path), _stamp(path, listing), image_size)
    kept = _from_cache(key)
    if kept is not None:
        return kept
    layout = arrange(listing or source.list(path), str(path), archive=source is not FOLDER)
    images = _decode(path, source, layout, progress, image_size=image_size, key=key)
    notes = {
        "labels": layout.labels,
        "class_names": layout.class_names,
        "file_names": [member.name for member in layout.members],
        "train": layout.train,
    }
    cache.write_notes(key, notes)
    return _whole(key, images, notes)


def _stamp(path: Path, listing: Listing | None) -> list[tuple[str, int, int]]:
    """What changes when the images do: names, sizes and times."""
    if listing is not None:
        return sorted((member.name, member.size, member.mtime_ns) for member in listing.members)
    status = path.stat()
    return [("", status.st_size, status.st_mtime_ns)]


def _decode(
    path: Path, source: Source, layout: Layout, progress: Progress, *, image_size: int | None, key: str
) -> np.ndarray:
    """uint8 (N, H, W, C), train rows first."""
    count, size = len(layout.members), sum(member.size for member in layout.members)
    # The first in reading order: in a compressed tar any other one would cost a pass over the file.
    _, name, data = next(_items(path, source, layout))
    form = form_of(name, data, image_size)

    def attempt(form: Form) -> np.ndarray:
        def tick(done: int) -> None:
            progress(f"decoding {path.name}", done, count)

        def fill(put: cache.Put) -> None:
            decode(_items(path, source, layout), form, put, count=count, size=size, tick=tick)

        return cache.store(key, (count, form.height, form.width, form.channels), fill)

    try:
        return attempt(form)
    except ColourError:
        return attempt(replace(form, channels=3))


def _items(path: Path, source: Source, layout: Layout) -> Iterator[Item]:
    for row, data in source.read(path, layout.members):
        yield row, f"{path}/{layout.members[row].name}", data


def _from_cache(key: str) -> Whole | None:
    images, notes = cache.find(key), cache.read_notes(key)
    if images is None or notes is None or len(notes["file_names"]) != len(images):
        return None
    return _whole(key, images, notes)


def _whole(key: str, images: np.ndarray, notes: dict[str, Any]) -> Whole:
    labels = notes["labels"]
    return Whole(
        key=key,
        images=images,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        class_names=tuple(notes["class_names"]),
        file_names=tuple(notes["file_names"]),
        train=notes["train"],
    )
