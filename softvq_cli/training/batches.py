"""Which images make up which batch: a function of (seed, step) alone, so that a resumed run needs no sampler state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def derived_seed(seed: int, *path: int) -> int:
    """A 63-bit seed for one purpose of a run, independent of those with another ``path``."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


class Batches:
    """Batch t is rows t·B … (t+1)·B of one endless stream: a fresh permutation of the data set every epoch.

    No image is dropped or repeated within an epoch; a batch may begin in one epoch and end in the next.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """(B,) int64: the rows of batch ``step``, counted from 0."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.n)
            part = self._permutation(epoch)[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, 1, epoch))
            self._order, self._epoch = torch.randperm(self.n, generator=generator), epoch
        return self._order
