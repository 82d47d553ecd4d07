"""One setting at several values."""

from __future__ import annotations

import json

import pytest

from softvq_cli.errors import UsageError
from softvq_cli.experiments.backends import Where
from softvq_cli.experiments.own_data import SweepRequest, numeric_settings, parse_over
from softvq_cli.experiments.report import carry_out
from softvq_cli.training import checkpoint


@pytest.fixture(scope="module")
def swept(npz, tmp_path_factory):
    settings = {"data": str(npz), "bottleneck": "vq", "iterations": 4, "batch_size": 16, "latent_dim": 4}
    request = SweepRequest(
        over={"K": (8, 2)},
        out=tmp_path_factory.mktemp("sweep") / "out",
        seeds=2,
        settings=settings,
        command="softvq sweep --over K=8,2",
    )
    [report] = carry_out(request, where=Where(1, "cpu")).reports
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
    text = (request.out / "sweep.md").read_text()
    assert "| K = 2 | 2 |" in text
    assert "paper" not in text.split("## What")[0].splitlines()[10]
    assert "softvq sweep --over K=8,2" in text
    assert (request.out / "sweep.png").stat().st_size > 1000
    assert (request.out / "sweep.csv").read_text().startswith("row,K,data,measure,step,mean")
    assert "\n2,2,blobs,nmi," in (request.out / "sweep.csv").read_text()
    assert report.failed == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("K=8,16", ("K", (8, 16))), ("--latent-dim=2", ("latent_dim", (2,))), ("lr=1e-3, 0.1", ("lr", (0.001, 0.1)))],
)
def test_what_is_swept_is_a_name_and_numbers(text, expected):
    name, values = expected
    assert parse_over([text]) == {name: values}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent_dims=8", "'latent_dim'"),
        ("arch=mlp", "'arch'"),
        ("K=8,many", "8,many"),
        ("lr=fast", "fast"),
    ],
)
def test_a_wrong_sweep_is_refused(text, message):
    with pytest.raises(UsageError) as caught:
        parse_over([text])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "values", "settings", "message"),
    [
        ("K", (), {}, "K"),
        ("K", (0,), {}, "K"),
        ("K", (8, 8), {}, "8"),
        ("K", (8,), {"K": 4}, "K"),
        ("K", (8,), {"seed": 4}, "seed"),
        ("K", (8,), {"bottleneck": "ae"}, "ae"),
    ],
)
def test_a_wrong_request_is_refused(setting, values, settings, message, tmp_path):
    with pytest.raises(UsageError) as caught:
        SweepRequest(over={setting: values}, out=tmp_path / "out", settings=settings)
    assert message in str(caught.value)


def test_several_settings_are_a_grid(npz, tmp_path):
    settings = {"data": str(npz), "bottleneck": "vq", "iterations": 2, "batch_size": 16, "latent_dim": 4}
    request = SweepRequest(over=parse_over(["K=4,2", "beta=0.5,0.25"]), out=tmp_path / "out", settings=settings)
    [report] = carry_out(request, where=Where(1, "cpu")).reports
    document = report.document
    assert [row["label"] for row in document["rows"]] == [
        f"K = {K}, beta = {beta}" for K in (2, 4) for beta in (0.25, 0.5)
    ]
    assert document["over"] == {"K": [2, 4], "beta": [0.25, 0.5]}
    loaded = checkpoint.load(tmp_path / "out" / "runs" / "blobs-vq-K2-beta0.5-s0" / "ckpt.pt").config
    assert (loaded.model.K, loaded.loss.beta) == (2, 0.5)
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 1000
    with pytest.raises(UsageError, match="K"):
        parse_over(["K=4", "K=2"])


def test_every_number_but_the_seeds_can_be_swept():
    assert {"K", "latent_dim", "beta", "iterations", "lr", "noise_std"} <= set(numeric_settings())
    assert not {"seed", "threads", "split_seed", "test_fraction", "bottleneck", "compile"} & set(numeric_settings())
