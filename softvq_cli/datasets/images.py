"""Encoded images of any source → arrays, decoded once and kept in the cache."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import PIL

from softvq_cli.config import DataConfig
from softvq_cli.datasets import cache, decode, pixel_range
from softvq_cli.datasets.dataset import Dataset, training_rows
from softvq_cli.datasets.on_demand import OnDemand
from softvq_cli.datasets.pixel_range import DeepError, Tally
from softvq_cli.datasets.records import Records, Source, fetch_from
from softvq_cli.errors import InputError, Message
from softvq_cli.reporter import Reporter

_READING = ("image_size", "folders", "pages", "image_column", "label_column", "split_column", "name_encoding")
"""Settings that decide which rows there are and how they look, beside the range of the pixels."""


def read(source: Source, arrange: Callable[[], Records], config: DataConfig, reporter: Reporter) -> Dataset:
    """Every image of ``source``, from the cache where it is there.

    Args:
        source: where the files are.
        arrange: finds the images, their labels and splits; asked only if something has to be decoded.
        config: how to read them.
        reporter: told as the images are decoded.
    """
    base = cache.key_of(
        "images", PIL.__version__, source.stamp, source.archive, {name: getattr(config, name) for name in _READING}
    )
    scale = pixel_range.scale_of(config.pixel_range)
    kept = _from_cache(source, arrange, config, cache.key_of(base, scale))
    if kept is not None:
        return kept
    rows = _Rows.kept(base) if scale == "auto" else None
    if rows is None:
        reading = _Reading(source, _pages(source, arrange(), config), config, reporter)
        try:
            return _made(reading, cache.key_of(base, scale), scale, None)
        except DeepError:
            rows = _Rows.found(reading)
            rows.keep(base)
    scale, note = rows.range(config)
    key = cache.key_of(base, scale, "auto")
    kept = _from_cache(source, arrange, config, key)
    if kept is not None:
        return kept
    return _made(_Reading(source, _pages(source, arrange(), config), config, reporter), key, scale, note)


def refuse_pointer(name: str, data: bytes) -> None:
    """Refuse what Git LFS leaves where it has not fetched a file."""
    if data.startswith(b"version https://git-lfs"):
        raise InputError(f"{name} is a pointer of Git LFS and not the file: fetch it with git lfs pull")


Items = Iterable[decode.Item]


@dataclass(frozen=True)
class _Reading:
    """What is to be decoded."""

    source: Source
    records: Records
    config: DataConfig
    reporter: Reporter

    def items(self) -> Iterator[decode.Item]:
        """Each image of each file, in the order that costs least."""
        records, pages = self.records, self.records.pages
        rows: dict[int, list[int]] = {}
        for row, place in enumerate(records.places):
            rows.setdefault(place, []).append(row)
        files = list(rows.values())  # a file with several rows is read once
        for index, data in self.source.read(records.take([same[0] for same in files])):
            refuse_pointer(f"{self.source.path}/{records.names[files[index][0]]}", data)
            for row in files[index]:
                yield row, f"{self.source.path}/{records.names[row]}", data, pages[row] if pages else 0

    def size(self) -> int:
        return sum(self.records.sizes)

    def tick(self, stage: str) -> Callable[[int], None]:
        count, name = len(self.records), self.source.path.name
        return lambda done: self.reporter.progress(f"{stage} {name}", done, count)


def _pages(source: Source, records: Records, config: DataConfig) -> Records:
    """A row for each page of each file, where that is asked for."""
    if config.pages == "first":
        return records
    counts = [1] * len(records)
    for index, data in source.read(records):
        counts[index] = decode.page_count(f"{source.path}/{records.names[index]}", data)
    if set(counts) == {1}:
        return records
    rows = np.repeat(np.arange(len(records)), counts).tolist()
    pages = [page for count in counts for page in range(count)]
    note = f"{sum(count > 1 for count in counts)} files have several pages, up to {max(counts)}: each page is an image"
    several = records.take(
        rows,
        labels=None if records.labels is None else records.labels[rows],
        class_names=records.class_names,
        train=None if records.train is None else sum(counts[: records.train]),
        pages=pages,
        notes=[*records.notes, note],
    )
    names = several.names
    names[:] = [
        name if counts[row] == 1 else f"{name}#{page + 1}" for name, row, page in zip(names, rows, pages, strict=True)
    ]
    return several


def _made(reading: _Reading, key: str, scale: pixel_range.Scale, note: str | None) -> Dataset:
    """Decode everything, and keep it with what is to be said of it."""
    records = reading.records
    images, tally, form = _decode(reading, key, scale)
    if note is not None and isinstance(scale, tuple):
        rows = training_rows(len(records), records.labels, records.train, reading.config)
        pixel_range.check_contrast(str(reading.source.path), images, rows, scale)
    notes = [
        *records.notes,
        *([] if note is None else [note]),
        *pixel_range.notes_of(tally, len(images), reading.config.pages),
    ]
    if note is None and isinstance(scale, tuple):
        notes.append(pixel_range.described("pixels", scale, reading.config.pixel_range))
    kept = {
        "labels": None if records.labels is None else records.labels.tolist(),
        "class_names": records.class_names,
        "file_names": records.names,
        "train": records.train,
        "notes": [[note.template, *note.values] if isinstance(note, Message) else note for note in notes],
        "pixel_range": pixel_range.text_of(scale) if isinstance(scale, tuple) else None,
        "form": dataclasses.asdict(form),
    }
    cache.write_notes(key, kept)
    return _whole(key, images, kept)


def _decode(reading: _Reading, key: str, scale: pixel_range.Scale) -> tuple[np.ndarray, Tally, decode.Form]:
    """uint8 (N, H, W, C), train rows first, what had to be done, and what each has become."""
    count = len(reading.records)
    # The first in reading order: in a compressed tar any other one would cost a pass over the file.
    form = decode.form_of(next(reading.items()), reading.config.image_size, scale)

    def attempt(form: decode.Form) -> tuple[np.ndarray, Tally, decode.Form]:
        tally = Tally()

        def decode_all(items: Items, put: cache.Put, stage: str) -> None:
            tally.clear()
            tick = reading.tick(stage)
            tally.update(decode.decode(items, form, put, count=count, size=reading.size(), tick=tick))

        shape = count, form.height, form.width, form.channels
        if math.prod(shape) <= cache.limit():
            return cache.store(key, shape, lambda put: decode_all(reading.items(), put, "decoding")), tally, form

        def check(items: Items) -> None:  # so that a damaged file does not stop a training
            decode_all(items, lambda row, pixels: None, "checking")

        if _lies_open(reading.source, reading.config):
            check(reading.items())
        else:
            cache.store_pack(key, lambda file: _pack(file, reading.items(), count, check))
        records = reading.records
        images = _on_demand(reading.source, lambda: records, reading.config, key, form, records.names)
        return images, tally, form  # type: ignore[return-value]

    try:
        return attempt(form)
    except decode.ColourError:
        return attempt(dataclasses.replace(form, channels=3))


def _pack(file: BinaryIO, items: Items, count: int, check: Callable[[Items], None]) -> None:
    """Write the encoded images one after the other, then for each where it begins, how long it is, and its page."""
    index = np.zeros((3, count), np.int64)

    def written() -> Iterator[decode.Item]:
        last, start = b"", 0
        for item in items:
            row, _, data, page = item
            if data is not last:  # several pages of one file
                start, last = file.tell(), data
                file.write(data)
            index[:, row] = start, len(data), page
            yield item

    check(written())
    file.write(index.tobytes())


def _on_demand(
    source: Source,
    arrange: Callable[[], Records],
    config: DataConfig,
    key: str,
    form: decode.Form,
    names: Sequence[str],
) -> OnDemand | None:
    """The images of a data set beyond the limit; None where the copy of its files is gone."""
    if _lies_open(source, config):
        return OnDemand(len(names), form, source.fetch(arrange()), lambda row: (f"{source.path}/{names[row]}", 0))
    path = cache.find_pack(key)
    if path is None:
        return None
    index = np.fromfile(path, np.int64, offset=path.stat().st_size - 24 * len(names)).reshape(3, -1)
    fetch = fetch_from(path, index[0].tolist(), index[1].tolist())
    return OnDemand(len(names), form, fetch, lambda row: (f"{source.path}/{names[row]}", int(index[2, row])))


def _lies_open(source: Source, config: DataConfig) -> bool:
    """Whether each image can be read alone where it lies."""
    return config.pages == "first" and source.lies_open


_DARK = 16384
"""Whole numbers below this are as good as black in the range of 16 bits."""


@dataclass(frozen=True)
class _Rows:
    """The values of each image with more than 8 bits, from which the range of any training split follows."""

    extents: list[decode.Extent]
    labels: list[int] | None
    train: int | None

    @classmethod
    def found(cls, reading: _Reading) -> _Rows:
        records = reading.records
        tick = reading.tick("measuring")
        extents = decode.extents(reading.items(), count=len(records), size=reading.size(), tick=tick)
        return cls(extents, None if records.labels is None else records.labels.tolist(), records.train)

    @classmethod
    def kept(cls, base: str) -> _Rows | None:
        found = cache.read_notes(cache.key_of(base, "extents"))
        return None if found is None else cls([tuple(one) for one in found[0]], found[1], found[2])

    def keep(self, base: str) -> None:
        cache.write_notes(cache.key_of(base, "extents"), [self.extents, self.labels, self.train])

    def range(self, config: DataConfig) -> tuple[pixel_range.Scale, str]:
        """The range of the training split, and the line that says so."""
        kinds = {kind for _, _, kind in self.extents}
        if kinds == {"", "u"}:
            most = max(high for _, high, kind in self.extents if kind)
            if most < _DARK:
                raise InputError(
                    "images of 8 bits and of more: those of more have no value above {:.6g} of 65535 and would be "
                    "nearly black next to the others: give all one range with {pixel_range} LOW,HIGH, or read the two "
                    "kinds as two data sets; {pixel_range} full takes each by the range of its type",
                    most,
                )
            return "full", Message(
                "images of 8 bits and of more: each is read by the range of its type; {pixel_range} LOW,HIGH gives "
                "one to all"
            )
        if len(kinds) > 1:
            raise InputError(
                Message(
                    "images of whole numbers and of floating-point numbers have no range in common: give it with "
                    "{pixel_range} LOW,HIGH"
                )
            )
        labels = None if self.labels is None else np.array(self.labels, np.int64)
        chosen = training_rows(len(self.extents), labels, self.train, config)
        values = np.array([extent[:2] for extent in self.extents])[chosen]
        low, high = float(values[:, 0].min()), float(values[:, 1].max())
        if low > high:
            raise InputError("no pixel of the training split has data, as its files say")
        found = pixel_range.of_training(low, high, floats=kinds == {"f"})
        return found, pixel_range.described("pixels of more than 8 bits", found, "auto")


def _from_cache(source: Source, arrange: Callable[[], Records], config: DataConfig, key: str) -> Dataset | None:
    kept = cache.read_notes(key)
    if not isinstance(kept, dict) or not {"form", "file_names"} <= kept.keys():
        return None
    names, scale = kept["file_names"], kept["form"]["scale"]
    form = decode.Form(**{**kept["form"], "scale": tuple(scale) if isinstance(scale, list) else scale})
    images: Any = cache.find(key)
    if images is None and len(names) * form.height * form.width * form.channels > cache.limit():
        images = _on_demand(source, arrange, config, key, form, names)
    return None if images is None or len(names) != len(images) else _whole(key, images, kept)


def _whole(key: str, images: np.ndarray, kept: dict[str, Any]) -> Dataset:
    labels = kept["labels"]
    return Dataset(
        name="",
        split="all",
        key=key,
        images=images,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        class_names=tuple(kept["class_names"]),
        file_names=tuple(kept["file_names"]),
        train=kept["train"],
        notes=tuple(note if isinstance(note, str) else Message(*note) for note in kept["notes"]),
        pixel_range=kept["pixel_range"],
    )
