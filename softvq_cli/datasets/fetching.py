"""Fetching the named data sets, with torchvision's addresses and checksums, one process at a time."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from softvq_cli.datasets.download import download
from softvq_cli.datasets.named import Named, data_folder
from softvq_cli.datasets.progress import Progress, silent
from softvq_cli.datasets.status import Status, describe, known
from softvq_cli.errors import SoftVQError
from softvq_cli.files import atomic_write, make_folder


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> Status:
    """Download what is missing or damaged of a named data set.

    A second process that fetches at the same time waits for the first, and then finds everything there.

    Raises:
        UsageError: the name is unknown.
        SoftVQError: the folder cannot be written, or the network does not give the files.
    """
    named = known(name)
    status = describe(name, data_dir)
    if named is None or _is_good(status):
        return status
    data, progress = data_folder(data_dir), progress or silent
    with _alone(data, data / named.folder, progress):
        if not _is_good(describe(name, data_dir)):
            _FETCH[name](named, make_folder(data / named.folder), progress)
    return describe(name, data_dir)


def _is_good(status: Status) -> bool:
    return status.complete and status.intact is not False


@contextmanager
def _alone(data: Path, target: Path, progress: Progress) -> Iterator[None]:
    """Only one process at a time is in here for this data folder; a failure leaves nothing new but what was fetched.

    Args:
        data: the folder of all data sets.
        target: the folder in it that is filled.
        progress: hears that there is another process.
    """
    import filelock

    missing = [folder for folder in (target, *target.parents) if not folder.exists()]
    lock = filelock.FileLock(make_folder(data) / ".softvq.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress(f"waiting for another process that fetches into {data}", 0, None)
            lock.acquire()
    except OSError as error:
        raise SoftVQError(f"cannot write into {data}: {error.strerror or error}; nothing was fetched") from error
    try:
        yield
    except BaseException:
        _clear(Path(lock.lock_file), missing)
        raise
    finally:
        lock.release()


def _clear(lock: Path, missing: list[Path]) -> None:
    """Leave nothing of a fetch that failed: no lock, and no empty folder that was not there before.

    Who waits for the lock may then be in there beside another process: files are checked and renamed into place.
    """
    with contextlib.suppress(OSError):
        lock.unlink()
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()  # not if there is anything in it


def _fetch_idx(named: Named, folder: Path, progress: Progress) -> None:
    """NAME.gz from one of the mirrors, unpacked to NAME; the .gz stays, as torchvision leaves it."""
    from torchvision import datasets

    published = datasets.MNIST if named.folder.startswith("MNIST") else datasets.FashionMNIST
    for file, md5 in published.resources:
        packed, target = folder / file, folder / file.removesuffix(".gz")
        if _is_right(target, named.files[target.name]):
            continue
        if not _is_right(packed, md5):
            download([f"{mirror}{file}" for mirror in published.mirrors], packed, md5, progress)
        with atomic_write(target) as output:
            output.write(gzip.decompress(packed.read_bytes()))


def _fetch_svhn(named: Named, folder: Path, progress: Progress) -> None:
    from torchvision.datasets import SVHN

    for url, name, md5 in (SVHN.split_list[split] for split in ("train", "test")):
        if not _is_right(folder / name, md5):
            download([url], folder / name, md5, progress)


def _fetch_cifar(named: Named, folder: Path, progress: Progress) -> None:
    """The batches out of the one archive, which is removed afterwards."""
    from torchvision.datasets import CIFAR10

    archive = folder.parent / CIFAR10.filename
    if not _is_right(archive, CIFAR10.tgz_md5):
        download([CIFAR10.url], archive, CIFAR10.tgz_md5, progress)
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


_FETCH: dict[str, Callable[[Named, Path, Progress], None]] = {
    "mnist": _fetch_idx,
    "fashion-mnist": _fetch_idx,
    "svhn": _fetch_svhn,
    "cifar10": _fetch_cifar,
}
