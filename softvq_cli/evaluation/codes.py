"""Statistics of discrete codes: codeword usage, items that share all codes, and agreement with the classes.

NMI increases when every item has its own code, and when codes are unused. AMI is corrected for chance, and
homogeneity measures only whether items with the same code have the same class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_GROUPS, _ITEMS = 3, 3
"""Number of groups of items with equal codes to list, largest first, and number of items to list for each."""

_AGREEMENT = {"nmi": "NMI", "ami": "AMI", "homogeneity": "homogeneity"}


def describe_codes(
    codes: np.ndarray, stages: int, K: int, labels: np.ndarray | None = None, ids: Sequence[str] | None = None
) -> dict[str, Any]:
    """Describe the codes of N items, int (N, P·G): G ``stages`` with ``K`` codewords at each of P positions.

    The JSON-ready document has ``stages``, by number from 1: ``codes`` (K), ``used``, ``perplexity`` and
    ``entropy_bits`` of the usage. ``collisions`` has the number of ``items`` that share all codes with another item,
    their ``share``, the number of ``groups`` of such items, the size of the ``largest_group``, and ``examples`` by the
    ``ids`` of items, or by index from 0. With ``labels``, int (N,), ``classes`` has NMI, AMI, homogeneity and purity of
    all codes together; without a grid, ``stages`` also has them for each stage.
    """
    by_stage = codes.reshape(-1, stages)
    _, groups, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    groups = groups.reshape(-1)
    shared = int(sizes[sizes > 1].sum())
    largest = np.argsort(-sizes, kind="stable")[:_GROUPS]
    collisions = {
        "items": shared,
        "share": shared / len(codes),
        "groups": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "examples": [_example(codes, np.flatnonzero(groups == group), ids) for group in largest if sizes[group] > 1],
    }
    document: dict[str, Any] = {
        "stages": {str(stage): _usage(column, K) for stage, column in enumerate(by_stage.T, 1)},
        "collisions": collisions,
    }
    if labels is None:
        return document
    if len(by_stage) == len(codes):
        for usage, column in zip(document["stages"].values(), by_stage.T, strict=True):
            usage.update(agreement(column, labels))
    return {**document, "classes": agreement(groups, labels)}


def as_text(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Format ``stages`` and ``collisions`` of a :func:`describe_codes` document as lines of text by name."""
    stages, shared = document["stages"], document["collisions"]
    lines = {
        f"stage {name}": f"{stage['used']} of {stage['codes']} codes used, perplexity {stage['perplexity']:.1f}, "
        f"entropy {stage['entropy_bits']:.2f} bits"
        + "".join(f", {title} {stage[name]:.3f}" for name, title in _AGREEMENT.items() if name in stage)
        for name, stage in stages.items()
    }
    collisions = {
        "items that share all codes with another": f"{shared['items']} ({100 * shared['share']:.2f} %), "
        f"in {shared['groups']} groups",
        "largest group": f"{shared['largest_group']}",
    }
    for example in shared["examples"]:
        more = ", …" if example["items"] > len(example["ids"]) else ""
        collisions[example["code"]] = f"{example['items']} items: {', '.join(map(str, example['ids']))}{more}"
    return {"stages": lines, "collisions": collisions}


def _example(codes: np.ndarray, rows: np.ndarray, ids: Sequence[str] | None) -> dict[str, Any]:
    named = [int(row) if ids is None else ids[row] for row in rows[:_ITEMS]]
    return {"code": "-".join(map(str, codes[rows[0]].tolist())), "items": len(rows), "ids": named}


def _usage(codes: np.ndarray, K: int) -> dict[str, float]:
    counts = np.unique(codes, return_counts=True)[1]
    entropy = entropy_bits(counts)
    return {"codes": K, "used": len(counts), "perplexity": 2.0**entropy, "entropy_bits": entropy}


def entropy_bits(counts: np.ndarray) -> float:
    """Entropy in bits of a usage, non-negative counts or fractions (K,). Its power of 2 is the perplexity."""
    share = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(share * np.log2(share)).sum()))


def agreement(groups: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """NMI, AMI, homogeneity and purity of ``groups``, int (N,), with respect to ``labels``, int (N,)."""
    from sklearn.metrics import adjusted_mutual_info_score, homogeneity_completeness_v_measure

    homogeneity, _, nmi = homogeneity_completeness_v_measure(labels, groups)
    ami = float(adjusted_mutual_info_score(labels, groups))
    return {"nmi": nmi, "ami": ami, "homogeneity": homogeneity, "purity": purity(groups, labels)}


def purity(codes: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of predicting the most frequent class of each code. It increases with the number of codes, up to 1."""
    from sklearn.metrics.cluster import contingency_matrix

    commonest = contingency_matrix(codes, labels, sparse=True).max(axis=1)
    return float(commonest.sum() / len(codes))
