"""Which axis of an array is what: (N, H, W, C) from the shapes that people have."""

from __future__ import annotations

import math

import numpy as np

from softvq_cli.config import image_shape
from softvq_cli.errors import InputError, param

_CHANNELS = (1, 3)


def as_images(array: np.ndarray, where: str, setting: str | None, labels: int | None) -> tuple[np.ndarray, str]:
    """A view of (N, H, W, C), and a line on what was done to get it, perhaps empty.

    Args:
        array: (N, H, W), (N, H, W, C), (N, C, H, W), with labels (H, W, C, N), or with ``setting`` (N, H·W·C).
        where: what to call it.
        setting: ``image_shape``, the shape of one image.
        labels: how many labels go with it.

    Raises:
        InputError: it is no array of images, or may be one in two ways.
    """
    if array.ndim and array.size == 0:
        raise InputError(f"{where} holds no images: its shape is {array.shape}")
    if setting is not None:
        return _as_given(array, where, image_shape(setting), setting)
    kinds = {reading: _reshaped(array, reading) for reading in _readings(array, labels)}
    if len(kinds) == 1:
        ((reading, images),) = kinds.items()
        return images, "" if reading in ("NHW", "NHWC") else f"the axes of {where} are taken as {_AXES[reading]}"
    shape = tuple(array.shape)
    if kinds:
        ways = " or ".join(_way(reading, images) for reading, images in kinds.items())
        raise InputError(f"{where} has the shape {shape}, which may be {ways}: say which with {param('image_shape')}")
    raise InputError(
        f"{where} has the shape {shape}; images are (N, H, W), (N, H, W, 1) or (N, H, W, 3), or with the channels first"
        + (_flat_hint(array.shape[1]) if array.ndim == 2 else "")
    )


def label_count(labels: np.ndarray) -> int | None:
    """How many images these labels are for, where that is certain."""
    sizes = [size for size in labels.shape if size > 1]
    return math.prod(sizes) if len(sizes) <= 1 and labels.ndim in (1, 2) else None


def _way(reading: str, images: np.ndarray) -> str:
    """One of several things that a shape may be, and how to say so."""
    height, width, channels = images.shape[1:]
    setting = (channels, height, width) if reading in ("NCHW", "CHW") else (height, width, channels)
    count = f"{len(images)} images" if len(images) > 1 else "one image"
    return f"{count} of {height}x{width}x{channels} ({','.join(map(str, setting))})"


_AXES = {
    "NCHW": "(N, C, H, W)",
    "HWCN": "(H, W, C, N)",
    "CHW": "(C, H, W) of one image",
    "HWC": "(H, W, C) of one image",
}


def _readings(array: np.ndarray, labels: int | None) -> list[str]:
    """The orders of axes that this shape may have."""
    shape = array.shape
    if array.ndim == 3:
        found = ["NHW"]
        if shape[2] in _CHANNELS and shape[:2] != (1, 1):
            found.append("HWC")
        if shape[0] == 3 and shape[2] not in _CHANNELS:
            found.append("CHW")
        count = {"NHW": shape[0], "HWC": 1, "CHW": 1}
    elif array.ndim == 4:
        found = [name for name, axis in (("NHWC", 3), ("NCHW", 1), ("HWCN", 2)) if shape[axis] in _CHANNELS]
        count = {"NHWC": shape[0], "NCHW": shape[0], "HWCN": shape[3]}
        if labels is None and len(found) > 1 and "HWCN" in found:
            found.remove("HWCN")  # only labels can tell that the images come last
        if {"NHWC", "NCHW"} <= set(found) and shape[1] == 1 and shape[2:] == (1, 1):
            found.remove("NCHW")
    else:
        return []
    return [name for name in found if count[name] == labels] or found


def _reshaped(array: np.ndarray, reading: str) -> np.ndarray:
    """(N, H, W, C)."""
    if reading == "NHW":
        return array[..., None]
    if reading in ("HWC", "CHW"):
        return (array if reading == "HWC" else np.moveaxis(array, 0, -1))[None]
    return {"NHWC": array, "NCHW": np.moveaxis(array, 1, -1), "HWCN": np.moveaxis(array, -1, 0)}[reading]


def _as_given(array: np.ndarray, where: str, shape: tuple[int, int, int], setting: str) -> tuple[np.ndarray, str]:
    """By the shape of one image: rows of it, or the array as it stands."""
    channels_first = shape[2] not in _CHANNELS
    plain = shape[:2] if shape[2] == 1 else shape
    if array.ndim == 2 and array.shape[1] == math.prod(shape):
        array = array.reshape(len(array), *shape)
    elif tuple(array.shape) in (shape, plain):
        array = array.reshape(1, *shape)
    elif tuple(array.shape[1:]) in (shape, plain):
        array = array.reshape(len(array), *shape)
    else:
        raise InputError(
            f"{where} has the shape {tuple(array.shape)}, which does not fit {param('image_shape')} {setting}"
        )
    return np.moveaxis(array, 1, -1) if channels_first else array, ""


def _flat_hint(columns: int) -> str:
    """What rows of so many numbers may be."""
    for channels in (1, 3):
        side = math.isqrt(columns // channels)
        if side * side * channels == columns:
            colour = f"{side},{side},3, or 3,{side},{side} where the channels come first"
            return f"; if its rows are images, {param('image_shape')} {f'{side},{side},1' if channels == 1 else colour}"
    return f"; if its rows are images, say which with {param('image_shape')} H,W,C"
