"""Malicious files are refused with exit code 3 (2 for settings) before anything runs or fills the memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.training import archive, checkpoint
from tests.helpers import (
    Zygote,
    encoded,
    make_tar,
    make_zip,
    pixels,
    shrunk_networks,
    softvq,
    tiny,
    train,
    with_pickle,
    with_seal,
    write_folder,
)

GIGABYTE = 1 << 30
pytestmark = pytest.mark.usefixtures("small_networks")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "trap"


# ---- checkpoints


@pytest.fixture(scope="module")
def ckpt(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint of the small network, with training still to do."""
    with shrunk_networks():
        return train(npz, tmp_path_factory.mktemp("good") / "run", iterations=3, log_every=2) / "ckpt.pt"


def call(module: str, name: str, argument: bytes) -> bytes:
    """A pickle that calls ``module.name`` with one argument."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + argument + b"tR."


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def laughs(levels: int = 40) -> bytes:
    """Nested pairs that each contain the previous one twice: 2 ** levels characters when printed."""
    pairs = (b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(levels))
    return b"\x80\x02]q\x00" + b"".join(pairs) + b"."


def nested(depth: int) -> bytes:
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


PICKLES: dict[str, bytes] = {
    "runs a command": call("os", "system", b"X\x04\x00\x00\x00true"),
    "evaluates text": call("builtins", "eval", b"X\x01\x00\x00\x001"),
    "allocates bytes": call("builtins", "bytearray", number(8 * GIGABYTE)),
    "allocates a tensor": call("torch", "Tensor", number(8 * GIGABYTE)),
    "builds a meta tensor": call("torch._utils", "_rebuild_meta_tensor_no_storage", b"N"),
    "counts": call("collections", "Counter", b"N"),
    "memoises far away": b"\x80\x02]r\xff\xff\xff\x7f.",
    "laughs": laughs(),
    "is deep": nested(100_000),
    "contains itself": b"\x80\x02]q\x00h\x00a.",
    "is newer": b"\x80\x05\x96" + struct.pack("<Q", 8 * GIGABYTE) + b".",
    "is empty": b"",
    "is cut": b"\x80\x02}q\x00(X\x06",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_does_harm_is_refused_within_bounds(
    name: str, ckpt: Path, zygote: Zygote, tmp_path: Path
) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(with_pickle(ckpt, lambda _: PICKLES[name]))
    for command in (["info", "bad.pt"], ["embed", "bad.pt"]):
        ended = zygote.run(*command, cwd=tmp_path, AS=8 * GIGABYTE)  # of addresses, of which torch itself takes some
        ended.refused(3, "bad.pt")
        assert "memory" not in ended.err


def test_a_tensor_may_not_reach_beyond_its_record(ckpt: Path, tmp_path: Path) -> None:
    content = {"format": checkpoint.FORMAT, "version": 1, "weights": torch.arange(4.0)}
    archive.write(tmp_path / "small.pt", content)
    bad = tmp_path / "bad.pt"
    shape = b"K\x00K\x04\x85"  # begins at number 0 and has 4 of them
    for old, new in ((b"K\x04t", b"K\x09t"), (shape, b"K\x00K\x05\x85"), (shape, b"K\x01K\x04\x85")):
        bad.write_bytes(with_pickle(tmp_path / "small.pt", lambda data, old=old, new=new: data.replace(old, new)))
        softvq("info", bad).refused(3, "bad.pt")


def test_records_that_two_readers_would_take_differently_are_refused(ckpt: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt"
    for name in ("ARCHIVE/DATA.PKL", "archive/constants.pkl", "other/data.pkl"):
        bad.write_bytes(with_pickle(ckpt, bytes, {name: b"\x80\x02N."}))
        softvq("info", bad).refused(3, "bad.pt")
    bad.write_bytes(with_seal(b"PK\x01\x02" + ckpt.read_bytes()[4:-78]))
    softvq("info", bad).refused(3, "bad.pt")


def test_a_trap_in_any_field_does_not_go_off(ckpt: Path, tmp_path: Path, trap: Path) -> None:
    bad = tmp_path / "run" / "ckpt.pt"
    bad.parent.mkdir()
    for field in ("config", "dataset", "metrics", "model", "training", "extra"):
        content, _ = archive.read(ckpt)
        content[field] = Trap(trap)
        archive.write(bad, content)
        for command in ("info", "embed", "probe", "export --safetensors", "train --resume -o"):
            name, *options = command.split()
            softvq(name, *options, bad.parent if name == "train" else bad).refused(3, "ckpt.pt")
    assert not trap.exists()


def _changed(ckpt: Path, run: Path, *path: Any, value: Any = None) -> None:
    run.mkdir(exist_ok=True)
    (run / "config.json").write_bytes((ckpt.parent / "config.json").read_bytes())
    content, _ = archive.read(ckpt)
    content["step"], content["finished"] = 1, False
    rows = content["training"]["interval"]["rows"].new_zeros(1, 4)
    content["training"]["interval"] = {
        "rows": rows,
        "stats": {"usage": torch.ones(3), "counts": torch.ones(3), "entropy": torch.tensor(1.0)},
    }
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    if path:
        inner[path[-1]] = value
    archive.write(run / "ckpt.pt", content)


STATES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "no training state": (("training",), {}),
    "no optimiser": (("training", "optimiser"), None),
    "optimiser of another model": (("training", "optimiser", "state"), {99: {}}),
    "moments of another shape": (("training", "optimiser", "state", 0, "exp_avg"), torch.zeros(3)),
    "moments that are none": (("training", "optimiser", "state", 0, "exp_avg_sq"), "zero"),
    "no moments at all": (("training", "optimiser", "state"), {}),
    "steps in full": (("training", "optimiser", "state", 0, "step"), 7),
    "random state of another generator": (("training", "noise"), torch.zeros(16, dtype=torch.uint8)),
    "random state of text": (("training", "noise"), "random"),
    "more rows than steps": (("training", "interval", "rows"), torch.zeros(9, 4)),
    "fewer columns": (("training", "interval", "rows"), torch.zeros(1, 3)),
    "sums of another codebook": (("training", "interval", "stats", "usage"), torch.zeros(7)),
    "sums that are missing": (("training", "interval", "stats"), {}),
}


@pytest.mark.parametrize("name", STATES)
def test_a_training_state_that_does_not_fit_is_not_resumed(name: str, ckpt: Path, tmp_path: Path) -> None:
    path, value = STATES[name]
    _changed(ckpt, tmp_path / "run", *path, value=value)
    before = (tmp_path / "run" / "ckpt.pt").read_bytes()
    softvq("train", "--resume", "-q", "-o", tmp_path / "run", "--device", "cpu").refused(3, "run")
    assert (tmp_path / "run" / "ckpt.pt").read_bytes() == before


def test_the_state_that_those_tests_change_is_itself_resumed(ckpt: Path, tmp_path: Path) -> None:
    _changed(ckpt, tmp_path / "run")
    softvq("train", "--resume", "-q", "-o", tmp_path / "run", "--device", "cpu").done()


def test_text_in_a_checkpoint_cannot_speak_to_the_terminal(ckpt: Path, tmp_path: Path) -> None:
    names = ["\x1b]0;owned\x07", "[/red]", "a\nb"]
    _changed(ckpt, tmp_path / "run", "dataset", "class_names", value=names)
    ended = softvq("info", tmp_path / "run" / "ckpt.pt").done()
    assert "\x1b" not in ended.out and "\x07" not in ended.out and "[/red]" in ended.out
    assert softvq("info", tmp_path / "run" / "ckpt.pt", "--json").document["dataset"]["class_names"] == names
    _changed(ckpt, tmp_path / "run", "dataset", "class_names", value=["\ud800"])
    softvq("info", tmp_path / "run" / "ckpt.pt").refused(3, "ckpt.pt")


# ---- data


def test_pickles_in_arrays_are_refused(tmp_path: Path, trap: Path) -> None:
    objects = np.array([Trap(trap)], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=objects, labels=objects)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(trap)))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap(trap)))
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}\n"
    pointers = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(range(32))
    (tmp_path / "c.npy").write_bytes(pointers)  # of the size that its header promises
    for name in ("a.npy", "a.npz", "b.npz", "b.npy", "c.npy"):
        softvq("train", "--data", tmp_path / name, "-o", tmp_path / "run").refused(3, name)
        softvq("cluster", tmp_path / name, "-k", 2).refused(3, name)
        softvq("info", tmp_path / name).refused(3, name)
    np.save(tmp_path / "z.npy", np.zeros((4, 2), np.float32))
    softvq("cluster", tmp_path / "z.npy", "--labels", tmp_path / "a.npy").refused(3, "a.npy")
    assert not trap.exists() and not (tmp_path / "run").exists()


def test_a_header_that_promises_terabytes_allocates_nothing(tmp_path: Path, zygote: Zygote) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2)}\n" % (1 << 40)
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "a.npy").write_bytes(raw)
    make_zip(tmp_path / "a.npz", {"images.npy": raw})
    for words in (["cluster", "a.npy"], ["info", "a.npy"], ["train", "-d", "./a.npy"], ["train", "-d", "./a.npz"]):
        ended = zygote.run(*words, cwd=tmp_path, AS=8 * GIGABYTE)
        ended.refused(3, "a.np")
        assert "memory" not in ended.err


def test_archives_write_nothing_outside_and_follow_no_links(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    make_zip(work / "up.zip", {"../escaped.png": b"x", "/absolute.png": b"x"})
    make_zip(work / "bomb.zip", {"c/a.png": bytes(200_000_000)})
    make_tar(work / "up.tar", {"../escaped.png": b"x"})
    for name, target, kind in (("link", str(secret), tarfile.SYMTYPE), ("hard", "../secret.png", tarfile.LNKTYPE)):
        make_tar(work / f"{name}.tar", {"c/a.png": b""}, change={"type": kind, "linkname": target})
    for name in ("up.zip", "bomb.zip", "up.tar", "link.tar", "hard.tar"):
        softvq("train", "--data", work / name, "-o", work / "run").refused(3, name)
    assert sorted(path.name for path in work.iterdir()) == ["bomb.zip", "hard.tar", "link.tar", "up.tar", "up.zip"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.png", "work"]


# ---- settings

TOML: dict[str, tuple[bytes, int]] = {
    "deep arrays": (b"K = " + b"[" * 100_000, 3),
    "deep tables": (b"a." * 3_000 + b"b = 1", 2),
    "inline tables": (b"a = " + b"{a = " * 50_000, 3),
    "a huge number": (b"K = " + b"9" * 100_000, 3),
    "a large number": (b"K = " + b"9" * 1_000, 2),
    "a huge name": (b"x" * 1_000_000 + b" = 1", 2),
    "a huge value": (b'bottleneck = "' + b"x" * 1_000_000 + b'"', 2),
    "no text": (b"\xff\xfe\x00", 3),
    "zero bytes": (b"K = 3\x00", 3),
    "a zero byte in a path": (b'data_dir = "a\\u0000b"\ndata = "mnist"', 2),
    "a zero byte in a name": (b'data = "a\\u0000b"', 2),
    "a date": (b"K = 2020-01-01", 2),
    "infinity": (b"lr = inf", 2),
    "not a number": (b"lr = nan", 2),
    "true for a number": (b"K = true", 2),
    "a list for a number": (b"K = [1]", 2),
    "a table for a number": (b"[train.lr]\nx = 1", 2),
    "a section twice": (b"[train]\n[train]", 3),
    "a setting twice": (b"K = 3\n[model]\nK = 4", 2),
    "a setting of another section": (b"[train]\nK = 3", 2),
    "line breaks in a name": (b'"a\\nb\\u001b[31m" = 1', 2),
}


@pytest.mark.parametrize("name", TOML)
def test_a_configuration_that_is_none(name: str, npz: Path, tmp_path: Path) -> None:
    content, code = TOML[name]
    (tmp_path / "bad.toml").write_bytes(content)
    words = [] if b"data = " in content else ["--data", npz]
    ended = softvq("train", *words, "-c", tmp_path / "bad.toml", "-o", tmp_path / "run")
    ended.refused(code)
    assert len(ended.err) < 5000 and "\x1b" not in ended.err
    assert not (tmp_path / "run").exists()


def test_a_line_break_in_a_path_stays_within_one_line(npz: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a\nb\x1b[31m"
    odd.mkdir()
    softvq("info", odd / "none.pt").refused(3, "a b\\x1b[31m/none.pt")
    softvq("train", "-d", odd / "none.npz").refused(3, "b\\x1b[31m/none.npz")
    ended = softvq("train", *tiny(npz, iterations=1), "-o", odd / "run").done()
    assert ended.out == f"{odd}/run/ckpt.pt\n"  # for a program: the name as it is
    assert [line.split()[0] for line in ended.err.splitlines()] == ["training", "next:"]


# ---- whole numbers longer than Python makes of text

LONG = "9" * 5000
IMAGES = {f"{number}.png": encoded(pixels(number, (8, 8))) for number in range(4)}


def long_in_metadata() -> dict[str, bytes]:
    rows = [json.dumps({"file_name": name, "label": 1}) for name in list(IMAGES)[:3]]
    rows.append(f'{{"file_name": "3.png", "label": {LONG}}}')
    return IMAGES | {"metadata.jsonl": "\n".join(rows).encode()}


def test_a_long_whole_number_is_refused_in_a_short_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"K = {LONG}")
    np.save(tmp_path / "z.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "z.json").write_text(f'{{"format": "softvq-embedding", "n": {LONG}}}')
    write_folder(tmp_path / "own", long_in_metadata())
    labels = {f"{number}.json": b"1" for number in range(3)} | {"3.json": LONG.encode()}
    make_tar(tmp_path / "own.tar", dict(sorted((IMAGES | labels).items())))
    for *words, name in (["train", "-d", "digits", "-c", "a.toml"], ["info", "z.npy"], ["data", "show", "own"],
                         ["data", "show", "own.tar"]):  # fmt: skip
        ended = softvq(*words, tmp_path / name)
        ended.refused(3, "4300")
        assert len(ended.err) < 400


def test_a_long_whole_number_as_text_is_a_name(tmp_path: Path) -> None:
    rows = "\n".join(["file_name,label", "0.png,10", "1.png,9", "2.png,10", f"3.png,{LONG}"])
    write_folder(tmp_path / "own", IMAGES | {"metadata.csv": rows.encode()})
    assert list(softvq("data", "show", tmp_path / "own").document["classes"]) == ["9", "10", LONG]
