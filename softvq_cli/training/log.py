"""``metrics.jsonl``: one JSON object a line, one line a report."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from softvq_cli.errors import InputError, SoftVQError
from softvq_cli.files import write_text

FILE = "metrics.jsonl"
CHECKPOINT = "ckpt.pt"
"""Written beside it, after it."""


def append(folder: Path, metrics: dict[str, Any]) -> None:
    """Add a line and see it to the disk, so that a checkpoint is never ahead of its log.

    Raises:
        SoftVQError: it could not be written; nothing of it is left in the file.
    """
    path = folder / FILE
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


def read(folder: Path) -> list[dict[str, Any]]:
    """The complete lines, in order; a line that is unfinished or damaged ends the reading.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / FILE
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


def truncate(folder: Path, step: int) -> int:
    """Forget what was logged after ``step``: the resumed run will write those lines again. Returns how many stay."""
    kept = [json.dumps(line) + "\n" for line in read(folder) if line["step"] <= step]
    write_text(folder / FILE, "".join(kept))
    return len(kept)


def _is_line(value: Any, after: int) -> bool:
    """Whether this is what :func:`append` wrote: finite numbers by name, at a later step than the line before."""
    if not isinstance(value, dict) or type(value.get("step")) is not int or value["step"] <= after:
        return False
    return all(type(one) in (int, float) and abs(one) <= sys.float_info.max for one in value.values())
