"""The named data sets: where their files are, whether they are complete and undamaged, and their content.

The layout is torchvision's, so that a folder that torchvision filled works here and the other way round. Each file is
compared with its published MD5 every time it is read: that costs less than reading it.
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

from softvq_cli.datasets import cache
from softvq_cli.errors import InputError, Message, UsageError, one_line, unknown_name
from softvq_cli.files import on_disk

Arrays = tuple[np.ndarray, np.ndarray]
"""uint8 (N, H, W, C), int64 (N,)."""
Doubt = Callable[[str], None]
"""Is told the name of a file of which only the form could be checked."""

DIGITS = "digits"
_SYSTEM_DATA = Path("/usr/share/datasets")
"""Where Debian's packages put data sets: ``apt install dataset-fashion-mnist``."""


@dataclass(frozen=True)
class Named:
    """One data set that consists of files."""

    name: str
    description: str
    folder: str
    """Relative to the data folder."""
    files: dict[str, str | None]
    """File name → MD5, None where none was published."""
    class_names: tuple[str, ...]
    read: Callable[[Named, Path, str, Doubt], Arrays]
    """(this, the data folder, "train" or "test", who is told of doubtful files) → the split's arrays."""
    packed: dict[str, str] | None = None
    """For idx files: the MD5 of NAME.gz, which can replace NAME."""
    shapes: dict[str, tuple[int, ...]] | None = None
    """For idx files without an MD5: the shape of each; all classes have the same number of images."""

    def find(self, data: Path, name: str) -> tuple[Path, str | None] | None:
        """(path, MD5) of the file to read for ``name``, one with an MD5 first; None if there is none.

        It is looked for in torchvision's folder, in the data folder itself, and where Debian's packages put it. Only
        torchvision's folder is certain to be meant for this data set: elsewhere the content has to be the right one.
        """
        forms = [(name, self.files[name]), *([(f"{name}.gz", self.packed[name])] if self.packed else [])]
        forms.sort(key=lambda form: form[1] is None)
        own = data / self.folder
        for folder in (own, data, _SYSTEM_DATA / self.name):
            for file, md5 in forms:
                path = folder / file
                if path.is_file() and (folder == own or self._is_meant(path, name, md5)):
                    return path, md5
        return None

    def _is_meant(self, path: Path, name: str, md5: str | None) -> bool:
        """Whether a file has the published content, or at least its form and not that of another data set."""
        try:
            content = path.read_bytes()
        except OSError:
            return False
        if _md5(content) == md5:
            return True
        unpacked = _unpacked(content) if path.suffix == ".gz" else content
        if unpacked is None or self.files[name] is not None:
            return unpacked is not None and _md5(unpacked) == self.files[name]
        others = {known for named in NAMED.values() if named is not self for known in named.files.values()}
        return self._has_form(name, unpacked) and _md5(unpacked) not in others

    def contents(self, data: Path, name: str, doubt: Doubt) -> bytes:
        """The bytes of one file, unpacked, after its MD5 was compared.

        A .gz that was packed again has another MD5. If no MD5 of its content was published, its form is checked and
        ``doubt`` is told.

        Raises:
            InputError: the file is missing, unreadable or not the published one.
        """
        place = self.find(data, name)
        if place is None:
            raise InputError(f"{data / self.folder / name} is missing")
        path, md5 = place
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        packed = path.suffix == ".gz"
        unpacked = _unpacked(content) if packed else content
        if unpacked is not None and (md5 in (None, _md5(content)) or (packed and _md5(unpacked) == self.files[name])):
            return unpacked
        again = "delete it, and it is fetched again"
        if unpacked is not None and packed and self.files[name] is None:
            if not self._has_form(name, unpacked):
                raise InputError(
                    f"{path} is damaged or holds something else: its MD5 is not the published {md5}, and neither are "
                    f"the shape and the number of each class; {again}"
                )
            doubt(path.name)
            return unpacked
        more = Message("; a file of your own is read with {data} {}", path) if path.suffix == ".mat" else ""
        raise InputError("{} is damaged: its MD5 is not the published {}; {}{}", path, md5, again, more)

    def _has_form(self, name: str, content: bytes) -> bool:
        """Whether an idx file has the published shape and, if it holds labels, the same number of each class."""
        try:
            array = read_idx(content, name)
        except InputError:
            return False
        if self.shapes is None or array.shape != self.shapes[name]:
            return False
        classes = len(self.class_names)
        return array.ndim > 1 or bool((np.bincount(array, minlength=classes) == len(array) / classes).all())


def _unpacked(content: bytes) -> bytes | None:
    """The content of a .gz; None where it is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# ---- the published files


_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx_header(data: bytes) -> tuple[np.dtype, tuple[int, ...]] | None:
    """(type, shape) by the start of a file in MNIST's format; None where it is none.

    Two zero bytes, the type, the number of axes, their lengths.
    """
    kind = _IDX_TYPES.get(data[2]) if data[:2] == b"\0\0" and len(data) > 3 else None
    if kind is None or not data[3] or len(data) < 4 + 4 * data[3]:
        return None
    return np.dtype(kind), tuple(int(length) for length in np.frombuffer(data[4 : 4 + 4 * data[3]], ">u4"))


def read_idx(data: bytes, where: str, hint: str = "; delete it, and it is fetched again") -> np.ndarray:
    """The array in a file of MNIST's format, read-only; InputError: it is none, or not as long as it says."""
    header = idx_header(data)
    if header is None or len(data) != 4 + 4 * data[3] + math.prod(header[1]) * header[0].itemsize:
        raise InputError(f"{where} is damaged or not an idx file{hint}")
    values = np.frombuffer(data, header[0], offset=4 + 4 * data[3]).reshape(header[1])
    return values if header[0].itemsize == 1 else values.astype(header[0].newbyteorder("="))


def _read_idx_files(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    start = "train" if split == "train" else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    where = str(data / named.folder)
    images, labels = (read_idx(named.contents(data, name, doubt), f"{where}/{name}") for name in names)
    if (
        images.ndim != 3
        or images.dtype != np.uint8
        or labels.shape != images.shape[:1]
        or not len(labels)
        or labels.max() > 9
    ):
        raise InputError(f"{where}/{names[0]} and {names[1]} do not belong together; delete them to fetch them again")
    return images[..., None], labels.astype(np.int64)


def _read_svhn(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    """SVHN's .mat: ``X`` is 32x32x3xN, ``y`` is Nx1 with 10 for the digit 0."""
    from scipy.io import loadmat

    name = f"{split}_32x32.mat"
    try:
        content = loadmat(io.BytesIO(named.contents(data, name, doubt)), variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2:] != (3, len(labels)):
            raise ValueError(f"X has the shape {images.shape}, y has {len(labels)} labels")
    except InputError:
        raise
    except Exception as error:  # scipy raises many kinds on damaged bytes
        raise InputError(
            f"{data / name} is damaged or not SVHN's: {one_line(error)}; delete it, and it is fetched again"
        ) from error
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10


def _read_cifar(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    """CIFAR-10's pickled batches. A pickle runs what it says: only bytes with the published MD5 come here."""
    images, labels = [], []
    for name in named.files:
        if name.startswith("data_batch" if split == "train" else "test_batch"):
            batch = pickle.loads(named.contents(data, name, doubt), encoding="latin1")
            images.append(np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels.append(np.array(batch["labels"], np.int64))
    return np.concatenate(images), np.concatenate(labels)


def read_digits() -> Arrays:
    """scikit-learn's 1797 digits of 8x8 pixels, 0..16 scaled to 0..255."""
    # Its file without its code, whose import takes longer than a short training.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.submodule_search_locations
    with gzip.open(Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    images = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return images, table[:, -1].astype(np.int64)


# ---- which there are

DIGIT_NAMES = tuple("0123456789")
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
_MNIST_GZ_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_FASHION_GZ_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)

NAMED: dict[str, Named] = {
    "mnist": Named(
        name="mnist",
        description="70 000 handwritten digits, 28x28 grey",
        folder="MNIST/raw",
        files=dict(zip(_IDX, _MNIST_MD5, strict=True)),
        class_names=DIGIT_NAMES,
        read=_read_idx_files,
        packed=dict(zip(_IDX, _MNIST_GZ_MD5, strict=True)),
    ),
    "fashion-mnist": Named(
        name="fashion-mnist",
        description="70 000 pieces of clothing, 28x28 grey",
        folder="FashionMNIST/raw",
        files=dict.fromkeys(_IDX),
        class_names=_CLOTHES,
        read=_read_idx_files,
        packed=dict(zip(_IDX, _FASHION_GZ_MD5, strict=True)),
        shapes=dict(zip(_IDX, ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)), strict=True)),
    ),
    "svhn": Named(
        name="svhn",
        description="99 289 house number digits, 32x32 colour",
        folder="",
        files={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
        class_names=DIGIT_NAMES,
        read=_read_svhn,
    ),
    "cifar10": Named(
        name="cifar10",
        description="60 000 photographs of 10 kinds of things, 32x32 colour",
        folder="cifar-10-batches-py",
        files={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        read=_read_cifar,
    ),
}
"""The data sets that consist of files; ``digits`` comes with scikit-learn."""


def names() -> tuple[str, ...]:
    """Every known name."""
    return (DIGITS, *NAMED)


def known(name: str) -> Named | None:
    """The data set of this name, or None for digits, which has no files; UsageError: the name is unknown."""
    if name not in names():
        raise UsageError(unknown_name("data set", name, names()))
    return NAMED.get(name)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where the named data sets are: ``data_dir``, else ``$SOFTVQ_DATA``, else ``data`` in the cache folder.

    Raises:
        UsageError: it cannot be a path.
    """
    chosen = on_disk(str(data_dir or os.environ.get("SOFTVQ_DATA") or ""))
    if "\0" in chosen:
        raise UsageError(Message("{data_dir} holds a zero byte; give the path of a folder"))
    try:
        return Path(chosen).expanduser() if chosen else cache.cache_folder() / "data"
    except RuntimeError as error:
        raise UsageError("{data_dir} {}: {}", chosen, error) from error


@dataclass(frozen=True)
class Status:
    """A named data set on this machine."""

    name: str
    description: str
    path: Path | None
    """The folder of its files, whether they are there or not; None for digits."""
    present: bool
    """At least one of its files is there."""
    complete: bool
    """All of them are there."""
    intact: bool | None
    """All of them are the published ones; None: some are missing, or there is nothing to compare with."""
    size: int
    """Bytes of its files."""
    problem: str = ""
    """What is wrong, in one line."""


def describe(name: str, data_dir: str | os.PathLike[str] | None = None) -> Status:
    """Look for a named data set and compare every file that is there with its published MD5.

    Raises:
        UsageError: the name is unknown.
    """
    named = known(name)
    if named is None:
        return Status(DIGITS, "1 797 handwritten digits, 8x8 grey, part of scikit-learn", None, True, True, True, 0)
    data = data_folder(data_dir)
    places = {file: named.find(data, file) for file in named.files}
    missing = [file for file, place in places.items() if place is None]
    checks = {
        file: _check(named, data, file) and place[1] is not None for file, place in places.items() if place is not None
    }
    damaged = [file for file, check in checks.items() if check is None]
    return Status(
        name=name,
        description=named.description,
        path=next((place[0].parent for place in places.values() if place is not None), data / named.folder),
        present=len(missing) < len(places),
        complete=not missing,
        intact=False if damaged else True if not missing and all(checks.values()) else None,
        size=sum(place[0].stat().st_size for place in places.values() if place is not None),
        problem=f"{damaged[0]} is damaged" if damaged else f"{missing[0]} is missing" if missing else "",
    )


def _check(named: Named, data: Path, file: str) -> bool | None:
    """True: it has its MD5; False: there is only its form to go by; None: it is damaged."""
    doubted: list[str] = []
    try:
        content = named.contents(data, file, doubted.append)
        if named.packed:
            read_idx(content, file)
    except InputError:
        return None
    return not doubted
