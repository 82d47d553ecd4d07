"""Encoded images from any source to arrays, decoded once and cached."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, decode, pixel_range
from softvq_cli.datasets.dataset import Dataset, Lazy, training_rows
from softvq_cli.datasets.pixel_range import DeepError, Tally
from softvq_cli.datasets.records import Records, Source, fetch_from
from softvq_cli.errors import InputError, Message, message_as_json, message_from_json
from softvq_cli.files import reading
from softvq_cli.reporter import Reporter

_READING = ("image_size", "folders", "pages", "image_column", "label_column", "split_column", "name_encoding")
"""Settings, other than the value range, that determine the rows and their pixels."""
Items = Iterable[decode.Item]


def read(source: Source, arrange: Callable[[], Records], config: DataConfig, reporter: Reporter) -> Dataset:
    """Read all images of ``source``, from the cache if possible; ``arrange`` is only called if not."""
    reading = _Reading(source, arrange, config, reporter)
    settings = {name: getattr(config, name) for name in _READING}
    base = cache.key_of("images", PIL.__version__, source.stamp, source.archive, settings)
    scale = pixel_range.scale_of(config.pixel_range)
    dataset = reading.from_cache(cache.key_of(base, scale))
    if dataset is not None:
        return dataset
    extents = cache.read_notes(cache.key_of(base, "extents")) if scale == "auto" else None
    if extents is None:
        try:
            return reading.decoded(cache.key_of(base, scale), scale, None)
        except DeepError:
            extents = reading.extents()
            cache.write_notes(cache.key_of(base, "extents"), extents)
    scale, note = _range_of(config, *extents)
    key = cache.key_of(base, scale, "auto")
    return reading.from_cache(key) or reading.decoded(key, scale, note)


def regular(path: Path) -> Path:
    """``path``, unless it is a pipe or a device, which may never end, or a Git LFS pointer (InputError)."""
    if not path.is_file():
        raise InputError(f"{path} is not a regular file")
    with reading(path, "a data file"), open(path, "rb") as file:
        refuse_pointer(str(path), file.read(64))
    return path


def refuse_pointer(name: str, data: bytes) -> None:
    """Refuse a Git LFS pointer, which replaces a file that was not downloaded."""
    if data.startswith(b"version https://git-lfs"):
        raise InputError(f"{name} is a Git LFS pointer, not the file: fetch it with git lfs pull")


@dataclass(frozen=True)
class _Reading:
    """The images to decode."""

    source: Source
    arrange: Callable[[], Records]
    config: DataConfig
    reporter: Reporter

    @cached_property
    def records(self) -> Records:
        """The images; listing them may take long."""
        return _pages(self.source, self.arrange(), self.config)

    def items(self, rows: Iterable[int] | None = None) -> Iterator[decode.Item]:
        """Yield each image of each file, or those of some rows, in the fastest order."""
        records, pages, places = self.records, self.records.pages, self.records.places.tolist()
        by_place: dict[int, list[int]] = {}
        for row in range(len(places)) if rows is None else rows:
            by_place.setdefault(places[row], []).append(row)
        files = list(by_place.values())  # each file is read once, even if it has several rows
        for index, data in self.source.read(records.take([same[0] for same in files])):
            refuse_pointer(f"{self.source.path}/{records.names[files[index][0]]}", data)
            for row in files[index]:
                yield row, f"{self.source.path}/{records.names[row]}", data, pages[row] if pages else 0

    def values(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The numbers of the images of these rows."""
        return map(decode.values, self.items(rows.tolist()))

    def work(self, stage: str) -> dict[str, Any]:
        """The arguments for progress: the amount of work and the function to call."""
        count, name = len(self.records), self.source.path.name
        tick = partial(self.reporter.progress, f"{stage} {name}")
        return {"count": count, "size": int(self.records.sizes.sum()), "tick": lambda done: tick(done, count)}

    def extents(self) -> list[Any]:
        """[value range of each image, its label, number of train images], from which the range of any split follows."""
        records = self.records
        extents = decode.extents(self.items(), **self.work("measuring"))
        return [extents, None if records.labels is None else records.labels.tolist(), records.train]

    def decoded(self, key: str, scale: pixel_range.Scale, note: str | None) -> Dataset:
        """Decode all images and cache them with notes; ``note`` is about a value range that was determined."""
        records, pages = self.records, self.config.pages
        images, tally, form = self._decode(key, scale)
        if note is not None and isinstance(scale, tuple):
            rows = training_rows(len(records), records.labels, records.train, self.config)
            pixel_range.check_contrast(str(self.source.path), images, rows, scale, self.values)
        notes = [*records.notes, *([note] if note else []), *pixel_range.notes_of(tally, len(images), pages)]
        if note is None and isinstance(scale, tuple):
            notes.append(pixel_range.described("pixels", scale, self.config.pixel_range))
        facts = {
            "labels": None if records.labels is None else records.labels.tolist(),
            "class_names": records.class_names,
            "file_names": records.names,
            "train": records.train,
            "notes": [message_as_json(note) for note in notes],
            "pixel_range": pixel_range.text_of(scale) if isinstance(scale, tuple) else None,
            "form": dataclasses.asdict(form),
        }
        cache.write_notes(key, facts)
        return _dataset(key, images, facts)

    def _decode(self, key: str, scale: pixel_range.Scale) -> tuple[Any, Tally, decode.Form]:
        """uint8 (N, H, W, C), train rows first; the counted conversions; and the common form."""
        # The first image in reading order, because any other would need a pass over a compressed tar.
        _, name, data, page = next(self.items())
        first, size = decode.read_image(name, data, scale, page), self.config.image_size
        height, width = (size, size) if size is not None else first.shape[:2]
        form = decode.Form(height, width, 1 if first.ndim == 2 else 3, size is not None, name, scale)
        try:
            return self._decode_as(key, form)
        except decode.ColourError:
            return self._decode_as(key, dataclasses.replace(form, channels=3))

    def _decode_as(self, key: str, form: decode.Form) -> tuple[Any, Tally, decode.Form]:
        tally, count = Tally(), len(self.records)

        def decode_all(items: Items, put: cache.Put, stage: str) -> None:
            tally.clear()
            tally.update(decode.decode(items, form, put, **self.work(stage)))

        def check(items: Items) -> None:  # detect damaged files before a training
            decode_all(items, lambda row, pixels: None, "checking")

        shape = count, form.height, form.width, form.channels
        if math.prod(shape) <= cache.limit():
            return cache.store(key, shape, lambda put: decode_all(self.items(), put, "decoding")), tally, form
        if self._lies_open:
            check(self.items())
        else:
            cache.store_pack(key, lambda file: _pack(file, self.items(), count, check))
        return self._on_demand(key, form, self.records.names), tally, form

    @property
    def _lies_open(self) -> bool:
        """Whether each image can be read separately from its file."""
        return self.config.pages == "first" and self.source.lies_open

    def _on_demand(self, key: str, form: decode.Form, names: Sequence[str]) -> OnDemand | None:
        """The images of a data set larger than the cache limit; None if the copy of its files is gone."""
        where, pages = self.source.path, [0] * len(names)
        if self._lies_open:
            fetch = self.source.fetch(self.records)
        else:
            path = cache.find_pack(key)
            if path is None:
                return None
            index = np.fromfile(path, np.int64, offset=path.stat().st_size - 24 * len(names)).reshape(3, -1)
            offsets, sizes, pages = index.tolist()
            fetch = fetch_from(path, offsets, sizes)
        return OnDemand(form, lambda row: (row, f"{where}/{names[row]}", fetch(row), pages[row]), len(names))

    def from_cache(self, key: str) -> Dataset | None:
        """The data stored by :meth:`decoded` under ``key``."""
        facts = cache.read_notes(key)
        if not isinstance(facts, dict) or not {"form", "file_names"} <= facts.keys():
            return None
        names, scale = facts["file_names"], facts["form"]["scale"]
        form = decode.Form(**{**facts["form"], "scale": tuple(scale) if isinstance(scale, list) else scale})
        images: Any = cache.find(key)
        if images is None and len(names) * form.height * form.width * form.channels > cache.limit():
            images = self._on_demand(key, form, names)
        return None if images is None or len(names) != len(images) else _dataset(key, images, facts)


def _dataset(key: str, images: Any, facts: dict[str, Any]) -> Dataset:
    labels = facts["labels"]
    return Dataset(
        name="",
        split="all",
        key=key,
        images=images,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        class_names=tuple(facts["class_names"]),
        file_names=tuple(facts["file_names"]),
        train=facts["train"],
        notes=tuple(map(message_from_json, facts["notes"])),
        pixel_range=facts["pixel_range"],
    )


def _pages(source: Source, records: Records, config: DataConfig) -> Records:
    """One row for each page of each file, if requested."""
    if config.pages == "first":
        return records
    counts = np.ones(len(records), np.int64)
    for index, data in source.read(records):
        counts[index] = decode.page_count(f"{source.path}/{records.names[index]}", data)
    if (counts == 1).all():
        return records
    rows = np.repeat(np.arange(len(records)), counts)
    pages = [page for count in counts.tolist() for page in range(count)]
    several = int((counts > 1).sum())
    images = records.take(
        rows,
        labels=None if records.labels is None else records.labels[rows],
        class_names=records.class_names,
        train=None if records.train is None else int(counts[: records.train].sum()),
        pages=pages,
        notes=[*records.notes, f"{several} files have several pages, up to {counts.max()}: each page is an image"],
    )
    for row, page in enumerate(pages):
        images.names[row] += f"#{page + 1}" if counts[rows[row]] > 1 else ""
    return images


def _pack(file: BinaryIO, items: Items, count: int, check: Callable[[Items], None]) -> None:
    """Write the encoded images one after the other, then the offset, length and page of each."""
    index = np.zeros((3, count), np.int64)

    def written() -> Iterator[decode.Item]:
        last, start = b"", 0
        for item in items:
            row, _, data, page = item
            if data is not last:  # several pages may share one file
                start, last = file.tell(), data
                file.write(data)
            index[:, row] = start, len(data), page
            yield item

    check(written())
    file.write(index.tobytes())


_DARK = 16384
"""Integers below this look black in the 16-bit range."""


def _range_of(
    config: DataConfig, extents: Sequence[Sequence[Any]], labels: list[int] | None, train: int | None
) -> tuple[pixel_range.Scale, str]:
    """The value range of the training split for images with more than 8 bits, and a note on it."""
    kinds = {kind for _, _, kind in extents}
    if "window" in kinds:
        text = "{} of {} images are DICOM files with a window and are shown by it, the others have none: "
        windows = sum(kind == "window" for _, _, kind in extents)
        raise InputError(text + "give all one range with {pixel_range} LOW,HIGH", windows, len(extents))
    if kinds == {"", "u"}:
        most = max(high for _, high, kind in extents if kind)
        if most < _DARK:
            raise InputError(
                "images of 8 bits and of more: those of more have no value above {:.6g} of 65535 and would be "
                "nearly black next to the others: give all one range with {pixel_range} LOW,HIGH, or read the two "
                "kinds as two data sets; {pixel_range} full takes each by the range of its type",
                most,
            )
        text = "images of 8 bits and of more than 8 bits: each is read with the range of its type; "
        return "full", Message(text + "{pixel_range} LOW,HIGH sets one range for all")
    if len(kinds) > 1:
        text = "images of whole numbers and of floats have no common range: give it with {pixel_range} LOW,HIGH"
        raise InputError(Message(text))
    classes = None if labels is None else np.array(labels, np.int64)
    values = np.array([extent[:2] for extent in extents])[training_rows(len(extents), classes, train, config)]
    low, high = float(values[:, 0].min()), float(values[:, 1].max())
    if low > high:
        raise InputError("according to the files, no pixel of the training split has data")
    limits = pixel_range.of_training(low, high, floats=kinds == {"f"})
    note = pixel_range.described("pixels of more than 8 bits", limits, "auto")
    dark = int((values[:, 1] - limits[0] < (limits[1] - limits[0]) / 8.0).sum())
    if dark > len(values) / 10:
        text = "{}; {} of {} training images use only its lowest eighth and lose contrast: read them on their own, or "
        note = Message(text + "give a range with {pixel_range} LOW,HIGH", note, dark, len(values))
    return limits, note


# ---- beyond the cache's limit


class OnDemand(Lazy):
    """Images that are decoded on demand, by threads."""

    def __init__(self, form: decode.Form, item: Callable[[int], decode.Item], count: int) -> None:
        super().__init__((count, form.height, form.width, form.channels))
        self._form, self._item = form, item
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Decode these rows now."""
        import joblib

        if rows.ndim == 0:
            return self._decoded(int(rows))
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(joblib.cpu_count(), "softvq-decode")
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, decoded in zip(pixels, self._threads.map(self._decoded, rows.tolist()), strict=True):
            image[...] = decoded
        return pixels

    def _decoded(self, row: int) -> np.ndarray:
        pixels, _ = decode.decode_block([self._item(row)], self._form)
        image: np.ndarray = pixels[0]
        return image
