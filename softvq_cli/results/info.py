"""What a file of ours is, told from the file alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from softvq_cli.errors import InputError
from softvq_cli.results import evaluate

_RECORDED = ("dataset", "split", "representation", "step", "checkpoint_sha256", "class_names", "config")


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint, an embedding file or a run's folder as one JSON-ready document; ``kind`` says which.

    Raises:
        InputError: it is none of them, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _run(path)
    if not path.exists():
        raise InputError(f"there is no file {path}")
    return _embeddings(path) if path.suffix in (".npy", ".parquet") else _checkpoint(path)


def _checkpoint(path: Path) -> dict[str, Any]:
    from softvq_cli.training import checkpoint

    trained, parameters = checkpoint.read_header(path)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "sha256": trained.sha256,
        "step": trained.step,
        "finished": trained.finished,
        "parameters": parameters,
        "dataset": {
            "name": trained.dataset.name,
            "images": trained.dataset.n,
            "image_shape": list(trained.dataset.image_shape),
            "class_names": list(trained.dataset.class_names),
            "fingerprint": trained.dataset.fingerprint,
        },
        "metrics": trained.metrics,
        "config": trained.config.as_dict(),
    }


def _embeddings(path: Path) -> dict[str, Any]:
    from softvq_cli import embeddings

    rows = embeddings.read(path, indices=True)
    labels = None
    if rows.labels is not None:
        import numpy as np

        values, counts = np.unique(rows.labels, return_counts=True)
        labels = {"classes": len(values), "smallest": int(counts.min()), "largest": int(counts.max())}
    return {
        "kind": "embeddings",
        "path": str(path),
        "rows": len(rows),
        "columns": int(rows.z.shape[1]),
        "labels": labels,
        "mean_norm": float((rows.z.astype("float64") ** 2).sum(axis=1).mean() ** 0.5),
        **{name: rows.info[name] for name in _RECORDED if name in rows.info},
    }


def _run(folder: Path) -> dict[str, Any]:
    from softvq_cli.training import run_directory

    if not run_directory.is_used(folder):
        raise InputError(f"{folder} is not the folder of a run: it holds no {run_directory.CONFIG}")
    path = folder / run_directory.CHECKPOINT
    document: dict[str, Any] = {
        "kind": "run",
        "path": str(folder),
        "files": sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")),
    }
    if path.exists():
        document |= {name: value for name, value in _checkpoint(path).items() if name not in document}
        numbers = evaluate.of_checkpoint(folder, document["sha256"]).numbers
    else:  # stopped before the first checkpoint
        lines = run_directory.read_metrics(folder)
        config = run_directory.stored_config(folder).as_dict()
        document |= {"step": 0, "finished": False, "metrics": lines[-1] if lines else {}, "config": config}
        numbers = {}
    document["results"] = dict(numbers.get("z_e", {}))
    if "z_q" in numbers:
        document["results_z_q"] = dict(numbers["z_q"])
    return document
