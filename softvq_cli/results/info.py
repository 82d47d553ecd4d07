"""What a file of ours is, told from the file alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softvq_cli.errors import InputError
from softvq_cli.results import result

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

    found = checkpoint.load(path)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "sha256": found.sha256,
        "step": found.step,
        "finished": found.finished,
        "parameters": sum(weights.numel() for weights in found.model.parameters()),
        "dataset": {
            "name": found.dataset.name,
            "images": found.dataset.n,
            "image_shape": list(found.dataset.image_shape),
            "class_names": list(found.dataset.class_names),
            "fingerprint": found.dataset.fingerprint,
        },
        "metrics": found.metrics,
        "config": found.config.as_dict(),
    }


def _embeddings(path: Path) -> dict[str, Any]:
    from softvq_cli import embeddings

    found = embeddings.read(path, indices=True)
    labels = None
    if found.labels is not None:
        import numpy as np

        values, counts = np.unique(found.labels, return_counts=True)
        labels = {"classes": len(values), "smallest": int(counts.min()), "largest": int(counts.max())}
    return {
        "kind": "embeddings",
        "path": str(path),
        "rows": len(found),
        "columns": int(found.z.shape[1]),
        "labels": labels,
        "mean_norm": float((found.z.astype("float64") ** 2).sum(axis=1).mean() ** 0.5),
        **_pick(found.info, _RECORDED),
    }


def _run(folder: Path) -> dict[str, Any]:
    from softvq_cli.training import log, run_directory

    if not run_directory.is_used(folder):
        raise InputError(f"{folder} is not the folder of a run: it holds no {run_directory.CONFIG}")
    path = folder / run_directory.CHECKPOINT
    document: dict[str, Any] = {
        "kind": "run",
        "path": str(folder),
        "files": sorted(one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")),
    }
    if path.exists():
        document |= {name: value for name, value in _checkpoint(path).items() if name not in document}
    else:  # stopped before the first checkpoint
        lines = log.read(folder)
        config = run_directory.stored_config(folder).as_dict()
        document |= {"step": 0, "finished": False, "metrics": lines[-1] if lines else {}, "config": config}
    seal = document.get("sha256")
    document["results"] = _results(folder, seal)
    quantised = {} if seal is None else result.of_checkpoint(folder, seal).figures.get("z_q")
    if quantised:
        document["results_z_q"] = dict(quantised)
    return document


def _results(folder: Path, seal: str | None) -> dict[str, float]:
    """What ``softvq run`` or ``softvq reproduce`` measured of z_e and of the model, if on this very checkpoint."""
    from softvq_cli.results.run import stored_results

    if seal is None:
        return {}
    stages = stored_results(folder, seal)
    clustering, probe, codebook = (stages.get(name) or {} for name in ("clustering", "probe", "codebook"))
    found = {
        "clustering_accuracy": clustering.get("accuracy"),
        "nmi": clustering.get("nmi"),
        "ari": clustering.get("ari"),
        "probe_accuracy": probe.get("accuracy"),
        **codebook,
        **result.of_checkpoint(folder, seal).figures.get("z_e", {}),
    }
    return {name: value for name, value in found.items() if type(value) in (int, float)}


def _pick(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values} if isinstance(values, Mapping) else {}
