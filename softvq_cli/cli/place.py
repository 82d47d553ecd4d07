"""Where the program runs: what libraries fail without there, and their talk to programmers."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from softvq_cli.errors import SoftVQError

_SPACE = 3_500_000_000
"""Bytes of address space below which PyTorch does not load (measured: 3.1 GB are too few, 3.6 are enough)."""


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
    _mind_the_address_space()
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = os.sep
    try:
        tempfile.gettempdir()
    except OSError:
        tempfile.tempdir = os.devnull
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)  # PyTorch makes it, whether it compiles or not


class _NoRoom:
    """Stands before the import of PyTorch, which aborts the process in its C++ where the address space ends."""

    def __init__(self, space: int) -> None:
        self.space = space

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse the one module, and leave all others to those who find them."""
        if name == "torch":
            raise SoftVQError(
                f"PyTorch needs about {_SPACE / 1e9:.1f} GB of address space, and {self.space / 1e9:.1f} are allowed: "
                "raise the limit (ulimit -v unlimited)"
            )


def _mind_the_address_space() -> None:
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= space < _SPACE:
            sys.meta_path.insert(0, _NoRoom(space))


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
