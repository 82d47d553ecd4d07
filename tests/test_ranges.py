"""The common check of numbers for settings, arguments and untrusted files; messages stay short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from softvq_cli import embeddings
from softvq_cli.config import SETTINGS, RunConfig, check
from softvq_cli.errors import InputError, UsageError, shown
from softvq_cli.evaluation.clustering import cluster
from softvq_cli.evaluation.probe import few_labels, neighbours, probe
from softvq_cli.evaluation.quality import map_quality
from softvq_cli.evaluation.tsne import tsne
from softvq_cli.ranges import MOST_SEED, check_number

HUGE = 10**400
UNPRINTABLE = 10**5000
"""Python refuses to write it as text."""
Z = np.random.default_rng(0).normal(size=(60, 3))
Y = np.arange(60) % 3
SPLITS = (Z, Y, Z, Y)

EVALUATIONS: dict[str, Callable[..., Any]] = {
    "cluster": lambda **options: cluster(Z, Y, **options),
    "probe": lambda **options: probe(*SPLITS, **options),
    "adam": lambda **options: probe(*SPLITS, solver="adam", **{"iterations": 5, **options}),
    "few_labels": lambda **options: few_labels(*SPLITS, **{"labels_per_class": 5, **options}),
    "neighbours": lambda **options: neighbours(*SPLITS, **options),
    "tsne": lambda **options: tsne(Z, **{"perplexity": 5, "init": "random", **options}),
    "quality": lambda **options: map_quality(Z, Z[:, :2], **options),
}
ARGUMENTS = [
    ("cluster", "seed"), ("cluster", "n_init"), ("cluster", "clusters"), ("cluster", "jobs"),
    ("probe", "seed"), ("adam", "seed"), ("adam", "iterations"), ("adam", "batch_size"),
    ("few_labels", "seed"), ("few_labels", "draws"), ("few_labels", "labels_per_class"),
    ("neighbours", "k"), ("neighbours", "jobs"),
    ("tsne", "seed"), ("tsne", "jobs"), ("quality", "k"), ("quality", "seed"), ("quality", "jobs"),
]  # fmt: skip


OPTIONS = {("neighbours", "k"): "neighbours", ("few_labels", "labels_per_class"): "few_labels"}
WRONG = [(*argument, [-1, HUGE, UNPRINTABLE, -UNPRINTABLE, 1.5, "3", True]) for argument in ARGUMENTS]
WRONG += [
    (*argument, [-1, float("nan"), float("inf"), HUGE, UNPRINTABLE, "3", None])
    for argument in (("probe", "l2"), ("adam", "lr"), ("tsne", "perplexity"))
]


@pytest.mark.parametrize(("evaluation", "name", "values"), WRONG, ids=[f"{one}-{name}" for one, name, _ in WRONG])
def test_a_number_out_of_range_is_said(evaluation: str, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(UsageError, match=f"^{OPTIONS.get((evaluation, name), name)} ") as error:
            EVALUATIONS[evaluation](**{name: value})
        assert len(str(error.value)) < 200


@pytest.mark.parametrize("evaluation", ["cluster", "adam", "few_labels", "tsne", "quality"])
def test_the_seed_has_one_range_everywhere(evaluation: str) -> None:
    options = {"n_init": 2} if evaluation == "cluster" else {}
    EVALUATIONS[evaluation](seed=MOST_SEED, **options)
    with pytest.raises(UsageError, match=f"seed .*{MOST_SEED}"):
        EVALUATIONS[evaluation](seed=MOST_SEED + 1, **options)


def test_a_seed_beyond_32_bits_is_another_seed() -> None:
    maps = [tsne(Z, perplexity=5, init="random", seed=seed).tobytes() for seed in (0, 1 << 32, 1 << 32)]
    assert maps[0] != maps[1] == maps[2]


def test_numpy_s_numbers_are_numbers() -> None:
    assert check_number("k", np.int32(3)) == 3
    assert check_number("k", np.float32(0.5), float) == 0.5
    with pytest.raises(UsageError, match=r"^k "):
        check_number("k", np.bool_(True))


NUMERIC = [name for name, setting in SETTINGS.items() if {int, float} & set(setting.types)]
TEXTS = ("lr", "seed", "arch", "bottleneck", "sigma_power", "data_dir", "compile")
LONG = ("x" * 100_000, ["x"] * 100_000, {str(i): i for i in range(10_000)})


def test_a_value_from_a_file_is_refused_and_not_printed_at_length() -> None:
    numbers = [(name, value) for name in NUMERIC for value in (HUGE, UNPRINTABLE, -HUGE)]
    for name, value in [*numbers, *((name, value) for name in TEXTS for value in LONG)]:
        if (name, type(value)) == ("data_dir", str):
            continue
        with pytest.raises(UsageError) as error:
            check(name, value)
        assert len(str(error.value)) < 400


def test_a_stranger_s_json_is_not_printed_at_length(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, Z)
    good = {"format": "softvq-embedding", "version": 1, "n": 60, "d": 3}
    config: dict[str, Any] = RunConfig().as_dict()
    config["train"]["lr"] = HUGE
    for change in ({"version": "9" * 10**5}, {"n": ["x"] * 10**5}, {"version": HUGE}, {"config": config}):
        path.with_suffix(".json").write_text(json.dumps({**good, **change}))
        with pytest.raises(InputError) as error:
            embeddings.read(path)
        assert len(str(error.value)) < 300 + len(str(path)) * 2


def test_a_value_is_shown_on_one_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert "401" in shown(HUGE) and "5001" in shown(UNPRINTABLE) and "100" in shown(list(range(100)))
    assert max(len(shown(value)) for value in (HUGE, UNPRINTABLE, "x" * 1000, list(range(100)))) < 80
