"""Download the named data sets, from torchvision's addresses and with its checksums, one process at a time."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from softvq_cli.datasets.named import Named, Status, data_folder, describe, known
from softvq_cli.errors import SoftVQError, one_line
from softvq_cli.files import atomic_write, discard_abandoned, make_folder, remove
from softvq_cli.reporter import Reporter

_TIMEOUT_SECONDS = 30
_MAX_BYTES = 2 << 30
_CHUNK = 1 << 20
Download = tuple[Sequence[str], Path, str]
"""(addresses, target path, MD5)."""


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None, reporter: Reporter | None = None) -> Status:
    """Download missing or damaged files of a named data set.

    If another process is downloading them, this one waits and then finds them complete.
    """
    named = known(name)
    status = describe(name, data_dir)
    if named is None or status.intact:
        return status
    data, reporter = data_folder(data_dir), reporter or Reporter()
    with _alone(data, reporter):
        if not describe(name, data_dir).intact:
            _fetch(named, make_folder(data / named.folder), reporter)
    return describe(name, data_dir)


@contextmanager
def _alone(data: Path, reporter: Reporter) -> Iterator[None]:
    """Allow only one process at a time in the block for this data folder."""
    import filelock

    lock = filelock.FileLock(make_folder(data) / ".softvq.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            reporter.note(f"waiting for another process that downloads into {data}")
            lock.acquire()
    except OSError as error:
        raise SoftVQError(f"cannot write into {data}: {error.strerror or error}; nothing was downloaded") from error
    try:
        yield
    finally:
        lock.release()


def _fetch(named: Named, folder: Path, reporter: Reporter) -> None:
    """Download and unpack like torchvision, so that torchvision can use the files."""
    from torchvision import datasets

    if named.name == "svhn":
        splits = (datasets.SVHN.split_list[split] for split in ("train", "test"))
        _download([([url], folder / file, md5) for url, file, md5 in splits], reporter)
    elif named.name == "cifar10":
        archive = folder.parent / datasets.CIFAR10.filename
        _download([([datasets.CIFAR10.url], archive, datasets.CIFAR10.tgz_md5)], reporter)
        with tarfile.open(archive) as tar:
            for name in named.files:
                member = tar.extractfile(f"{folder.name}/{name}")
                assert member is not None  # the archive with this MD5 contains it
                _write(folder / name, member.read())
        remove(archive)
    else:
        theirs = datasets.MNIST if named.name == "mnist" else datasets.FashionMNIST
        packed = [
            (file, md5) for file, md5 in theirs.resources if not _is_right(folder / file[:-3], named.files[file[:-3]])
        ]
        _download(
            [([mirror + file for mirror in theirs.mirrors], folder / file, md5) for file, md5 in packed], reporter
        )
        for file, _ in packed:
            _write(folder / file[:-3], gzip.decompress((folder / file).read_bytes()))


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as output:
        output.write(content)


def _is_right(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def _download(files: Sequence[Download], reporter: Reporter) -> None:
    """Download the missing files, each from the first address that provides it."""
    missing = [file for file in files if not _is_right(file[1], file[2])]
    for number, (urls, path, md5) in enumerate(missing):
        failures: list[str] = []
        for url in urls:
            try:
                _download_file(url, path, md5, reporter)
                break
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{url}: {one_line(error)}")
        else:
            names = [path.name for _, path, _ in missing[number:]]
            raise SoftVQError(
                f"could not fetch {path.name} ({'; '.join(failures)}); get {' and '.join(names)} elsewhere and put "
                f"{'it' if len(names) == 1 else 'them'} into {path.parent}"
            )


def _download_file(url: str, path: Path, md5: str, reporter: Reporter) -> None:
    """Download one file; ``path`` changes only when it is complete and correct (OSError: this address failed)."""
    discard_abandoned(path.parent, path.name)
    digest, done = hashlib.md5(usedforsecurity=False), 0
    request = urllib.request.Request(url, headers={"User-Agent": "softvq"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response, atomic_write(path) as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        while done <= _MAX_BYTES and (data := _read(response)):
            done += len(data)
            digest.update(data)
            file.write(data)
            reporter.progress(f"downloading {path.name}", done, total)
        if total is not None and done < total:
            raise http.client.HTTPException(f"the download stopped after {done} of {total} bytes; try again")
        if digest.hexdigest() != md5:
            raise http.client.HTTPException(f"it gave another file, with the MD5 {digest.hexdigest()} and not {md5}")


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read the next bytes; connection errors must not look like disk errors to ``atomic_write``."""
    try:
        return response.read(_CHUNK)
    except OSError as error:
        raise http.client.HTTPException(one_line(error)) from error
