"""Readers of damaged and forged files return the right content or raise one clear line.

``SOFTVQ_MUTATIONS=40`` tries forty times as many of each kind.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.training import archive, checkpoint, export
from tests.helpers import (
    Result,
    encoded,
    ended_well,
    mutations,
    pixels,
    save_blobs,
    shrunk_networks,
    softvq,
    tiny,
    unfinish,
    with_pickle,
    with_seal,
)


def npy_header(shape: str) -> bytes:
    """A float32 file with this text as its shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}\n".encode()
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


COUNT = 15 * int(os.environ.get("SOFTVQ_MUTATIONS", "1"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the output of all stages, an interrupted run, and an exported model."""
    folder = tmp_path_factory.mktemp("made")
    data = save_blobs(folder / "data.npz")
    with shrunk_networks():
        words = tiny(data, iterations=4, log_every=2, checkpoint_every=1)
        softvq("run", *words, "-o", folder / "chain", "-q").done()
        softvq("export", folder / "chain", "--safetensors", "-o", folder / "m.safetensors", "-q").done()
        shutil.copytree(folder / "chain", folder / "half")
        unfinish(folder / "half", step=2)
        softvq("info", folder / "half").done()
        yield folder


class Tally:
    """Counts the outcomes of one test."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()

    def add(self, ended: Result, *allowed: int) -> None:
        ended_well(ended)
        assert ended.code in allowed, ended
        self.codes[ended.code] += 1


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    tally = Tally()
    yield tally
    print(f"\n{request.node.name}: {tally.codes.total()} readings, by exit code {dict(sorted(tally.codes.items()))}")


# ---- bytes


@pytest.mark.parametrize("name", ["chain/ckpt.pt", "m.safetensors"])
def test_damaged_models_are_never_loaded(name: str, made: Path, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / Path(name).name
    whole = (made / name).read_bytes()
    pieces = random.Random(0)
    cuts = [whole[: pieces.randrange(len(whole))] for _ in range(COUNT // 3)]
    for damaged in [*mutations(whole, COUNT, seed=1), *cuts]:
        path.write_bytes(damaged)
        tally.add(softvq("info", path, "--json"), 3 if damaged != whole else 0)


def test_forged_pickles_under_a_valid_seal(made: Path, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "ckpt.pt"
    for number in range(COUNT):
        forged = with_pickle(made / "chain" / "ckpt.pt", lambda data, number=number: mutations(data, 1, number)[0])
        path.write_bytes(forged)
        tally.add(softvq("info", path, "--json"), 0, 3)


def test_forged_archives_under_a_valid_seal(made: Path, tmp_path: Path, tally: Tally) -> None:
    """The records of the zip format, especially its directory."""
    path = tmp_path / "ckpt.pt"
    archive.write(path, {"format": checkpoint.FORMAT, "weights": torch.arange(4.0)})
    small = path.read_bytes()[:-78]
    for body in mutations(small, 3 * COUNT, seed=3):
        path.write_bytes(with_seal(body))
        tally.add(softvq("info", path, "--json"), 3)


@pytest.mark.parametrize("name", ["embeddings-test.npy", "embeddings-test.labels.npy", "embeddings-test.json"])
def test_damaged_embeddings(name: str, made: Path, tmp_path: Path, tally: Tally) -> None:
    for beside in (made / "chain").glob("embeddings-test.*"):
        shutil.copy(beside, tmp_path)
    whole = (tmp_path / name).read_bytes()
    documents = odd_documents(whole, COUNT if name.endswith("json") else 0)
    for number, damaged in enumerate([*documents, *mutations(whole, COUNT, seed=4)]):
        (tmp_path / name).write_bytes(damaged)
        tally.add(softvq("info", tmp_path / "embeddings-test.npy", "--json"), 0, 3)
        if number % 10 == 0:
            tally.add(softvq("info", tmp_path / "embeddings-test.npy"), 0, 3)
            tally.add(softvq("cluster", tmp_path / "embeddings-test.npy", "--n-init", 1, "-j", 1), 0, 2, 3)
            picture = tmp_path / "map.png"
            words = ["--perplexity", 1, "-j", 1, "--overwrite"]
            tally.add(softvq("tsne", tmp_path / "embeddings-test.npy", "-o", picture, *words), 0, 3)


# ---- values

ODD: list[Any] = [
    *(None, True, -1, 0, 7, 10**30, 0.5, -1e308, 5e-324, "", "x", "\x1b[31m", "[/b]", "caf\udce9", [], {}),
    *([1, 2], ["a"], {"a": 1}, [[[]]], "x" * 10_000, [0] * 1000),
]
ODDER: list[Any] = [
    *ODD,
    *(float("nan"), float("inf"), "\ud800", (1, 2), torch.tensor(1.0), torch.zeros(2), torch.zeros(0), torch.tensor(3)),
    *(torch.zeros(2, 2).to_sparse(), torch.zeros(3, dtype=torch.bfloat16), torch.full((4,), float("nan"))),
]


def oddly(value: Any, odd: list[Any], chance: random.Random) -> Any:
    """A copy with something in it replaced, removed, added or renamed."""
    value = copy.deepcopy(value)
    inner, seen = value, 0
    while True:
        names = list(inner) if isinstance(inner, dict) else range(len(inner))
        if not len(names):
            return chance.choice(odd)
        name = chance.choice(names)
        if isinstance(inner[name], dict | list) and inner[name] and (chance.random() < 0.8 or not seen):
            inner, seen = inner[name], seen + 1
            continue
        if isinstance(inner, dict) and chance.random() < 0.2:
            one = inner.pop(name)
            if chance.random() < 0.5:
                inner[chance.choice(["new", "", "step"])] = one
        else:
            inner[name] = chance.choice(odd)
        return value


def odd_documents(whole: bytes, count: int) -> list[bytes]:
    """JSON documents with unusual values, some of them not valid JSON."""
    chance = random.Random(7)
    texts = []
    for _ in range(count):
        text = json.dumps(oddly(json.loads(whole), ODD, chance))
        if chance.random() < 0.1:
            text = text.replace("1", chance.choice(["NaN", "1e999", "-Infinity", "1" * 5000]), 1)
        texts.append(text.encode())
    return texts


def test_forged_values_in_a_checkpoint(made: Path, tmp_path: Path, tally: Tally) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "half", run)
    content, _ = archive.read(run / "ckpt.pt")
    chance = random.Random(8)
    for _ in range(2 * COUNT):
        with contextlib.suppress(NotImplementedError):  # a tensor that cannot be saved
            archive.write(run / "ckpt.pt", oddly(content, ODDER, chance))
        tally.add(softvq("info", run / "ckpt.pt", "--json"), 0, 3)
        tally.add(softvq("info", run / "ckpt.pt"), 0, 3)
        ended = softvq("train", "--resume", "-q", "-o", run, "--device", "cpu")
        tally.add(ended, 0, 3, 1)
        assert ended.code != 1 or "--lr" in ended.err, ended  # a forged weight or moment is not finite
        shutil.copy(made / "half" / "metrics.jsonl", run)


def test_forged_metadata_of_an_exported_model(made: Path, tmp_path: Path, tally: Tally) -> None:
    content, _ = export.read_safetensors(made / "m.safetensors")
    tensors, plain = content.pop("model"), {name: content[name] for name in content if name != "training"}
    chance = random.Random(9)
    path = tmp_path / "m.safetensors"
    for _ in range(COUNT):
        forged = oddly(plain, ODD, chance)
        export.write_safetensors(
            path,
            forged if isinstance(forged, dict) else {},
            oddly(tensors, [torch.zeros(2)], chance) if chance.random() < 0.2 else tensors,
        )
        tally.add(softvq("info", path, "--json"), 0, 3)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "evaluation.json"])
@pytest.mark.parametrize("state", ["chain", "half"])
def test_damaged_run_folders(name: str, state: str, made: Path, tmp_path: Path, tally: Tally) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / state, run)
    whole = (run / name).read_bytes()
    documents = [] if name.endswith("jsonl") else odd_documents(whole, COUNT)
    if name.endswith("jsonl"):
        lines = whole.splitlines()
        documents = [b"\n".join([*odd_documents(lines[0], 1), *odd_documents(lines[1], 1)]) for _ in range(COUNT)]
    for number, damaged in enumerate([*mutations(whole, COUNT, seed=5), *documents]):
        (run / name).write_bytes(damaged)
        tally.add(softvq("info", run, "--json"), 0, 3)
        if number % 5 == 0:
            tally.add(softvq("info", run), 0, 3)
            tally.add(softvq("train", "--resume", "-q", "-o", run, "--device", "cpu"), 0, 2, 3)
            shutil.rmtree(run)
            shutil.copytree(made / state, run)


@pytest.mark.slow
def test_a_chain_resumed_over_damaged_results(made: Path, tmp_path: Path, tally: Tally) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "chain", run)
    whole = {name: (run / name).read_bytes() for name in ("evaluation.json", "metrics.jsonl")}
    for name, content in whole.items():
        for damaged in [*mutations(content, 10, seed=6), *odd_documents(whole["evaluation.json"], 10)]:
            (run / name).write_bytes(damaged)
            tally.add(softvq("run", "--resume", "-q", "-o", run, "--device", "cpu"), 0, 3)
        shutil.rmtree(run)
        shutil.copytree(made / "chain", run)


def test_arrays_of_every_kind_as_embeddings(tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "z.npy"
    for dtype in "?bBhHiIlLqQefdgFDGSUVOmM":
        for shape in ((), (0,), (4,), (4, 2), (0, 2), (4, 0), (2, 2, 2)):
            np.save(path, np.zeros(shape, dtype=np.dtype("V3") if dtype == "V" else dtype), allow_pickle=True)
            tally.add(softvq("info", path, "--json"), 0, 3)
            tally.add(softvq("cluster", path, "-k", 1, "--n-init", 1, "-j", 1), 0, 3)


LONG = "x" * 1500
OF_LISTS = [f"file_name,label\n{LONG},a", f"{LONG},{LONG}\n0,1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.npy", npy_header(shape)) for shape in ("1, " * 500, "1" * 1500 + ",", "0, " * 500)),
        *(("metadata.csv", text.encode()) for text in OF_LISTS),
        *(("metadata.jsonl", json.dumps(row).encode()) for row in ({LONG: 1}, {"file_name": LONG})),
    ],
)
def test_a_message_repeats_no_more_than_a_line_of_a_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encoded(pixels(0, (8, 8))))
    (tmp_path / name).write_bytes(content)
    ended = softvq("data", "show", tmp_path / name if name == "a.npy" else tmp_path)
    ended.refused(3, name)
    assert len(ended.err.replace(str(tmp_path), "")) < 400


def test_a_place_in_an_arrow_file_that_is_elsewhere(tmp_path: Path) -> None:
    """Reading beyond the file would end the process by SIGSEGV."""
    pa = pytest.importorskip("pyarrow")
    path, cells = tmp_path / "a.arrow", [encoded(pixels(number, (8, 8))) for number in range(3)]
    with pa.ipc.new_stream(path, pa.schema([("image", pa.binary())])) as writer:
        writer.write_batch(pa.record_batch([pa.array(cells)], ["image"]))
    places = np.cumsum([0, *map(len, cells)]).astype("<i4")
    whole = path.read_bytes()
    assert whole.count(places.tobytes()) == 1
    path.write_bytes(whole.replace(places.tobytes(), np.minimum(places * 2**20, 2**31 - 1).astype("<i4").tobytes()))
    softvq("data", "show", path).refused(3, "a.arrow")
