"""The latents of a data set, to a file."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from softvq_cli.config import BATCH
from softvq_cli.embeddings.files import Embedding
from softvq_cli.embeddings.reading import open_rows
from softvq_cli.embeddings.writing import writer
from softvq_cli.errors import InputError

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.datasets.progress import Progress
    from softvq_cli.training.checkpoint import Checkpoint


def embed(
    checkpoint: Checkpoint,
    dataset: Dataset,
    path: str | os.PathLike[str],
    *,
    what: str = "z_e",
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Embedding:
    """Write what ``checkpoint`` makes of every image of ``dataset``, one batch in memory at a time.

    Args:
        checkpoint: whose model is used as it is, in evaluation mode.
        dataset: whose rows keep their order.
        path: ``NAME.npy``; ``NAME.labels.npy`` (with labels) and ``NAME.json`` are written beside it.
        what: a name in ``softvq_cli.words.REPRESENTATIONS``. Indices are stored as int64.
        batch_size: images at a time.
        progress: called with the number of images done.

    Raises:
        InputError: the bottleneck has no such representation, the data set is empty, or a value is not finite.
        SoftVQError: a file cannot be written; what stood at ``path`` is still there.
    """
    from softvq_cli.model import representations

    n = len(dataset)
    if n == 0:
        raise InputError(f"the {dataset.split} split of {dataset.name} has no images to embed")
    batches = representations(checkpoint.model, dataset.images, what, batch_size)
    first = next(batches)  # (B, d): its width is the file's
    info = {
        "dataset": dataset.name,
        "split": dataset.split,
        "representation": what,
        "checkpoint_sha256": checkpoint.sha256,
        "step": checkpoint.step,
        "fingerprint": dataset.fingerprint,
        "config": checkpoint.config.shared().as_dict(),
        "class_names": list(dataset.class_names),
        "file_names": None if dataset.file_names is None else list(dataset.file_names),
    }
    with writer(path, n, first.shape[1], dtype=first.dtype, labels=dataset.labels, info=info) as out:
        for rows in itertools.chain([first], batches):
            out.append(rows)
            if progress is not None:
                progress("embedding", out.rows, n)
    return open_rows(Path(path), None)
