"""The paper's comparisons as data."""

from __future__ import annotations

import pytest

from softvq_cli.experiments.tables import CONTROLS, MEASURES, TABLES, label_of
from softvq_cli.words import BOTTLENECKS


def paper(table: str, data: str, measure: str) -> dict[str, float]:
    [column] = [c for c in TABLES[table].columns if (c.data, c.measure) == (data, measure)]
    return dict(column.paper)


def test_accuracies_are_fractions_and_nmi_is_as_published():
    assert paper("table1", "mnist", "clustering_accuracy")["soft-vq"] == 0.7764
    assert paper("table1", "mnist", "nmi")["vae"] == 0.56
    assert paper("table1", "mnist", "probe_accuracy")["raw"] == 0.9244
    assert paper("table2", "svhn", "probe_accuracy")["beta-vae"] == 0.4962
    assert paper("table2", "cifar10", "clustering_accuracy")["vae"] == 0.2412
    assert paper("table2", "cifar10", "probe_accuracy")["vq"] == 0.3351


def test_the_proposed_model_is_the_best_where_the_paper_says_so():
    for data, measure in (("mnist", "clustering_accuracy"), ("mnist", "nmi"), ("mnist", "probe_accuracy")):
        numbers = paper("table1", data, measure)
        assert max(numbers, key=numbers.__getitem__) == "soft-vq"
    numbers = paper("table2", "cifar10", "clustering_accuracy")
    assert max(numbers, key=numbers.__getitem__) == "vae"


@pytest.mark.parametrize("table", ["table1", "table2"])
def test_every_published_row_is_a_bottleneck_or_a_control(table):
    for column in TABLES[table].columns:
        assert set(column.paper) <= {*BOTTLENECKS, *CONTROLS}
        assert set(column.paper) >= set(BOTTLENECKS)


def test_every_column_has_a_title():
    assert all(column.measure in MEASURES for table in TABLES.values() for column in table.columns)


def test_labels():
    assert label_of("soft-vq") == "soft VQ-VAE"
    assert label_of("vq:z_q") == "VQ-VAE, on ẑ_q"
    assert label_of("pca") == "PCA, d components"
