"""The paper's comparisons as data."""

from __future__ import annotations

import pytest

from softvq_cli.config import RunConfig
from softvq_cli.experiments.paper import COMPARISONS
from softvq_cli.presets import unused_settings
from softvq_cli.results.measures import MEASURES
from softvq_cli.words import BOTTLENECKS, CONTROLS, STUDIES


@pytest.mark.parametrize(
    ("table", "data", "measure", "row", "number"),
    [
        ("table1", "mnist", "clustering_accuracy", "soft-vq", 0.7764),
        ("table1", "mnist", "nmi", "vae", 0.56),
        ("table1", "mnist", "probe_accuracy", "raw", 0.9244),
        ("table2", "svhn", "probe_accuracy", "beta-vae", 0.4962),
        ("table2", "cifar10", "clustering_accuracy", "vae", 0.2412),
        ("table2", "cifar10", "probe_accuracy", "vq", 0.3351),
    ],
)
def test_accuracies_are_fractions_and_nmi_is_as_published(table, data, measure, row, number):
    [column] = [c for c in COMPARISONS[table].columns if (c.data, c.measure) == (data, measure)]
    assert column.paper[row] == number


def test_rows_and_columns_are_what_can_be_trained_and_measured():
    for comparison in COMPARISONS.values():
        assert all(column.measure in MEASURES for column in comparison.columns)
        assert {row.subject for row in comparison.rows} <= {*BOTTLENECKS, *CONTROLS}
        for column in comparison.columns:
            assert not column.paper or {row.name for row in comparison.rows if row.kind == "model"} <= {*column.paper}
        for row in comparison.rows:
            assert row.settings == {} or RunConfig.from_flat({"bottleneck": row.subject, **row.settings})
            assert row.settings == {} or not unused_settings(row.subject, row.settings)
    paper = ("ae", "vae", "beta-vae", "info-dropout", "vq", "soft-vq")
    rows = {name: tuple(row.name for row in comparison.rows) for name, comparison in COMPARISONS.items()}
    assert rows["table1"] == ("raw", *paper, "pca", "untrained")
    assert {*rows["table2"]} == {*rows["table1"]}
    assert (rows["fig4"], rows["since"]) == (paper, tuple(BOTTLENECKS))
    assert tuple(COMPARISONS) == STUDIES
