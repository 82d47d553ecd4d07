"""What the commands cost on large images and on many rows."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.evaluation import latents
from benchmarks.setting import Setting
from benchmarks.timing import cost_of, table, table_line

CLASSES = 10


def section(setting: Setting) -> Iterator[str]:
    yield """## Commands on large images and many rows

Each line is one command in a fresh process, on one thread: processor seconds and the most anonymous memory.
"""
    yield table(["what", "seconds", "memory, MB", "further"], [])
    with tempfile.TemporaryDirectory(prefix="softvq-sizes-") as folder:
        commands = Commands(Path(folder), 200 if setting.quick else 1)
        for measure in (commands.start, commands.photos, commands.vectors, commands.rows, commands.maps):
            yield from measure()


class Commands:
    """The commands, with their data and results in ``folder``; sizes are divided by ``less``."""

    def __init__(self, folder: Path, less: int) -> None:
        self._folder, self._less = folder, less

    def start(self) -> Iterator[str]:
        """What a short command costs."""
        seconds, *_ = cost_of([sys.executable, "-c", "import torch"], self._folder)
        yield table_line(["`import torch`", f"{seconds:.1f}", "", ""])
        yield self._line("`train -d digits -n 10`", "train", "-d", "digits", "-n", 10, "-o", self._folder / "digits")

    def photos(self) -> Iterator[str]:
        """Photos of 224² at their size and reduced, and of 512²."""
        count = max(20, 240 // self._less)
        trainings = ((224, 224), (224, 64), (512, 512)) if self._less == 1 else ((40, 40), (40, 32))
        for side in {side for side, _ in trainings}:
            _write_photos(self._folder / f"{side}", side, count)
        for side, size in trainings:
            run = self._folder / f"run-{side}-{size}"
            words = ["train", "-d", self._folder / f"{side}", "--image-size", size, "--threads", 1, "--overwrite"]
            costs = [self._cost(*words, "-n", n, "-o", run) for n in (5, 15)]
            (few, *_), (many, memory, _) = costs
            _, _, document = self._cost("info", run)
            further = (
                f"{document['parameters'] / 1e6:.2f} M parameters, a checkpoint of "
                f"{(run / 'ckpt.pt').stat().st_size / 1e6:.0f} MB, {(many - few) / 10:.2f} s per step of 32"
            )
            yield self._row(f"`train` on photos of {side}² at {size}², 15 steps", many, memory, further)
        words = ["embed", run, "--split", "all", "-o", self._folder / "photos.npy"]
        yield self._line(f"`embed` of {count} photos of {size}²", *words)

    def vectors(self) -> Iterator[str]:
        """10^6 vectors in a file that is mapped."""
        count, d = 1_000_000 // self._less, 256
        path = self._folder / "vectors.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, d))
        random = np.random.default_rng(0)
        centres = random.normal(size=(100, d)).astype(np.float32)
        for start in range(0, count, 10_000):
            part = rows[start : start + 10_000]
            part[:] = centres[random.integers(100, size=len(part))] + random.normal(size=part.shape)
        rows.flush()
        words = ["train", "-d", path, "-b", "rvq", "--K", 256 if self._less == 1 else 16]
        for when in ("first", "again"):
            run = self._folder / f"vectors-{when}"
            yield self._line(f"`train -n 1` on {count:,} × {d} vectors, {when}", *words, "-n", 1, "-o", run)
        run = self._folder / "vectors"
        yield self._line(f"the same, {500 // self._less} steps of 256", *words, "-n", 500 // self._less, "-o", run)
        codes = ["embed", run, "--split", "all", "--what", "codes", "-o", self._folder / "codes.parquet"]
        yield self._line("`embed --what codes` of all of them", *codes)
        yield self._line("`report --max-points 5000`", "report", run, "--max-points", 5000, "-o", run / "r.html")

    def rows(self) -> Iterator[str]:
        """Clusters and neighbours of generated latents with overlapping classes."""
        _, least, _ = self._cost("cluster", self._latents("rows", 1_000, 64), "-k", 10, "-j", 1)
        for most, d, k, starts in ((100_000, 64, 100, 2), (1_000_000, 64, 10, 2), (10_000, 784, 10, 100)):
            count = most // self._less
            words = ["cluster", self._latents("rows", count, d), "-k", k, "--n-init", starts, "-j", 1]
            seconds, memory, _ = self._cost(*words)
            name = f"`cluster`, {count:,} × {d} into {k}, {starts} starts"
            yield self._row(name, seconds, memory, f"{(memory - least) / count:.0f} B per row above 1,000 rows")
        train, test = 90_000 // self._less, 10_000 // self._less
        files = self._latents("train", train, 64), self._latents("test", test, 64)
        for more in ("", " --neighbours 5"):
            yield self._line(f"`probe{more}`, {train:,} and {test:,} × 64", "probe", *files, *more.split())

    def maps(self) -> Iterator[str]:
        """t-SNE of all rows, and of a sample of many."""
        for most in (30_000, 60_000, 1_000_000) if self._less == 1 else (30_000,):
            count = most // self._less
            words = ["tsne", self._latents("map", count, 64), "-o", self._folder / "map.png", "-j", 1, "--overwrite"]
            yield self._line(f"`tsne`, {count:,} × 64", *words)

    def _latents(self, name: str, count: int, d: int) -> Path:
        z, labels = latents(count, d)
        path = self._folder / f"{name}.npy"
        np.save(path, z)
        np.save(path.with_suffix(".labels.npy"), labels)
        return path

    def _cost(self, *words: Any) -> tuple[float, int, dict[str, Any]]:
        command = [sys.executable, "-m", "softvq_cli", *map(str, words), "--json", "-q"]
        seconds, memory, printed = cost_of(command, self._folder / "cache")
        return seconds, memory, json.loads(printed)

    def _line(self, what: str, *words: Any) -> str:
        seconds, memory, _ = self._cost(*words)
        return self._row(what, seconds, memory)

    @staticmethod
    def _row(what: str, seconds: float, memory: int, further: str = "") -> str:
        return table_line([what, f"{seconds:.1f}", f"{memory / 1e6:.0f}", further])


def _write_photos(folder: Path, side: int, count: int) -> None:
    """Smooth random photos in class folders."""
    random = np.random.default_rng(side)
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(path, quality=90)
