"""The named data sets: the location of their files, checks for completeness and damage, and reading.

The folder layout is torchvision's, so that both programs can share the files. Each file is compared with its published
MD5 every time it is read, which takes less time than reading it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import math
import os
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softvq_cli.datasets import cache, matlab
from softvq_cli.datasets.naming import check_expansion
from softvq_cli.errors import InputError, Message, UsageError, one_line, unknown_name
from softvq_cli.files import on_disk

Arrays = tuple[np.ndarray, np.ndarray]
"""uint8 (N, H, W, C), int64 (N,)."""

DIGITS = "digits"
_SYSTEM_DATA = Path("/usr/share/datasets")
"""The folder of Debian's data packages: ``apt install dataset-fashion-mnist``."""


@dataclass(frozen=True)
class Named:
    """One data set that is stored in files."""

    name: str
    description: str
    folder: str
    """Relative to the data folder."""
    files: dict[str, str]
    """File name → MD5 of its content."""
    class_names: tuple[str, ...]
    read: Callable[[Named, Path, str], Arrays]
    """(this, the data folder, "train" or "test") → the arrays of the split."""

    def find(self, data: Path, name: str) -> Path | None:
        """The file for ``name``, which for idx files may be NAME.gz; None if it does not exist.

        It is searched in torchvision's folder, in the data folder itself, and in the folder of Debian's packages. Only
        torchvision's folder certainly belongs to this data set; in the others, the content must match.
        """
        for folder in (data / self.folder, data, _SYSTEM_DATA / self.name):
            for path in (folder / name, folder / f"{name}.gz")[: 2 if "-idx" in name else 1]:
                if path.is_file() and (folder == data / self.folder or self.checked(path, name) is not None):
                    return path
        return None

    def contents(self, data: Path, name: str) -> bytes:
        """The uncompressed bytes of one file, after comparing its MD5."""
        path = self.find(data, name)
        if path is None:
            raise InputError(f"{data / self.folder / name} is missing")
        content = self.checked(path, name)
        if content is not None:
            return content
        wrong = f"the MD5 of its content is not the published {self.files[name]}"
        raise InputError(f"{path} is damaged: {wrong}; delete it to download it again")

    def checked(self, path: Path, name: str) -> bytes | None:
        """The uncompressed content of a file; None if it is not the published one."""
        try:
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == self.files[name] else None


# ---- the published files


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(file: io.BufferedIOBase, packed: int, where: str, hint: str = "") -> np.ndarray:
    """Read the array in a file of MNIST's format (InputError: another format, or a wrong length).

    The header has two zero bytes, the type, the number of axes, and their lengths. The size in the header is compared
    with the size of the file, ``packed`` bytes, before memory is allocated.
    """
    start = file.read(4)
    axes = file.read(4 * start[3]) if len(start) == 4 else b""
    kind = _IDX_TYPES.get(start[2]) if axes and start[:2] == b"\0\0" and len(axes) == 4 * start[3] else None
    if kind is not None:
        shape = np.frombuffer(axes, ">u4").tolist()
        size = math.prod(shape) * np.dtype(kind).itemsize
        check_expansion(where, packed, size)
        data = file.read(size + 1)
        if len(data) == size:
            return np.frombuffer(data, kind).reshape(shape).astype(np.dtype(kind).newbyteorder("="), copy=False)
    raise InputError(f"{where} is damaged or not an idx file{hint}")


def _read_idx_files(named: Named, data: Path, split: str) -> Arrays:
    start = "train" if split == "train" else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    where = str(data / named.folder)
    contents = (named.contents(data, name) for name in names)
    images, labels = (
        read_idx(io.BytesIO(content), len(content), f"{where}/{name}", "; delete it to download it again")
        for name, content in zip(names, contents, strict=True)
    )
    if (
        images.ndim != 3
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
        or not len(labels)
        or labels.max() > 9
    ):
        raise InputError(
            f"{where}/{names[0]} and {names[1]} do not belong together; delete them to download them again"
        )
    return images[..., None], labels.astype(np.int64)


def _read_svhn(named: Named, data: Path, split: str) -> Arrays:
    """Read SVHN's .mat files: ``X`` is 32x32x3xN, ``y`` is Nx1 with 10 for the digit 0."""
    name = f"{split}_32x32.mat"
    try:
        content = matlab.read(data / name, named.contents(data, name))
        images, labels = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1).astype(np.int64)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2:] != (3, len(labels)):
            raise ValueError(f"X has the shape {images.shape}, y has {len(labels)} labels")
    except InputError:
        raise
    except Exception as error:  # many kinds on damaged bytes
        raise InputError(
            f"{data / name} is damaged or not SVHN's: {one_line(error)}; delete it to download it again"
        ) from error
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10


def _read_cifar(named: Named, data: Path, split: str) -> Arrays:
    """Read CIFAR-10's pickled batches. Unpickling can run code, so only bytes with the published MD5 are accepted."""
    images, labels = [], []
    for name in named.files:
        if name.startswith("data_batch" if split == "train" else "test_batch"):
            batch = pickle.loads(named.contents(data, name), encoding="latin1")
            images.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.array(batch["labels"], np.int64))
    return np.concatenate(images), np.concatenate(labels)


def read_digits() -> Arrays:
    """Read scikit-learn's 1797 digits with 8x8 pixels, scaled from 0..16 to 0..255."""
    # The file is read directly, because importing scikit-learn's loader takes longer than a short training.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.submodule_search_locations
    with gzip.open(Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    images = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return images, table[:, -1].astype(np.int64)


# ---- the list of data sets

DIGIT_NAMES = tuple("0123456789")
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MNIST = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_FASHION = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
"""Only the MD5s of the .gz files are published; these are of the content of those .gz files."""
_SVHN = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
_CIFAR = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
NAMED = {
    named.name: named
    for named in (
        Named("mnist", "70 000 handwritten digits, 28x28 grey", "MNIST/raw", _MNIST, DIGIT_NAMES, _read_idx_files),
        Named(
            *("fashion-mnist", "70 000 pieces of clothing, 28x28 grey", "FashionMNIST/raw", _FASHION),
            *(_CLOTHES, _read_idx_files),
        ),
        Named("svhn", "99 289 house number digits, 32x32 colour", "", _SVHN, DIGIT_NAMES, _read_svhn),
        Named(
            *("cifar10", "60 000 photographs of 10 kinds of things, 32x32 colour", "cifar-10-batches-py", _CIFAR),
            *(_THINGS, _read_cifar),
        ),
    )
}
"""The data sets that are stored in files; ``digits`` is included in scikit-learn."""


def names() -> tuple[str, ...]:
    """The names of all named data sets."""
    return (DIGITS, *NAMED)


def known(name: str) -> Named | None:
    """The data set of this name; None for digits, which has no files (UsageError: the name is unknown)."""
    if name not in names():
        raise UsageError(unknown_name("data set", name, names()))
    return NAMED.get(name)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of the named data sets: ``data_dir``, ``$SOFTVQ_DATA``, or ``data`` in the cache folder."""
    chosen = on_disk(str(data_dir or os.environ.get("SOFTVQ_DATA") or ""))
    if "\0" in chosen:
        raise UsageError(Message("{data_dir} contains a zero byte; give the path of a folder"))
    try:
        return Path(chosen).expanduser() if chosen else cache.cache_folder() / "data"
    except RuntimeError as error:
        raise UsageError("{data_dir} {}: {}", chosen, error) from error


@dataclass(frozen=True)
class Status:
    """The state of a named data set on this machine."""

    name: str
    description: str
    path: Path | None
    """The folder of its files, which need not exist; None for digits."""
    present: bool
    """Whether at least one of its files exists."""
    complete: bool
    """Whether all of its files exist."""
    intact: bool | None
    """Whether all files are the published ones; None: some are missing."""
    size: int
    """Size of its files in bytes."""
    problem: str = ""
    """The problem in one line."""


def describe(name: str, data_dir: str | os.PathLike[str] | None = None) -> Status:
    """Check a named data set and compare every existing file with its published MD5."""
    named = known(name)
    if named is None:
        return Status(DIGITS, "1 797 handwritten digits, 8x8 grey, part of scikit-learn", None, True, True, True, 0)
    data = data_folder(data_dir)
    places = {file: named.find(data, file) for file in named.files}
    present = [path for path in places.values() if path is not None]
    missing = [file for file, path in places.items() if path is None]
    damaged = [file for file, path in places.items() if path is not None and named.checked(path, file) is None]
    return Status(
        name=name,
        description=named.description,
        path=present[0].parent if present else data / named.folder,
        present=bool(present),
        complete=not missing,
        intact=False if damaged else None if missing else True,
        size=sum(path.stat().st_size for path in present),
        problem=f"{damaged[0]} is damaged" if damaged else f"{missing[0]} is missing" if missing else "",
    )
