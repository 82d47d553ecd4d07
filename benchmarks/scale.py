"""How the cost of reading data grows from 10^4 to 10^6 images, with an empty cache and with a full one."""

from __future__ import annotations

import io
import math
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.setting import Setting
from benchmarks.timing import cost_of, table, table_line

SIZES = (1_000, 10_000, 100_000, 1_000_000)
"""The first size shows the fixed cost of a command, which is subtracted before exponents are computed."""
SHAPE = (32, 32, 3)
DISTINCT = 512
"""Number of different pictures, which are repeated, so that creating them does not take an hour."""
MOST_SECONDS = 1500.0
"""A size is skipped if its expected processor time, ten times that of the previous one, is larger."""
_LOADING = """
import sys
from softvq_cli.config import DataConfig
from softvq_cli.datasets import load
for split in ("train", "test"):
    load(DataConfig(data=sys.argv[1]), split).fingerprint
"""
_NEEDED_BYTES = 12_000
"""Disk space per image, for the data and the cache together."""


def section(setting: Setting) -> Iterator[str]:
    yield f"""## Data from 10^4 to 10^6 images

What `train` does with data before its first step (load both splits, take the fingerprint), on images of
{SHAPE[0]}×{SHAPE[1]}×{SHAPE[2]}, each in a fresh process: with an empty cache, and again. Processor seconds of the
process and its children; the most anonymous memory of the process; the bytes of the cache afterwards. The exponents,
first and again, are those of the cost above that of 1 000 images.
"""
    yield table(["form", "images", "first, s", "again, s", "memory, MB", "written, MB", "exponents"], [])
    costs: dict[str, list[_Cost]] = {form: [] for form in FORMS}
    for count in (100, 200) if setting.quick else SIZES:
        for form, write in FORMS.items():
            before = costs[form]
            if before and before[0].first + 10 * (before[-1].first - before[0].first) > MOST_SECONDS:
                yield table_line([form, f"{count:,}", "passed over: it would take too long", "", "", "", ""])
                continue
            with tempfile.TemporaryDirectory(prefix="softvq-scale-") as folder:
                if shutil.disk_usage(folder).free < count * _NEEDED_BYTES:
                    yield table_line([form, f"{count:,}", "passed over: the disk is too small", "", "", "", ""])
                    continue
                before.append(_cost(Path(folder), form, write, count))
            yield table_line([form, f"{count:,}", *before[-1].cells(), _exponents(before)])


@dataclass(frozen=True)
class _Cost:
    count: int
    first: float
    again: float
    memory: int
    written: int

    def cells(self) -> list[str]:
        return [f"{self.first:.1f}", f"{self.again:.1f}", f"{self.memory / 1e6:.0f}", f"{self.written / 1e6:.1f}"]


def _exponents(costs: list[_Cost]) -> str:
    """The exponent of processor time relative to the previous size; empty if the fixed cost dominates."""
    if len(costs) < 3:
        return ""
    start, before, now = costs[0], costs[-2], costs[-1]
    texts = []
    for name in ("first", "again"):
        small, large = (getattr(cost, name) - getattr(start, name) for cost in (before, now))
        texts.append(f"{math.log10(large / small):.2f}" if small > 0.2 and large > 0.2 else "–")
    return ", ".join(texts)


def _cost(folder: Path, form: str, write: Callable[[Path, int], None], count: int) -> _Cost:
    path = folder / form
    write(path, count)
    words = [sys.executable, "-c", _LOADING, str(path)]
    seconds, memories, _ = zip(*(cost_of(words, folder / "cache") for _ in range(2)), strict=True)
    written = sum(file.stat().st_size for file in (folder / "cache").rglob("*") if file.is_file())
    return _Cost(count, *seconds, max(memories), written)


# ---- forms of data


def _pictures() -> np.ndarray:
    """uint8 (DISTINCT, H, W, C): smooth, so that their encoded size is that of photographs."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (DISTINCT, 8, 8, SHAPE[2]), np.uint8)
    return coarse.repeat(SHAPE[0] // 8, axis=1).repeat(SHAPE[1] // 8, axis=2)


def _files(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (class/name, JPEG) for this number of images."""
    encoded = []
    for picture in _pictures():
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    for row in range(count):
        yield f"class{row % 10}/{row:07}.jpg", encoded[row % DISTINCT]


def _write_array(path: Path, count: int) -> None:
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    pictures = _pictures()
    for start in range(0, count, DISTINCT):
        images[start : start + DISTINCT] = pictures[: count - start]
    images.flush()
    np.save(path.with_name(f"{path.stem}.labels.npy"), np.arange(count) % 10)


def _write_tar(path: Path, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in _files(count):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            archive.members = []  # tarfile would keep an object for each


def _write_parquet(path: Path, count: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with parquet.ParquetWriter(path, schema) as writer:
        files = _files(count)
        for start in range(0, count, 1_000):
            data = [content for _, (_, content) in zip(range(min(1_000, count - start)), files, strict=False)]
            writer.write_table(pa.table({"image": data, "label": [row % 10 for row in range(len(data))]}, schema))


def _write_folder(path: Path, count: int) -> None:
    for number in range(10):
        (path / f"class{number}").mkdir(parents=True)
    for name, data in _files(count):
        (path / name).write_bytes(data)


FORMS = {"a.npy": _write_array, "a.tar": _write_tar, "a.parquet": _write_parquet, "folder": _write_folder}
