"""The paper's comparisons as data."""

from __future__ import annotations

import pytest

from softvq_cli.experiments.paper import COMPARISONS
from softvq_cli.results.measures import MEASURES
from softvq_cli.words import BOTTLENECKS, CONTROLS, STUDIES


def paper(table: str, data: str, measure: str) -> dict[str, float]:
    [column] = [c for c in COMPARISONS[table].columns if (c.data, c.measure) == (data, measure)]
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
    for column in COMPARISONS[table].columns:
        assert set(column.paper) <= {*BOTTLENECKS, *CONTROLS}
        assert set(column.paper) >= {row for row in COMPARISONS[table].rows if row in BOTTLENECKS}


def test_every_column_has_a_title():
    assert all(column.measure in MEASURES for table in COMPARISONS.values() for column in table.columns)


def test_the_rows_are_the_papers_with_the_controls_it_left_out():
    assert COMPARISONS["table1"].rows == (
        "raw",
        "ae",
        "vae",
        "beta-vae",
        "info-dropout",
        "vq",
        "soft-vq",
        "pca",
        "untrained",
    )
    assert set(COMPARISONS["table2"].rows) == set(COMPARISONS["table1"].rows)
    assert COMPARISONS["fig4"].rows == ("ae", "vae", "beta-vae", "info-dropout", "vq", "soft-vq")
    assert tuple(COMPARISONS) == STUDIES


def test_a_table_of_its_own_has_the_quantisers_since():
    assert COMPARISONS["since"].rows == tuple(BOTTLENECKS)
    assert {"ema-vq", "rotation-vq", "fsq", "sq-vae", "gumbel-vq"} <= set(COMPARISONS["since"].rows)
