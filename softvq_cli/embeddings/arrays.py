"""Embedding files: their content, how they are read and how they are written.

``NAME.npy`` is float32 (N, d), readable with ``numpy.load``; ``NAME.labels.npy`` (int64 (N,)) and ``NAME.json`` are
stored next to it. Files are memory-mapped and checked; their content is not trusted and nothing in it is executed.
Rows are written one batch at a time. A reader never sees new latents with old labels: all three files are completed
under temporary names; the old side files are removed; then the latents and the new side files are renamed into place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softvq_cli import npy
from softvq_cli.config import BATCH, RunConfig
from softvq_cli.datasets.dataset import Rows
from softvq_cli.embeddings import parquet
from softvq_cli.embeddings.embedding import Embedding
from softvq_cli.errors import InputError, UsageError, shown
from softvq_cli.files import atomic_write, discard_abandoned, read_json, remove
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.training.checkpoint import Checkpoint

FORMAT = "softvq-embedding"
VERSION = 1
TABLE = ".parquet"
"""The suffix of a table, see :mod:`softvq_cli.embeddings.parquet`."""


def labels_path(path: str | os.PathLike[str]) -> Path:
    """``NAME.npy`` → ``NAME.labels.npy``."""
    return Path(path).with_suffix(".labels.npy")


def info_path(path: str | os.PathLike[str]) -> Path:
    """``NAME.npy`` → ``NAME.json``."""
    return Path(path).with_suffix(".json")


def check_name(path: Path) -> None:
    """Refuse a name whose side files would overwrite ``path``."""
    if path.suffix != ".npy" or path.name.endswith(".labels.npy"):
        raise UsageError(
            f"embeddings are written to a file that ends in .npy (and not in .labels.npy) or, as one table, in "
            f".parquet, not {path}"
        )


def shard_path(path: Path, shard: tuple[int, int]) -> Path:
    """``NAME.npy`` → ``NAME-3-of-8.npy``, with zero padding, so that names sort in the order of the parts."""
    return path.with_stem(f"{path.stem}-{shard[0]:0{len(str(shard[1]))}d}-of-{shard[1]}")


def joined(parts: Sequence[Embedding]) -> Embedding:
    """Concatenate the rows of several files: parts of ``embed --shard`` in their order, others as given.

    InputError: the files differ in model, representation, data or classes, or a part is missing or duplicated.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    same = ("checkpoint_sha256", "representation", "dataset", "split", "fingerprint", "class_names")
    for part in parts:
        differ = [name for name in same if part.info.get(name) != first.info.get(name)]
        if part.z.shape[1] != first.z.shape[1] or (part.labels is None) != (first.labels is None):
            differ.append("columns or labels")
        if differ:
            raise InputError(f"{first.path} and {part.path} are no parts of one embedding: their {differ[0]} differ")
    shards = [part.info.get("shard") for part in parts]
    if any(shards):
        if sorted(shard or [0, 0] for shard in shards) != [[number + 1, len(parts)] for number in range(len(parts))]:
            raise InputError(
                "{} and the files with it are not the parts of one embedding, each once: they are {}",
                *(first.path, ", ".join("no part" if shard is None else "{} of {}".format(*shard) for shard in shards)),
            )
        parts = sorted(parts, key=lambda part: part.info["shard"][0])
    names = [name for part in parts for name in part.info.get("file_names") or ()]
    info = {name: value for name, value in first.info.items() if name != "shard"}
    info |= {"n": sum(map(len, parts)), "file_names": names or None} if info else {}
    labels = None if first.labels is None else np.concatenate([part.labels for part in parts])
    return Embedding(parts[0].path, np.concatenate([part.z for part in parts]), labels, first.class_names, info)


def groups_of_parts(embeddings: Sequence[Embedding]) -> list[list[Embedding]]:
    """Group the files: parts from ``embed --shard`` of the same embedding belong together."""
    groups: dict[Any, list[Embedding]] = {}
    for embedding in embeddings:
        whole = embedding.path.with_stem(re.sub(r"-\d+-of-\d+$", "", embedding.path.stem))
        key = whole if "shard" in embedding.info else len(groups)  # a whole file may be both train and test
        groups.setdefault(key, []).append(embedding)
    return list(groups.values())


def first_row_not_finite(rows: np.ndarray) -> int | None:
    """Index of the first row of ``rows`` (N, d) with NaN or infinity; None if all are finite."""
    finite = np.isfinite(rows).all(axis=1)
    return None if finite.all() else int(finite.argmin())


def read(
    path: str | os.PathLike[str] | Sequence[Path],
    labels: str | os.PathLike[str] | None = None,
    *,
    indices: bool = False,
) -> Embedding:
    """Open an embedding file, or any two-dimensional ``.npy`` file of numbers.

    ``path`` is a ``.npy`` file, or a Parquet table with a column ``vector`` and optionally ``label``; several files are
    concatenated, see :func:`joined`. ``labels`` is a ``.npy`` file of integers, one per row, without class names; the
    default is ``NAME.labels.npy`` if it exists. With ``indices``, codeword indices are accepted, which cannot be
    clustered, probed or mapped.

    InputError: a file is missing, damaged or of another kind; it has NaN or infinity, fewer than two rows, or codeword
    indices; or the numbers of labels and rows differ.
    """
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else list(path)
    embedding = joined([open_rows(each, own_labels=labels is None) for each in paths])
    if labels is not None:
        numbers = _read_labels(Path(labels), embedding.path, len(embedding))
        embedding = dataclasses.replace(embedding, labels=numbers, class_names=())
    if len(embedding) < 2:
        raise InputError(f"{path} has only one row: at least two are needed")
    if embedding.info.get("representation") == "codes" and not indices:
        raise InputError(
            "{} holds code numbers, which have no distances: embed with {what} z_q for the codewords themselves",
            embedding.path,
        )
    return embedding


def read_stored(path: Path, checkpoint_sha256: str, fingerprint: str) -> Embedding | None:
    """The embedding in ``path`` if it is complete and belongs to this checkpoint and split, else None."""
    try:
        stored = read(path)
    except InputError:
        return None
    wanted = {"checkpoint_sha256": checkpoint_sha256, "fingerprint": fingerprint}
    return stored if stored.info.items() >= wanted.items() else None


def open_rows(path: Path, *, own_labels: bool = True) -> Embedding:
    """The same as :func:`read` for any number of rows; ``own_labels``: also open the labels next to the file."""
    y: np.ndarray | None
    if path.suffix == TABLE:  # read into memory
        stored, numbers, names, stamp = parquet.read(path)
        z, of_labels, info = _as_finite_rows(stored, path), path, _checked_info(stamp, path, stored.shape, path)
        y = None if numbers is None else _as_int64(numbers, path)
    else:
        z = _as_finite_rows(_open_array(path, "embeddings", ("rows", "latent dimensions")), path)
        beside, of_labels = info_path(path), labels_path(path)
        info = _checked_info(read_json(beside), beside, z.shape, path) if beside.exists() else {}
        y = _read_labels(of_labels, path, len(z)) if own_labels and of_labels.exists() else None
        names = tuple(info.get("class_names", ()))
    if y is None or not own_labels:
        return Embedding(path, z, None, (), info)
    if names and not (y.min() >= 0 and y.max() < len(names)):
        raise InputError(f"{of_labels} has labels outside its {len(names)} classes; embed again")
    return Embedding(path, z, y, names, info)


def _read_labels(path: Path, rows_path: Path, n: int) -> np.ndarray:
    """Read labels, int64 (n,)."""
    y = _open_array(path, "labels", ("rows",))
    if y.dtype.kind not in "iu":
        raise InputError(f"{path} holds {y.dtype}: labels are whole numbers; save them with .astype('int64')")
    if len(y) != n:
        raise InputError(f"{path} has {len(y)} labels, {rows_path} has {n} rows: they must be equal in number")
    return _as_int64(y, path)


def _as_int64(y: np.ndarray, path: Path) -> np.ndarray:
    if y.dtype.itemsize == 8 and y.dtype.kind == "u" and y.max() > np.iinfo(np.int64).max:
        raise InputError(f"{path} has labels above 2^63 - 1")
    return np.array(y, dtype=np.int64)


def _open_array(path: Path, kind: str, axes: tuple[str, ...]) -> np.ndarray:
    """Map a ``.npy`` file of real numbers read-only, without unpickling; its header is checked before allocation."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file: give the .npy file of the {kind}")
    array = npy.map_file(path)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        what = "whole numbers, one per class" if kind == "labels" else "real numbers of at most 64 bits"
        raise InputError(f"{path} holds {str(array.dtype)[:40]}: {kind} are {what}")
    if array.ndim != len(axes) or not array.size:
        raise InputError(f"{path} has the shape {array.shape}: {kind} have the axes ({', '.join(axes)}), none empty")
    return array


def _as_finite_rows(stored: np.ndarray, path: Path) -> np.ndarray:
    """The rows as float32, or float64 if float32 would round them, in C order; the memory map itself if possible.

    Values too large for float32 are refused in either case, so that all squares fit into float64.
    """
    kind = np.result_type(stored.dtype.newbyteorder("="), np.float32)
    same = stored.dtype == kind and stored.flags.c_contiguous
    z = stored if same else np.empty(stored.shape, kind)
    step = max(1, (1 << 22) // stored.shape[1])
    for start in range(0, len(z), step):
        rows = z[start : start + step]
        if not same:
            rows[:] = stored[start : start + step]
        with np.errstate(over="ignore"):
            bad = first_row_not_finite(rows.astype(np.float32, copy=False))
        if bad is not None:
            raise InputError(f"{path}: row {start + bad} (from 0) has NaN, infinity or a number too large for float32")
    return z


def _checked_info(info: Any, beside: Path, shape: tuple[int, ...], rows: Path) -> dict[str, Any]:
    """``info`` from the file ``beside`` if softvq wrote it for ``rows``; {} for files of other programs."""
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        return {}
    version = info.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InputError(
            f"{beside} has format version {shown(version)}, but this program reads {VERSION}: update softvq"
        )
    for name, fits in _FIELDS.items():
        if name in info and not fits(info[name]):
            raise InputError(f"{beside} is damaged: its {name} is invalid; embed again")
    if (info.get("n"), info.get("d")) != shape:
        raise InputError(
            f"{beside} describes {shown(info.get('n'))} rows of {shown(info.get('d'))}, {rows} has {shape[0]} of "
            f"{shape[1]}: they do not belong together; embed again or remove the .json"
        )
    return info


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_config(value: Any) -> bool:
    with contextlib.suppress(UsageError):
        RunConfig.from_dict(value)
        return True
    return False


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "class_names": _is_names,
    "file_names": lambda value: value is None or _is_names(value),
    "config": _is_config,
    "step": lambda value: type(value) is int,
    "shard": lambda value: isinstance(value, list) and [type(number) for number in value] == [int, int],
    **dict.fromkeys(("dataset", "split", "representation", "checkpoint_sha256", "fingerprint"), _is_text),
}
"""Checks for the optional fields of ``NAME.json``."""


def write(
    path: str | os.PathLike[str],
    batches: Iterable[np.ndarray],
    n: int,
    *,
    labels: np.ndarray | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Stream ``n`` rows, in batches (B, d) of one dtype, to ``NAME.npy``, which appears when it is complete.

    ``labels``, int64 (n,), are written to ``NAME.labels.npy`` and ``info`` to ``NAME.json``; old side files are
    replaced or removed. UsageError: the name does not end in ``.npy``, or ends in ``.labels.npy``. InputError: a row is
    not finite. SoftVQError: a file cannot be written. After an error, the old files are unchanged.
    """
    path, batches = Path(path), iter(batches)
    check_name(path)
    first = next(batches)  # it determines the width and dtype of the file
    d, dtype = first.shape[1], first.dtype.newbyteorder("<")
    for target in (path, labels_path(path), info_path(path)):
        discard_abandoned(target.parent, glob.escape(target.name))
    with contextlib.ExitStack() as stack:  # closes in reverse order: latents, labels, info
        files = []
        if info is not None:
            files.append(stack.enter_context(atomic_write(info_path(path))))
            stamped = {"format": FORMAT, "version": VERSION, "n": n, "d": d, **info}
            files[-1].write(json.dumps(stamped, indent=2, allow_nan=False).encode() + b"\n")
        if labels is not None:
            if labels.shape != (n,):
                raise ValueError(f"labels of shape {labels.shape} do not fit {n} rows")
            files.append(stack.enter_context(atomic_write(labels_path(path))))
            np.lib.format.write_array(files[-1], labels.astype("<i8"), version=(1, 0), allow_pickle=False)
        files.append(stack.enter_context(atomic_write(path)))
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(files[-1], header)
        written = 0
        for rows in itertools.chain([first], batches):
            if rows.shape[1:] != (d,):
                raise ValueError(f"rows of shape {rows.shape} do not fit an array of {d} columns")
            if (bad := first_row_not_finite(rows)) is not None:
                raise InputError(
                    f"row {written + bad} is NaN or infinite, so {path} was not written: "
                    "check the images and the weights of the checkpoint"
                )
            files[-1].write(np.ascontiguousarray(rows, dtype=dtype).data)
            written += len(rows)
        if written != n:
            raise ValueError(f"{written} rows were written of {n}")
        for file in files:  # flush to disk before the first old file is removed
            file.flush()
            os.fsync(file.fileno())
        for old in (labels_path(path), info_path(path)):
            remove(old)


def embed(
    checkpoint: Checkpoint,
    dataset: Dataset,
    path: str | os.PathLike[str],
    *,
    what: str = "z_e",
    batch_size: int = BATCH,
    rows: np.ndarray | None = None,
    shard: tuple[int, int] | None = None,
    reporter: Reporter | None = None,
) -> Embedding:
    """Write a representation of every image of ``dataset``, in order, with one batch in memory at a time.

    ``what`` is a name in ``softvq_cli.words.REPRESENTATIONS``, written to ``NAME.npy``, ``NAME.labels.npy`` (with
    labels) and ``NAME.json``; ``rows`` is the representation (N, d) if it has already been computed; ``shard`` (I, N)
    selects the I-th of N parts of the images, counted from 1. InputError: the bottleneck does not have the
    representation, the data set is empty, or a value is not finite. SoftVQError: a file cannot be written.
    """
    from softvq_cli.model import representations

    n = len(dataset)
    if n == 0:
        raise InputError(f"the {dataset.split} split of {dataset.name} has no images to embed")
    reporter, images, part = reporter or Reporter(), dataset.images, slice(0, n)
    if shard is not None:
        part = slice(n * (shard[0] - 1) // shard[1], n * shard[0] // shard[1])
        if part.start == part.stop:
            raise InputError(f"part {shard[0]} of {shard[1]} has none of the {n} images of {dataset.name}")
        images = Rows(images, np.arange(n)[part])  # type: ignore[assignment]
    info = {
        "dataset": dataset.name,
        "split": dataset.split,
        "representation": what,
        "checkpoint_sha256": checkpoint.sha256,
        "step": checkpoint.step,
        "fingerprint": dataset.fingerprint,
        "config": checkpoint.config.shared().as_dict(),
        "class_names": list(dataset.class_names),
        "file_names": None if dataset.file_names is None else list(dataset.file_names[part]),
        **({} if shard is None else {"shard": list(shard)}),
    }

    def batches() -> Iterator[np.ndarray]:
        done = 0
        for batch in [rows] if rows is not None else representations(checkpoint.model, images, what, batch_size):
            yield batch
            done += len(batch)
            reporter.progress("embedding", done, len(images))

    write(path, batches(), len(images), labels=None if dataset.labels is None else dataset.labels[part], info=info)
    return open_rows(Path(path))
