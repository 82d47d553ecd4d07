"""Embeddings as one table, and output through pipes."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from softvq_cli import embeddings
from softvq_cli.__main__ import main
from softvq_cli.config import DataConfig
from softvq_cli.datasets import load
from softvq_cli.errors import InputError

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def parquet():
    pytest.importorskip("pyarrow")
    return pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def pipe(monkeypatch):
    """Use bytes, or the terminal, as standard input of commands."""

    def put(content: bytes | None) -> None:
        stream = SimpleNamespace(buffer=io.BytesIO(content or b""), isatty=lambda: content is None)
        monkeypatch.setattr(sys, "stdin", stream)

    return put


def as_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


CLOUDS = (np.repeat(np.eye(3), 20, axis=0) * 9 + np.random.default_rng(0).normal(size=(60, 3))).astype(np.float32)


def test_the_plain_table_has_what_the_files_have(softvq, trained, parquet, tmp_path):
    softvq("embed", trained, "-q").done()
    result = softvq("embed", trained, "-o", "new/z.parquet")
    assert (result.code, result.out) == (0, "new/z.parquet\n")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["z.parquet"]
    table = parquet.read_table("new/z.parquet")
    assert table.column_names == ["index", "vector", "label", "class", "split"]
    assert set(table.column("split").to_pylist()) == {"test"}
    assert str(table.schema.field("vector").type).startswith("fixed_size_list<") and "float" in str(table.schema)
    files, own = embeddings.read("embeddings.npy"), embeddings.read("new/z.parquet")
    assert own.z.dtype == np.float32 and np.array_equal(own.z, files.z)
    assert np.array_equal(own.labels, files.labels) and own.class_names == files.class_names
    assert own.info == {name: value for name, value in files.info.items() if name != "file_names"}
    assert table.column("class").to_pylist() == [files.class_names[label] for label in files.labels]
    assert table.column("index").to_pylist() == list(range(359))


def test_commands_read_a_table_as_they_read_files(softvq, trained, parquet):
    for split in ("train", "test"):
        for ending in ("npy", "parquet"):
            softvq("embed", trained, "--split", split, "-o", f"{split}.{ending}", "-q").done()
    for words in (("cluster", "test.{}", "--n-init", 3), ("probe", "train.{}", "test.{}")):
        first, second = (softvq(*(str(word).format(ending) for word in words)) for ending in ("npy", "parquet"))
        assert first.code == 0 and first.document == second.document
    points = []
    for ending in ("npy", "parquet"):
        softvq("tsne", f"test.{ending}", "-o", f"{ending}.png", "--save-coords", f"{ending}.xy.npy").done()
        points.append(np.load(f"{ending}.xy.npy"))
    assert np.array_equal(*points)
    assert softvq("info", "test.parquet", "--json").document["rows"] == 359


def test_hugging_face_opens_the_table_with_its_images(softvq, trained, parquet, tmp_path):
    datasets = pytest.importorskip("datasets")
    words = ("--with", "image,map,cluster,neighbours", "--clusters", 4)
    softvq("embed", trained, "-o", "z.parquet", *words).done()
    found = datasets.Dataset.from_parquet("z.parquet", cache_dir=str(tmp_path / "cache"))
    assert isinstance(found.features["image"], datasets.Image)
    assert found.features["label"].names == [str(digit) for digit in range(10)]

    digits = load(DataConfig("digits"), "test")
    row = found[5]
    assert np.array_equal(np.asarray(row["image"]), digits.images[5, ..., 0])
    z, rows = np.array(found["vector"]), np.arange(359)
    assert set(found["cluster"]) == {0, 1, 2, 3}
    distances = np.linalg.norm(z[5] - z, axis=1)
    nearest = row["neighbors"]
    assert len(nearest["ids"]) == 10 and 5 not in nearest["ids"]
    np.testing.assert_allclose(nearest["distances"], np.sort(distances[rows != 5])[:10], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(distances[nearest["ids"]], nearest["distances"], rtol=1e-3, atol=1e-5)
    assert np.ptp(found["x"]) > 1 and np.ptp(found["y"]) > 1


def test_a_table_that_fails_leaves_what_was_there(softvq, trained, parquet, tmp_path, monkeypatch):
    from softvq_cli.embeddings import parquet as table

    def fails(rows, columns, part):
        if part.start is None:  # the schema
            return content(rows, columns, part)
        raise OSError(28, "No space left on device")

    content = table._content
    (tmp_path / "z.parquet").write_text("old")
    softvq("embed", trained, "-o", "z.parquet").refused(4, "z.parquet", "--overwrite")
    monkeypatch.setattr(table, "_content", fails)
    softvq("embed", trained, "-o", "z.parquet", "--overwrite", "-q").refused(1, "z.parquet", os.strerror(errno.ENOSPC))
    assert [path.name for path in tmp_path.iterdir()] == ["z.parquet"]
    assert (tmp_path / "z.parquet").read_text() == "old"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--with", "image"), ["--with", ".parquet"]),
        (("-o", "z.parquet", "--with", "imag"), ["--with", "did you mean 'image'?"]),
        (("-o", "z.parquet", "--clusters", "3"), ["--with cluster"]),
        (("-o", "-", "--json"), ["--json", "standard output"]),
        (("-o", "z.csv"), [".npy", ".parquet"]),
    ],
)
def test_wrong_words_are_refused_before_any_work(softvq, trained, tmp_path, words, expected):
    softvq("embed", trained, *words).refused(2, *expected)
    assert list(tmp_path.iterdir()) == []


def test_the_extra_is_named_where_pyarrow_is_missing(softvq, trained, monkeypatch, tmp_path):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    softvq("embed", trained, "-o", "z.parquet").refused(1, "pip install 'softvq[tables]'")
    (tmp_path / "z.parquet").write_bytes(b"PAR1")
    softvq("cluster", "z.parquet").refused(3, "pip install 'softvq[tables]'")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, []),
        ({"z": [[1.0, 2.0]] * 3}, ["no column named vector", "z"]),
        ({"vector": [1.0, 2.0]}, ["vector"]),
        ({"vector": [[1.0, 2.0], [3.0]]}, ["vector"]),
        ({"vector": [[1.0], None]}, ["vector"]),
        ({"vector": [[1.0], [None]]}, ["vector"]),
        ({"vector": [[1.0], [float("nan")]]}, ["row 1 "]),
        ({"vector": [[1.0]]}, ["one row"]),
        ({"vector": [[1.0], [2.0]], "label": ["a", "b"]}, ["label", "whole numbers"]),
    ],
)
def test_tables_that_are_no_embeddings(parquet, tmp_path, columns, expected):
    import pyarrow

    if columns is None:
        (tmp_path / "z.parquet").write_bytes(b"PAR1 and nothing")
    else:
        parquet.write_table(pyarrow.table(columns), tmp_path / "z.parquet")
    with pytest.raises(InputError) as error:
        embeddings.read(tmp_path / "z.parquet")
    assert all(word in str(error.value) for word in ["z.parquet", *expected]), str(error.value)


# ---- pipes


def test_what_goes_into_a_pipe_is_the_file(softvq, trained, capfdbinary):
    softvq("embed", trained, "-q").done()
    assert main(["embed", str(trained), "-o", "-", "-q"]) == 0
    assert capfdbinary.readouterr().out == Path("embeddings.npy").read_bytes()


def test_cluster_and_tsne_read_standard_input(softvq, pipe, tmp_path):
    np.save("z.npy", CLOUDS)
    pipe(as_bytes(CLOUDS))
    result = softvq("cluster", "-", "--clusters", 3, "--n-init", 3)
    assert (result.code, result.err) == (0, "")
    assert result.document == softvq("cluster", "z.npy", "--clusters", 3, "--n-init", 3).document
    pipe(as_bytes(CLOUDS))
    assert softvq("tsne", "-", "-o", "map.png", "--perplexity", 5).out == "map.png\n"


def test_a_pipe_that_cannot_be_read_is_one_line(softvq, pipe):
    pipe(b"nothing")
    softvq("cluster", "-").refused(3, "standard input")
    pipe(as_bytes(CLOUDS))
    softvq("tsne", "-", "-", "-o", "map.png").refused(2, "standard input")
    pipe(None)
    softvq("cluster", "-").refused(2, "standard input")
