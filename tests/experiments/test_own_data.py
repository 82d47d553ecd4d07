"""Studies of the user's data: bottlenecks with controls and embeddings of other programs, and a varied setting."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from softvq_cli import datasets
from softvq_cli.config import DataConfig
from softvq_cli.errors import InputError, UsageError
from softvq_cli.experiments.own_data import compare, numeric_settings, parse_over, sweep
from softvq_cli.experiments.study import Request
from softvq_cli.training import checkpoint, run_directory
from tests.helpers import carried_out, cell_of

SMALL = {"iterations": 4, "batch_size": 16, "latent_dim": 4, "K": 6}


@pytest.fixture(scope="module")
def pixels(npz, tmp_path_factory):
    """Embeddings of another program for all images: their pixels."""
    whole = datasets.load(DataConfig(data=str(npz)), "all")
    path = tmp_path_factory.mktemp("also") / "clip.npy"
    np.save(path, whole.images.reshape(len(whole), -1).astype(np.float32) / np.float32(255))
    np.save(path.with_suffix(".labels.npy"), whole.labels)
    return path


@pytest.fixture(scope="module")
def request_of_all(npz, tmp_path_factory):
    settings = {**SMALL, "data": str(npz)}
    return Request(tmp_path_factory.mktemp("compare") / "out", 2, settings, "softvq compare")


@pytest.fixture(scope="module")
def document(request_of_all, pixels):
    reports = carried_out(compare(request_of_all, ("vq", "ae"), (pixels,)))
    assert reports[0].failed == []
    return json.loads(reports[0].path.read_text())


def test_the_rows_are_bottlenecks_files_and_controls(document, request_of_all):
    assert [row["row"] for row in document["rows"]] == ["vq", "ae", "clip", "chance", "raw", "pca", "untrained"]
    assert [row["kind"] for row in document["rows"]] == ["model"] * 2 + ["control"] * 5
    assert [cell_of(document, row["row"], "blobs.nmi")["n"] for row in document["rows"]] == [2, 2, 1, 2, 1, 1, 2]
    assert document["baseline"] == "ae"
    assert cell_of(document, "vq", "blobs.nmi")["versus_baseline"]["n"] == 2
    assert {path.name for path in request_of_all.out.glob("compare.*")} == {
        f"compare.{kind}" for kind in ("json", "md", "csv", "tex", "png")
    }


def test_other_rows_are_divided_as_the_images_are_and_chance_knows_nothing_of_them(document):
    for measure in ("clustering_accuracy", "nmi", "probe_accuracy"):
        assert (
            cell_of(document, "clip", f"blobs.{measure}")["values"]
            == cell_of(document, "raw", f"blobs.{measure}")["values"]
        )
    chance = cell_of(document, "chance", "blobs.probe_accuracy")
    assert chance["mean"] < 0.6 < cell_of(document, "raw", "blobs.probe_accuracy")["mean"]
    assert len(set(chance["values"])) == 2


def test_large_photos_are_reduced_for_models_and_controls_alike(tmp_path):
    for number, name in enumerate("abcdabcdabcd"):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (100, 97, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / name / f"{number}.png")
    settings = {"iterations": 1, "batch_size": 4, "latent_dim": 4, "data": str(tmp_path / "photos")}
    [report] = carried_out(compare(Request(tmp_path / "out", 1, settings, "softvq compare"), ("ae",)))
    assert report.failed == []
    stored = run_directory.stored_config(tmp_path / "out" / "runs" / "photos-ae-s0")
    assert stored.data.image_size == 64


@pytest.mark.parametrize(
    ("plan", "given", "changes", "word"),
    [
        (compare, (), {}, "bottleneck"),
        (compare, ("vqq",), {}, "'vqq'"),
        (compare, ("vq", "vq"), {}, "vq"),
        (compare, ("vq",), {"seeds": 0}, "seeds"),
        (compare, ("vq",), {"settings": {"bottleneck": "ae"}}, "bottleneck"),
        (compare, ("vq",), {"settings": {"lr": -1.0}}, "lr"),
        (sweep, {"K": ()}, {}, "K"),
        (sweep, {"K": (0,)}, {}, "K"),
        (sweep, {"K": (8, 8)}, {}, "8"),
        (sweep, {"K": (8,)}, {"settings": {"K": 4}}, "K"),
        (sweep, {"K": (8,)}, {"settings": {"seed": 4}}, "seed"),
        (sweep, {"K": (8,)}, {"settings": {"bottleneck": "ae"}}, "ae"),
    ],
)
def test_a_wrong_request_is_refused_by_name(plan, given, changes, word, tmp_path):
    with pytest.raises(UsageError) as caught:
        plan(Request(tmp_path / "out", **changes), given)
    assert word in str(caught.value)


def test_epochs_are_counted_in_a_study_as_in_a_training(request_of_all, tmp_path):
    settings = {name: value for name, value in request_of_all.settings.items() if name != "iterations"}
    [study] = compare(Request(tmp_path, 1, {**settings, "epochs": 2.0, "batch_size": 50}))
    [data] = study.data.values()
    assert {job.config.train.iterations for job in study.jobs if job.subject == "vq"} == {-(-2 * data.train // 50)}


def test_a_file_of_other_images_is_refused_before_anything_is_trained(request_of_all, tmp_path, pixels):
    short = tmp_path / "short.npy"
    np.save(short, np.load(pixels)[:-1])
    with pytest.raises(InputError, match=r"149 .* 150"):
        compare(request_of_all, also=(short,))


def test_a_file_in_another_order_is_reported(request_of_all, tmp_path, pixels):
    other = tmp_path / "other.npy"
    order = np.random.default_rng(0).permutation(150)
    np.save(other, np.load(pixels)[order])
    np.save(tmp_path / "other.labels.npy", np.load(pixels.with_suffix(".labels.npy"))[order])
    [report] = carried_out(compare(request_of_all, ("ae",), (other,)))
    assert [line.split(":")[0] for line in report.failed] == ["blobs-other"]


@pytest.fixture(scope="module")
def swept(npz, tmp_path_factory):
    settings = {"data": str(npz), "bottleneck": "vq", "iterations": 4, "batch_size": 16, "latent_dim": 4}
    request = Request(tmp_path_factory.mktemp("sweep") / "out", 2, settings, "softvq sweep --over K=8,2")
    [report] = carried_out(sweep(request, {"K": (8, 2)}))
    return request, report


def test_each_value_is_trained_with_each_seed(swept):
    request, report = swept
    document = json.loads(report.path.read_text())
    assert document["values"] == [2, 8]
    assert [row["label"] for row in document["rows"]] == ["K = 2", "K = 8"]
    for value, row in zip((2, 8), document["rows"], strict=True):
        nmi = row["cells"]["blobs.nmi"]
        stored = [
            json.loads((request.out / "runs" / f"blobs-vq-K{value}-s{seed}" / "evaluation.json").read_text())
            for seed in (0, 1)
        ]
        assert nmi["values"] == [one["numbers"]["z_e"]["nmi"] for one in stored]
        assert value == checkpoint.load(request.out / "runs" / f"blobs-vq-K{value}-s1" / "ckpt.pt").config.model.K
        active, dead = (row["cells"][f"blobs.{name}"]["mean"] for name in ("active_codes", "dead_codes"))
        assert active + dead == value


def test_the_report_is_written_in_all_forms(swept):
    request, report = swept
    assert "| K = 2 | 2 |" in (request.out / "sweep.md").read_text()
    assert (request.out / "sweep.png").stat().st_size > 1000
    assert (request.out / "sweep.csv").read_text().startswith("row,K,data,measure,step,mean")
    assert "\n2,2,blobs,nmi," in (request.out / "sweep.csv").read_text()
    assert report.failed == []


def test_what_is_swept_is_names_and_numbers():
    texts = ["K=8,16", "--latent-dim=2", "lr=1e-3, 0.1"]
    assert parse_over(texts) == {"K": (8, 16), "latent_dim": (2,), "lr": (0.001, 0.1)}
    assert not {"seed", "threads", "split_seed", "test_fraction", "bottleneck", "compile"} & set(numeric_settings())


@pytest.mark.parametrize(
    ("texts", "word"),
    [
        (["latent_dims=8"], "'latent_dim'"),
        (["arch=mlp"], "'arch'"),
        (["K=8,many"], "8,many"),
        (["lr=fast"], "fast"),
        (["bottleneck=ae,vq"], "compare"),
        (["K=4", "K=2"], "K"),
    ],
)
def test_a_wrong_sweep_is_refused(texts, word):
    with pytest.raises(UsageError, match=word):
        parse_over(texts)


def test_several_settings_are_a_grid(npz, tmp_path):
    settings = {"data": str(npz), "bottleneck": "vq", "iterations": 2, "batch_size": 16, "latent_dim": 4}
    request = Request(tmp_path / "out", 1, settings)
    [report] = carried_out(sweep(request, parse_over(["K=4,2", "beta=0.5,0.25"])))
    document = report.document
    assert [row["label"] for row in document["rows"]] == [
        f"K = {K}, beta = {beta}" for K in (2, 4) for beta in (0.25, 0.5)
    ]
    assert document["over"] == {"K": [2, 4], "beta": [0.25, 0.5]}
    loaded = checkpoint.load(tmp_path / "out" / "runs" / "blobs-vq-K2-beta0.5-s0" / "ckpt.pt").config
    assert (loaded.model.K, loaded.loss.beta) == (2, 0.5)
