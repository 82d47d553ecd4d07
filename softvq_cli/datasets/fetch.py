"""Downloading the named data sets, from torchvision's addresses and with its checksums, one process at a time."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from softvq_cli.datasets.named import Named, Status, data_folder, describe, known
from softvq_cli.errors import SoftVQError, one_line
from softvq_cli.files import atomic_write, make_folder
from softvq_cli.reporter import Reporter

_TIMEOUT_SECONDS = 30
_MAX_BYTES = 2 << 30
_CHUNK = 1 << 20


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None, reporter: Reporter | None = None) -> Status:
    """Download the files of a named data set that are missing or damaged.

    A second process that fetches at the same time waits for the first and then finds everything there.
    """
    named = known(name)
    status = describe(name, data_dir)
    if named is None or _is_good(status):
        return status
    data, reporter = data_folder(data_dir), reporter or Reporter()
    with _alone(data, data / named.folder, reporter):
        if not _is_good(describe(name, data_dir)):
            _FETCH[name](named, make_folder(data / named.folder), reporter)
    return describe(name, data_dir)


def _is_good(status: Status) -> bool:
    return status.complete and status.intact is not False


@contextmanager
def _alone(data: Path, target: Path, reporter: Reporter) -> Iterator[None]:
    """Only one process at a time runs the body for this data folder; a failure leaves nothing but fetched files."""
    import filelock

    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
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
    except BaseException:
        _clear(Path(lock.lock_file), missing)
        raise
    finally:
        lock.release()


def _clear(lock: Path, missing: list[Path]) -> None:
    """After a failure: remove the lock, and the empty folders that were not there before.

    A process that waits for the lock may then run beside another one: files are checked and renamed into place.
    """
    with contextlib.suppress(OSError):
        lock.unlink()
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()  # fails if there is anything in it


def _fetch_idx(named: Named, folder: Path, reporter: Reporter) -> None:
    """NAME.gz from one of the mirrors, unpacked to NAME; the .gz stays, as torchvision leaves it."""
    from torchvision import datasets

    published = datasets.MNIST if named.name == "mnist" else datasets.FashionMNIST
    targets = {file: folder / file.removesuffix(".gz") for file, _ in published.resources}
    wanted = [
        ([f"{mirror}{file}" for mirror in published.mirrors], folder / file, md5)
        for file, md5 in published.resources
        if not _is_right(targets[file], named.files[targets[file].name])
    ]
    _download(wanted, reporter)
    for _, packed, _ in wanted:
        with atomic_write(targets[packed.name]) as output:
            output.write(gzip.decompress(packed.read_bytes()))


def _fetch_svhn(named: Named, folder: Path, reporter: Reporter) -> None:
    from torchvision.datasets import SVHN

    splits = (SVHN.split_list[split] for split in ("train", "test"))
    _download([([url], folder / name, md5) for url, name, md5 in splits], reporter)


def _fetch_cifar(named: Named, folder: Path, reporter: Reporter) -> None:
    """The batches from the one archive, which is removed afterwards."""
    from torchvision.datasets import CIFAR10

    archive = folder.parent / CIFAR10.filename
    _download([([CIFAR10.url], archive, CIFAR10.tgz_md5)], reporter)
    with tarfile.open(archive) as tar:
        for name in named.files:
            member = tar.extractfile(f"{folder.name}/{name}")
            if member is not None:  # always so in the archive with this MD5
                with atomic_write(folder / name) as output:
                    output.write(member.read())
    archive.unlink()


def _is_right(path: Path, md5: str | None) -> bool:
    """Whether the file is there and has this MD5."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


_FETCH: dict[str, Callable[[Named, Path, Reporter], None]] = {
    "mnist": _fetch_idx,
    "fashion-mnist": _fetch_idx,
    "svhn": _fetch_svhn,
    "cifar10": _fetch_cifar,
}


# ---- from the network


class _FailedError(Exception):
    """This address did not give the file."""


def _download(files: Sequence[tuple[Sequence[str], Path, str]], reporter: Reporter) -> None:
    """Fetch those of the files (addresses, path, MD5) that are not there yet."""
    missing = [(urls, path, md5) for urls, path, md5 in files if not _is_right(path, md5)]
    for number, (urls, path, md5) in enumerate(missing):
        failures = _download_file(urls, path, md5, reporter)
        if failures:
            names = [path.name for _, path, _ in missing[number:]]
            raise SoftVQError(
                f"could not fetch {path.name} ({'; '.join(failures)}); get {' and '.join(names)} elsewhere and put "
                f"{'it' if len(names) == 1 else 'them'} into {path.parent}"
            )


def _download_file(urls: Sequence[str], path: Path, md5: str, reporter: Reporter) -> list[str]:
    """Fetch ``path`` from the first address that has it; it is not touched until the file is complete and right."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    failures: list[str] = []
    for url in urls:
        digest, done = hashlib.md5(usedforsecurity=False), 0
        try:
            with atomic_write(path) as file:
                for data, total in _chunks(url):
                    done += len(data)
                    digest.update(data)
                    file.write(data)
                    reporter.progress(f"downloading {path.name}", done, total)
                if digest.hexdigest() != md5:
                    raise _FailedError(f"it gave another file, with the MD5 {digest.hexdigest()} and not {md5}")
            return []
        except _FailedError as failure:
            failures.append(f"{url}: {failure}")
    return failures


def _chunks(url: str) -> Iterator[tuple[bytes, int | None]]:
    """(data, length of the whole file if the server says it) until the end."""
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
        raise _FailedError(f"the download stopped after {done} of {total} bytes; try again")
