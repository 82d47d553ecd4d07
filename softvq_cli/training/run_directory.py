"""The folder of one run: its lock, its settings, and ``metrics.jsonl`` with one JSON object per report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.config import RunConfig, check
from softvq_cli.errors import InputError, Message, RefusedError, SoftVQError, UsageError, param
from softvq_cli.files import (
    as_utf8,
    discard_abandoned,
    make_folder,
    on_disk,
    read_json,
    remove,
    write_json,
    write_text,
)
from softvq_cli.training import checkpoint
from softvq_cli.version import __version__
from softvq_cli.words import BOTTLENECKS, IMAGE_SHAPES

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset

CHECKPOINT = "ckpt.pt"
METRICS = "metrics.jsonl"
CONFIG = "config.json"
DATA_PATH = "data_path"
"""The entry of ``config.json`` with the absolute path of the data; no other file has this path."""
LOCK = ".lock"
_OWN = (
    *(CHECKPOINT, METRICS, CONFIG, "evaluation.json", "model.safetensors"),
    *("map-test.npy", "clusters-test.npy", "predictions-test.npy", "errors-test.npy", "centres.npy", "probe.npy"),
    *("tsne.png", "reconstructions.png", "curves.png", "codebook-usage.png", "codebook-centroids.png"),
)
"""Files that commands write into the folder of a run under fixed names."""
_KEPT = "ckpt-[0-9]*.pt"
"""The pattern of the names from :func:`kept_checkpoint`."""


class BusyError(RefusedError):
    """Another process uses the folder."""


CHANGEABLE = ("data_dir", "checkpoint_every", "keep")
"""Settings that do not affect results and may differ when a run is resumed."""
LONGER = "iterations"
"""The setting that may be increased when a run is resumed, because no step depends on it."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    config: RunConfig
    metrics: dict[str, float]
    """The last line of the log."""
    finished_before: bool = False
    """Whether it was resumed with nothing left to do."""
    splits: tuple[Dataset, Dataset] | None = field(default=None, compare=False, repr=False)
    """The training and test split, if they were loaded."""

    @property
    def path(self) -> Path:
        """The path of the checkpoint."""
        return self.folder / CHECKPOINT


def kept_checkpoint(folder: Path, step: int) -> Path:
    """The path of the checkpoint at ``step`` for the setting ``keep``."""
    return folder / f"ckpt-{step}.pt"


def default_folder(config: RunConfig, data_name: str) -> Path:
    """The default folder, for example ``runs/svhn-soft-vq-K32-d256-s0``; K only with a codebook."""
    model = config.model
    codebook = f"-K{model.K}" if "K" in BOTTLENECKS[model.bottleneck].settings else ""
    name = f"{data_name}-{model.bottleneck}{codebook}-d{model.latent_dim}-s{config.train.seed}"
    return Path("runs") / on_disk(name)


@contextlib.contextmanager
def locked(folder: Path, also: Iterable[str] = ()) -> Iterator[None]:
    """Create and lock the folder; the same thread may lock it again. The lock ends with the process at the latest.

    Temporary files that killed processes left are removed: those for the files of a run, and those in ``also``.
    """
    import filelock  # imported here, because reading a run does not need its asyncio

    made = not folder.exists()
    make_folder(folder)
    lock = filelock.FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError("another softvq is working in {}: wait for it, or give another {out}", folder) from error
    except OSError as error:
        raise SoftVQError(f"cannot write into {folder}: {error.strerror}") from error
    try:
        discard_abandoned(folder, CHECKPOINT, _KEPT, METRICS, CONFIG, *also)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # leave no empty folder after a refused command
            if made and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
        raise
    finally:
        lock.release()


def is_used(folder: Path) -> bool:
    """Whether the folder has a run."""
    return (folder / CONFIG).exists() or (folder / CHECKPOINT).exists()


def claim(folder: Path, config: RunConfig, *, overwrite: bool) -> list[str]:
    """Start a run in a locked folder: write its configuration, with ``overwrite`` after removing the old run.

    Returns the other files in the folder, which may belong to the old run, such as tables and exports.
    """
    left: list[str] = []
    if is_used(folder):
        if not overwrite:
            raise RefusedError(
                "{} holds a run: {resume} continues it, {overwrite} replaces it, {out} gives another folder", folder
            )
        old = [path for pattern in (*_OWN, _KEPT) for path in folder.glob(pattern)]
        for info in folder.glob("*.json"):
            if _content(info).get("format") == "softvq-embedding":
                old += [info, info.with_suffix(".npy"), info.with_suffix(".labels.npy")]
        for path in old:
            remove(path)
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        left = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    write_config(folder, config)
    return left


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json``: the version, the location of the data if it is a path, and all settings."""
    data = Path(on_disk(config.data.data)).expanduser()
    where = {DATA_PATH: as_utf8(str(data.resolve()))} if data.exists() else {}
    write_json(folder / CONFIG, {"softvq": __version__, **where, **config.as_dict()})


def lengthen(folder: Path, iterations: int) -> None:
    """Store the new number of iterations in ``config.json``."""
    content = _content(folder / CONFIG)
    content["train"] = {**content["train"], LONGER: iterations}
    write_json(folder / CONFIG, content)


def data_path(folder: Path) -> str | None:
    """The path of the data when the run in ``folder`` started; None if unknown."""
    path = _content(folder / CONFIG).get(DATA_PATH)
    return path if isinstance(path, str) else None


def data_dir(folder: Path) -> str | None:
    """The folder of the named data sets for the run in ``folder``; None if unknown or the default."""
    data = _content(folder / CONFIG).get("data")
    path = data.get("data_dir") if isinstance(data, dict) else None
    return path if isinstance(path, str) else None


def _content(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if it cannot be read."""
    with contextlib.suppress(InputError):
        if isinstance(value := read_json(path), dict):
            return value
    return {}


def stored_config(folder: Path) -> RunConfig:
    """The configuration of the run in ``folder``; if ``config.json`` is missing, that of the checkpoint."""
    path = folder / CONFIG
    if not path.exists() and (folder / CHECKPOINT).exists():
        return checkpoint.read_header(folder / CHECKPOINT)[0].config
    value = read_json(path)
    try:
        if isinstance(value, dict):
            value = {name: section for name, section in value.items() if name not in ("softvq", DATA_PATH)}
        return RunConfig.from_dict(value)
    except UsageError as error:
        raise InputError("{}: {}", path, error.message) from error


def for_resume(folder: Path, chosen: dict[str, Any]) -> RunConfig:
    """The stored configuration; ``chosen`` may repeat its settings, but only change the iterations to more.

    The data may have a new path if there is a checkpoint, which identifies them.
    """
    stored = stored_config(folder)
    flat = stored.flat()
    changed = {name: check(name, value) for name, value in chosen.items()}
    if (folder / CHECKPOINT).exists() and changed.get("data") not in IMAGE_SHAPES and flat["data"] not in IMAGE_SHAPES:
        changed.pop("data", None)
    for name, value in changed.items():
        if not _may_become(name, flat[name], value) and (name, value) != ("pixel_range", "auto"):
            raise UsageError(
                "{} {} would change the run in {}, which has {}: leave it out to resume, or train again with "
                "another {out}",
                *(param(name), value, folder, flat[name]),
            )
    return RunConfig.from_flat({**flat, **{name: changed[name] for name in (*CHANGEABLE, LONGER) if name in changed}})


def first_change(old: RunConfig, new: RunConfig) -> str | None:
    """The first setting of ``old``, with its value, that differs in ``new`` and affects the steps."""
    changed = new.flat()
    for name, value in old.flat().items():
        if not _may_become(name, value, changed[name]):
            return Message("{} {}", param(name), value)
    return None


def _may_become(name: str, old: Any, new: Any) -> bool:
    return name in CHANGEABLE or new == old or (name == LONGER and new > old)


def append_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Append a line and flush it to disk, so that a checkpoint is never ahead of its log. The line is written
    completely or not at all."""
    path = folder / METRICS
    line = memoryview((json.dumps(metrics, allow_nan=False) + "\n").encode())
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(before)
                raise
    except OSError as error:
        kept = "the last checkpoint is kept" if (folder / CHECKPOINT).is_file() else "there is no checkpoint"
        raise SoftVQError(f"cannot write {path}: {error.strerror}; {kept}") from error


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The complete lines in order; reading stops at an incomplete or damaged line."""
    path = folder / METRICS
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    lines: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not _is_line(value, after=lines[-1]["step"] if lines else 0):
            break
        lines.append(value)
    return lines


def _is_line(value: Any, after: int) -> bool:
    """Whether ``value`` can be a line of :func:`append_metrics`: finite numbers by name, at a later step."""
    if not isinstance(value, dict) or type(value.get("step")) is not int or value["step"] <= after:
        return False
    return all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in value.values())


def truncate_metrics(folder: Path, step: int) -> int:
    """Remove lines after ``step``, which the resumed run will write again. Returns the number of remaining lines."""
    lines = [json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step]
    write_text(folder / METRICS, "".join(lines))
    return len(lines)
