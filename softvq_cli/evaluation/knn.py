"""The k-nearest-neighbour probe: a classifier on the latents with nothing to train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softvq_cli.errors import InputError
from softvq_cli.evaluation.probe import Probe, check_probe_input, measure, name_classes
from softvq_cli.evaluation.search import nearest
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

    Args as in :func:`softvq_cli.evaluation.probe.probe`, but for ``k``, the number of neighbours, and ``jobs``,
    threads (:func:`softvq_cli.devices.processors` unless given), on which the result does not depend.
    """
    y, y_test, classes = check_probe_input(train_z, train_labels, test_z, test_labels)
    k, jobs = int(check_number("neighbours", k, low=1, high=MOST_COUNT)), check_jobs(jobs)
    if len(train_z) <= k:
        raise InputError(f"{len(train_z)} train rows have no {k} neighbours each: use fewer neighbours or more rows")
    votes, test_votes = (
        _vote(y[nearest(train_z, k, queries=queries, jobs=jobs)[1]], len(classes)) for queries in (None, test_z)
    )
    return measure(y, votes, y_test, test_votes, name_classes(classes, class_names), {"neighbours": k})


def _vote(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N, k) indices of classes → (N,) the most frequent of each row."""
    votes = np.zeros((len(labels), classes), dtype=np.int32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return np.asarray(votes.argmax(axis=1))
