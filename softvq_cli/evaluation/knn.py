"""The k-nearest-neighbour probe: a classifier on the latents with nothing to train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.numerics import nearest
from softvq_cli.evaluation.probe import Probe, check_probe_input, name_classes, report
from softvq_cli.ranges import MOST_COUNT, check_jobs, check_number


def neighbours(
    train_z: np.ndarray,
    train_labels: np.ndarray | None,
    test_z: np.ndarray,
    test_labels: np.ndarray | None,
    *,
    k: int = 5,
    class_names: Sequence[str] = (),
    jobs: int | None = None,
) -> Probe:
    """The class of a test row is that of most of its ``k`` nearest train rows (Euclidean distance, equal votes).

    A draw goes to the class with the lowest label. The training accuracy leaves each row's own vote out.

    Args:
        train_z: (N, d).
        train_labels: int (N,), of two classes at least.
        test_z: (M, d).
        test_labels: int (M,). A class that the train rows do not have counts as wrong.
        k: number of neighbours.
        class_names: one a label, for ``per_class``; the labels themselves unless given.
        jobs: threads; :func:`softvq_cli.devices.processors` unless given. The result does not depend on it.

    Raises:
        InputError: no labels, labels and rows differ in number, different d, one class only, or too few rows.
        UsageError: ``k`` or ``jobs`` below 1.
    """
    y, y_test, classes = check_probe_input(train_z, train_labels, test_z, test_labels)
    k, jobs = int(check_number("neighbours", k, low=1, high=MOST_COUNT)), check_jobs(jobs)
    if len(train_z) <= k:
        raise InputError(f"{len(train_z)} train rows have no {k} neighbours each: use fewer neighbours or more rows")
    return report(
        y,
        _vote(y[nearest(train_z, k, jobs=jobs)[1]], len(classes)),
        y_test,
        _vote(y[nearest(train_z, k, queries=test_z, jobs=jobs)[1]], len(classes)),
        names=name_classes(classes, class_names),
        method={"neighbours": k},
    )


def _vote(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N, k) indices of classes → (N,) the most frequent of each row."""
    votes = np.zeros((len(labels), classes), dtype=np.int32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return np.asarray(votes.argmax(axis=1))
