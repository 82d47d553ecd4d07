"""A comparison of the paper on a small data set."""

from __future__ import annotations

import csv
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from softvq_cli import datasets
from softvq_cli.cli.reproduce import command_of
from softvq_cli.config import DataConfig, resolve
from softvq_cli.devices import machine
from softvq_cli.errors import InputError, RefusedError, UsageError
from softvq_cli.evaluation.statistics import paired_difference, welch_difference
from softvq_cli.experiments import formats
from softvq_cli.experiments.comparison import reproduce
from softvq_cli.experiments.document import document as document_of
from softvq_cli.experiments.pool import Outcome
from softvq_cli.experiments.study import Request
from softvq_cli.model import represent
from softvq_cli.training import checkpoint, run_directory
from tests.helpers import Recorder, carried_out, cell_of

SMALL = {"iterations": 4, "batch_size": 16, "latent_dim": 4, "K": 6}


def table1(out, npz, seeds=1, names=("table1",), settings=SMALL, **chosen):
    """Plan a comparison in which the blobs take the place of mnist."""
    return reproduce(
        Request(out, seeds, settings, "softvq reproduce table1"), names, data={"mnist": str(npz)}, **chosen
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce") / "table1"


@pytest.fixture(scope="module")
def planned(out, npz):
    return table1(out, npz, 3, only=("ae", "vq", "raw"))


@pytest.fixture(scope="module")
def found(planned):
    return carried_out(planned)


@pytest.fixture(scope="module")
def document(found):
    assert found[0].failed == []
    return json.loads(found[0].path.read_text())


@pytest.mark.parametrize("recipe, bottleneck", [("notebook", "beta-vae"), ("tuned", "gumbel-vq")])
def test_a_job_has_the_settings_that_train_would_have(recipe, bottleneck, npz, tmp_path):
    chosen = {"recipe": recipe, "K": 9}
    [study] = table1(tmp_path, npz, names=("since",), only=(bottleneck,), settings=chosen)
    alone = resolve("mnist", study.data["mnist"].image_shape, {**chosen, "bottleneck": bottleneck}).flat()
    planned = study.jobs[0].config.flat()
    differing = {name for name in alone if alone[name] != planned[name]}
    assert differing <= {"data", "iterations"}  # since trains for 10 000


def test_data_that_stand_for_a_set_are_trained_with_the_recipe_of_that_set(npz, tmp_path):
    chosen = {**SMALL, "recipe": "notebook"}
    [report] = carried_out(table1(tmp_path, npz, only=("beta-vae",), settings=chosen))
    assert report.failed == []
    config = run_directory.stored_config(tmp_path / "runs" / "blobs-beta-vae-s0")
    assert (config.model.recipe, config.loss.reconstruction_scale) == ("notebook", 784)


def test_every_cell_has_its_runs_mean_deviation_and_the_papers_number(document, out):
    accuracy = cell_of(document, "vq", "mnist.clustering_accuracy")
    evaluations = [
        json.loads((out / "runs" / f"blobs-vq-s{seed}" / "evaluation.json").read_text()) for seed in (0, 1, 2)
    ]
    values = [one["numbers"]["z_e"]["clustering_accuracy"] for one in evaluations]
    assert accuracy["values"] == values
    assert accuracy["mean"] == pytest.approx(np.mean(values))
    assert accuracy["std"] == pytest.approx(np.std(values, ddof=1))
    assert accuracy["n"] == 3
    assert accuracy["paper"] == 0.5148
    baseline = cell_of(document, "ae", "mnist.clustering_accuracy")
    welch = welch_difference(values, baseline["values"])
    assert accuracy["versus_baseline"] == {
        **paired_difference(values, baseline["values"]).as_dict(),
        "welch": {"low": welch.low, "high": welch.high, "p": welch.p},
    }
    assert baseline["versus_baseline"] is None


def test_intervals_are_over_trainings_and_their_starts(document, out):
    folders = [out / "runs" / f"blobs-vq-s{seed}" for seed in (0, 1, 2)]
    starts = [json.loads((folder / "evaluation.json").read_text())["details"]["starts"] for folder in folders]
    rng, means = np.random.default_rng(1), []
    for _ in range(2000):
        best = []
        for training in rng.integers(3, size=3):
            drawn = rng.integers(100, size=100)
            best.append(min(drawn, key=lambda i: (starts[training]["inertia"][i], i)))
            best[-1] = starts[training]["clustering_accuracy"][best[-1]]
        means.append(np.mean(best))
    interval = cell_of(document, "vq", "mnist.clustering_accuracy")["interval"]
    assert interval["starts"] == 100
    assert (interval["low"], interval["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)
    nmi = cell_of(document, "vq", "mnist.nmi")
    assert nmi["interval"]["starts"] == 1
    assert min(nmi["values"]) <= nmi["interval"]["low"] <= nmi["mean"] <= nmi["interval"]["high"] <= max(nmi["values"])
    assert cell_of(document, "raw", "mnist.nmi")["interval"] is None
    clusters = [np.load(folder / "clusters-test.npy") for folder in folders]
    agreement = [adjusted_rand_score(a, b) for a, b in itertools.combinations(clusters, 2)]
    assert cell_of(document, "vq", "mnist.seed_ari")["values"] == pytest.approx(agreement)


def test_the_codes_have_their_images_and_the_purity_of_their_classes(document, out, npz):
    test = datasets.load(DataConfig(data=str(npz)), "test")
    purity = cell_of(document, "vq", "mnist.code_purity")
    for seed, of_codes in enumerate(purity["codes"]):
        model = checkpoint.load(out / "runs" / f"blobs-vq-s{seed}" / "ckpt.pt").model
        codes = represent(model, test.images, "codes").ravel()
        classes = [test.labels[codes == k].tolist() for k in range(6)]
        assert of_codes["counts"] == [len(each) for each in classes]
        commonest = [max(map(each.count, each)) if each else 0 for each in classes]
        expected = [most / len(each) if each else None for most, each in zip(commonest, classes, strict=True)]
        assert of_codes["purity"] == pytest.approx(expected)
        assert purity["values"][seed] == pytest.approx(sum(commonest) / len(codes))
    used = [sum(count > 0 for count in of_codes["counts"]) / 6 for of_codes in purity["codes"]]
    assert cell_of(document, "vq", "mnist.code_utilisation")["values"] == used


def test_rows_stand_in_the_papers_order_with_the_decoders_input_below(document):
    assert [row["row"] for row in document["rows"]] == ["raw", "ae", "vq", "vq:z_q"]
    assert [row["kind"] for row in document["rows"]] == ["control", "model", "model", "control"]
    inputs = cell_of(document, "vq:z_q", "mnist.nmi")
    assert (inputs["n"], inputs["paper"]) == (3, None)
    raw = cell_of(document, "raw", "mnist.probe_accuracy")
    assert (raw["n"], raw["std"], raw["paper"], raw["versus_baseline"]) == (1, None, 0.9244, None)
    active, dead = (cell_of(document, "vq", f"mnist.{name}_codes")["mean"] for name in ("active", "dead"))
    assert active + dead == 6
    assert "mnist.bits_per_image" not in document["rows"][1]["cells"]


def test_the_spread_of_the_seeds_is_told_from_that_of_the_starts(document):
    [row] = [row for row in formats.spread_table(document, "mnist")[1] if row[0] == "VQ-VAE"]
    means, stds = (np.array(cell_of(document, "vq", f"mnist.starts_{name}")["values"]) for name in ("mean", "std"))
    between = max(0.0, np.var(means, ddof=1) - (stds**2).mean() / 100) ** 0.5
    expected = [np.std(means, ddof=1), between, (stds**2).mean() ** 0.5]
    assert [float(text.split()[0]) for text in row[3:6]] == pytest.approx(100 * np.array(expected), abs=0.006)


def test_the_report_says_how_it_was_made_and_on_which_data(document, npz):
    assert document["data"]["mnist"]["name"] == "blobs"
    assert not document["data"]["mnist"]["papers"]
    assert document["data"]["mnist"]["settings"]["vq"]["K"] == 6
    assert document["data"]["mnist"]["settings"]["vq"]["arch"] == "mlp"  # the settings of mnist, whatever the data
    assert document["command"] == "softvq reproduce table1"
    assert document["seeds"] == [0, 1, 2]
    assert document["processors"] == [machine("cpu")["processor"]]


def test_every_form_has_the_numbers_of_the_json(document, found):
    path = found[0].path
    accuracy, nmi = (cell_of(document, "vq", f"mnist.{name}") for name in ("clustering_accuracy", "nmi"))
    shown = f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f}"
    text = path.with_suffix(".md").read_text()
    [row] = [line for line in text.partition("## Differences")[0].splitlines() if line.startswith("| VQ-VAE | 3 ")]
    assert row.split(" | ")[2:4] == [shown, "51.48"]
    assert document["command"] in text and document["processors"][0] in text
    assert "paper, MNIST" in text and "](table1.png)" in text
    latex = path.with_suffix(".tex").read_text()
    assert f"VQ-VAE & 3 & {shown.replace('±', '$' + chr(92) + 'pm$')} & 51.48 &" in latex
    lines = list(csv.DictReader(io.StringIO(path.with_suffix(".csv").read_text())))
    [line] = [line for line in lines if (line["row"], line["measure"]) == ("vq", "nmi")]
    assert (float(line["mean"]), float(line["paper"])) == (nmi["mean"], 0.3541)
    assert float(line["versus_baseline"]) == nmi["versus_baseline"]["mean"]
    assert [float(value) for value in line["values"].split()] == nmi["values"]
    [line] = [line for line in lines if (line["row"], line["measure"]) == ("raw", "starts_median")]
    assert (line["data"], line["std"], line["paper"], line["step"]) == ("blobs", "", "", "")


def test_given_again_nothing_is_done_again_and_the_report_is_the_same(found, planned):
    before = {path: path.read_bytes() for path in found[0].path.parent.iterdir() if path.is_file()}
    recorder = Recorder()
    carried_out(planned, recorder)
    assert recorder.done == []
    assert {path: path.read_bytes() for path in before} == before


def test_kept_checkpoints_become_a_course_in_the_report(npz, tmp_path):
    rows = ("vq", "raw")
    [report] = carried_out(table1(tmp_path, npz, only=rows, settings={**SMALL, "keep": "1,3"}))
    nmi = {row["row"]: row["cells"]["mnist.nmi"] for row in report.document["rows"]}
    assert [row for row in nmi if "steps" in nmi[row]] == ["vq"]
    assert list(nmi["vq"]["steps"]) == ["1", "3"]
    [vq] = [row for row in report.document["rows"] if row["row"] == "vq"]
    assert formats.course_of(vq, "mnist", "nmi")[4]["values"] == nmi["vq"]["values"]
    text = (tmp_path / "table1.md").read_text()
    assert "| VQ-VAE | NMI | " in text[text.index("## Along the training") :]
    assert text.endswith("](table1-course.png)\n")
    assert (tmp_path / "table1-course.png").stat().st_size > 1000
    carried_out(table1(tmp_path, npz, only=rows))  # a report without a course leaves no picture of one
    assert "course" not in (tmp_path / "table1.md").read_text()
    assert not (tmp_path / "table1-course.png").exists()


def test_more_seeds_train_only_the_new_ones(found, out, npz):
    recorder = Recorder()
    again = carried_out(table1(out, npz, 4, only=("ae",)), recorder)
    assert recorder.done == ["blobs-ae-s3"]
    assert again[0].document["rows"][0]["cells"]["mnist.nmi"]["n"] == 4


def test_other_settings_and_a_second_command_in_the_same_folder_are_refused(found, planned, out, npz):
    with pytest.raises(RefusedError) as caught:
        carried_out(table1(out, npz, settings={**SMALL, "iterations": 3}))
    assert caught.value.settings == ("iterations", "out")
    with (
        run_directory.locked(out),
        ThreadPoolExecutor() as second,
        pytest.raises(RefusedError, match=str(out)),
    ):
        second.submit(carried_out, planned).result()


def test_columns_without_data_are_left_out_and_reported(npz, tmp_path):
    recorder = Recorder()
    missing = str(tmp_path / "nothing.npz")
    request = Request(tmp_path / "out", 1, {"arch": "mlp", **SMALL})
    chosen = {"only": ("pca",), "data": {"svhn": missing, "cifar10": str(npz)}}
    [report] = carried_out(reproduce(request, ("table2",), recorder, **chosen), recorder)
    assert len(report.failed) == len(recorder.warnings) == 1
    assert report.failed[0].startswith("svhn: ") and "nothing.npz" in report.failed[0]
    assert [column["data"] for column in report.document["columns"]] == ["cifar10", "cifar10"]
    assert cell_of(report.document, "pca", "cifar10.probe_accuracy")["n"] == 1
    assert "- svhn: " in report.path.with_suffix(".md").read_text()
    with pytest.raises(InputError, match=r"nothing\.npz"):
        reproduce(request, ("table2",), only_data=("svhn",), **chosen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("tabel1",)}, "table1"),
        ({"only": ("softvq",)}, "'soft-vq'"),
        ({"data": {"cifar": "x"}}, "'cifar'"),
        ({"only_data": ("svhn",)}, "'svhn'"),
        ({"seeds": 0}, "seeds"),
        ({"target_nmse": 0.0}, "target_nmse"),
        ({"target_nmse": 0.2}, "target_nmse"),
        ({"names": ("fig4",), "only": ("ae", "raw")}, "raw"),
        ({"settings": {"bottleneck": "ae"}}, "bottleneck"),
        ({"settings": {"lr": -1.0}}, "lr"),
    ],
)
def test_a_wrong_request_is_refused_by_name(changes, message, tmp_path):
    request = Request(tmp_path, changes.pop("seeds", None), changes.pop("settings", {}))
    with pytest.raises(UsageError) as caught:
        reproduce(request, **{"names": ("table1",), **changes})
    assert message in str(caught.value)


@pytest.mark.parametrize(("row", "published"), [("ae", True), ("fsq", False)])
def test_a_column_without_any_published_number_has_none_beside_it(row, published, npz, tmp_path):
    [study] = table1(tmp_path, npz, only=(row,))
    header, _ = formats.main_table(document_of(study, Outcome({}, {})))
    assert ("paper" in " ".join(header)) == published


def test_a_batch_larger_than_the_data_is_refused_before_anything_runs(npz, tmp_path):
    with pytest.raises(UsageError):
        table1(tmp_path, npz, settings={"batch_size": 500})


def test_the_command_asks_for_the_same():
    chosen = {"only": ("ae",), "data": {}, "only_data": (), "full": True, "target_nmse": 0.5}
    settings = {"lr": 1e-5, "iterations": 7, "compile": False, "data_dir": "d"}
    assert command_of("all", None, chosen, settings, Path("a b")) == (
        "softvq reproduce all --only ae --full --target-nmse 0.5 --lr 1e-05 --iterations 7 --no-compile --data-dir d "
        "--out 'a b'"
    )
