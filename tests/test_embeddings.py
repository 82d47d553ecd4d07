"""Embedding files: reading, refusing, and replacing them atomically."""

from __future__ import annotations

import itertools
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
from softvq_cli.errors import InputError, UsageError
from softvq_cli.model.autoencoder import Autoencoder
from softvq_cli.model.represent import represent
from tests.helpers import Zygote, mutations

ROWS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def write(path: Path, z: np.ndarray = ROWS, **side: Any) -> Path:
    embeddings.write(path, [z], len(z), **side)
    return path


def refused(path: Path, *values: object, labels: Path | None = None) -> None:
    """Check for one line that names the file and these values."""
    with pytest.raises(InputError) as error:
        embeddings.read(path, labels)
    message = str(error.value)
    assert "\n" not in message
    assert all(str(value) in message for value in ((labels or path).name, *values)), message


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", "<i4", ">i8", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_any_array_of_numbers_in_the_float_that_holds_them(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    found = embeddings.read(tmp_path / "a.npy")
    assert found.z.dtype == (np.float64 if array.dtype.itemsize > 4 or dtype == "<i4" else np.float32)
    assert np.array_equal(found.z, np.arange(12).reshape(4, 3))
    assert found.labels is None and found.class_names == () and found.info == {}


def test_float32_stays_on_the_disk_and_digits_that_it_has_not_are_kept(tmp_path: Path) -> None:
    z = embeddings.read(write(tmp_path / "a.npy")).z
    assert isinstance(z, np.memmap) and not z.flags.writeable
    for dtype in ("<f8", "<i4", "<i8"):
        array = (np.arange(12).reshape(4, 3) + 1_000_000_001).astype(dtype)
        np.save(tmp_path / "b.npy", array)
        assert np.array_equal(embeddings.read(tmp_path / "b.npy").z, array)


def test_labels_are_found_next_to_the_file_and_others_that_are_given_have_no_names(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    np.save(tmp_path / "a.labels.npy", LABELS.astype(np.uint8))
    np.save(tmp_path / "other.npy", LABELS + 40)
    for given, labels, names in ((None, LABELS, ("a", "b", "c")), (tmp_path / "other.npy", LABELS + 40, ())):
        rows = embeddings.read(tmp_path / "a.npy", given)
        assert rows.labels is not None and rows.labels.dtype == np.int64
        assert np.array_equal(rows.labels, labels) and rows.class_names == names


def with_number(value: float, dtype: str = "f4") -> np.ndarray:
    z = ROWS.astype(dtype)
    z[4, 1] = z[6, 0] = value
    return z


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (ROWS[0], ["(3,)"]),
        (ROWS[None], ["(1, 7, 3)"]),
        (ROWS[:1], []),
        (ROWS[:0], ["(0, 3)"]),
        (ROWS[:, :0], ["(7, 0)"]),
        (ROWS.astype(complex), ["complex128"]),
        (ROWS.astype("U5"), ["<U5"]),
        (ROWS > 0, ["bool"]),
        (ROWS.astype(np.longdouble), ["float128"]),
        (np.zeros(3, [("a", "f4"), ("b", "i4")]), ["'a'"]),
        *((with_number(bad), ["row 4 "]) for bad in (np.nan, np.inf, -np.inf)),
        (with_number(1e300, "f8"), ["row 4 ", "float32"]),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused(tmp_path: Path, array: np.ndarray, values: list[str]) -> None:
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", *values)


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        (LABELS[:5], [5, 7]),
        (LABELS.astype(float), ["float64"]),
        (LABELS[:, None], ["(7, 1)"]),
        (np.full(7, 2**64 - 1, np.uint64), []),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: np.ndarray, values: list[object]) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "y.npy", labels)
    refused(tmp_path / "a.npy", *values, labels=tmp_path / "y.npy")


def test_what_is_no_array_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "text.npy").write_text("1,2,3\n")
    np.savez(tmp_path / "z.npz", ROWS)
    for name in ("missing.npy", "pipe.npy", "text.npy", "z.npz", "."):
        refused(tmp_path / name)
    refused(tmp_path / "a.npy", labels=tmp_path / "missing.npy")


@pytest.mark.parametrize(
    "shape", ["(1 << 40, 1 << 40)", "(4611686018427387904, 4)", "(-7, -3)", "(7,)*4000", "(True, 3)", "7", "(7.0, 3)"]
)
def test_a_header_cannot_ask_for_more_than_the_file_holds(tmp_path: Path, shape: str) -> None:
    shape = repr(eval(shape)) if "<<" in shape or "*" in shape else shape
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + ROWS.tobytes())
    tracemalloc.start()
    refused(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_mutated_files_are_read_right_or_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    count = 0
    for file in (path, embeddings.labels_path(path), embeddings.info_path(path)):
        good = file.read_bytes()
        for mutated in mutations(good, 200, seed=0):
            file.write_bytes(mutated)
            try:
                rows = embeddings.read(path)
            except InputError as error:
                assert "\n" not in str(error)
                count += 1
            else:
                assert np.isfinite(rows.z).all()
                assert rows.labels is None or len(rows.labels) == len(rows.z)
        file.write_bytes(good)
    assert count > 300


def test_json_of_another_program_is_left_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "a.json").write_text('{"format": "something else", "class_names": 3}')
    assert embeddings.read(tmp_path / "a.npy").info == {}


@pytest.mark.parametrize(
    ("change", "value"),
    [({"version": 99}, 99), ({"class_names": [1]}, "class_names"), ({"n": 8}, 8), ({"d": 4}, 4)],
)
def test_json_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], value: object) -> None:
    path = write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b", "c"]})
    json_path = embeddings.info_path(path)
    json_path.write_text(json.dumps(json.loads(json_path.read_text()) | change))
    with pytest.raises(InputError, match=str(value)):
        embeddings.read(path)


def test_labels_outside_the_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        embeddings.read(write(tmp_path / "a.npy", labels=LABELS, info={"class_names": ["a", "b"]}))


def test_the_written_file_is_what_numpy_writes(tmp_path: Path) -> None:
    batches = [ROWS[:2], np.asfortranarray(ROWS[2:]).astype(np.float64)]
    embeddings.write(tmp_path / "a.npy", batches, 7, labels=LABELS)
    np.save(tmp_path / "b.npy", ROWS)
    np.save(tmp_path / "b.labels.npy", LABELS)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (tmp_path / "a.labels.npy").read_bytes() == (tmp_path / "b.labels.npy").read_bytes()


def test_writing_keeps_one_batch_in_memory(tmp_path: Path) -> None:
    batch = np.zeros((1000, 64), np.float32)  # 256 kB, of 26 MB
    tracemalloc.start()
    embeddings.write(tmp_path / "a.npy", itertools.repeat(batch, 100), 100_000)
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


@pytest.mark.parametrize("rows", [ROWS[:6], ROWS[:, :2], with_number(np.inf)])
def test_nothing_is_left_of_a_file_that_was_not_completed(tmp_path: Path, rows: np.ndarray) -> None:
    path = write(tmp_path / "a.npy", ROWS[:3], labels=LABELS[:3])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises((ValueError, InputError), match="row 11 " if np.isinf(rows).any() else None):
        embeddings.write(path, [ROWS, rows], 14, labels=np.tile(LABELS, 2), info={})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


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
rows, names = np.ones((7, 3), np.float32), {"class_names": ["new", "names"]}
embeddings.write(sys.argv[1], [rows], 7, labels=np.full(7, 1), info=names)
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
    refused(tmp_path / "a.npy")


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
