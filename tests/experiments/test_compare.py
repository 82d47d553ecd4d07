"""Bottlenecks on one's own data, with controls and embeddings of other programs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softvq_cli import datasets
from softvq_cli.config import DataConfig
from softvq_cli.errors import InputError, UsageError
from softvq_cli.experiments.backends import Where
from softvq_cli.experiments.own_data import CompareRequest, parse_over
from softvq_cli.experiments.report import carry_out
from softvq_cli.reporter import Reporter

SMALL = {"iterations": 4, "batch_size": 16, "latent_dim": 4, "K": 6}


@pytest.fixture(scope="module")
def pixels(npz, tmp_path_factory):
    """What another program made of all images: their pixels."""
    whole = datasets.load(DataConfig(data=str(npz)), "all")
    path = tmp_path_factory.mktemp("also") / "clip.npy"
    np.save(path, whole.images.reshape(len(whole), -1).astype(np.float32) / np.float32(255))
    np.save(path.with_suffix(".labels.npy"), whole.labels)
    return path


@pytest.fixture(scope="module")
def request_of_all(npz, pixels, tmp_path_factory):
    return CompareRequest(
        bottlenecks=("vq", "ae"),
        also=(pixels,),
        out=tmp_path_factory.mktemp("compare") / "out",
        seeds=2,
        settings={**SMALL, "data": str(npz)},
        command="softvq compare",
    )


@pytest.fixture(scope="module")
def document(request_of_all):
    done = carry_out(request_of_all, where=Where(jobs=1, device="cpu"))
    assert done.failed == ()
    return json.loads(done.reports[0].path.read_text())


def cell(document, row, measure):
    [cells] = [each["cells"] for each in document["rows"] if each["row"] == row]
    return cells[f"blobs.{measure}"]


def test_the_rows_are_bottlenecks_files_and_controls(document, request_of_all):
    assert [row["row"] for row in document["rows"]] == ["vq", "ae", "clip", "chance", "raw", "pca", "untrained"]
    assert [row["kind"] for row in document["rows"]] == ["model"] * 2 + ["control"] * 5
    assert [cell(document, row["row"], "nmi")["n"] for row in document["rows"]] == [2, 2, 1, 2, 1, 1, 2]
    assert document["baseline"] == "ae"
    assert cell(document, "vq", "nmi")["versus_baseline"]["n"] == 2
    assert {path.name for path in request_of_all.out.glob("compare.*")} == {
        f"compare.{kind}" for kind in ("json", "md", "csv", "tex", "png")
    }


def test_rows_of_another_program_are_divided_as_the_images_are(document):
    for measure in ("clustering_accuracy", "nmi", "probe_accuracy"):
        assert cell(document, "clip", measure)["values"] == cell(document, "raw", measure)["values"]


def test_chance_knows_nothing_of_the_images(document):
    chance = cell(document, "chance", "probe_accuracy")
    assert chance["mean"] < 0.6 < cell(document, "raw", "probe_accuracy")["mean"]
    assert len(set(chance["values"])) == 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bottlenecks": ()}, "bottleneck"),
        ({"bottlenecks": ("vqq",)}, "'vqq'"),
        ({"bottlenecks": ("vq", "vq")}, "vq"),
        ({"seeds": 0}, "seeds"),
        ({"settings": {"bottleneck": "ae"}}, "bottleneck"),
        ({"settings": {"lr": -1.0}}, "lr"),
    ],
)
def test_a_wrong_request_is_refused_by_name(changes, word, tmp_path):
    with pytest.raises(UsageError) as caught:
        CompareRequest(out=tmp_path, **changes)
    assert word in str(caught.value)


def test_a_file_of_other_images_is_refused_before_anything_is_trained(request_of_all, tmp_path, pixels):
    short = tmp_path / "short.npy"
    np.save(short, np.load(pixels)[:-1])
    request = CompareRequest(also=(short,), out=tmp_path / "out", settings=request_of_all.settings)
    with pytest.raises(InputError, match=r"short\.npy.* 149 .* 150"):
        request.plan(Reporter())


def test_a_file_in_another_order_is_reported(request_of_all, tmp_path, pixels):
    other = tmp_path / "other.npy"
    order = np.random.default_rng(0).permutation(150)
    np.save(other, np.load(pixels)[order])
    np.save(tmp_path / "other.labels.npy", np.load(pixels.with_suffix(".labels.npy"))[order])
    request = CompareRequest(
        bottlenecks=("ae",), also=(other,), out=request_of_all.out, seeds=1, settings=request_of_all.settings
    )
    done = carry_out(request, where=Where(jobs=1, device="cpu"))
    assert [line.split(":")[0] for line in done.failed] == ["blobs-other"]


def test_a_sweep_over_bottlenecks_names_this_command():
    with pytest.raises(UsageError, match=r"compare.*bottleneck"):
        parse_over(["bottleneck=ae,vq"])
