"""Mutate files of every kind that the program reads: each must give a result or one line of error, within limits."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tests.helpers import (
    CATS_AND_DOGS,
    PUBLISHED,
    TARS,
    coarse_pictures,
    dicom,
    encoded,
    ended_well,
    grey_files,
    make,
    mutations,
    pixels,
    save_blobs,
    shrunk_networks,
    softvq,
    tiny,
    trust_the_disk,
    unfinish,
    write_folder,
)

BATCH, LONGEST = 20, 20.0
"""Number of mutations before the next kind of file; one at a time if that takes more than the given seconds."""
OLD = 1_700_000_000
"""Time of files in seconds since 1970."""
Kind = tuple[Path, list[object]]
"""The file to mutate, and a command that reads it."""


def show(path: Path) -> list[object]:
    return ["data", "show", path]


def image_files(folder: Path) -> dict[str, Kind]:
    """One image of each format among valid ones."""
    image, kinds = pixels(0, (16, 16, 3)), {}
    forms = {kind: encoded(image, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")}
    forms |= {
        "PNG of 16 bits": encoded(pixels(0, (16, 16)).astype(np.uint16) * 257),
        "grey JPEG": encoded(image[..., 0], "JPEG"),
    }
    forms |= {"TIFF of 16 bits": encoded(pixels(0, (16, 16)).astype(np.uint16) * 257, "TIFF")}
    forms |= {"TIFF of floats": encoded(pixels(0, (16, 16)).astype(np.float32), "TIFF")}
    forms |= {"DICOM": dicom(pixels(0, (16, 16))), "DICOM of frames": dicom(pixels(0, (3, 16, 16)))}
    forms |= {"DICOM of 16 bits": dicom(pixels(0, (16, 16)).astype(np.uint16) * 16)}
    endings = {"JPEG": ".jpg", "grey JPEG": ".jpg", "JPEG2000": ".jp2", "DICOM": ".dcm", "PNG of 16 bits": ".png"}
    for name, data in forms.items():
        ending = endings.get(name) or endings.get(name.split(" of ")[0]) or f".{name.split()[0].lower()}"
        files = {f"c{number % 2}/{number}{ending}": data for number in range(4)}
        place = write_folder(folder / name.replace(" ", "-"), files)
        kinds[name] = place / f"c0/0{ending}", show(place)
    return kinds


def collections(folder: Path) -> dict[str, Kind]:
    """Archives, arrays, tables and lists of images."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    kinds: dict[str, Kind] = {}
    for suffix in (".zip", *TARS):
        path = make(folder / f"a{suffix}", grey_files(CATS_AND_DOGS))
        kinds[f"archive {suffix}"] = path, show(path)
    shape = ["--image-shape", "4,4,1"]
    images, labels = pixels(0, (12, 4, 4)), np.arange(12) % 3
    np.save(folder / "a.npy", images)
    np.savez(folder / "a.npz", images=images, labels=labels)
    np.savez_compressed(folder / "packed.npz", images=images, labels=labels)
    np.save(folder / "rows.npy", images.reshape(12, 16))
    for name in ("a.npy", "a.npz", "packed.npz", "rows.npy"):
        kinds[f"array {name}"] = folder / name, [*show(folder / name), *shape * (name == "rows.npy")]
    names = [f"{number}.png" for number in range(6)]
    files = grey_files(names)
    rows = [{"file_name": name, "label": f"c{number % 2}"} for number, name in enumerate(names)]
    lists = {"metadata.jsonl": "\n".join(map(json.dumps, rows))}
    for name, comma in (("metadata.csv", ","), ("metadata.tsv", "\t")):
        lists[name] = "\n".join([f"file_name{comma}label", *(comma.join(row.values()) for row in rows)])
    for name, text in lists.items():
        place = write_folder(folder / name.replace(".", "-"), files | {name: text.encode()})
        kinds[name] = place / name, show(place / name if name.endswith("tsv") else place)
    table = pa.table({"image": [{"bytes": data, "path": name} for name, data in files.items()], "label": [0, 1] * 3})
    parquet.write_table(table, folder / "a.parquet")
    with pa.ipc.new_stream(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    feather.write_feather(table, folder / "b.arrow", compression="uncompressed")
    kinds |= {f"table {name}": (folder / name, show(folder / name)) for name in ("a.parquet", "a.arrow", "b.arrow")}
    samples = dict(sorted((files | {f"{number}.cls": b"1" for number in range(6)}).items()))
    path = make(folder / "shard.tar", samples)
    kinds["WebDataset"] = path, show(path)
    samples = dict(sorted((files | {f"{number}.json": b'{"label": 1}' for number in range(6)}).items()))
    path = make(folder / "documents.tar", samples)
    kinds["WebDataset with JSON"] = path, show(path)
    return kinds


def published(folder: Path) -> dict[str, Kind]:
    """Files of the named data sets. All but a .mat file, which can be read by path, have a checksum."""
    names = {"mnist": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "svhn": ("train_32x32.mat",)}
    kinds: dict[str, Kind] = {}
    for name, files in (names | {"cifar10": ("data_batch_1", "batches.meta")}).items():
        place = write_folder(folder / name, PUBLISHED[name])
        for file in files:
            words = show(place / file) if file.endswith(".mat") else ["data", "check", name, "--data-dir", folder]
            kinds[f"{name} {file}"] = place / file, words
    return kinds


def trained(folder: Path) -> dict[str, Kind]:
    """Files written by training, evaluation and export, and settings."""
    run = folder / "run"
    words = tiny(save_blobs(folder / "blobs.npz"), iterations=4, log_every=2, checkpoint_every=1)
    softvq("run", *words, "-o", run, "-q").done()
    softvq("export", run, "--safetensors", "-o", folder / "m.safetensors", "-q").done()
    softvq("embed", run, "-o", folder / "z.npy", "-q").done()
    softvq("embed", run, "-o", folder / "t.parquet", "-q").done()
    shutil.copytree(run, folder / "half")
    unfinish(folder / "half", 2)
    (folder / "a.toml").write_text('K = 3\n[data]\ndata = "digits"\n[train]\niterations = 1\nlr = 1e-3\n')
    study = ["--data", folder / "blobs.npz", "--arch", "mlp", "--iterations", 2, "--batch-size", 8, "--latent-dim", 2]
    resume = ["train", "--resume", "-q", "-o", folder / "half", "--device", "cpu"]
    kinds: dict[str, Kind] = {
        "checkpoint": (run / "ckpt.pt", ["info", run / "ckpt.pt"]),
        "checkpoint, embedded": (run / "ckpt.pt", ["embed", run, "-o", folder / "new.npy", "--overwrite", "-q"]),
        "checkpoint, resumed": (folder / "half" / "ckpt.pt", resume),
        "config.json, resumed": (folder / "half" / "config.json", resume),
        "metrics.jsonl, resumed": (folder / "half" / "metrics.jsonl", resume),
        "safetensors": (folder / "m.safetensors", ["info", folder / "m.safetensors"]),
        "settings in TOML": (folder / "a.toml", ["train", *study, "-c", folder / "a.toml", "-o", "new", "--overwrite"]),
        "embeddings, shown": (folder / "z.npy", ["info", folder / "z.npy"]),
        "embeddings, clustered": (folder / "z.npy", ["cluster", folder / "z.npy", "--n-init", 1, "-j", 1]),
        "embeddings as a table": (folder / "t.parquet", ["info", folder / "t.parquet"]),
        "labels": (folder / "z.labels.npy", ["cluster", folder / "z.npy", "--n-init", 1, "-j", 1]),
        "labels, shown": (folder / "z.labels.npy", ["info", folder / "z.npy"]),
        "description of embeddings": (folder / "z.json", ["info", folder / "z.npy"]),
    }
    for path in sorted(run.glob("*.json*")):
        kinds[f"{path.name} of a run"] = path, ["info", run]
        if path.name in ("summary.json", "evaluation.json"):
            kinds[f"{path.name}, run again"] = path, ["run", "--resume", "-q", "-o", run, "--device", "cpu"]
    return kinds


@contextlib.contextmanager
def mutated() -> Iterator[Mapping[str, Callable[[], Callable[[int], list[str]]]]]:
    """Kind of file → a function that returns a reader of its mutations, which reports the exit codes."""
    trust_the_disk()
    with tempfile.TemporaryDirectory() as temporary, shrunk_networks(), coarse_pictures(), contextlib.chdir(temporary):
        folder = Path(temporary).resolve()
        os.environ["SOFTVQ_CACHE"] = str(folder / "cache")
        kinds: dict[str, Kind] = {}
        for number, makers in enumerate((image_files, collections, published, trained)):
            (folder / str(number)).mkdir()
            kinds |= makers(folder / str(number))
        yield {name: functools.partial(reading, name, *kind) for name, kind in kinds.items()}
        shutil.rmtree(folder / "cache", ignore_errors=True)


def reading(name: str, path: Path, words: list[object]) -> Callable[[int], list[str]]:
    """Read :data:`BATCH` mutations of one file; fewer if one takes long."""
    whole, size = path.read_bytes(), BATCH

    def restore() -> None:
        path.write_bytes(whole)
        if name.endswith("resumed"):
            unfinish(path.parent, 2)

    ended = softvq(*words)
    assert ended.code == 0 or words[1] == "check", (name, ended)  # no test file has the published checksum
    restore()

    def read(seed: int) -> list[str]:
        nonlocal size
        codes, began = [], time.monotonic()
        for number, damaged in enumerate(mutations(whole, size, seed)):
            path.write_bytes(damaged)
            os.utime(path, (OLD, OLD + number))  # an old time, because the reader waits after recent changes
            ended = softvq(*words)
            try:
                ended_well(ended)
            except AssertionError as error:
                Path(tempfile.gettempdir(), "mutated").write_bytes(damaged)
                error.add_note(f"{name}, seed {seed}, number {number}: {words}")
                raise
            codes.append(str(ended.code))
        restore()
        size = BATCH if time.monotonic() - began < LONGEST else 1
        return codes

    return read
