"""The named data sets: where their files lie, whether they are whole, and their content.

The layout is torchvision's, so that a folder that torchvision filled works here and the other way round.
Every file is compared with its published MD5 each time it is read: it costs less than reading it, and
nothing has to remember what was checked when.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softvq_cli.datasets import cache, readers
from softvq_cli.errors import InputError, UsageError, param
from softvq_cli.files import on_disk

Arrays = tuple[np.ndarray, np.ndarray]
"""uint8 (N, H, W, C), int64 (N,)."""
Doubt = Callable[[str], None]
"""Is told the name of a file whose form alone could be checked."""

DIGITS = "digits"


@dataclass(frozen=True)
class Named:
    """One data set of files."""

    description: str
    folder: str
    """Below the data folder."""
    files: dict[str, str | None]
    """File name → MD5, None where nobody published one."""
    class_names: tuple[str, ...]
    read: Callable[[Named, Path, str, Doubt], Arrays]
    """(this, the data folder, "train" or "test", who is told of doubtful files) → the split's arrays."""
    packed: dict[str, str] | None = None
    """For idx files: the MD5 of NAME.gz, which may stand for NAME."""
    shapes: dict[str, tuple[int, ...]] | None = None
    """For idx files without an MD5: what they hold; of each class there are as many."""

    def forms(self, name: str) -> list[tuple[str, str | None]]:
        """(file name, MD5) of the files that hold ``name``'s content, those that can be checked first."""
        forms: list[tuple[str, str | None]] = [(name, self.files[name])]
        if self.packed:
            forms.append((f"{name}.gz", self.packed[name]))
        return sorted(forms, key=lambda form: form[1] is None)

    def find(self, data: Path, name: str) -> tuple[Path, str | None] | None:
        """(path, MD5) of the file to read for ``name``, or None if there is none."""
        paths = ((data / self.folder / file, md5) for file, md5 in self.forms(name))
        return next(((path, md5) for path, md5 in paths if path.is_file()), None)


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where the named data sets lie: ``data_dir``, else ``$SOFTVQ_DATA``, else ``data`` in the cache folder.

    Raises:
        UsageError: it cannot be a path.
    """
    chosen = on_disk(str(data_dir or os.environ.get("SOFTVQ_DATA") or ""))
    if "\0" in chosen:
        raise UsageError(f"{param('data_dir')} holds a zero byte; give the path of a folder")
    try:
        return Path(chosen).expanduser() if chosen else cache.cache_folder() / "data"
    except RuntimeError as error:
        raise UsageError(f"{param('data_dir')} {chosen}: {error}") from error


def contents(named: Named, data: Path, name: str, doubt: Doubt) -> bytes:
    """The bytes of one file, unpacked, after comparing its MD5.

    Args:
        named: the data set.
        data: the data folder.
        name: of the file.
        doubt: is told of a file that was packed again, where there is no MD5 of the content and only its form is right.

    Raises:
        InputError: it is missing, unreadable or not the published one.
    """
    found = named.find(data, name)
    if found is None:
        raise InputError(f"{data / named.folder / name} is missing")
    path, md5 = found
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    packed = path.suffix == ".gz"
    unpacked = _unpacked(content) if packed else content
    if unpacked is not None and (md5 in (None, _md5(content)) or (packed and _md5(unpacked) == named.files[name])):
        return unpacked
    if unpacked is not None and packed and named.files[name] is None:
        if _has_its_form(named, name, unpacked):
            doubt(path.name)
            return unpacked
        raise InputError(
            f"{path} is damaged or holds something else: its MD5 is not the published {md5}, and neither are the shape "
            "and the number of each class; delete it, and it is fetched again"
        )
    own = "" if packed or path.suffix != ".mat" else f"; a file of your own is read with {param('data')} {path}"
    raise InputError(f"{path} is damaged: its MD5 is not the published {md5}; delete it, and it is fetched again{own}")


def _has_its_form(named: Named, name: str, content: bytes) -> bool:
    """Whether an idx file that was packed again has the shape of ``name``, and of labels as many of each class."""
    try:
        array = readers.read_idx(content, name)
    except InputError:
        return False
    if named.shapes is None or array.shape != named.shapes[name]:
        return False
    classes = len(named.class_names)
    return array.ndim > 1 or bool((np.bincount(array, minlength=classes) == len(array) / classes).all())


def _unpacked(content: bytes) -> bytes | None:
    """What a .gz holds; None where it is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read_idx(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    start = "train" if split == "train" else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    where = str(data / named.folder)
    images, labels = (readers.read_idx(contents(named, data, name, doubt), f"{where}/{name}") for name in names)
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels) or labels.max() > 9:
        raise InputError(f"{where}/{names[0]} and {names[1]} do not belong together; delete them to fetch them again")
    return images[..., None], labels.astype(np.int64)


def _read_svhn(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    name = f"{split}_32x32.mat"
    return readers.read_svhn(contents(named, data, name, doubt), str(data / name))


def _read_cifar(named: Named, data: Path, split: str, doubt: Doubt) -> Arrays:
    names = [name for name in named.files if name.startswith("data_batch" if split == "train" else "test_batch")]
    batches = [readers.read_cifar_batch(contents(named, data, name, doubt)) for name in names]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def read_digits() -> Arrays:
    """scikit-learn's 1797 digits of 8x8 pixels, 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return images, labels.astype(np.int64)


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
        description="70 000 handwritten digits, 28x28 grey",
        folder="MNIST/raw",
        files=dict(zip(_IDX, _MNIST_MD5, strict=True)),
        class_names=DIGIT_NAMES,
        read=_read_idx,
        packed=dict(zip(_IDX, _MNIST_GZ_MD5, strict=True)),
    ),
    "fashion-mnist": Named(
        description="70 000 pieces of clothing, 28x28 grey",
        folder="FashionMNIST/raw",
        files=dict.fromkeys(_IDX),
        class_names=_CLOTHES,
        read=_read_idx,
        packed=dict(zip(_IDX, _FASHION_GZ_MD5, strict=True)),
        shapes=dict(zip(_IDX, ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)), strict=True)),
    ),
    "svhn": Named(
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
"""The data sets of files; ``digits`` comes with scikit-learn and has none."""
