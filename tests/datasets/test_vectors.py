"""Vectors as data: supported files, refused ones, standardisation, and all commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softvq_cli.config import RunConfig, resolve
from softvq_cli.datasets import Dataset
from softvq_cli.datasets.vectors import standard_of
from softvq_cli.errors import InputError, UsageError
from softvq_cli.training.session import initial_model
from tests.helpers import QUICK as SHORT
from tests.helpers import encoded, parquet, pixels, read, softvq, unusable, write_folder

LABELS = np.arange(60) % 3
VECTORS = (
    np.random.default_rng(0).normal(0, 3, (3, 6))[LABELS] + np.random.default_rng(1).normal(9, 1, (60, 6))
).astype(np.float32)
QUICK = (*SHORT, "--batch-size", "16")
NAMES = [f"item {row}" for row in range(60)]
SPLIT = ["train"] * 40 + ["test"] * 20


def table(path: Path, rows: slice = slice(None), **columns: Any) -> Path:
    pa = pytest.importorskip("pyarrow")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[rows].reshape(-1)), 6)
    return parquet(path, embedding=lists, label=LABELS[rows], **columns)


def write_csv(path: Path, header: bool = True, **columns: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        if header:
            writer.writerow([*columns, *(f"x{number}" for number in range(6))])
        writer.writerows([*(column[row] for column in columns.values()), *VECTORS[row].tolist()] for row in range(60))
    return path


def npy(folder: Path) -> Path:
    np.save(folder / "a.npy", VECTORS)
    np.save(folder / "a.labels.npy", LABELS)
    return folder / "a.npy"


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def hub(folder: Path) -> Path:
    table(folder / "hub" / "train-00000-of-00001.parquet", slice(40))
    return table(folder / "hub" / "test-00000-of-00001.parquet", slice(40, 60)).parent


UNDIVIDED = {
    ".npy": npy,
    "float64 in .npz": lambda folder: npz(folder, images=VECTORS.astype(np.float64), labels=LABELS),
    "vectors in .npz": lambda folder: npz(folder, embeddings=VECTORS, y=LABELS),
    ".parquet": lambda folder: table(folder / "a.parquet"),
    ".parquet of paths and vectors": lambda folder: table(folder / "a.parquet", file=NAMES),
    ".csv": lambda folder: write_csv(folder / "a.csv", label=LABELS.tolist()),
    ".tsv": lambda folder: write_csv(folder / "a.tsv", text=NAMES, label=LABELS.tolist()),
}
DIVIDED = {
    ".npz": lambda folder: npz(
        folder, x_train=VECTORS[:40], y_train=LABELS[:40], x_test=VECTORS[40:], y_test=LABELS[40:]
    ),
    ".parquet": lambda folder: table(folder / "a.parquet", split=SPLIT),
    "a folder of .parquet": hub,
    ".csv": lambda folder: write_csv(folder / "a.csv", label=LABELS.tolist(), split=SPLIT),
}


@pytest.mark.parametrize("kind", UNDIVIDED)
def test_every_kind_of_file_gives_the_same_vectors(tmp_path: Path, kind: str) -> None:
    path = UNDIVIDED[kind](tmp_path)
    data, test = read(path), read(path, "test")
    assert data.of_vectors and data.images.dtype == np.float32 and data.image_shape == (6,)
    assert np.array_equal(data.images, VECTORS) and np.array_equal(data.labels, LABELS)
    assert data.class_names == ("0", "1", "2") and len(test) == 12
    assert (data.file_names == tuple(NAMES)) == (kind in (".tsv", ".parquet of paths and vectors"))
    np.save(tmp_path / "same.npy", VECTORS)
    np.save(tmp_path / "same.labels.npy", LABELS)
    assert data.fingerprint == read(tmp_path / "same.npy").fingerprint


@pytest.mark.parametrize("kind", DIVIDED)
def test_vectors_keep_their_split(tmp_path: Path, kind: str) -> None:
    path = DIVIDED[kind](tmp_path)
    train, test = read(path, "train"), read(path, "test")
    assert np.array_equal(train.images, VECTORS[:40]) and np.array_equal(test.images, VECTORS[40:])
    assert np.array_equal(train.labels, LABELS[:40]) and np.array_equal(test.labels, LABELS[40:])


def test_rows_of_numbers_without_a_header(tmp_path: Path) -> None:
    data = read(write_csv(tmp_path / "a.csv", header=False))
    assert np.array_equal(data.images, VECTORS) and data.labels is None


@pytest.mark.parametrize("start", [0, 1])
def test_a_header_of_column_numbers_is_no_row(tmp_path: Path, start: int) -> None:
    path = write_csv(tmp_path / "a.csv", header=False)
    path.write_text(",".join(str(start + number) for number in range(6)) + "\n" + path.read_text())
    data = read(path)
    assert np.array_equal(data.images, VECTORS) and any(f"{start}, {start + 1}" in note for note in data.notes)


@pytest.mark.parametrize("text", ["", "NA"])
@pytest.mark.parametrize("row", [1, 7])
def test_a_gap_in_a_column_of_numbers_is_refused_in_every_row(tmp_path: Path, row: int, text: str) -> None:
    path = write_csv(tmp_path / "a.csv", label=LABELS.tolist())
    lines = path.read_text().splitlines()
    lines[row] = lines[row].rpartition(",")[0] + f",{text}"
    path.write_text("\n".join(lines))
    unusable(path, "a.csv", f"row {row - 1}")


def test_a_csv_of_whole_numbers_is_one_of_vectors_and_takes_no_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,pixel0,pixel1\n" + "3,0,255\n4,7,9\n" * 5)
    data = read(path)
    assert data.image_shape == (2,) and data.class_names == ("3", "4")
    assert any("image_shape" in note for note in data.notes)
    unusable(path, "image_shape", kind=UsageError, image_shape="1,2,1")


def test_the_columns_that_are_named_win(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", kind=LABELS.tolist())
    assert read(path).image_shape == (7,) and read(path, label_column="kind").image_shape == (6,)
    picture = encoded(pixels(0))
    both = table(tmp_path / "b.parquet", image=[picture] * 60)
    assert read(both).image_shape == (6, 5, 1) and read(both, image_column="embedding").image_shape == (6,)


def test_floats_with_a_shape_and_whole_numbers_are_no_vectors(tmp_path: Path) -> None:
    assert read(npy(tmp_path), image_shape="2,3,1").image_shape == (2, 3, 1)
    with pytest.raises(InputError, match="image_shape"):
        read(npz(tmp_path, images=VECTORS.astype(np.int64)))


BAD = np.where(np.arange(360).reshape(60, 6) == 100, np.nan, VECTORS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_no_number_is_refused_by_row(tmp_path: Path, value: float) -> None:
    bad = VECTORS.astype(np.float64)
    bad[16, 4] = value
    with pytest.raises(InputError, match=r"a\.npz.* 16"):
        read(npz(tmp_path, images=bad))


def test_a_row_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,label\n1,2,a\n3,4\n")
    unusable(tmp_path / "a.csv", "row 2")


def test_a_cell_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", label=LABELS.tolist())
    path.write_text(path.read_text().replace(str(VECTORS[7, 2].item()), "n/a"))
    unusable(path, "a.csv")


# ---- the scale


@pytest.mark.parametrize("scale", ["rms", "columns"])
def test_the_training_splits_mean_and_spread_are_in_the_model(tmp_path: Path, scale: str) -> None:
    stretched = VECTORS * np.array([1, 10, 1, 1, 1, 0], np.float32) + 50
    data = Dataset("a", "train", stretched, None, ())
    config = resolve("a.npy", data.image_shape, {"scale": scale, "bottleneck": "ae"})
    model = initial_model(config, data)
    x = torch.cat(list(model.batches(stretched)))
    centred = stretched.astype(np.float64) - stretched.mean(axis=0, dtype=np.float64)
    deviations = centred.std(axis=0)
    expected = centred / (
        np.where(deviations > 0, deviations, 1) if scale == "columns" else np.sqrt((centred**2).mean())
    )
    assert np.abs(x.numpy() - expected).max() < 1e-4 and config.model.arch == "mlp"
    assert float(model.pixel_variance) == pytest.approx(1.0 if scale == "rms" else 5 / 6)
    assert np.allclose(model.unscale(x).numpy(), stretched, atol=1e-3)
    assert not isinstance(model.decoder.layers[-1], torch.nn.Sigmoid)


def test_the_standard_is_that_of_float64_far_from_zero() -> None:
    far = (np.random.default_rng(2).normal(0, 1, (5000, 4)) + 1000).astype(np.float32)
    standard = standard_of(far, "rms")
    assert np.allclose(standard.mean, far.mean(axis=0, dtype=np.float64), rtol=1e-7)
    assert standard.spread[0] == pytest.approx(np.sqrt(far.var(axis=0, dtype=np.float64).mean()), rel=1e-6)


@pytest.mark.parametrize(
    "setting, value, rows",
    [("arch", "cnn", VECTORS), ("scale", "columns", pixels(0, (4, 8, 8, 1)))],
)
def test_settings_of_the_other_kind_of_data_are_refused(setting: str, value: str, rows: np.ndarray) -> None:
    config = RunConfig.from_flat({"arch": "mlp", setting: value})
    with pytest.raises(UsageError, match=setting):
        initial_model(config, Dataset("a", "train", rows, None, ()))


@pytest.mark.parametrize("setting, value", [("pixel_range", "0,1"), ("image_shape", "2,3,1")])
def test_settings_of_images_are_refused_for_vectors(setting: str, value: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "items.csv")
    unusable(path, setting, kind=UsageError, **{setting: value})


# ---- from data to report


def test_every_command_takes_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "items.csv", name=NAMES, label=LABELS.tolist())
    shown = softvq("data", "show", path, "--json").done().document
    assert (shown["image_shape"], shown["counts"]) == ([6], {"train": 48, "test": 12})
    softvq("data", "show", path, "-o", "sheet.png").refused(3, "items")
    softvq("run", "--data", path, "--scale", "columns", "--out", "run", *QUICK).done()
    assert json.loads(Path("run/config.json").read_text())["data"]["scale"] == "columns"
    assert not Path("run/reconstructions.png").exists() and Path("run/tsne.png").exists()
    table = softvq("embed", "run", "--what", "pixels", "-o", "e.npy").done().out.strip()
    assert np.allclose(np.load(table), read(path, "test").images, atol=1e-4)
    softvq("embed", "run", "--what", "reconstruction", "-o", "r.npy").done()
    assert np.load("r.npy").shape == (12, 6) and 5 < np.load("r.npy").mean() < 13
    softvq("embed", "run", "-o", "z.npy").done()
    assert softvq("cluster", "z.npy", "--json").done().document["n"] == 12
    assert softvq("probe", "run", "--json").done().document["n_test"] == 12
    softvq("tsne", "z.npy", "--perplexity", "3", "-o", "map.png").done()
    softvq("report", "run", "-o", "report.html").done()
    page = Path("report.html").read_text()
    assert "item 3" in page and "data:image/webp" not in page
    assert softvq("info", "run", "--json").done().document["dataset"]["image_shape"] == [6]
    softvq(
        "train", "--data", path, "--scale", "columns", "--out", "run", "--resume", "--iterations", "9", *QUICK[2:]
    ).done()
    # Each kind of data is refused by a model of the other.
    softvq("embed", "run", "--data", "digits", "-o", "x.npy").refused(3, "digits")
    folder = write_folder(tmp_path / "pictures", {f"{n}.png": encoded(pixels(n, (8, 8))) for n in range(40)})
    softvq("train", "--data", folder, "--out", "images", *QUICK).done()
    softvq("embed", "images", "--data", path, "-o", "x.npy").refused(3, "items")
    np.save("narrow.npy", VECTORS[:, :4])
    softvq("embed", "run", "--data", "narrow.npy", "-o", "x.npy").refused(3, "narrow", "4", "6")


def test_the_estimator_takes_a_run_on_vectors(tmp_path: Path) -> None:
    import softvq_cli

    run = softvq("train", "--data", npy(tmp_path), "--out", tmp_path / "run", *QUICK).done().out.strip()
    estimator = softvq_cli.AutoencoderEmbedder.load(run)
    latents = estimator.transform(VECTORS)
    assert np.array_equal(latents, softvq_cli.embed(softvq_cli.load(run), VECTORS))
    reconstructed = estimator.reconstruct(VECTORS.astype(np.float64))
    assert reconstructed.shape == VECTORS.shape and np.abs(reconstructed.mean(0) - VECTORS.mean(0)).max() < 3
    assert np.allclose(estimator.inverse_transform(latents).mean(), reconstructed.mean(), atol=2)
    estimator.save(tmp_path / "again.pt")
    again = softvq_cli.AutoencoderEmbedder.load(tmp_path / "again.pt").partial_fit(VECTORS)
    assert again.config_.train.iterations == 2 * estimator.config_.train.iterations
    with pytest.raises(InputError, match="6"):
        estimator.transform(pixels(0, (4, 8, 8)))
    with pytest.raises(ValueError, match="6"):
        estimator.transform(VECTORS[:, :4])


def test_an_exported_model_takes_vectors(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from softvq_cli.training import checkpoint

    checkpoint_file = softvq("train", "--data", npy(tmp_path), "--out", tmp_path / "run", *QUICK).done().out.strip()
    softvq("export", checkpoint_file, "--onnx", tmp_path / "m.onnx").done()
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    z_e, _, x_hat = session.run(None, {"images": VECTORS})
    model = checkpoint.load(checkpoint_file).model
    from softvq_cli import embed

    assert np.allclose(z_e, embed(model, VECTORS), atol=1e-4)
    assert np.allclose(x_hat, embed(model, VECTORS, "reconstruction"), atol=1e-3)
