"""The files of the named data sets, as they were published → arrays."""

from __future__ import annotations

import io
import math
import pickle

import numpy as np

from softvq_cli.errors import InputError, one_line


def read_idx(data: bytes, where: str) -> np.ndarray:
    """MNIST's format: two zero bytes, the type (8: uint8), the number of axes, their lengths, the numbers.

    Returns:
        uint8, read-only.

    Raises:
        InputError: it is no such file, or not exactly as long as it says.
    """
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = tuple(int(length) for length in np.frombuffer(data[4 : 4 + 4 * axes], ">u4")) if axes else ()
    if not axes or len(shape) != axes or len(data) != 4 + 4 * axes + math.prod(shape):
        raise InputError(f"{where} is damaged or no idx file; delete it, and it is fetched again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_svhn(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """SVHN's .mat: ``X`` is 32x32x3xN, ``y`` is Nx1 with 10 for the digit 0.

    Returns:
        uint8 (N, 32, 32, 3), int64 (N,).

    Raises:
        InputError: it is no such file.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(io.BytesIO(data), variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2:] != (3, len(labels)):
            raise ValueError(f"X has the shape {images.shape}, y has {len(labels)} labels")
    except Exception as error:  # scipy raises many kinds on damaged bytes
        raise InputError(
            f"{where} is damaged or not SVHN's: {one_line(error)}; delete it, and it is fetched again"
        ) from error
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10


def read_cifar_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One of CIFAR-10's pickled batches. It runs what the pickle says: check the MD5 first.

    Returns:
        uint8 (N, 32, 32, 3), int64 (N,).
    """
    batch = pickle.loads(data, encoding="latin1")
    images = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(batch["labels"], np.int64)
