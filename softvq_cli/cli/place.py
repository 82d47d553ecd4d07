"""Where the program runs: what libraries fail without there, and their talk to programmers."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def prepared(*, heard: bool) -> Iterator[None]:
    """What the work of a command stands in.

    Args:
        heard: show what libraries have to say to programmers.
    """
    _make_known()
    with contextlib.nullcontext() if heard else _quiet_libraries():
        yield


def _make_known() -> None:
    """Make a home and a folder for temporary files known, which some libraries ask for when they are loaded.

    Nothing is written there for it. A user without an entry has the root for a home, as containers have it. Where
    no folder for temporary files can be written, its name is one in which nothing can be made, so that an error comes
    when a file is needed and not before.
    """
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.sep
    try:
        tempfile.gettempdir()
    except OSError:
        tempfile.tempdir = os.devnull
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)  # PyTorch makes it, whether it compiles or not


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Neither their warnings nor their logs are shown within the block: they speak to programmers."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
