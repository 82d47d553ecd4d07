"""Tables of codes, the statistics of `info` on them, and decoding of codes to images and vectors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, homogeneity_score, normalized_mutual_info_score

import softvq_cli as package
from softvq_cli import datasets
from softvq_cli.config import DataConfig
from softvq_cli.errors import InputError
from softvq_cli.evaluation.codes import agreement, describe_codes
from tests.helpers import encoded, pixels, write_folder

pytestmark = pytest.mark.usefixtures("small_networks")
TRAIN = ("train", "--iterations", "30", "--batch-size", "32", "-q", "--out", "run")


@pytest.fixture
def vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A data set of vectors in the current folder: x.npz with labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 300)
    x = (rng.normal(size=(4, 12))[y] * 5 + rng.normal(size=(300, 12)) + 50).astype(np.float32)
    np.savez("x.npz", x=x, y=y)
    return x


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_of_codes_names_each_item_once(softvq, vectors, ending: str) -> None:
    softvq(*TRAIN, "--data", "x.npz", "--bottleneck", "rvq", "--K", "4", "--stages", "2").done()
    out = f"new/codes.{ending}"
    softvq("embed", "run", "--split", "all", "--what", "codes", "-o", out).done()
    if ending == "csv":
        with open(out, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    expected = package.embed(package.load("run/ckpt.pt"), vectors, "codes")
    assert [[int(row["code_1"]), int(row["code_2"])] for row in rows] == expected.tolist()
    assert [row["code"] for row in rows] == [f"{a}-{b}" for a, b in expected]
    assert [int(row["id"]) for row in rows] == list(range(300))
    assert len({row["unique"] for row in rows}) == 300
    for number, row in enumerate(rows):
        before = sum(earlier["code"] == row["code"] for earlier in rows[:number])
        assert (int(row["suffix"]), row["unique"]) == (before, f"{row['code']}-{before}")
    if ending == "csv":
        return
    document = softvq("info", out, "--json").document
    _, sizes = np.unique(expected, axis=0, return_counts=True)
    assert document["collisions"]["items"] == sizes[sizes > 1].sum()
    assert document["collisions"]["largest_group"] == sizes.max()
    example = document["collisions"]["examples"][0]
    assert [rows[item]["code"] for item in example["ids"]] == [example["code"]] * len(example["ids"])
    shares = np.bincount(expected[:, 1]) / 300
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    stage = document["stages"]["2"]
    assert (stage["codes"], stage["used"]) == (4, (shares > 0).sum())
    assert (stage["entropy_bits"], stage["perplexity"]) == (pytest.approx(entropy), pytest.approx(2**entropy))
    softvq("cluster", out).refused(3, "--what")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("-o", "a.csv"), ".csv"),
        (("--what", "z_q", "-o", "a.csv"), ".csv"),
        (("--what", "codes", "-o", "a.parquet", "--with", "map"), "--with"),
        (("--what", "codes", "-o", "a.csv", "--clusters", "3"), "--clusters"),
    ],
)
def test_what_no_table_of_codes_has_is_refused(softvq, trained, words: tuple[str, ...], name: str) -> None:
    softvq("embed", trained, *words).refused(2, name)
    assert not list(Path().glob("a.*"))


def test_the_files_of_a_folder_are_the_ids(softvq, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_folder(tmp_path / "photos", {f"{number}.png": encoded(pixels(number, (8, 8))) for number in range(40)})
    softvq(*TRAIN, "--data", "photos", "--bottleneck", "vq", "--K", "2").done()
    softvq("embed", "run", "--split", "all", "--what", "codes", "-o", "codes.parquet").done()
    assert sorted(parquet.read_table("codes.parquet").column("id").to_pylist())[0] == "0.png"
    assert "0.png" in json.dumps(softvq("info", "codes.parquet", "--json").document["collisions"])


@pytest.mark.parametrize(
    ("bottleneck", "more"), [("rvq", ("--K", "4")), ("fsq", ("--levels", "3,4")), ("vq", ("--K", "5"))]
)
def test_codes_and_latents_come_back_as_the_data_are(softvq, vectors, bottleneck: str, more: tuple[str, ...]) -> None:
    softvq(*TRAIN, "--data", "x.npz", "--bottleneck", bottleneck, *more).done()
    checkpoint = package.load("run/ckpt.pt")
    codes, whole = (package.embed(checkpoint, vectors, name) for name in ("codes", "reconstruction"))
    of_codes = checkpoint.decode(codes)
    assert (of_codes.dtype, of_codes.shape) == (np.float32, vectors.shape)
    np.testing.assert_allclose(of_codes, whole, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        checkpoint.decode(package.embed(checkpoint, vectors, "z_q")), whole, rtol=1e-4, atol=1e-3
    )
    if bottleneck != "rvq":
        assert np.array_equal(checkpoint.decode(codes[:, 0].tolist()), of_codes)
    for wrong in (codes + 12, codes - 99, codes[:0], np.hstack([codes, codes])):
        with pytest.raises(InputError):
            checkpoint.decode(wrong)


def test_images_of_bytes_come_back_as_bytes(softvq, trained) -> None:
    checkpoint = package.load(Path(trained) / "ckpt.pt" if Path(trained).is_dir() else trained)
    images = datasets.load(DataConfig(data="digits"), "test").images[:9]
    decoded = checkpoint.decode(package.embed(checkpoint, images, "z_q"))
    assert (decoded.dtype, decoded.shape) == (np.uint8, images.shape)
    whole = package.embed(checkpoint, images, "reconstruction").reshape(images.shape)
    assert np.abs(decoded - 255 * whole).max() <= 0.501


def test_agreement_with_classes_is_that_of_scikit_learn_and_positions_are_not_items() -> None:
    rng = np.random.default_rng(0)
    for n, k in ((300, 5), (300, 200), (50, 1)):
        groups, labels = rng.integers(0, k, n), rng.integers(0, 3, n)
        found = agreement(groups, labels)
        scores = {
            "nmi": normalized_mutual_info_score,
            "ami": adjusted_mutual_info_score,
            "homogeneity": homogeneity_score,
        }
        for name, score in scores.items():
            assert found[name] == pytest.approx(score(labels, groups), abs=1e-10), name
    codes = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [2, 0, 0, 3]])  # two positions of two stages
    document = describe_codes(codes, 2, 4, labels=np.array([0, 0, 1]), ids=["a", "b", "c"])
    assert [stage["used"] for stage in document["stages"].values()] == [3, 3]
    assert document["collisions"]["examples"] == [{"code": "0-1-1-1", "items": 2, "ids": ["a", "b"]}]
    assert document["classes"]["homogeneity"] == pytest.approx(1.0) and "nmi" not in document["stages"]["1"]


def test_without_a_network_rvq_is_residual_k_means_and_a_row_next_to_rvq(softvq, vectors) -> None:
    """Computed by hand: k-means of the standardised training rows, then of the residuals; nothing is trained."""
    softvq("train", "--data", "x.npz", "--bottleneck", "rvq", "--arch", "none", "--K", "4", "--out", "km", "-q").done()
    checkpoint = package.load("km/ckpt.pt")
    assert checkpoint.step == 1 and checkpoint.model.config.latent_dim == 12
    train = datasets.load(DataConfig(data="x.npz"), "train").images
    z = (train - train.mean(0)) / np.sqrt(train.var(0).mean())
    left = z.astype(np.float64)
    for codebook in checkpoint.model.bottleneck.codebook.numpy():
        codes = np.square(left[:, None] - codebook).sum(2).argmin(1)
        for k in range(4):  # a fixed point of k-means
            np.testing.assert_allclose(codebook[k], left[codes == k].mean(0), atol=1e-4)
        left = left - codebook[codes]
    words = ("train", "--data", "x.npz", "--arch", "none", "--latent-dim", "5", "--out", "a", "-q")
    softvq(*words).refused(2, "--latent-dim")
    words = ("run", "--data", "x.npz", "--bottleneck", "rvq", "--K", "4", "--iterations", "5", "--out", "r", "--json")
    document = softvq(*words).document
    test = datasets.load(DataConfig(data="x.npz"), "test").images
    expected = checkpoint.model.evaluate(test)["nmse"]
    assert document["baselines"]["rq-kmeans"]["test_nmse"] == pytest.approx(expected, rel=0.3)  # another start
    assert expected < document["results"]["test_nmse"]
    assert any("RQ-KMeans" in remark or "esidual" in remark for remark in document["remarks"])
    results, codes = document["results"], document["code_usage"]
    model = package.load("r/ckpt.pt")
    z_e, z_q = (package.embed(model, test, name) for name in ("z_e", "z_q"))
    error = np.square(z_e - z_q).sum() / np.square(z_e - z_e.mean(0)).sum()
    assert results["quantisation_error"] == pytest.approx(error, rel=1e-4)
    assert results["unquantised_nmse"] == pytest.approx(
        np.square(model.decode(z_e) - test).mean() / (train - train.mean(0)).var(), rel=1e-3
    )
    assert codes["collisions"]["share"] == pytest.approx(results["collisions"])
    shown = softvq("info", "r", "--json").document
    assert (shown["stages"], shown["collisions"]) == (codes["stages"], codes["collisions"])


def test_a_comparison_with_rvq_has_a_row_of_residual_k_means(softvq, vectors) -> None:
    words = ("compare", "--data", "x.npz", "--bottleneck", "rvq", "--seeds", "1", "--iterations", "5", "--K", "4")
    softvq(*words, "--latent-dim", "3", "--out", "c", "-q").done()
    rows = {row["row"]: row["cells"] for row in json.loads(Path("c/compare.json").read_text())["rows"]}
    assert next(iter(rows["rq-kmeans"].values()))["n"] == 1
    assert rows["rq-kmeans"]["x.test_nmse"]["mean"] < rows["rvq"]["x.test_nmse"]["mean"]
