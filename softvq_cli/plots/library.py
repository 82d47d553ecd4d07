"""matplotlib, loaded so that neither the user's windows nor the place it runs in matter."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softvq_cli.files import temporary_folder


def load(folder: Path | None = None) -> Any:
    """The module ``matplotlib``, with its list of fonts.

    Args:
        folder: takes its settings for as long as it loads, where neither they nor temporary files have one.

    Raises:
        OSError: there is no folder that can be written, and none was given.
        SoftVQError: the one that was given cannot be written either.
    """
    # MPLBACKEND is for windows, and one that is not here would keep it from loading.
    with _variable("MPLBACKEND", None):
        try:
            return _imported()
        except OSError:
            if folder is None:
                raise
            for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
                del sys.modules[name]  # they know the half that failed
        with temporary_folder(folder) as settings, _variable("MPLCONFIGDIR", str(settings)):
            return _imported()


def _imported() -> Any:
    import matplotlib
    import matplotlib.font_manager

    return matplotlib


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """The environment variable with that value, or without one."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
