"""Information about any file that softvq wrote, from the file alone."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.config import RunConfig, parse_levels
from softvq_cli.errors import InputError, one_line
from softvq_cli.files import read_json
from softvq_cli.presets import unused_settings
from softvq_cli.results import evaluate
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.embeddings import Embedding

_RECORDED = ("dataset", "split", "representation", "step", "checkpoint_sha256", "class_names", "config")


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a checkpoint, embeddings, an ONNX file, or the folder of a run or study; ``kind`` says which it is."""
    path = Path(path)
    if path.is_dir():
        kind, content = ("study", _studies(documents)) if (documents := studies(path)) else ("run", _run(path))
    elif not path.exists():
        raise InputError(f"there is no file {path}")
    elif path.suffix == ".onnx":
        kind, content = "onnx", _onnx(path)
    elif path.suffix in (".npy", ".parquet"):
        kind, content = "embeddings", _embeddings(path)
    else:
        kind, content = "checkpoint", _checkpoint(path)
    return {"kind": kind, "path": str(path), **content}


def _checkpoint(path: Path) -> dict[str, Any]:
    from softvq_cli.training import checkpoint

    trained, parameters = checkpoint.read_header(path)
    return {
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
        "config": _read_settings(trained.config),
    }


def _read_settings(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The settings that the bottleneck uses, by section."""
    unused = unused_settings(config.model.bottleneck, config.flat())
    sections = config.as_dict().items()
    return {title: {n: v for n, v in section.items() if n not in unused} for title, section in sections}


def _onnx(path: Path) -> dict[str, Any]:
    """The inputs and outputs of an ONNX model, and the metadata of its export."""
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{path} needs onnx: pip install 'softvq[onnx]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
        sides = {"inputs": model.graph.input, "outputs": model.graph.output}
    except Exception as error:  # protobuf has its own error classes
        raise InputError(f"{path} is damaged or not an ONNX file: {one_line(error)}") from error
    return {
        "metadata": {entry.key: one_line(entry.value) for entry in model.metadata_props},
        **{side: {value.name: _tensor(value.type.tensor_type) for value in values} for side, values in sides.items()},
    }


def _tensor(tensor: Any) -> str:
    """Type and shape as text, for example ``uint8 (N, 8, 8, 1)``."""
    import onnx

    sizes = [size.dim_param or str(size.dim_value) for size in tensor.shape.dim]
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} ({', '.join(sizes)})"


def studies(folder: Path) -> dict[str, dict[str, Any]]:
    """The documents of reproduce, sweep and compare in a folder, by file name."""
    documents = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with contextlib.suppress(InputError):
            document = read_json(path)
            if isinstance(document, dict) and {"name", "title", "columns", "rows", "command"} <= document.keys():
                documents[path.name] = document
    return documents


def _studies(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {"files": list(documents)}
    for study in documents.values():
        described[study["name"]] = {
            "title": study["title"],
            "command": study["command"],
            "rows": [row["label"] for row in study["rows"]],
            "failed": len(study.get("failed", ())),
        }
    return described


def _embeddings(path: Path) -> dict[str, Any]:
    from softvq_cli import embeddings

    rows = embeddings.read(path, indices=True)
    labels = None
    if rows.labels is not None:
        import numpy as np

        values, counts = np.unique(rows.labels, return_counts=True)
        labels = {"classes": len(values), "smallest": int(counts.min()), "largest": int(counts.max())}
    if rows.info.get("representation") == "codes" and "config" in rows.info:
        content = _codes(rows)
    else:
        content = {"mean_norm": float((rows.z.astype("float64") ** 2).sum(axis=1).mean() ** 0.5)}
    return {
        "rows": len(rows),
        "columns": int(rows.z.shape[1]),
        "labels": labels,
        **content,
        **{name: rows.info[name] for name in _RECORDED if name in rows.info},
    }


def _codes(rows: Embedding) -> dict[str, Any]:
    """The usage of the codes, according to the settings of their model."""
    from softvq_cli.evaluation.codes import describe_codes

    model = RunConfig.from_dict(rows.info["config"]).model
    entry, codes = BOTTLENECKS[model.bottleneck], rows.z.astype("int64")
    K = math.prod(parse_levels(model.levels)) if "levels" in entry.settings else model.K
    stages = model.stages if "stages" in entry.settings else 1
    positions = max(1, model.grid) ** 2
    if codes.shape[1] != positions * stages or codes.min() < 0 or codes.max() >= K:
        raise InputError(f"{rows.path} is damaged: its codes are not those of its model; embed again")
    return describe_codes(codes, stages, K, rows.labels, rows.info.get("file_names"))


def _run(folder: Path) -> dict[str, Any]:
    from softvq_cli.training import run_directory

    if not run_directory.is_used(folder):
        raise InputError(f"{folder} is not the folder of a run: it has no {run_directory.CONFIG}")
    files = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    document: dict[str, Any] = {"files": files}
    evaluation = evaluate.NOTHING
    if (folder / run_directory.CHECKPOINT).exists():
        document |= _checkpoint(folder / run_directory.CHECKPOINT)
        evaluation = evaluate.read(folder, {"checkpoint_sha256": document["sha256"]})
        document |= evaluation.details.get("code_usage", {})
    else:  # stopped before the first checkpoint
        lines = run_directory.read_metrics(folder)
        config = _read_settings(run_directory.stored_config(folder))
        document |= {"step": 0, "finished": False, "metrics": lines[-1] if lines else {}, "config": config}
    document["results"] = dict(evaluation.numbers.get("z_e", {}))
    if "z_q" in evaluation.numbers:
        document["results_z_q"] = dict(evaluation.numbers["z_q"])
    return document
