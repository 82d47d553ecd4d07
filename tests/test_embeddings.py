"""Embedding files: what is read, what is refused, and that a file is either the old one or the new one."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from softvq_cli import embeddings
from softvq_cli.config import ModelConfig, RunConfig
from softvq_cli.datasets.dataset import Dataset
from softvq_cli.errors import InputError, SoftVQError, UsageError
from softvq_cli.model.autoencoder import Autoencoder
from softvq_cli.model.represent import represent
from tests.helpers import Zygote

ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def write(path: Path, z: np.ndarray = ROWS, **side: Any) -> Path:
    with embeddings.writer(path, *z.shape, **side) as out:
        out.append(z)
    return path


def refusal(path: Path, labels: Path | None = None) -> str:
    with pytest.raises(InputError) as error:
        embeddings.read(path, labels)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3
    return str(error.value)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", "<i4", ">i8", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_any_array_of_numbers_in_the_float_that_holds_them(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    found = embeddings.read(tmp_path / "a.npy")
    assert found.z.dtype == (np.float64 if array.dtype.itemsize > 4 or dtype == "<i4" else np.float32)
    assert np.array_equal(found.z, np.arange(12).reshape(4, 3))
    assert found.labels is None and found.class_names == () and found.info == {}


def test_float32_stays_on_the_disk(tmp_path: Path) -> None:
    found = embeddings.read(write(tmp_path / "a.npy"))
    assert isinstance(found.z, np.memmap)
    assert not found.z.flags.writeable


@pytest.mark.parametrize("dtype", ["<f8", "<i4", "<i8"])
def test_digits_that_float32_has_not_are_kept(tmp_path: Path, dtype: str) -> None:
    array = (np.arange(12).reshape(4, 3) + 1_000_000_001).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(embeddings.read(tmp_path / "a.npy").z, array)


def test_labels_are_found_beside_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "a.labels.npy", LABELS.astype(np.uint8))
    found = embeddings.read(tmp_path / "a.npy")
    assert found.labels is not None and found.labels.dtype == np.int64
    assert np.array_equal(found.labels, LABELS)


def test_labels_that_are_given_win_and_have_no_names(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    assert embeddings.read(tmp_path / "a.npy").class_names == ("a", "b", "c")
    np.save(tmp_path / "other.npy", LABELS + 40)
    found = embeddings.read(tmp_path / "a.npy", tmp_path / "other.npy")
    assert np.array_equal(found.labels, LABELS + 40)
    assert found.class_names == ()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (ROWS[0], ["shape (3,)", "rows"]),
        (ROWS[None], ["shape (1, 7, 3)"]),
        (ROWS[:1], ["one row"]),
        (ROWS[:0], ["(0, 3)", "empty"]),
        (ROWS[:, :0], ["(7, 0)", "empty"]),
        (ROWS.astype(complex), ["complex128"]),
        (ROWS.astype("U5"), ["<U5"]),
        (ROWS > 0, ["bool"]),
        (ROWS.astype(np.longdouble), ["float128"]),
        (np.zeros(3, [("a", "f4"), ("b", "i4")]), ["'a'"]),
    ],
)
def test_refuses_arrays_that_are_not_embeddings(tmp_path: Path, array: np.ndarray, words: list[str]) -> None:
    np.save(tmp_path / "a.npy", array)
    message = refusal(tmp_path / "a.npy")
    assert all(word in message for word in ["a.npy", *words])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_first_row_that_is_not_finite(tmp_path: Path, bad: float) -> None:
    z = ROWS.copy()
    z[4, 1] = z[6, 0] = bad
    np.save(tmp_path / "a.npy", z)
    assert "row 4 " in refusal(tmp_path / "a.npy")


def test_a_number_beyond_float32_is_not_read_as_infinity(tmp_path: Path) -> None:
    z = ROWS.astype(np.float64)
    z[2, 2] = 1e300
    np.save(tmp_path / "a.npy", z)
    message = refusal(tmp_path / "a.npy")
    assert "row 2 " in message and "float32" in message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS[:5], ["5 labels", "7 rows"]),
        (LABELS.astype(float), ["float64", "whole numbers"]),
        (LABELS[:, None], ["(7, 1)"]),
        (np.full(7, 2**64 - 1, np.uint64), ["2^63"]),
    ],
)
def test_refuses_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray, words: list[str]) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "y.npy", labels)
    message = refusal(tmp_path / "a.npy", tmp_path / "y.npy")
    assert all(word in message for word in ["y.npy", *words])


def test_refuses_what_is_no_array(tmp_path: Path) -> None:
    assert "missing.npy" in refusal(tmp_path / "missing.npy")
    assert "not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.npy")
    assert "not a file" in refusal(tmp_path / "pipe.npy")
    np.save(tmp_path / "a.npy", ROWS)
    assert "missing" in refusal(tmp_path / "a.npy", tmp_path / "missing.npy")
    (tmp_path / "text.npy").write_text("1,2,3\n")
    refusal(tmp_path / "text.npy")
    np.savez(tmp_path / "z.npz", ROWS)
    refusal(tmp_path / "z.npz")


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([[Payload(), 1], [2, 3]], dtype=object), allow_pickle=True)
    refusal(Path("a.npy"))
    np.save("b.npy", ROWS)
    np.save("b.labels.npy", np.array([Payload()] * 7, dtype=object), allow_pickle=True)
    refusal(Path("b.npy"))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "shape", ["(1 << 40, 1 << 40)", "(4611686018427387904, 4)", "(-7, -3)", "(7,)*4000", "(True, 3)", "7", "(7.0, 3)"]
)
def test_a_header_cannot_ask_for_more_than_the_file_holds(tmp_path: Path, shape: str) -> None:
    shape = repr(eval(shape)) if "<<" in shape or "*" in shape else shape
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + ROWS.tobytes())
    tracemalloc.start()
    refusal(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_mutated_files_are_read_right_or_refused_in_one_line(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "a.npy"
    write(path, labels=LABELS, info={"class_names": ["a", "b", "c"]})
    files = [path, embeddings.labels_path(path), embeddings.info_path(path)]
    good = {file: file.read_bytes() for file in files}
    refused = 0
    for _ in range(600):
        victim = files[int(random.choice(3, p=[0.6, 0.2, 0.2]))]
        data = bytearray(good[victim])
        at = int(random.integers(len(data)))
        kind = random.integers(4)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << int(random.integers(8))
        elif kind == 2:
            data[at:at] = random.bytes(int(random.integers(1, 9)))
        else:
            data[at : at + int(random.integers(1, 9))] = b""
        victim.write_bytes(data)
        try:
            found = embeddings.read(path)
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert found.z.shape == (len(found.z), 3) or victim is not path
            assert np.isfinite(found.z).all()
            assert found.labels is None or len(found.labels) == len(found.z)
        victim.write_bytes(good[victim])
    assert refused > 350


def test_json_of_another_program_is_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "a.json").write_text('{"format": "something else", "class_names": 3}')
    assert embeddings.read(tmp_path / "a.npy").info == {}


@pytest.mark.parametrize(
    ("change", "word"),
    [({"version": 99}, "update"), ({"class_names": [1]}, "class_names"), ({"n": 8}, "8 rows"), ({"d": 4}, "of 4")],
)
def test_json_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    path = write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    beside = embeddings.info_path(path)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | change))
    assert word in refusal(path)


def test_labels_outside_the_names_are_refused(tmp_path: Path) -> None:
    assert "2 classes" in refusal(write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b"]}))


def test_the_written_file_is_what_numpy_writes(tmp_path: Path) -> None:
    with embeddings.writer(tmp_path / "a.npy", 7, 3, labels=LABELS) as out:
        out.append(ROWS[:2])
        out.append(np.asfortranarray(ROWS[2:]).astype(np.float64))
    np.save(tmp_path / "b.npy", ROWS)
    np.save(tmp_path / "b.labels.npy", LABELS)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (tmp_path / "a.labels.npy").read_bytes() == (tmp_path / "b.labels.npy").read_bytes()


def test_writing_keeps_one_batch_in_memory(tmp_path: Path) -> None:
    batch = np.zeros((1000, 64), np.float32)  # 256 kB, of 26 MB
    tracemalloc.start()
    with embeddings.writer(tmp_path / "a.npy", 100_000, 64) as out:
        for _ in range(100):
            out.append(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * batch.nbytes
    assert embeddings.read(tmp_path / "a.npy").z.shape == (100_000, 64)


@pytest.mark.parametrize("name", ["a", "a.txt", "a.labels.npy", ".npy", "a.npz"])
def test_only_npy_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.npy"):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_old_side_files_go_with_the_old_latents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    write(path, ROWS[:4])
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
    assert embeddings.read(path).labels is None


@pytest.mark.parametrize("rows", [ROWS[:6], ROWS[:, :2], np.full_like(ROWS, np.nan)])
def test_nothing_is_left_of_a_file_that_was_not_completed(tmp_path: Path, rows: np.ndarray) -> None:
    path = write(tmp_path / "a.npy", ROWS[:3], labels=LABELS[:3])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises((ValueError, InputError)), embeddings.writer(path, 7, 3, labels=LABELS, info={}) as out:
        out.append(rows)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_row_that_is_not_finite_is_named(tmp_path: Path) -> None:
    bad = ROWS.copy()
    bad[3] = np.inf
    with pytest.raises(InputError, match="row 10 "), embeddings.writer(tmp_path / "a.npy", 14, 3) as out:
        out.append(ROWS)
        out.append(bad)
    assert not list(tmp_path.iterdir())


CRASH = """
import os, sys
import numpy as np
from softvq_cli import embeddings

steps = 0
def dying(real):
    def call(*args, **options):
        global steps
        if steps == int(sys.argv[2]):
            os._exit(9)
        steps += 1
        return real(*args, **options)
    return call

for name in ("replace", "unlink", "fsync"):
    setattr(os, name, dying(getattr(os, name)))
with embeddings.writer(sys.argv[1], 7, 3, labels=np.full(7, 1), info={"class_names": ["new", "names"]}) as out:
    out.append(np.ones((7, 3), np.float32))
print("done")
"""


def test_a_crash_at_any_moment_never_pairs_new_latents_with_old_labels(zygote: Zygote, tmp_path: Path) -> None:
    states = set()
    for moment in range(40):
        path = write(tmp_path / "a.npy", np.zeros((7, 3), np.float32), labels=np.zeros(7, int), info={})
        ended = zygote.python(CRASH, path, moment)
        found = embeddings.read(path)
        new = bool(found.z[0, 0])
        assert found.labels is None or (found.labels == new).all()
        assert not found.class_names or new
        states.add((new, found.labels is not None))
        for left in tmp_path.iterdir():
            left.unlink()
        if ended.code == 0:
            break
        assert ended.code == 9
    assert ended.code == 0 and moment > 6
    assert {(False, True), (True, False), (True, True)} <= states


def test_a_full_disk_leaves_the_old_file(zygote: Zygote, tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", labels=LABELS)
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from softvq_cli import embeddings\n"
        "from softvq_cli.errors import SoftVQError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    with embeddings.writer(sys.argv[1], 1000, 30, labels=np.zeros(1000, int)) as out:\n"
        "        for _ in range(10): out.append(np.ones((100, 30), np.float32))\n"
        "except SoftVQError as error:\n"
        "    print(error)\n"
    )
    ended = zygote.python(code, path)
    assert ended.code == 0, ended
    shown = ended.out
    assert "cannot write" in shown and shown.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.labels.npy", "a.npy"]
    assert np.array_equal(embeddings.read(path).z, ROWS)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SoftVQError, match="nowhere"):
        write(tmp_path / "nowhere" / "a.npy", labels=LABELS)


def checkpoint(bottleneck: str = "soft-vq") -> Any:
    torch.manual_seed(0)
    config = RunConfig(model=ModelConfig(bottleneck=bottleneck, latent_dim=5, K=6))
    model = Autoencoder(config.model, (8, 8, 1)).eval()
    trained_on = SimpleNamespace(name=config.data.data)
    return SimpleNamespace(model=model, config=config, dataset=trained_on, sha256="ab" * 32, step=20)


@pytest.mark.parametrize("what", ["z_e", "z_q", "reconstruction", "pixels", "codes"])
def test_embeds_every_image_in_order(tmp_path: Path, small_dataset: Dataset, what: str) -> None:
    trained = checkpoint()
    seen = []
    reporter = SimpleNamespace(progress=lambda name, done, total: seen.append(done))
    found = embeddings.embed(
        trained, small_dataset, tmp_path / "a.npy", what=what, batch_size=21, reporter=cast(Any, reporter)
    )
    expected = represent(trained.model, small_dataset.images, what)  # 64 images: batches of 21, 21, 21 and 1
    np.testing.assert_allclose(found.z, expected, atol=1e-5)
    assert np.array_equal(found.labels, small_dataset.labels)
    assert np.load(tmp_path / "a.npy").dtype == expected.dtype
    assert seen == [21, 42, 63, 64]


def test_says_where_the_rows_come_from(tmp_path: Path, small_dataset: Dataset) -> None:
    trained = checkpoint()
    found = embeddings.embed(trained, small_dataset, tmp_path / "a.npy")
    assert found.class_names == small_dataset.class_names
    assert found.info == json.loads((tmp_path / "a.json").read_text())
    assert RunConfig.from_dict(found.info["config"]) == trained.config
    known = {"dataset": "blobs", "split": "train", "representation": "z_e", "checkpoint_sha256": "ab" * 32, "step": 20}
    assert known.items() <= found.info.items()


def test_file_names_survive_in_any_encoding(tmp_path: Path, small_dataset: Dataset) -> None:
    names = ("ä/鳥.png", os.fsdecode(b"caf\xe9.png"))
    two = Dataset("mine", "all", small_dataset.images[:2], None, (), names)
    found = embeddings.embed(checkpoint(), two, tmp_path / "a.npy")
    assert tuple(found.info["file_names"]) == names
    assert found.labels is None and not (tmp_path / "a.labels.npy").exists()


def test_one_image_is_embedded_but_too_little_to_compare(tmp_path: Path, small_dataset: Dataset) -> None:
    one = Dataset("mine", "all", small_dataset.images[:1], None, ())
    assert embeddings.embed(checkpoint(), one, tmp_path / "a.npy").z.shape == (1, 5)
    assert "one row" in refusal(tmp_path / "a.npy")


def test_what_cannot_be_embedded_leaves_no_file(tmp_path: Path, small_dataset: Dataset) -> None:
    with pytest.raises(InputError, match="codebook"):
        embeddings.embed(checkpoint("ae"), small_dataset, tmp_path / "a.npy", what="codes")
    with pytest.raises(InputError, match="images"):
        embeddings.embed(checkpoint(), Dataset("none", "test", small_dataset.images[:0], None, ()), tmp_path / "a.npy")
    broken = checkpoint()
    torch.nn.init.constant_(broken.model.to_latent.weight, torch.nan)
    with pytest.raises(InputError, match="row 0 "):
        embeddings.embed(broken, small_dataset, tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, small_dataset: Dataset) -> None:
    for name in ("a", "b"):
        embeddings.embed(checkpoint(), small_dataset, tmp_path / f"{name}.npy")
    for suffix in (".npy", ".labels.npy", ".json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
