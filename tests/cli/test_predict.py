"""softvq predict, and the conversion of new images for a model."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from softvq_cli import datasets
from softvq_cli.config import DataConfig
from tests.helpers import QUICK

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def images(tmp_path):
    """A grey image of the training split, the same in colour and larger, and noise."""
    train = datasets.load(DataConfig(), "train")
    folder = tmp_path / "new"
    folder.mkdir()
    digit = Image.fromarray(np.asarray(train.images[12])[..., 0])
    digit.save(folder / "a.png")
    digit.convert("RGB").resize((40, 40)).save(folder / "b.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(folder / "noise.png")
    return folder


def test_predict_says_class_cluster_outlier_and_neighbours(softvq, chained, images):
    result = softvq("predict", chained, images).done()
    document = result.document["predictions"]
    assert [one["file"] for one in document] == [str(images / name) for name in ("a.png", "b.png", "noise.png")]
    for one in document:
        assert list(one) == ["file", "class", "probability", "cluster", "outlier", "neighbours"]
        assert one["class"] in "0123456789" and 0.1 <= one["probability"] <= 1
        assert 0 <= one["cluster"] < 10 and 0 <= one["outlier"] <= 1
        assert len(one["neighbours"]) == 3 and list(one["neighbours"][0]) == ["file", "class", "distance"]
    nearest = document[0]["neighbours"][0]
    assert (nearest["file"], nearest["distance"]) == ("#12", pytest.approx(0, abs=1e-5))
    assert "8x8" in result.err and "grey" in result.err  # what was done to b.png


def test_predictions_are_those_of_the_probe_and_of_k_means(softvq, chained, tmp_path):
    test = datasets.load(DataConfig(), "test")
    (tmp_path / "test").mkdir()
    for row in range(40):
        Image.fromarray(np.asarray(test.images[row])[..., 0]).save(tmp_path / "test" / f"{row:03}.png")
    document = softvq("predict", chained, "test").document["predictions"]
    predicted, clusters = (np.load(chained / f"{name}-test.npy") for name in ("predictions", "clusters"))
    assert [int(one["class"]) for one in document] == predicted[:40].tolist()
    assert np.mean([one["cluster"] for one in document] == clusters[:40]) > 0.9  # a start may end a step earlier


def test_predict_after_train_alone_measures_what_is_missing(softvq, trained, images):
    before = sorted(trained.iterdir())
    document = softvq("predict", trained, images / "a.png", "--neighbours", 1).document["predictions"]
    assert len(document) == 1 and document[0]["neighbours"][0]["file"] == "#12"
    assert sorted(trained.iterdir()) == before


def test_predict_shows_a_table_and_writes_files(softvq, chained, images, for_people, tmp_path):
    assert "a.png" in softvq("predict", chained, images).out
    assert softvq("predict", chained, images, "-o", "p.csv").out == "p.csv\n"
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == 3 and rows[0]["neighbour_1_file"] == "#12"
    softvq("predict", chained, images, "-o", "p.csv").refused(4, "p.csv")
    softvq("predict", chained, images, "-o", "p.txt").refused(2, "p.txt", ".csv")
    parquet = pytest.importorskip("pyarrow.parquet")
    softvq("predict", chained, images, "-o", "p.parquet").done()
    assert parquet.read_table(tmp_path / "p.parquet").column("file").to_pylist() == [row["file"] for row in rows]


def test_rows_of_vectors_are_predicted_by_a_model_of_vectors(softvq, chained, tmp_path):
    draw = np.random.default_rng(0)
    labels = np.arange(120) % 3
    z = (np.eye(3)[labels] * 5 + draw.normal(size=(120, 3))).astype(np.float32)
    np.savez(tmp_path / "z.npz", x_train=z[:90], y_train=labels[:90], x_test=z[90:], y_test=labels[90:])
    np.save(tmp_path / "new.npy", z[90:100])
    softvq("run", "--data", "z.npz", "-o", "vectors", *QUICK).done()
    document = softvq("predict", "vectors", "new.npy").document["predictions"]
    assert [each["file"] for each in document] == [f"new.npy#{row}" for row in range(10)]
    predicted = np.load(tmp_path / "vectors" / "predictions-test.npy")
    assert [int(each["class"]) for each in document] == predicted[:10].tolist()
    softvq("predict", chained, "new.npy").refused(3, "new.npy")
    np.save(tmp_path / "wide.npy", np.ones((4, 5), np.float32))
    softvq("predict", "vectors", "wide.npy").refused(3, "wide", "5", "3")


def test_what_is_no_image_is_refused(softvq, chained, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    for path in ("text.png", "empty", "absent.png"):
        softvq("predict", chained, path).refused(3, path)
    softvq("predict", chained, "text.png", "--neighbours", 0).refused(2, "--neighbours")


def test_embed_takes_a_single_image_and_images_of_another_size(softvq, trained, images, tmp_path):
    softvq("embed", trained, "--data", images / "a.png", "-o", "a.npy").done()
    (images / "a.png").unlink()
    (images / "noise.png").unlink()
    result = softvq("embed", trained, "--data", images, "--split", "all", "-o", "b.npy").done()
    assert "8x8" in result.err
    assert np.load(tmp_path / "a.npy").shape == np.load(tmp_path / "b.npy").shape == (1, 16)
