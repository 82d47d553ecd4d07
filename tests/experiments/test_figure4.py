"""Models compared at a common reconstruction error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from softvq_cli import datasets
from softvq_cli.errors import UsageError
from softvq_cli.experiments import comparison
from softvq_cli.experiments.comparison import match, reproduce
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Request, Study
from softvq_cli.results.evaluate import BASIC, MAP, Evaluation
from softvq_cli.training import checkpoint
from softvq_cli.training.session import initial_model
from tests.helpers import carried_out


def matched(jobs, target):
    """Figure 4 with these jobs, shortened to the target."""
    study = Study("fig4", "Figure 4", Request(Path()), (0,), (), (), {}, tuple(jobs), further={"target_nmse": None})
    outcome = Outcome({job: Evaluation({}, ()) for job in jobs}, {})
    return match(study, outcome, parts=(BASIC, MAP), target=target)


def reproduced(name, out, npz, settings, **more):
    request = Request(out, 1, {"iterations": 4, "log_every": 1, "batch_size": 16, "K": 6, **settings})
    return carried_out(reproduce(request, (name,), data={"mnist": str(npz)}, **more))


def trained(job, *curve: tuple[int, float]):
    """A job with this log of (step, validation error)."""
    job.folder.mkdir()
    lines = [json.dumps({"step": step, "test_nmse": error}) + "\n" for step, error in curve]
    (job.folder / "metrics.jsonl").write_text("".join(lines))
    return job


def test_runs_are_cut_at_the_error_that_all_of_them_reach(make_job):
    good = trained(make_job("ae", iterations=40, parts=()), (10, 0.9), (20, 0.5), (30, 0.4), (40, 0.1))
    bad = trained(make_job("vq", iterations=40, parts=()), (10, 1.0), (20, 0.8), (30, 0.6), (40, 0.45))
    found = matched([good, bad], None)
    assert found.further["target_nmse"] == 0.45
    assert [job.config.train.iterations for job in found.jobs] == [30, 40]
    assert [job.name for job in found.jobs] == ["ae-s0-i30", "vq-s0"]
    assert all(job.parts == (BASIC, MAP) for job in found.jobs)


def test_a_run_that_does_not_reach_a_given_error_is_shown_in_full(make_job):
    good = trained(make_job("ae", iterations=40), (20, 0.5), (40, 0.1))
    bad = trained(make_job("vq", iterations=40), (20, 0.8), (40, 0.45))
    found = matched([good, bad], 0.2)
    assert [job.config.train.iterations for job in found.jobs] == [40, 40]
    assert [name for name in ("ae-s0", "vq-s0") if any(name in note for note in found.notes)] == ["vq-s0"]


def test_the_soft_vq_vae_decides_the_target_where_it_is_there(make_job):
    better = trained(make_job("ae", iterations=40), (20, 0.3), (40, 0.1))
    reference = trained(make_job("soft-vq", iterations=40), (20, 0.5), (30, 0.29), (40, 0.3))  # stays as it ends
    worse = trained(make_job("vq", iterations=40), (20, 0.9), (40, 0.8))
    found = matched([better, reference, worse], None)
    assert found.further["target_nmse"] == 0.3
    assert [job.name for job in found.jobs] == ["ae-s0-i20", "soft-vq-s0", "vq-s0"]
    without = matched([better, worse], None)
    assert without.further["target_nmse"] == 0.8
    assert [comparison._LARGEST in study.notes for study in (found, without)] == [False, True]
    assert matched([], None).jobs == ()


@pytest.fixture(scope="module")
def figure(npz, tmp_path_factory):
    out = tmp_path_factory.mktemp("fig4") / "out"
    return out, reproduced("fig4", out, npz, {"iterations": 6, "lr": 1e-3}, only=("ae", "vq"))


def test_a_run_cut_short_is_the_same_run(figure):
    out, found = figure
    document = found[0].document
    rows = {row["row"]: row["cells"] for row in document["rows"]}
    target = document["target_nmse"]
    for row, cells in rows.items():
        step = int(cells["mnist.iterations"]["mean"])
        folder = out / "runs" / (f"blobs-{row}-d60-s0" + (f"-i{step}" if step < 6 else ""))
        cut = checkpoint.load(folder / "ckpt.pt")
        lines = (out / "runs" / f"blobs-{row}-d60-s0" / "metrics.jsonl").read_text().splitlines()
        logged = json.loads(lines[step - 1])
        assert cut.metrics["test_nmse"] == logged["test_nmse"] <= target
        assert cut.config.model.latent_dim == 60
        if step > 1 and logged["test_nmse"] != target:  # the one whose last error it is may have had it before
            assert json.loads(lines[step - 2])["test_nmse"] > target


def test_the_figure_has_a_panel_a_model_and_the_report_its_numbers(figure):
    out, found = figure
    assert (out / "fig4.png").stat().st_size > 1000
    [report] = found
    assert [row["row"] for row in report.document["rows"]] == ["ae", "vq"]
    assert all(cell["n"] == 1 for row in report.document["rows"] for cell in row["cells"].values())
    assert "| baseline autoencoder | 1 |" in report.path.with_suffix(".md").read_text()


def test_the_ablation_is_rows_of_settings_at_the_common_error(npz, tmp_path):
    only = ("soft-vq", "attention", "commitment-term", "d8")
    [report] = reproduced("ablation", tmp_path, npz, {}, only=only)
    assert [row["row"] for row in report.document["rows"]] == ["soft-vq", "attention", "commitment-term", "d8"]
    settings = report.document["data"]["mnist"]["settings"]
    assert (settings["attention"]["latent_weight"], settings["attention"]["soft_gradient"]) == (0, "attention")
    assert (settings["soft-vq"]["latent_dim"], settings["d8"]["latent_dim"], settings["d8"]["K"]) == (64, 8, 6)
    codebooks = {}
    for row in ("soft-vq", "attention", "commitment-term"):
        trained = checkpoint.load(tmp_path / "runs" / f"blobs-{row}-s0" / "ckpt.pt")
        untrained = initial_model(trained.config, datasets.load(trained.config.data, "train"))
        moved = trained.model.bottleneck.codebook - untrained.bottleneck.codebook
        codebooks[row] = moved.abs().max().item()
    # Adam moves what it trains by about its rate each step.
    assert codebooks["commitment-term"] < 1e-6 < 1e-4 < min(codebooks["soft-vq"], codebooks["attention"])
    target = report.document["target_nmse"]
    reached = [row["cells"]["mnist.test_nmse"]["mean"] <= target for row in report.document["rows"]]
    notes = [note for note in report.document["notes"] if "does not come down" in note]
    assert reached.count(False) == len(notes)
    with pytest.raises(UsageError):
        reproduce(Request(tmp_path), ("table1",), only=("attention",))
