"""One file from the network: with progress, with its MD5, and whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from softvq_cli.datasets.progress import Progress
from softvq_cli.errors import SoftVQError, one_line
from softvq_cli.files import atomic_write

_TIMEOUT_SECONDS = 30
_MAX_BYTES = 2 << 30
_CHUNK = 1 << 20


class _FailedError(Exception):
    """This address did not give the file."""


def download(urls: Sequence[str], path: Path, md5: str, progress: Progress) -> None:
    """Fetch ``path`` from the first address that has it; until it is whole and right, ``path`` is not touched.

    Args:
        urls: the same file at several places.
        path: where it goes; its folder exists.
        md5: of the file, in hexadecimal.
        progress: told the bytes.

    Raises:
        SoftVQError: no address gave the right file, or it cannot be written.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    failures = []
    for url in urls:
        digest, done = hashlib.md5(usedforsecurity=False), 0
        try:
            with atomic_write(path) as file:
                for data, total in _chunks(url):
                    done += len(data)
                    digest.update(data)
                    file.write(data)
                    progress(f"downloading {path.name}", done, total)
                if digest.hexdigest() != md5:
                    raise _FailedError(f"it gave another file, with the MD5 {digest.hexdigest()} and not {md5}")
            return
        except _FailedError as failure:
            failures.append(f"{url}: {failure}")
    raise SoftVQError(f"could not fetch {path.name} ({'; '.join(failures)}); get it elsewhere and put it at {path}")


def _chunks(url: str) -> Iterator[tuple[bytes, int | None]]:
    """(data, length of the whole file if the server says it) until the end.

    Raises:
        _FailedError: the address cannot be reached, breaks off, or never ends.
    """
    done, total = 0, None
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "softvq"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            while done <= _MAX_BYTES and (data := response.read(_CHUNK)):
                done += len(data)
                yield data, total
    except (OSError, http.client.HTTPException) as error:
        raise _FailedError(one_line(error)) from error
    if done > _MAX_BYTES:
        raise _FailedError(f"it gave more than {_MAX_BYTES} bytes")
    if total is not None and done < total:
        raise _FailedError(f"it broke off after {done} of {total} bytes; try again")
