"""Where the data of an earlier run lie now: folders are moved, and commands are called from elsewhere."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from softvq_cli.config import DataConfig
from softvq_cli.datasets.loading import load, path_of
from softvq_cli.datasets.named import names
from softvq_cli.datasets.progress import Progress
from softvq_cli.errors import InputError
from softvq_cli.files import on_disk


def find(
    config: DataConfig, folder: Path, *, was: str | None, fingerprint: str | None, progress: Progress | None = None
) -> DataConfig:
    """``config`` with the place where its data lie now: as it stands there, else beside the run, else where they were.

    Of several places, the one whose training split has the fingerprint; if none has, the first.

    Args:
        config: as the run has it.
        folder: of the run.
        was: the absolute path that the data had.
        fingerprint: of the training split; None: the first place will do.
        progress: told of decoding, where several places have to be compared.

    Raises:
        InputError: there is none.
    """
    if config.data in names():
        return config
    places = list(_places(config.data, folder, was))
    if not places:
        raise InputError(
            "the run in {} was trained on {}, which is neither here nor beside it{}; say where it is with {data}",
            *(folder, config.data, "" if was is None else f" nor at {was}"),
        )
    found = [dataclasses.replace(config, data=place) for place in places]
    if len(found) > 1 and fingerprint is not None:
        return next(
            (one for one in found if load(one, "train", progress=progress).fingerprint == fingerprint), found[0]
        )
    return found[0]


def _places(data: str, folder: Path, was: str | None) -> Iterator[str]:
    """Where such a path leads to something, each place once."""
    relative = not os.path.isabs(data) and not data.startswith("~")
    beside = [str(parent / on_disk(data)) for parent in folder.resolve().parents] if relative else []
    seen: set[Path] = set()
    for place in (data, *beside, *([] if was is None else [was])):
        try:
            path = path_of(place)
        except InputError:
            continue
        if path is None or path.resolve() in seen or folder.resolve().is_relative_to(path.resolve()):
            continue  # a run that is called as its data is not the data
        seen.add(path.resolve())
        yield place
