"""The document of a report as text; tests/test_results.py compares complete reports with the committed ones."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from softvq_cli.cli.tables import study_table
from softvq_cli.experiments.formats import (
    difference_table,
    latex,
    markdown,
    mean_text,
    measures_table,
    order_table,
    settings_lines,
    value_text,
)


def cell(mean, std=None, paper=None, versus=None):
    n = 0 if mean is None else 3 if std is not None else 1
    numbers = {"n": n, "values": [mean] * n}
    return {"mean": mean, "std": std, "paper": paper, "versus_baseline": versus, **numbers}


def document(**changes):
    columns = [
        {"key": "svhn.nmi", "data": "svhn", "measure": "nmi", "published": False},
        {"key": "mnist.probe_accuracy", "data": "mnist", "measure": "probe_accuracy", "published": True},
    ]
    versus = {"mean": 0.0123, "low": -0.02, "high": 0.0446}
    rows = [
        ("ae", "a & b_c", "model", cell(0.5), cell(0.25, 0.01, 0.3)),
        ("vq", "β-VAE", "model", cell(None), cell(0.5, 0.02, 0.4, versus)),
        ("vq:z_q", "x, on ẑ_q", "control", cell(0.1), cell(None)),
    ]
    data = {
        "name": "mnist",
        "title": "T",
        "train": 5,
        "test": 2,
        "image_shape": [2, 2, 1],
        "papers": True,
        "settings": {},
    }
    return {
        "title": "Table",
        "softvq": "1",
        "command": "softvq x",
        "seeds": [0],
        "processors": ["A CPU"],
        "notes": [],
        "failed": [],
        "data": {"svhn": {**data, "title": "S"}, "mnist": data},
        "columns": columns,
        "rows": [
            {
                "row": row,
                "label": label,
                "kind": kind,
                "seeds": {"svhn": [0], "mnist": [0, 1]},
                "cells": {"svhn.nmi": first, "mnist.probe_accuracy": second},
            }
            for row, label, kind, first, second in rows
        ],
        **changes,
    }


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [
        ("probe_accuracy", 0.77641, "77.64"),
        ("nmi", 0.71884, "0.7188"),
        ("iterations", 4e4, "40000"),
        ("nmi", None, "–"),
    ],
)
def test_accuracies_are_per_cent_and_the_others_as_they_are(measure, value, text):
    assert value_text(measure, value) == text


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (cell(0.5, 0.001), "50.00 ± 0.10"),
        (cell(0.5), "50.00"),
        ({**cell(0.5, 0.1), "n": 2, "values": [0.4, 0.6]}, "50.00 (40.00–60.00)"),
    ],
)
def test_of_two_trainings_both_are_shown_and_of_more_the_deviation(of, text):
    assert mean_text("probe_accuracy", of) == text


def test_other_figures_have_their_own_n():
    shown = document()
    shown["rows"][0]["cells"] |= {"mnist.test_nmse": cell(0.1, 0.01), "mnist.knn_accuracy": {**cell(0.9), "n": 1}}
    nmse, neighbours = "0.100 ± 0.010", "90.00"
    assert measures_table(shown, "mnist", ["test_nmse"]) == (["", "n", "nMSE"], [["a & b_c", "3", nmse]])
    assert measures_table(shown, "mnist", ["knn_accuracy"])[1] == [["a & b_c", "1", neighbours]]
    assert measures_table(shown, "mnist", ["test_nmse", "knn_accuracy"])[1] == [["a & b_c", "1–3", nmse, neighbours]]


def test_two_intervals_and_the_pairs_that_are_told_apart():
    shown = document()
    for row, level in zip(shown["rows"][:2], (0.2, 0.5), strict=True):
        row["cells"]["mnist.probe_accuracy"] |= {"values": [level, level + 0.01, level + 0.02], "n": 3}
    shown["rows"][1]["cells"]["mnist.probe_accuracy"]["versus_baseline"]["welch"] = {"low": -0.01, "high": 0.03}
    assert difference_table(shown)[1][1][-1] == "+1.23 [-2.00, +4.46]; [-1.00, +3.00]"
    [[title, pairs, apart]] = order_table(shown, "mnist")[1]
    assert (title, pairs) == ("classification", "1 of 1")
    assert apart.startswith("β-VAE > a & b_c (p = ")
    assert order_table(shown, "svhn")[1] == []


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_on_a_terminal_has_names_and_numbers_as_they_are(width):
    """The name of a file for ``--also`` may look like rich's markup."""
    table = document()
    table["rows"][0]["label"] = "[red]clip"
    table["rows"][1]["cells"]["mnist.probe_accuracy"] |= {"n": 2, "values": [0.25, 0.75]}
    console = Console(width=width, file=io.StringIO())
    console.print(study_table(table))
    shown = console.file.getvalue()
    assert "[red]clip" in shown
    assert all(number in shown for number in ("50.00", "25.00", "75.00"))
    assert max(map(len, shown.splitlines())) <= width


def test_latex_is_escaped():
    text = latex(document())
    assert r"a \& b\_c & 1, 2 & 0.5000 & 25.00 $\pm$ 1.00 & 30.00 \\" in text
    assert r"$\beta$-VAE" in text
    assert r"$\hat{z}_q$" in text
    assert text.count(r"\midrule") == 2


def test_what_is_missing_is_listed():
    assert "\n- svhn: not here\n" in markdown(document(failed=[{"cell": "svhn", "error": "not here"}]))


def test_shared_settings_are_written_once():
    rows = {"ae": {"lr": 0.0003, "K": 1}, "vq": {"lr": 0.0003, "K": 2}}
    assert settings_lines(rows) == ["lr 0.0003", "ae: K 1", "vq: K 2"]
    assert settings_lines({}) == []
