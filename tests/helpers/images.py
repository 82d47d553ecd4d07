"""Small images: in memory, and in files of every kind."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softvq_cli.config import DataConfig
from softvq_cli.datasets import Dataset, load
from softvq_cli.errors import InputError
from softvq_cli.reporter import Reporter


def blobs(n: int = 64, shape: tuple[int, int, int] = (8, 8, 1), classes: int = 3, seed: int = 0) -> Dataset:
    """Images of a few classes: a fixed random pattern per class, with noise."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).uniform(30, 220, (classes, *shape))
    labels = np.arange(n) % classes
    images = np.clip(patterns[labels] + random.normal(0, 20, (n, *shape)), 0, 255).astype(np.uint8)
    return Dataset("blobs", "train", images, labels.astype(np.int64), tuple(f"c{i}" for i in range(classes)))


def save_blobs(path: Path, n: int = 40, **more: Any) -> Path:
    """:func:`blobs` in a .npz file."""
    dataset = blobs(n, **more)
    np.savez(path, images=dataset.images, labels=dataset.labels)
    return path


def pixels(seed: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    """Random noise, uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scaled(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Bytes of the values from ``low`` to ``high``, or from the smallest to the largest."""
    low, high = values.min() if low is None else low, values.max() if high is None else high
    shares = (values.astype(np.float64) - float(low)) / (float(high) - float(low))
    return np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def dicom(values: np.ndarray, kind: str = "MONOCHROME2", **tags: Any) -> bytes:
    """A DICOM file of one (H, W) or several (N, H, W) images of whole numbers, as pydicom writes it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    found.Rows, found.Columns = values.shape[-2:]
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, kind
    found.BitsAllocated = found.BitsStored = values.dtype.itemsize * 8
    found.HighBit, found.PixelRepresentation = found.BitsStored - 1, 0
    if values.ndim == 3:
        found.NumberOfFrames = len(values)
    found.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(found, name, value)
    file = io.BytesIO()
    found.save_as(file, enforce_file_format=True)
    return file.getvalue()


def hub_table(path: Path, files: list[bytes], labels: list[int], names: list[str]) -> Path:
    """Write a Parquet file as on Hugging Face's hub: encoded images, and labels with names in the features."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": data, "path": None} for data in files]
    parquet.write_table(pa.table({"image": rows, "label": labels}, schema=schema), path)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    """Write a Parquet file of these columns; or an Arrow stream, as ``save_to_disk`` does."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if path.suffix == ".arrow":
        with pa.ipc.new_stream(str(path), table.schema) as file:
            file.write_table(table)
    else:
        pq.write_table(table, path)
    return path


def rows_text(kind: str, rows: list[dict[str, Any]]) -> str:
    """The content of a list, ``csv``, ``csv;``, ``tsv`` or ``jsonl``; None is an empty cell."""
    if kind == "jsonl":
        return "\n".join(map(json.dumps, rows))
    mark = {"tsv": "\t", "csv;": ";"}.get(kind, ",")
    lines = [[*rows[0]], *(row.values() for row in rows)]
    return "\n".join(mark.join("" if cell is None else str(cell) for cell in line) for line in lines)


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def grey_files(names: list[str]) -> dict[str, bytes]:
    """A grey PNG for each name; the seed of its noise is its position."""
    return {name: encoded(pixels(seed)) for seed, name in enumerate(names)}


CATS_AND_DOGS = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(5)]


def notes(data: Dataset) -> tuple[str, ...]:
    """The notes on the data, with settings in Python spelling."""
    return data.notes


def read(path: object, split: str = "all", **settings: object) -> Dataset:
    return load(DataConfig(data=str(path), **settings), split)  # type: ignore[arg-type]


def seeds_of(data: Dataset) -> list[int]:
    """The seeds of grey images that :func:`pixels` made."""
    return [next(seed for seed in range(99) if np.array_equal(image[..., 0], pixels(seed))) for image in data.images]


def seen(data: Dataset) -> tuple[list[int], list[int] | None, tuple[str, ...]]:
    """The seeds of the images, their labels and the names of the classes."""
    return seeds_of(data), None if data.labels is None else data.labels.tolist(), data.class_names


def facts(data: Dataset) -> tuple[object, ...]:
    """All that must be the same when data are read again."""
    return data.fingerprint, data.class_names, data.file_names, data.notes


class Listener(Reporter):
    """Keeps the notes, and progress reports as tuples."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.told: list[tuple[str, float, int | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, name: str, done: float, total: int | None, detail: str = "") -> None:
        self.told.append((name, done, total))


def unusable(
    path: object, *words: str, kind: type[Exception] = InputError, split: str = "all", **settings: object
) -> None:
    """Check that the data are refused in one line that names a setting, a file or a value; not the whole message."""
    with pytest.raises(kind) as error:
        read(path, split, **settings)
    text = str(error.value)
    assert text.isprintable() and all(word in text for word in words), text


# ---- archives

TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def make_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w", change: dict[str, object] | None = None) -> Path:
    """A tar of these files; ``change`` sets attributes of the last header."""
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change and name == list(files)[-1]:
                for attribute, value in change.items():
                    setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    suffix = next(suffix for suffix in (".zip", *TARS) if path.name.endswith(suffix))
    return make_zip(path, files) if suffix == ".zip" else make_tar(path, files, TARS[suffix])
