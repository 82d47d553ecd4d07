"""Short codes for vectors: residual VQ turns each vector into a few numbers; similar vectors share the first ones.

Such codes serve as item ids of a recommender ("semantic ids") or as an index for search.

Usage: python examples/vectors.py [ITEMS.npy [OUT [ITERATIONS]]]

ITEMS.npy is a float array (N, D), for example embeddings of another model. Without it, the 64 pixels of each digit of
scikit-learn are used. Writes OUT/codes.npy, int64 (N, 3).

The same from the shell: softvq train --data ITEMS.npy --bottleneck rvq --out RUN, then
softvq embed RUN --split all --what codes -o codes.parquet, and softvq info codes.parquet, which counts collisions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import softvq_cli as softvq
from softvq_cli.training import train


def main(items: str = "", out: str = "runs/vectors", iterations: str = "2000") -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if not items:
        items = str(folder / "items.npy")
        np.save(items, load_digits().data.astype(np.float32))
    vectors = np.load(items)  # (N, D)

    settings = {"data": items, "bottleneck": "rvq", "K": 32, "stages": 3, "iterations": int(iterations)}
    run = train(settings, out=folder / "run", overwrite=True)

    codes = softvq.embed(run.path, vectors, "codes")  # int64 (N, 3): 32**3 possible ids
    np.save(folder / "codes.npy", codes)

    ids, count = np.unique(codes, axis=0, return_counts=True)
    shared = int(count[count > 1].sum())
    print(f"{len(vectors)} vectors have {len(ids)} different codes; {shared} vectors share their code with another one")
    print(f"the first three codes: {codes[:3].tolist()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
