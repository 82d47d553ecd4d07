"""Which images form which batch, and where they are stored: on the device if they fit, else on the host.

A batch depends only on (seed, step), so that a resumed run needs no sampler state.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from softvq_cli.datasets.dataset import Rows
from softvq_cli.devices import as_tensor, free_memory

SHARE = 0.5
"""Maximum fraction of the device's free memory for images; model, activations and other runs need the rest."""
AHEAD = 4
"""Number of batches that are prepared in advance."""


def derived_seed(seed: int, *path: int) -> int:
    """A 63-bit seed for one purpose of a run; seeds with different ``path`` are independent."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


class Batches:
    """Batch t is rows t·B … (t+1)·B of an endless stream with a new permutation of the data set in every epoch.

    No image is omitted or repeated within an epoch; a batch may span two epochs. With ``part``, only those rows of
    each batch are returned.
    """

    def __init__(self, n: int, batch_size: int, seed: int, part: slice = slice(None)) -> None:
        self.n, self.batch_size, self.seed, self.part = n, batch_size, seed, part
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """The rows of batch ``step``, counted from 0: int64 (B,)."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.n)
            parts.append(self._permutation(epoch)[offset : offset + stop - start])
            start += len(parts[-1])
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[self.part]

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, 1, epoch))
            self._order, self._epoch = torch.randperm(self.n, generator=generator), epoch
        return self._order


class ResidentImages:
    """All images on the device, so that a batch is a selection of rows; on the CPU they are not copied."""

    def __init__(self, images: np.ndarray | Rows, batches: Batches, device: torch.device) -> None:
        self.pixels = as_tensor(np.asarray(images)).to(device)
        """uint8 (N, H, W, C)."""
        self._batches = batches

    def batch(self, step: int) -> Tensor:
        """Batch ``step``, uint8 (B, H, W, C), on the device."""
        return self.pixels[self._batches.indices(step).to(self.pixels.device)]


class StreamedImages:
    """Images that stay on the host, in memory or in a memory-mapped file.

    A thread copies the next batches to pinned memory, from which they are transferred while the device computes.
    PyTorch reuses a block of pinned memory only after its transfers are complete.
    """

    def __init__(self, images: np.ndarray | Rows, batches: Batches, device: torch.device) -> None:
        self._images, self._batches, self._device = images, batches, device
        self._thread = ThreadPoolExecutor(1, "softvq-images")
        self._waiting: deque[tuple[int, Future[Tensor]]] = deque()

    def batch(self, step: int) -> Tensor:
        """Batch ``step``, uint8 (B, H, W, C), on the device; only consecutive batches are prepared in advance."""
        if not self._waiting or self._waiting[0][0] != step:
            self._waiting.clear()
        following = self._waiting[-1][0] + 1 if self._waiting else step
        for number in range(following, step + AHEAD):
            self._waiting.append((number, self._thread.submit(self._gather, self._batches.indices(number))))
        return self._waiting.popleft()[1].result().to(self._device, non_blocking=True)

    def _gather(self, indices: Tensor) -> Tensor:
        pinned = self._device.type == "cuda"
        if isinstance(self._images, Rows):
            rows = as_tensor(self._images[indices.numpy()])
            return rows.pin_memory() if pinned else rows
        images = as_tensor(self._images)
        out = torch.empty((len(indices), *images.shape[1:]), dtype=images.dtype, pin_memory=pinned)
        return torch.index_select(images, 0, indices, out=out)


def source_of(images: np.ndarray | Rows, batches: Batches, device: torch.device) -> ResidentImages | StreamedImages:
    """Store the images on the device if they fit, else on the host; the result of a training is the same.

    On the CPU, an array is used in place; an index into an array is read batch by batch.
    """
    free = free_memory(device)
    resident = not isinstance(images, Rows) if free is None else images.nbytes <= SHARE * free
    return (ResidentImages if resident else StreamedImages)(images, batches, device)
