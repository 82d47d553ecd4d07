"""The behaviour of each command in a shell."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from softvq_cli.cli.app import build
from softvq_cli.results import embedded, evaluate
from tests.helpers import QUICK

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def latents(tmp_path):
    """Three clusters of 40 rows in 5 dimensions, with labels: path of the .npy."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    z = (10 * np.eye(3, 5)[labels] + random.normal(size=(120, 5))).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "z.labels.npy", labels)
    return tmp_path / "z.npy"


def hints(result) -> list[list[str]]:
    """The next commands that a result suggests, as a shell would read them."""
    return [shlex.split(line.removeprefix("next: ")) for line in result.err.splitlines() if line.startswith("next: ")]


# ---- hints


def test_a_hint_is_a_command_that_carries_the_options_it_needs(softvq, chained, latents, tmp_path):
    shutil.copytree(chained, tmp_path / "it's a run")
    np.save("labels.npy", np.arange(120) % 3)
    np.save("plain.npy", np.load(latents))
    for number in range(12):
        shape = (20, 16 + number % 2, 3)
        path = tmp_path / "photos" / f"{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, np.uint8)).save(path)
    for words, expected in (
        (("embed", "it's a run"), ["cluster", "embeddings.npy"]),
        (("embed", "it's a run", "--what", "codes", "-o", "c.npy"), ["info", "c.npy"]),
        (("cluster", latents, "--n-init", 1), ["tsne", str(latents), "-o", "z.png"]),
        (
            ("cluster", "plain.npy", "--labels", "labels.npy", "--n-init", 1),
            ["tsne", "plain.npy", "--labels", "labels.npy", "-o", "plain.png"],
        ),
        (("probe", "it's a run"), ["embed", "it's a run"]),
        (("probe", latents, latents), ["tsne", str(latents), "-o", "tsne.png"]),
        (("tsne", latents, "-o", "a.png"), ["cluster", str(latents), "--on-map"]),
        (("tsne", "plain.npy", "-o", "b.png"), ["cluster", "plain.npy", "--clusters", "10", "--on-map"]),
        (("export", "it's a run", "--safetensors"), ["info", "it's a run/model.safetensors"]),
        (("info", "it's a run"), ["embed", "it's a run"]),
        (("info", latents), ["cluster", str(latents)]),
        (("data", "show", "digits", "--test-fraction", "0.5"), ["train", "--data", "digits", "--test-fraction", "0.5"]),
        (("data", "list", "mnist", "--data-dir", "no"), ["data", "fetch", "mnist", "--data-dir", "no"]),
        (("issues", "photos"), ["run", "--data", "photos", "--image-size", "64"]),
        (("issues", "photos", "--image-size", 16), ["run", "--data", "photos", "--image-size", "16"]),
    ):
        [hint] = hints(softvq(*words).done())
        assert hint == ["softvq", *expected], words
        build(hint[1]).make_context(hint[1], hint[2:])  # the parser takes it


# ---- train


def test_train_prints_just_the_path_of_its_checkpoint(softvq, tmp_path):
    result = softvq("train", *QUICK).done()
    path = tmp_path / result.out.strip()
    assert result.out == f"{path.relative_to(tmp_path)}\n"
    assert path.parent.parent == tmp_path / "runs"
    assert {each.name for each in path.parent.iterdir()} - {".lock"} == {"ckpt.pt", "config.json", "metrics.jsonl"}
    assert hints(result) == [["softvq", "embed", result.out.strip()]]
    rows = softvq("embed", path, "-q").out.strip()
    assert 0 < softvq("cluster", rows, "-q", "--n-init", 5).document["clustering_accuracy"] <= 1


def test_quiet_leaves_only_the_result(softvq):
    result = softvq("train", "--quiet", "--out", "a run", *QUICK)
    assert (result.out, result.err) == ("a run/ckpt.pt\n", "")


def test_options_and_file_reach_the_run(softvq, tmp_path):
    (tmp_path / "my.toml").write_text('bottleneck = "vq"\n[model]\nK = 9\nlatent-dim = 5\n')
    document = softvq("train", "-o", "run", "-c", "my.toml", "--K", 7, *QUICK, "--json").done().document
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in document["config"]} == document["config"]
    assert (config["model"]["bottleneck"], config["model"]["K"], config["model"]["latent_dim"]) == ("vq", 7, 5)
    assert document["metrics"]["step"] == config["train"]["iterations"] == 6


def test_a_run_is_neither_overwritten_nor_trained_again_unless_asked(softvq, tmp_path):
    softvq("train", "-o", "run", "-q", *QUICK).done()
    path = tmp_path / "run" / "ckpt.pt"
    before = path.read_bytes()
    softvq("train", "-o", "run", "-q", "--seed", 1, *QUICK).refused(4, "run", "--resume", "--overwrite")
    result = softvq("train", "-o", "run", "--resume").done()
    assert result.out == "run/ckpt.pt\n" and result.err.startswith("run ")
    softvq("train", "-o", "run", "--resume", "--K", 5).refused(2, "--K 5")
    assert path.read_bytes() == before
    softvq("train", "-o", "run", "-q", "--seed", 1, "--overwrite", *QUICK).done()
    assert path.read_bytes() != before
    for name in ("train", "run"):
        softvq(name, "-o", "new", "--resume", "--overwrite").refused(2, "--resume", "--overwrite")
    assert not (tmp_path / "new").exists()


# ---- embed


def test_embed_needs_nothing_but_the_checkpoint(softvq, trained, tmp_path):
    result = softvq("embed", trained / "ckpt.pt").done()
    assert result.out == "embeddings.npy\n" and "warning" not in result.err
    z, labels = np.load(tmp_path / "embeddings.npy"), np.load(tmp_path / "embeddings.labels.npy")
    assert z.dtype == np.float32 and z.shape == (len(labels), 16)
    assert json.loads((tmp_path / "embeddings.json").read_text())["split"] == "test"
    document = softvq("embed", trained, "-o", "b.npy", "--json").document
    assert document == {"version": 1, "path": "b.npy", "rows": 359, "columns": 16, "labels": True}
    assert (tmp_path / "embeddings.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        *((("--split", split), (rows, 16)) for split, rows in (("train", 1438), ("test", 359), ("all", 1797))),
        *(
            (("--what", what), (359, n))
            for what, n in (("z_q", 16), ("codes", 1), ("reconstruction", 64), ("pixels", 64))
        ),
    ],
)
def test_embed_takes_any_split_and_representation(softvq, trained, tmp_path, words, shape):
    softvq("embed", trained, *words).done()
    assert np.load(tmp_path / "embeddings.npy").shape == shape


@pytest.mark.parametrize("taken", ["embeddings.npy", "embeddings.labels.npy", "embeddings.json"])
def test_embed_refuses_to_replace_a_file(softvq, trained, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    softvq("embed", trained).refused(4, taken, "--overwrite")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(taken, "mine")]
    softvq("embed", trained, "--overwrite").done()


def test_embed_takes_other_data_of_the_same_shape(softvq, trained, tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros((10, 8, 8), np.uint8))
    softvq("embed", trained, "--data", "mine.npy", "--split", "all").done()
    assert np.load(tmp_path / "embeddings.npy").shape == (10, 16)
    np.save(tmp_path / "large.npy", np.zeros((10, 9, 8), np.uint8))
    softvq("embed", trained, "--data", "large.npy", "-o", "x.npy").refused(3, "(9, 8, 1)", "(8, 8, 1)")


def test_embed_warns_when_the_data_have_changed(softvq, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.save(tmp_path / "mine.npy", images)
    softvq("train", "--data", "mine.npy", "-o", "run", "--batch-size", 8, "-q", *QUICK).done()
    np.save(tmp_path / "mine.npy", 255 - images)
    [line] = softvq("embed", "run", "--quiet").done().err.splitlines()
    assert line.startswith("warning: mine.npy ") and "run/ckpt.pt" in line


# ---- cluster


def test_cluster_prints_one_json_document_into_a_pipe(softvq, latents):
    document = softvq("cluster", latents, "--n-init", 7, "--on-map").document
    assert document["clustering_accuracy"] == 1.0 and document["nmi"] == pytest.approx(1.0)
    assert {"ari", "inertia", "clusters", "n_init", "n"} <= set(document)
    listed = softvq("cluster", latents, "--n-init", 7, "--starts", "--on-map").document
    for short, long in ((document, listed), (document["map"]["clustering"], listed["map"]["clustering"])):
        for name, spread in long["starts"].items():
            values = spread.pop("values")
            assert len(values) == 7 and (min(values), max(values)) == (spread["min"], spread["max"])
            assert short["starts"][name] == spread and spread.keys() == {"mean", "std", "n", "min", "max"}


def test_cluster_without_labels_needs_the_number_and_gives_the_silhouette(softvq, latents, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros(120, int))
    assert softvq("cluster", latents, "--labels", "other.npy", "--n-init", 2).document["clusters"] == 1
    latents.with_name("z.labels.npy").unlink()
    softvq("cluster", latents).refused(2, "--clusters")
    document = softvq("cluster", latents, "--clusters", 3, "--n-init", 5).document
    assert document["silhouette"] > 0.7 and "clustering_accuracy" not in document


def test_cluster_writes_the_assignments_on_the_map_where_there_is_one(softvq, latents, tmp_path):
    words = ("cluster", latents, "--clusters", 7, "--n-init", 2, "--assignments")
    softvq(*words, "rows.npy").done()
    softvq(*words, "map.npy", "--on-map").done()
    on_rows, on_map = (np.load(tmp_path / name) for name in ("rows.npy", "map.npy"))
    settings = {"perplexity": None, "exaggeration": 1.0, "dimensions": 2}
    _, expected, _ = embedded.cluster_file(latents, on_map=settings, clusters=7, n_init=2)
    np.testing.assert_array_equal(on_map, expected)
    assert (on_map != on_rows).any() and set(on_rows) == set(range(7))
    softvq(*words, "rows.npy").refused(4, "rows.npy", "--overwrite")
    softvq(*words, "rows.npy", "--overwrite").done()


def test_the_same_seed_prints_the_same_bytes(softvq, latents):
    first = softvq("cluster", latents, "--n-init", 5, "--seed", 3, "--jobs", 1)
    assert softvq("cluster", latents, "--n-init", 5, "--seed", 3, "--jobs", 2).out == first.out


# ---- probe


def test_probe_of_a_checkpoint_equals_the_probe_of_its_embeddings_and_writes_nothing(softvq, trained, tmp_path):
    from_checkpoint = softvq("probe", trained).done()
    assert list(tmp_path.iterdir()) == []
    for split in ("train", "test"):
        softvq("embed", trained, "--split", split, "-o", f"{split}.npy")
    from_files = softvq("probe", "train.npy", "test.npy")
    assert from_checkpoint.out == from_files.out
    document = from_files.document
    assert len(document["per_class"]) == 10 and np.sum(document["confusion"]) == 359
    assert document["probe_accuracy"] == pytest.approx(np.trace(document["confusion"]) / 359)


# ---- tsne


def test_tsne_draws_a_picture_and_prints_its_path(softvq, latents, tmp_path):
    words = ("tsne", latents, "-o", "map.png", "--perplexity", 10, "--save-coords", "xy.npy")
    document = softvq(*words, "--json").document
    assert document == {"version": 1, "path": "map.png", "coordinates": ["xy.npy"]}
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert np.load(tmp_path / "xy.npy").shape == (120, 2)
    softvq(*words).refused(4, "map.png")
    softvq("tsne", latents, "-o", "map.gif").refused(2, ".gif", ".png, .pdf, .svg")
    softvq("tsne", latents, "-o", "new.png", "--perplexity", 60).refused(3, "perplexity", "60", "120", "39.6")
    assert not (tmp_path / "new.png").exists()


def test_tsne_draws_several_files_and_saves_each(softvq, latents, tmp_path):
    words = ["tsne", latents, latents, "-o", "map.svg", "--perplexity", 10, "--save-coords", "xy.npy"]
    assert softvq(*words, "--titles", "left,right").done().out == "map.svg\n"
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")
    assert (np.load(tmp_path / "xy-1.npy") == np.load(tmp_path / "xy-2.npy")).all()
    softvq(*words, "--overwrite", "--titles", "only one").refused(2, "1", "2")


# ---- run


def evaluation(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_run_does_everything_in_one_folder(softvq, chained):
    names = {each.name for each in chained.iterdir()}
    assert {"ckpt.pt", "config.json", "metrics.jsonl", "evaluation.json"} <= names
    assert {"tsne.png", "reconstructions.png", "curves.png", "embeddings-train.npy", "embeddings-test.npy"} <= names
    assert {"codebook-usage.png", "codebook-centroids.png"} <= names
    stored = evaluation(chained)
    numbers, details = stored["numbers"]["z_e"], stored["details"]
    assert 1 <= numbers["perplexity"] <= 32
    assert numbers["active_codes"] + numbers["dead_codes"] == 32
    clustering = softvq("cluster", chained / "embeddings-test.npy", "--starts").document
    probe = softvq("probe", chained).document
    assert (numbers["clustering_accuracy"], numbers["nmi"]) == (clustering["clustering_accuracy"], clustering["nmi"])
    assert details["starts"]["clustering_accuracy"] == clustering["starts"]["clustering_accuracy"]["values"]
    assert (numbers["probe_accuracy"], numbers["train_accuracy"]) == (probe["probe_accuracy"], probe["train_accuracy"])
    assert (details["per_class"], details["confusion"]) == (probe["per_class"], probe["confusion"])
    chance, raw, pca = (stored["numbers"][name] for name in ("random", "pixels", "pca"))
    assert 0 < chance["probe_accuracy"] < 0.25 and chance["nmi"] < 0.2
    assert raw["probe_accuracy"] > 0.9 and pca["nmi"] > 0.5 and 0 < pca["test_nmse"] < 1


def test_run_loads_and_encodes_each_split_once(softvq, monkeypatch):
    from softvq_cli import datasets
    from softvq_cli.results import subject

    loaded, encoded = [], []
    load, first, represent, encode = datasets.load, datasets.load_for_training, subject.represent, subject.encode
    monkeypatch.setattr(datasets, "load_for_training", lambda *how: loaded.append("train") or first(*how))
    monkeypatch.setattr(datasets, "load", lambda data, split, **how: loaded.append(split) or load(data, split, **how))
    monkeypatch.setattr(subject, "represent", lambda *how: encoded.append(len(how[1])) or represent(*how))
    monkeypatch.setattr(subject, "encode", lambda *how, **more: encoded.append(len(how[1])) or encode(*how, **more))
    softvq("run", "-o", "run", "-q", *QUICK).done()
    assert (loaded, sorted(encoded)) == (["train", "test"], [359, 1438])


def test_run_goes_on_with_what_is_missing_and_ends_in_a_table(softvq, chained, tmp_path, for_people):
    folder = shutil.copytree(chained, tmp_path / "run")
    before = {each.name: each.stat().st_mtime_ns for each in folder.iterdir()}
    (folder / "curves.png").unlink()
    softvq("run", "-o", "run").refused(4, "--resume")
    result = softvq("run", "-o", "run", "--resume").done()
    changed = {each.name for each in folder.iterdir() if each.stat().st_mtime_ns != before[each.name]}
    assert changed - {".lock"} == {"curves.png"}
    numbers = evaluation(folder)["numbers"]["z_e"]
    assert f"{100 * numbers['clustering_accuracy']:.2f} %" in result.out
    assert f"{numbers['perplexity']:.4g}" in result.out  # of the test split, as the table says
    assert all(name in result.out for name in ("chance", "raw data", "PCA"))
    assert "raw data" in result.err and "epoch" in result.err  # 6 iterations of 32 images are worth little
    (folder / "evaluation.json").write_text('{"form')  # a damaged one is measured again
    softvq("run", "-o", "run", "-q", "--resume").done()
    assert evaluation(folder) == evaluation(chained)


def test_run_without_labels_and_with_few_images_does_what_it_can(softvq, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    np.save(tmp_path / "mine.npy", images)
    np.savez(tmp_path / "few.npz", images=images[:12])
    small = (*QUICK, "--batch-size", 8, "--json")
    result = softvq("run", "--data", "mine.npy", "-o", "run", *small).done()
    assert "silhouette" in result.document["results"]
    assert not [name for name in result.document["results"] if name.endswith("accuracy")]
    assert (tmp_path / "run" / "tsne.png").exists() and (tmp_path / "run" / "clusters-test.npy").exists()
    result = softvq("run", "--data", "few.npz", "-o", "few", *small).done()
    assert all(word in result.err for word in ("t-SNE map", "2 rows", "4"))
    assert result.document["clusters"] == 2 and not (tmp_path / "few" / "tsne.png").exists()
    softvq("run", "-o", "few", "--resume").done()


def test_run_of_a_model_without_a_codebook_draws_none(softvq, tmp_path):
    result = softvq("run", "-b", "ae", "-o", "run", "--json", *QUICK)
    assert "perplexity" not in result.document["results"]
    assert not list((tmp_path / "run").glob("codebook*"))
    assert softvq("run", "-o", "run", "--resume", "--json").document == result.document


# ---- info


def test_info_knows_each_of_our_files(softvq, trained):
    checkpoint, run = (softvq("info", path, "--json").document for path in (trained / "ckpt.pt", trained))
    assert (checkpoint["kind"], checkpoint["step"], checkpoint["finished"]) == ("checkpoint", 6, True)
    assert checkpoint["config"]["model"]["bottleneck"] == "soft-vq"
    assert checkpoint["dataset"]["image_shape"] == [8, 8, 1]
    assert run["kind"] == "run"
    assert all(run[name] == checkpoint[name] for name in ("step", "metrics", "config"))
    softvq("embed", trained, "-q")
    rows = softvq("info", "embeddings.npy", "--json").document
    assert (rows["kind"], rows["rows"], rows["columns"], rows["split"]) == ("embeddings", 359, 16, "test")
    assert rows["checkpoint_sha256"] == checkpoint["sha256"]


def test_info_shows_the_results_of_a_run_for_its_own_checkpoint_only(softvq, chained, trained, tmp_path):
    assert softvq("info", chained, "--json").document["results"] == evaluation(chained)["numbers"]["z_e"]
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(chained / "evaluation.json", folder)
    assert softvq("info", folder, "--json").document["results"] == {}
    figures = {"z_e": {"clustering_accuracy": 0.25}, "z_q": {"nmi": 0.5}}  # as reproduce leaves them
    stored = evaluate.Evaluation(figures, (evaluate.BASIC,))
    for seal, expected in ((softvq("info", folder).document["sha256"], figures), ("0" * 64, {"z_e": {}})):
        evaluate.write(folder, {"row": "soft-vq", "checkpoint_sha256": seal}, stored)
        document = softvq("info", folder, "--json").document
        assert (document["results"], document.get("results_z_q")) == (expected["z_e"], expected.get("z_q"))


def test_info_shows_tables_to_people(softvq, chained, for_people):
    result = softvq("info", chained).done()
    accuracy = f"{100 * evaluation(chained)['numbers']['z_e']['clustering_accuracy']:.2f} %"
    sha256 = softvq("info", chained, "--json").document["sha256"]  # a long value stays on its line
    for words in ("model settings", "soft-vq", "parameters", "test_nmse", accuracy, sha256):
        assert words in result.out


# ---- data


def test_data_lists_what_is_known(softvq, tmp_path):
    document = softvq("data", "--data-dir", tmp_path, "--json").document
    assert document["data_dir"] == str(tmp_path)
    states = {each["name"]: each for each in document["data"]}
    assert list(states) == ["digits", "mnist", "fashion-mnist", "svhn", "cifar10"]
    assert states["digits"]["intact"] and not states["mnist"]["present"]


def test_data_check_fails_on_a_damaged_set_and_says_which(softvq, tmp_path, for_people):
    result = softvq("data", "check", "mnist", "--data-dir", tmp_path)
    assert result.code == 3 and "mnist" in result.err and "not here" in result.out
    softvq("data", "check", "--data-dir", tmp_path).done()
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0" * 100)
    result = softvq("data", "check", "--data-dir", tmp_path)
    assert result.code == 3 and "mnist" in result.err and "fashion-mnist" not in result.err
    softvq("data", "check", "digits", "--data-dir", tmp_path).done()


@pytest.mark.parametrize("words", [("run", "-o", "run", "--resume"), ("info", "run"), ("data",)])
def test_a_pipe_gets_one_json_document(softvq, chained, tmp_path, words):
    shutil.copytree(chained, tmp_path / "run")
    assert softvq(*words).document == softvq(*words, "--json").document
