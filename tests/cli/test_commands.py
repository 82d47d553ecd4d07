"""What each command does, from the shell's side."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest

from softvq_cli.cli.progress import Terminal
from softvq_cli.results import embedded, evaluate
from tests.helpers import QUICK

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture
def latents(tmp_path):
    """Three clouds of 40 rows in 5 dimensions with their labels beside them: path of the .npy."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    z = (10 * np.eye(3, 5)[labels] + random.normal(size=(120, 5))).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "z.labels.npy", labels)
    return tmp_path / "z.npy"


def hints(result) -> list[list[str]]:
    """The commands that a result names as the next ones, as a shell would read them."""
    return [shlex.split(line.removeprefix("next: ")) for line in result.err.splitlines() if line.startswith("next: ")]


# ---- train


def test_train_prints_just_the_path_of_its_checkpoint(softvq, tmp_path):
    result = softvq("train", *QUICK)
    assert result.code == 0
    path = tmp_path / result.out.strip()
    assert result.out == f"{path.relative_to(tmp_path)}\n"
    assert path.parent.parent == tmp_path / "runs"
    assert {one.name for one in path.parent.iterdir()} - {".lock"} == {"ckpt.pt", "config.json", "metrics.jsonl"}
    assert hints(result) == [["softvq", "embed", result.out.strip()]]


def test_quiet_leaves_only_the_result(softvq):
    result = softvq("train", "--quiet", "--out", "a run", *QUICK)
    assert (result.out, result.err) == ("a run/ckpt.pt\n", "")


def test_a_hint_can_be_pasted_into_the_shell(softvq):
    result = softvq("train", "--out", "it's a run", *QUICK)
    assert hints(result) == [["softvq", "embed", "it's a run/ckpt.pt"]]


def test_options_and_file_reach_the_run(softvq, tmp_path):
    (tmp_path / "my.toml").write_text('bottleneck = "vq"\n[model]\nK = 9\nlatent-dim = 5\n')
    assert softvq("train", "-o", "run", "-c", "my.toml", "--K", 7, *QUICK).code == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["bottleneck"] == "vq"
    assert (config["model"]["K"], config["model"]["latent_dim"]) == (7, 5)
    assert config["train"]["iterations"] == 6


def test_a_run_is_not_overwritten_unless_asked(softvq, tmp_path):
    assert softvq("train", "-o", "run", "-q", *QUICK).code == 0
    before = (tmp_path / "run" / "ckpt.pt").read_bytes()
    softvq("train", "-o", "run", "-q", "--seed", 1, *QUICK).refused(4, "run", "--resume", "--overwrite")
    assert (tmp_path / "run" / "ckpt.pt").read_bytes() == before
    assert softvq("train", "-o", "run", "-q", "--seed", 1, "--overwrite", *QUICK).code == 0
    assert (tmp_path / "run" / "ckpt.pt").read_bytes() != before


def test_resuming_a_finished_run_prints_its_path_and_changes_nothing(softvq, tmp_path):
    assert softvq("train", "-o", "run", "-q", *QUICK).code == 0
    before = (tmp_path / "run" / "ckpt.pt").read_bytes()
    result = softvq("train", "-o", "run", "--resume")
    assert (result.code, result.out) == (0, "run/ckpt.pt\n")
    assert result.err.startswith("run ")
    assert (tmp_path / "run" / "ckpt.pt").read_bytes() == before
    softvq("train", "-o", "run", "--resume", "--K", 5).refused(2, "--K 5")


def test_resume_and_overwrite_contradict_each_other(softvq, tmp_path):
    for name in ("train", "run"):
        softvq(name, "-o", "run", "--resume", "--overwrite").refused(2, "--resume", "--overwrite")
    assert list(tmp_path.iterdir()) == []


# ---- embed


def test_embed_needs_nothing_but_the_checkpoint(softvq, trained, tmp_path):
    result = softvq("embed", trained / "ckpt.pt")
    assert (result.code, result.out) == (0, "embeddings.npy\n")
    z, labels = np.load(tmp_path / "embeddings.npy"), np.load(tmp_path / "embeddings.labels.npy")
    assert z.dtype == np.float32
    assert z.shape == (len(labels), 16)
    assert json.loads((tmp_path / "embeddings.json").read_text())["split"] == "test"
    assert hints(result) == [["softvq", "cluster", "embeddings.npy"]]
    assert "warning" not in result.err


def test_the_folder_of_a_run_stands_for_its_checkpoint(softvq, trained, tmp_path):
    assert softvq("embed", trained, "-o", "a.npy", "-q").code == 0
    assert softvq("embed", trained / "ckpt.pt", "-o", "b.npy", "-q").code == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize(("split", "rows"), [("train", 1438), ("test", 359), ("all", 1797)])
def test_embed_takes_any_split(softvq, trained, tmp_path, split, rows):
    assert softvq("embed", trained, "--split", split).code == 0
    assert len(np.load(tmp_path / "embeddings.npy")) == rows


@pytest.mark.parametrize(("what", "columns"), [("z_q", 16), ("codes", 1), ("reconstruction", 64), ("pixels", 64)])
def test_embed_writes_other_representations(softvq, trained, tmp_path, what, columns):
    assert softvq("embed", trained, "--what", what).code == 0
    assert np.load(tmp_path / "embeddings.npy").shape == (359, columns)


@pytest.mark.parametrize("taken", ["embeddings.npy", "embeddings.labels.npy", "embeddings.json"])
def test_embed_refuses_to_replace_a_file(softvq, trained, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    softvq("embed", trained).refused(4, taken, "--overwrite")
    assert [one.name for one in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"
    assert softvq("embed", trained, "--overwrite").code == 0


def test_embed_takes_other_data_of_the_same_shape(softvq, trained, tmp_path):
    np.save(tmp_path / "mine.npy", np.zeros((10, 8, 8), np.uint8))
    result = softvq("embed", trained, "--data", "mine.npy", "--split", "all")
    assert result.code == 0
    assert np.load(tmp_path / "embeddings.npy").shape == (10, 16)
    assert "fingerprint" not in result.err
    np.save(tmp_path / "large.npy", np.zeros((10, 9, 8), np.uint8))
    softvq("embed", trained, "--data", "large.npy", "-o", "x.npy").refused(3, "(9, 8, 1)", "(8, 8, 1)")


def test_embed_warns_when_the_data_have_changed(softvq, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.save(tmp_path / "mine.npy", images)
    assert softvq("train", "--data", "mine.npy", "-o", "run", "--batch-size", 8, "-q", *QUICK).code == 0
    np.save(tmp_path / "mine.npy", 255 - images)
    result = softvq("embed", "run", "--quiet")
    assert result.code == 0
    assert result.err.startswith("warning: mine.npy is not the data that run/ckpt.pt was trained on")


# ---- cluster


def test_cluster_prints_one_json_document_into_a_pipe(softvq, latents):
    result = softvq("cluster", latents)
    assert result.document["clustering_accuracy"] == 1.0
    assert result.document["nmi"] == pytest.approx(1.0)
    assert {"ari", "inertia", "clusters", "n_init", "n"} <= set(result.document)
    assert result.document["starts"]["inertia"].keys() == {"mean", "std", "n", "min", "max"}
    assert hints(result) == [["softvq", "tsne", str(latents), "-o", "z.png"]]


def test_every_start_is_listed_on_demand(softvq, latents):
    document = softvq("cluster", latents, "--n-init", 7, "--starts", "--on-map").document
    plain = softvq("cluster", latents, "--n-init", 7, "--on-map").document
    for listed, short in ((document, plain), (document["map"]["clustering"], plain["map"]["clustering"])):
        for name, spread in listed["starts"].items():
            values = spread.pop("values")
            assert len(values) == 7
            assert (min(values), max(values)) == (spread["min"], spread["max"])
            assert short["starts"][name] == spread


def test_cluster_without_labels_needs_the_number_and_gives_the_silhouette(softvq, latents):
    latents.with_name("z.labels.npy").unlink()
    softvq("cluster", latents).refused(2, "--clusters")
    document = softvq("cluster", latents, "--clusters", 3, "--n-init", 5).document
    assert document["silhouette"] > 0.7
    assert "clustering_accuracy" not in document


def test_cluster_writes_the_assignments(softvq, latents, tmp_path):
    assert softvq("cluster", latents, "--n-init", 3, "--assignments", "a.npy").code == 0
    assignments = np.load(tmp_path / "a.npy")
    assert sorted(np.bincount(assignments)) == [40, 40, 40]
    softvq("cluster", latents, "--assignments", "a.npy").refused(4, "a.npy", "--overwrite")
    assert softvq("cluster", latents, "--n-init", 1, "--assignments", "a.npy", "--overwrite").code == 0


def test_with_a_map_the_assignments_are_those_on_the_map(softvq, latents, tmp_path):
    words = ("cluster", latents, "--clusters", 7, "--n-init", 2, "--assignments")
    assert softvq(*words, "rows.npy").code == softvq(*words, "map.npy", "--on-map").code == 0
    on_rows, on_map = (np.load(tmp_path / name) for name in ("rows.npy", "map.npy"))
    settings = {"perplexity": None, "exaggeration": 1.0, "dimensions": 2}
    expected = embedded.cluster_file(latents, on_map=settings, clusters=7, n_init=2).assignments
    np.testing.assert_array_equal(on_map, expected)
    assert (on_map != on_rows).any()


def test_the_same_seed_prints_the_same_bytes(softvq, latents):
    first = softvq("cluster", latents, "--n-init", 5, "--seed", 3, "--jobs", 1)
    assert softvq("cluster", latents, "--n-init", 5, "--seed", 3, "--jobs", 2).out == first.out


def test_cluster_takes_labels_from_anywhere(softvq, latents, tmp_path):
    np.save(tmp_path / "other.npy", np.zeros(120, int))
    assert softvq("cluster", latents, "--labels", "other.npy", "--n-init", 2).document["clusters"] == 1


# ---- probe


def test_probe_of_a_checkpoint_equals_the_probe_of_its_embeddings(softvq, trained):
    from_checkpoint = softvq("probe", trained)
    assert from_checkpoint.code == 0
    for split in ("train", "test"):
        softvq("embed", trained, "--split", split, "-o", f"{split}.npy")
    from_files = softvq("probe", "train.npy", "test.npy")
    assert from_checkpoint.out == from_files.out
    document = from_files.document
    assert len(document["per_class"]) == 10
    assert np.sum(document["confusion"]) == 359
    assert document["probe_accuracy"] == pytest.approx(np.trace(document["confusion"]) / 359)


def test_probe_writes_nothing(softvq, trained, tmp_path):
    softvq("probe", trained)
    assert list(tmp_path.iterdir()) == []


# ---- tsne


def test_tsne_draws_a_picture_and_prints_its_path(softvq, latents, tmp_path):
    result = softvq("tsne", latents, "-o", "map.png", "--perplexity", 10, "--save-coords", "xy.npy")
    assert (result.code, result.out) == (0, "map.png\n")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert np.load(tmp_path / "xy.npy").shape == (120, 2)


def test_tsne_draws_several_files_and_saves_each(softvq, latents, tmp_path):
    words = ["tsne", latents, latents, "-o", "map.svg", "--perplexity", 10, "--save-coords", "xy.npy"]
    assert softvq(*words, "--titles", "left,right").code == 0
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")
    assert {one.name for one in tmp_path.glob("xy*")} == {"xy-1.npy", "xy-2.npy"}
    assert (np.load(tmp_path / "xy-1.npy") == np.load(tmp_path / "xy-2.npy")).all()
    softvq(*words, "--overwrite", "--titles", "only one").refused(2, "1", "2")


def test_tsne_refuses_before_it_works(softvq, latents, tmp_path):
    (tmp_path / "map.png").write_text("mine")
    softvq("tsne", latents, "-o", "map.png").refused(4, "map.png")
    softvq("tsne", latents, "-o", "map.gif").refused(2, ".gif", ".png, .pdf, .svg")
    softvq("tsne", latents, "-o", "new.png", "--perplexity", 60).refused(3, "perplexity", "60", "120", "39.6")
    assert not (tmp_path / "new.png").exists()


# ---- run


def evaluation(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_run_does_everything_in_one_folder(softvq, chained):
    names = {one.name for one in chained.iterdir()}
    assert {"ckpt.pt", "config.json", "metrics.jsonl", "evaluation.json"} <= names
    assert {"tsne.png", "reconstructions.png", "curves.png", "embeddings-train.npy", "embeddings-test.npy"} <= names
    assert {"codebook-usage.png", "codebook-centroids.png"} <= names
    found = evaluation(chained)
    numbers, details = found["numbers"]["z_e"], found["details"]
    assert 1 <= numbers["perplexity"] <= 32
    assert numbers["active_codes"] + numbers["dead_codes"] == 32
    clustering = softvq("cluster", chained / "embeddings-test.npy", "--starts").document
    probe = softvq("probe", chained).document
    assert (numbers["clustering_accuracy"], numbers["nmi"]) == (clustering["clustering_accuracy"], clustering["nmi"])
    assert details["starts"]["clustering_accuracy"] == clustering["starts"]["clustering_accuracy"]["values"]
    assert (numbers["probe_accuracy"], numbers["train_accuracy"]) == (probe["probe_accuracy"], probe["train_accuracy"])
    assert (details["per_class"], details["confusion"]) == (probe["per_class"], probe["confusion"])
    chance, raw, pca = (found["numbers"][name] for name in ("random", "pixels", "pca"))
    assert 0 < chance["probe_accuracy"] < 0.25 and chance["nmi"] < 0.2
    assert raw["probe_accuracy"] > 0.9 and pca["nmi"] > 0.5 and 0 < pca["test_nmse"] < 1


def test_run_loads_and_encodes_each_split_once(softvq, tmp_path, monkeypatch):
    from softvq_cli import datasets
    from softvq_cli.results import subject

    loaded, encoded = [], []
    load, represent, encode = datasets.load, subject.represent, subject.encode
    monkeypatch.setattr(datasets, "load", lambda data, split, **how: loaded.append(split) or load(data, split, **how))
    monkeypatch.setattr(subject, "represent", lambda *how: encoded.append(len(how[1])) or represent(*how))
    monkeypatch.setattr(subject, "encode", lambda *how, **more: encoded.append(len(how[1])) or encode(*how, **more))
    assert softvq("run", "-o", "run", "-q", *QUICK).code == 0
    assert (loaded, sorted(encoded)) == (["train", "test"], [359, 1438])


def test_run_goes_on_with_what_is_missing_and_ends_in_a_table(softvq, chained, tmp_path, for_people):
    folder = shutil.copytree(chained, tmp_path / "run")
    before = {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    (folder / "curves.png").unlink()
    softvq("run", "-o", "run").refused(4, "--resume")
    result = softvq("run", "-o", "run", "--resume")
    assert result.code == 0
    changed = {one.name for one in folder.iterdir() if one.stat().st_mtime_ns != before[one.name]}
    assert changed - {".lock"} == {"curves.png"}
    numbers = evaluation(folder)["numbers"]["z_e"]
    assert f"{100 * numbers['clustering_accuracy']:.2f} %" in result.out
    assert f"{numbers['perplexity']:.4g}" in result.out  # of the test split, as the table says
    assert all(name in result.out for name in ("chance", "raw pixels", "PCA"))
    assert "raw pixels" in result.err and "epoch" in result.err  # 6 iterations of 32 images are worth little


def test_run_without_labels_has_clusters_and_no_accuracy(softvq, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8))
    result = softvq("run", "--data", "mine.npy", "--batch-size", 8, "-o", "run", "--json", *QUICK)
    assert "silhouette" in result.document["results"]
    assert not [name for name in result.document["results"] if name.endswith("accuracy")]
    assert (tmp_path / "run" / "tsne.png").exists() and (tmp_path / "run" / "clusters-test.npy").exists()


def test_run_of_a_model_without_a_codebook_draws_none(softvq, tmp_path):
    result = softvq("run", "-b", "ae", "-o", "run", "--json", *QUICK)
    assert "perplexity" not in result.document["results"]
    assert not list((tmp_path / "run").glob("codebook*"))
    assert softvq("run", "-o", "run", "--resume", "--json").document == result.document


# ---- info


def test_info_knows_each_of_our_files(softvq, trained):
    checkpoint = softvq("info", trained / "ckpt.pt", "--json").document
    assert (checkpoint["kind"], checkpoint["step"], checkpoint["finished"]) == ("checkpoint", 6, True)
    assert checkpoint["config"]["model"]["bottleneck"] == "soft-vq"
    assert checkpoint["dataset"]["image_shape"] == [8, 8, 1]
    run = softvq("info", trained, "--json").document
    assert run["kind"] == "run"
    assert {name: run[name] for name in ("step", "metrics", "config")} == {
        name: checkpoint[name] for name in ("step", "metrics", "config")
    }
    softvq("embed", trained, "-q")
    rows = softvq("info", "embeddings.npy", "--json").document
    assert (rows["kind"], rows["rows"], rows["columns"], rows["split"]) == ("embeddings", 359, 16, "test")
    assert rows["checkpoint_sha256"] == checkpoint["sha256"]


RESULTS = ("clustering_accuracy", "nmi", "ari", "probe_accuracy")


def test_info_shows_the_results_of_a_run_for_its_own_checkpoint_only(softvq, chained, trained, tmp_path):
    assert softvq("info", chained, "--json").document["results"] == evaluation(chained)["numbers"]["z_e"]
    other = shutil.copytree(trained, tmp_path / "other")
    shutil.copy(chained / "evaluation.json", other)
    assert softvq("info", other, "--json").document["results"] == {}


def test_info_shows_the_results_of_a_run_that_reproduce_made(softvq, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    seal = softvq("info", folder, "--json").document["sha256"]
    figures = {"z_e": dict.fromkeys(RESULTS, 0.25), "z_q": {"nmi": 0.5}}
    there = evaluate.Evaluation(figures, (evaluate.BASIC,))
    evaluate.write(folder, {"row": "soft-vq", "checkpoint_sha256": seal}, there)
    document = softvq("info", folder, "--json").document
    assert (document["results"], document["results_z_q"]) == (figures["z_e"], figures["z_q"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Terminal, "piped", False)
        assert "25.00 %" in softvq("info", folder).out
    evaluate.write(folder, {"row": "soft-vq", "checkpoint_sha256": "0" * 64}, there)
    document = softvq("info", folder, "--json").document
    assert (document["results"], "results_z_q" in document) == ({}, False)


def test_info_shows_tables_to_people(softvq, trained, for_people):
    result = softvq("info", trained)
    assert result.code == 0
    for words in ("model settings", "soft-vq", "parameters", "test_nmse"):
        assert words in result.out


# ---- data


def test_data_lists_what_is_known(softvq, tmp_path):
    document = softvq("data", "--data-dir", tmp_path, "--json").document
    assert document["data_dir"] == str(tmp_path)
    states = {one["name"]: one for one in document["data"]}
    assert list(states) == ["digits", "mnist", "fashion-mnist", "svhn", "cifar10"]
    assert states["digits"]["intact"]
    assert not states["mnist"]["present"]
    assert softvq("data", "--data-dir", tmp_path).document == document


def test_data_shows_people_a_table(softvq, tmp_path, for_people):
    assert "not here" in softvq("data", "--data-dir", tmp_path).out


def test_data_check_fails_on_a_damaged_set_and_says_which(softvq, tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0" * 100)
    result = softvq("data", "check", "--data-dir", tmp_path)
    assert result.code == 3
    assert result.err.startswith("softvq: error: ") and "mnist" in result.err
    assert "fashion-mnist" not in result.err
    assert softvq("data", "check", "digits", "--data-dir", tmp_path).code == 0


def test_the_names_that_the_shell_completes_are_the_known_ones():
    from softvq_cli import datasets
    from softvq_cli.cli.options import IMAGE_SHAPES

    assert tuple(IMAGE_SHAPES) == datasets.names()
    # The shape of digits is what the help's defaults are computed from; the others are published.
    from softvq_cli.config import DataConfig

    assert datasets.load(DataConfig(), "test").image_shape == IMAGE_SHAPES["digits"]


# ---- a pipeline


def test_commands_fit_together(softvq):
    path = softvq("train", "-q", *QUICK).out.strip()
    rows = softvq("embed", path, "-q").out.strip()
    assert 0 < softvq("cluster", rows, "-q", "--n-init", 5).document["clustering_accuracy"] <= 1


def test_json_says_what_was_written_and_more(softvq, trained):
    document = softvq("train", "--out", "run", *QUICK, "--json").document
    assert document["path"] == "run/ckpt.pt"
    assert document["metrics"]["step"] == document["config"]["train"]["iterations"] == 6
    assert softvq("embed", "run", "--json").document == {
        "version": 1,
        "path": "embeddings.npy",
        "rows": 359,
        "columns": 16,
        "labels": True,
    }
    words = ("tsne", "embeddings.npy", "-o", "map.png", "--perplexity", 5, "--save-coords", "xy.npy", "--json")
    assert softvq(*words).document == {"version": 1, "path": "map.png", "coordinates": ["xy.npy"]}
    exported = softvq("export", "run", "--safetensors", "--json").document
    assert exported == {"version": 1, "path": "run/model.safetensors"}


def test_the_chain_on_a_few_images_without_labels_does_what_it_can(softvq, tmp_path):
    np.savez(tmp_path / "few.npz", images=np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8))
    words = ("run", "--data", "few.npz", "--out", "run", *QUICK, "--batch-size", 8)
    result = softvq(*words, "--json")
    assert result.code == 0, result.err
    assert all(word in result.err for word in ("t-SNE map", "2 rows", "4"))
    assert result.document["clusters"] == 2 and "probe_accuracy" not in result.document["results"]
    assert not (tmp_path / "run" / "tsne.png").exists()
    assert (tmp_path / "run" / "curves.png").exists()
    assert softvq(*words, "--resume").code == 0


def test_what_is_no_terminal_gets_long_values_on_one_line(softvq, trained, monkeypatch):
    sha256 = softvq("info", trained / "ckpt.pt").document["sha256"]
    monkeypatch.setattr(Terminal, "piped", False)
    assert sha256 in softvq("info", trained / "ckpt.pt").out


@pytest.mark.parametrize("words", [("run", "-o", "run", "--resume"), ("info", "run"), ("data",)])
def test_a_pipe_gets_one_json_document(softvq, chained, tmp_path, words):
    shutil.copytree(chained, tmp_path / "run")
    piped = softvq(*words)
    assert piped.document == softvq(*words, "--json").document
