"""How z_e is best clustered on a t-SNE map, chosen without labels.

    python study.py train.npy study.csv

``train.npy`` is what ``softvq embed RUN --split train`` writes, with its labels beside it. The first 10 000 rows are
mapped by t-SNE of several perplexities and exaggerations, and each map is clustered by three methods. Two choices
need no labels: the greatest silhouette of the clusters on their map, and the greatest agreement of the three methods
on a map (the mean adjusted Rand index of their pairs). The accuracy beside them shows what they are worth.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from softvq_cli.evaluation.clustering import Clustering, cluster
from softvq_cli.evaluation.tsne import tsne

PERPLEXITIES, EXAGGERATIONS, METHODS = (10, 30, 100), (1, 2, 4, 12), ("kmeans", "gmm", "agglomerative")
ROWS, CLUSTERS = 10_000, 10
HEADER = ("perplexity", "exaggeration", "method", "agreement", "silhouette", "accuracy", "nmi")


def agreement(found: dict[str, Clustering]) -> float:
    """Mean adjusted Rand index of the pairs."""
    pairs = itertools.combinations([one.assignments for one in found.values()], 2)
    return float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))


def main(embedding: Path, out: Path) -> None:
    """Write a line a map and method."""
    z = np.load(embedding)[:ROWS]
    labels = np.load(embedding.with_suffix(".labels.npy"))[:ROWS]
    with out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        for perplexity, exaggeration in itertools.product(PERPLEXITIES, EXAGGERATIONS):
            points = tsne(z, perplexity=perplexity, exaggeration=exaggeration)
            found = {method: cluster(points, labels, clusters=CLUSTERS, method=method) for method in METHODS}
            for method, one in found.items():
                silhouette = silhouette_score(points, one.assignments, sample_size=5000, random_state=0)
                numbers = (agreement(found), silhouette, one.accuracy, one.nmi)
                table.writerow([perplexity, exaggeration, method, *(f"{number:.4f}" for number in numbers)])
            file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
